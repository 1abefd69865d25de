//! A system of the plan, however it is spoken to: one that speaks the participant protocol, or one whose memory is kept for it.

use super::haproxy::Group;
use super::keeper::Keeper;
use super::kept::{Hand, KeptSystem};
use super::participant::{AdapterError, Participant};
use crate::plan::{Adapter, Plan, Side, System};
use crate::traffic::figures::Figures;
use crate::traffic::protocol::{Order, Standing};
use std::collections::BTreeMap;
use std::time::Duration;

/// A system, ready to be spoken to.
#[derive(Debug, Clone)]
pub struct Member {
    /// The system's name in the plan; several gateways of one system share it.
    system: String,
    can_hold: bool,
    answers: BTreeMap<Side, String>,
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    Participant(Participant),
    Kept(Box<KeptSystem>),
}

impl Member {
    /// The members of a plan, from the innermost to the outermost: each gateway of several is one, and all systems of one HAProxy map are one.
    /// Nothing is sent yet.
    pub(in crate::traffic) fn all(plan: &Plan, http: &reqwest::Client) -> Vec<Self> {
        let keeper = Keeper::new(&plan.control, &plan.name);
        let mut members: Vec<Self> = Vec::new();
        for system in &plan.systems {
            match &system.adapter {
                Adapter::Gateway(_) | Adapter::Participant { .. } => {
                    let participants = Participant::of(system, http);
                    members.extend(participants.into_iter().map(|one| Self::new(system, By::Participant(one))));
                }
                Adapter::Command(commands) => {
                    members.push(kept(plan, http, &keeper, system, Hand::Command(commands.clone())))
                }
                Adapter::Nginx(at) => members.push(kept(plan, http, &keeper, system, Hand::Nginx(at.clone()))),
                Adapter::Haproxy(haproxy) => {
                    if !members.iter_mut().any(|member| member.take_in(system, haproxy)) {
                        let group = Group::new(system.name.clone(), (**haproxy).clone());
                        members.push(kept(plan, http, &keeper, system, Hand::Haproxy(group)));
                    }
                }
            }
        }
        members
    }

    fn new(system: &System, by: By) -> Self {
        let (can_hold, answers) = (system.adapter.can_hold(), system.answers.clone());
        Self { system: system.name.clone(), can_hold, answers, by }
    }

    /// Takes another system of the same map in; false when it is of another.
    fn take_in(&mut self, system: &System, haproxy: &crate::plan::Haproxy) -> bool {
        let By::Kept(kept) = &mut self.by else { return false };
        let Hand::Haproxy(group) = &mut kept.hand else { return false };
        if !group.is_of(haproxy) {
            return false;
        }
        group.systems.push((system.name.clone(), haproxy.clone()));
        kept.answers.push(system.answers.clone());
        kept.name = group.name();
        self.system.clone_from(&kept.name);
        true
    }

    /// Its name: the system's, and with several gateways the gateway's too.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.by {
            By::Participant(participant) => participant.name(),
            By::Kept(kept) => &kept.name,
        }
    }

    /// The system that it is of.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Whether it lets its clients wait itself; otherwise the system does that it stands behind.
    #[must_use]
    pub fn can_hold(&self) -> bool {
        self.can_hold
    }

    /// Its address when it can be asked which side is open.
    #[must_use]
    pub fn resolver(&self) -> Option<&str> {
        match &self.by {
            By::Participant(participant) => participant.resolver(),
            By::Kept(_) => None,
        }
    }

    /// The name under which it queues revocations, when it is a gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<&str> {
        match &self.by {
            By::Participant(participant) => participant.gateway(),
            By::Kept(_) => None,
        }
    }

    /// Whether it is a gateway, which counts what the engine's own clients are answered.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        self.gateway().is_some()
    }

    /// What a request on its own path must be answered by on that side, when the plan says so.
    #[must_use]
    pub fn expected(&self, side: Side) -> Option<&str> {
        self.answers.get(&side).map(String::as_str)
    }

    /// Gives an order (`prepare`, `hold`, `switch`, `verify`, `release`) and waits at most the order's own deadline.
    ///
    /// # Errors
    /// No answer, a conflict of epochs, or a refusal.
    pub async fn order(&self, verb: &'static str, order: &Order) -> Result<Standing, AdapterError> {
        match &self.by {
            By::Participant(participant) => participant.order(verb, order).await,
            By::Kept(kept) => kept.order(verb, order).await,
        }
    }

    /// Asks where it stands.
    ///
    /// # Errors
    /// No answer or a refusal.
    pub async fn standing(&self, bound: Duration) -> Result<Standing, AdapterError> {
        match &self.by {
            By::Participant(participant) => participant.standing(bound).await,
            By::Kept(kept) => kept.standing(bound).await,
        }
    }

    /// Asks where it stands, and one without a memory whether it is as it was when its hold was complete.
    ///
    /// # Errors
    /// No answer, a refusal, or something is in flight again.
    pub async fn still_holding(&self, order: &Order) -> Result<Standing, AdapterError> {
        match &self.by {
            By::Participant(participant) => participant.standing(Duration::from_millis(order.deadline_ms)).await,
            By::Kept(kept) => kept.still_holding(order).await,
        }
    }

    /// What its clients were answered within the last `seconds`, on either side; none of a system that does not count.
    ///
    /// # Errors
    /// No answer or a refusal.
    pub async fn figures(&self, seconds: u64, bound: Duration) -> Result<Option<Figures>, AdapterError> {
        match &self.by {
            By::Participant(participant) => participant.figures(seconds, bound).await,
            By::Kept(_) => Ok(None),
        }
    }
}

fn kept(plan: &Plan, http: &reqwest::Client, keeper: &Keeper, system: &System, hand: Hand) -> Member {
    let kept = KeptSystem {
        name: system.name.clone(),
        hand,
        keeper: keeper.clone(),
        folder: plan.folder.clone(),
        http: http.clone(),
        answers: vec![system.answers.clone()],
    };
    Member::new(system, By::Kept(Box::new(kept)))
}

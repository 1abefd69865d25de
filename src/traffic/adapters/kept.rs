//! Systems that keep no memory of their own: the order is written down, a hand carries it out, and that it is done is written down.
//!
//! Owns what each order means for such a system; how it is done is known by the hands (`command`, `haproxy`, `effect`).

use super::asked::Asked;
use super::command;
use super::effect::who_answers;
use super::haproxy;
use super::keeper::{Act, Keeper, Unkept};
use super::participant::AdapterError;
use crate::plan::{AnsweredAt, Commands, Side};
use crate::traffic::protocol::{Order, Standing, State};
use crate::traffic::stand::{Stand, Verb};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// What is left of an order's time for writing down that it is done.
const LAST_WORD: Duration = Duration::from_millis(100);
/// Time added to an order's own bound before it is given up.
const GRACE: Duration = Duration::from_millis(250);

/// A system, or several of one HAProxy map, without a memory.
#[derive(Debug, Clone)]
pub(super) struct KeptSystem {
    pub(super) name: String,
    pub(super) hand: Hand,
    pub(super) keeper: Keeper,
    pub(super) folder: PathBuf,
    pub(super) http: reqwest::Client,
    /// What each of several must be answered by.
    pub(super) answers: Vec<BTreeMap<Side, String>>,
}

/// What carries an order out.
#[derive(Debug, Clone)]
pub(super) enum Hand {
    /// Programs.
    Command(Box<Commands>),
    /// A map of HAProxy.
    Haproxy(haproxy::Group),
    /// Nothing: nginx asks the gate before each request.
    Nginx(AnsweredAt),
}

impl KeptSystem {
    /// Where it stands, as written down.
    pub(super) async fn standing(&self, bound: Duration) -> Result<Standing, AdapterError> {
        let stand = self.keeper.stand(&self.name, bound).await.map_err(|why| self.unkept("state", why))?;
        Ok(describe(&stand, None))
    }

    /// Where it stands, and whether it still is as it was when its hold was complete.
    pub(super) async fn still_holding(&self, order: &Order) -> Result<Standing, AdapterError> {
        let standing = self.standing(Duration::from_millis(order.deadline_ms)).await?;
        if standing.state == State::Holding {
            let drained = self.drained(standing.side, order, Duration::from_millis(order.deadline_ms)).await;
            drained.map_err(|why| self.failed("hold", why))?;
        }
        Ok(standing)
    }

    /// Carries an order out.
    pub(super) async fn order(&self, verb: &'static str, order: &Order) -> Result<Standing, AdapterError> {
        let bound = Duration::from_millis(order.deadline_ms) + GRACE;
        match verb {
            "prepare" => self.act(verb, Verb::Prepare, order, bound).await,
            "hold" => self.act(verb, Verb::Hold, order, bound).await,
            "switch" => self.act(verb, Verb::Switch, order, bound).await,
            "release" => self.act(verb, Verb::Release, order, bound).await,
            _ => self.verify(order, bound).await,
        }
    }

    async fn act(
        &self,
        word: &'static str,
        verb: Verb,
        order: &Order,
        bound: Duration,
    ) -> Result<Standing, AdapterError> {
        let until = Instant::now() + bound;
        let act = self.keeper.begin(&self.name, verb, order, bound).await.map_err(|why| self.unkept(word, why))?;
        let left = until.saturating_duration_since(Instant::now()).saturating_sub(LAST_WORD);
        let carried = match verb {
            Verb::Prepare => self.prepare(&act, order, left).await,
            Verb::Hold => self.hold(&act, order, left).await,
            Verb::Switch => self.switch(&act, order, left).await,
            Verb::Release => self.release(&act, order, left).await,
        };
        let ended = self.keeper.end(&self.name, &act, LAST_WORD * 10).await;
        carried.map_err(|why| self.failed(word, why))?;
        let stand = ended.map_err(|why| self.unkept(word, why))?;
        Ok(describe(&stand, None))
    }

    /// Only one that serves is asked whether it could move: one that is held has stopped already.
    async fn prepare(&self, act: &Act, order: &Order, bound: Duration) -> Result<(), String> {
        if act.next.state != State::Prepared {
            return Ok(());
        }
        match &self.hand {
            Hand::Command(commands) => match &commands.prepare {
                Some(run) => self.run(commands, run, "prepare", order, bound).await.map(drop),
                None => Ok(()),
            },
            Hand::Haproxy(group) => group.ready(act.next.side, order.side, bound).await,
            Hand::Nginx(at) => who_answers(&self.http, at, order.nonce, bound).await.map(drop),
        }
    }

    async fn hold(&self, act: &Act, order: &Order, bound: Duration) -> Result<(), String> {
        let until = Instant::now() + bound;
        if let Hand::Command(commands) = &self.hand
            && let Some(run) = &commands.hold
        {
            self.run(commands, run, "hold", order, bound).await?;
        }
        self.drained(act.next.side, order, until.saturating_duration_since(Instant::now())).await
    }

    /// Waits until nothing of the side being left is in flight. What nginx let through is not known to anybody: see docs/adapters.md.
    async fn drained(&self, side: Side, order: &Order, bound: Duration) -> Result<(), String> {
        match &self.hand {
            Hand::Command(commands) => self.run(commands, &commands.drain, "drain", order, bound).await.map(drop),
            Hand::Haproxy(group) => group.drained(side, bound).await,
            Hand::Nginx(_) => Ok(()),
        }
    }

    async fn switch(&self, act: &Act, order: &Order, bound: Duration) -> Result<(), String> {
        if act.next.state != State::Switched {
            // Released at this epoch already, to the same side.
            return Ok(());
        }
        match &self.hand {
            Hand::Command(commands) => self.run(commands, &commands.switch, "switch", order, bound).await.map(drop),
            Hand::Haproxy(group) => self.turn(group, act, order.side, bound).await,
            Hand::Nginx(_) => Ok(()),
        }
    }

    async fn release(&self, act: &Act, order: &Order, bound: Duration) -> Result<(), String> {
        match &self.hand {
            Hand::Command(commands) => {
                let was_never_left = act.before.side == order.side && act.before.state != State::Switched;
                let undo = commands.undo.as_ref().filter(|_| was_never_left).map(|run| (run, "undo"));
                match undo.or_else(|| commands.release.as_ref().map(|run| (run, "release"))) {
                    Some((run, verb)) => self.run(commands, run, verb, order, bound).await.map(drop),
                    None => Ok(()),
                }
            }
            Hand::Haproxy(group) => self.turn(group, act, order.side, bound).await,
            Hand::Nginx(_) => Ok(()),
        }
    }

    /// Stages, sees that the order still stands, commits: a commit that comes too late all the same is refused by HAProxy. The file has no such
    /// refusal, so it is asked once more before it.
    async fn turn(&self, group: &haproxy::Group, act: &Act, side: Side, bound: Duration) -> Result<(), String> {
        let staged = group.stage(side, bound).await?;
        self.still_stands(act, bound).await?;
        group.commit(staged, bound).await?;
        self.still_stands(act, bound).await?;
        group.write_file(side)
    }

    async fn still_stands(&self, act: &Act, bound: Duration) -> Result<(), String> {
        match self.keeper.is_ours(&self.name, act, bound).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("another order was begun meanwhile".to_owned()),
            Err(Unkept::NotNow(why)) => Err(why),
            Err(Unkept::Conflict(conflict)) => Err(conflict.error),
        }
    }

    /// Who answers on the system's own path; of several, the first that is not who it should be.
    async fn verify(&self, order: &Order, bound: Duration) -> Result<Standing, AdapterError> {
        let stand = self.keeper.stand(&self.name, bound).await.map_err(|why| self.unkept("verify", why))?;
        stand.admit(order).map_err(|_| self.failed("verify", "another epoch was accepted".to_owned()))?;
        let asked = match &self.hand {
            Hand::Command(commands) => self.run(commands, &commands.verify, "verify", order, bound).await,
            Hand::Nginx(at) => who_answers(&self.http, at, order.nonce, bound).await,
            Hand::Haproxy(group) => self.all_answer(group, stand.side, order, bound).await,
        };
        let answered_by = asked.map_err(|why| self.failed("verify", why))?;
        Ok(describe(&stand, Some(answered_by)))
    }

    async fn all_answer(
        &self,
        group: &haproxy::Group,
        side: Side,
        order: &Order,
        bound: Duration,
    ) -> Result<String, String> {
        let mut first = None;
        for ((name, one), answers) in group.systems.iter().zip(&self.answers) {
            let answered = who_answers(&self.http, &one.verify, order.nonce, bound).await?;
            match answers.get(&side) {
                Some(expected) if !answered.starts_with(expected) => {
                    return Err(format!("{answered} answers for {name} and {expected} should"));
                }
                _ => first = first.or(Some(answered)),
            }
        }
        first.ok_or_else(|| "nobody was asked".to_owned())
    }

    async fn run(
        &self,
        commands: &Commands,
        run: &[String],
        verb: &'static str,
        order: &Order,
        bound: Duration,
    ) -> Result<String, String> {
        let asked = Asked { verb, system: &self.name, order, folder: &self.folder };
        command::run(commands, run, &asked, bound).await
    }

    fn failed(&self, verb: &'static str, why: String) -> AdapterError {
        AdapterError::Failed { verb, system: self.name.clone(), why }
    }

    fn unkept(&self, verb: &'static str, why: Unkept) -> AdapterError {
        match why {
            Unkept::Conflict(conflict) => AdapterError::Conflict { verb, system: self.name.clone(), conflict },
            Unkept::NotNow(why) => self.failed(verb, why),
        }
    }
}

/// What is in flight is waited for by an order, and not known between two.
fn describe(stand: &Stand, answered_by: Option<String>) -> Standing {
    Standing { epoch: stand.epoch, nonce: stand.nonce, side: stand.side, state: stand.state, in_flight: 0, answered_by }
}

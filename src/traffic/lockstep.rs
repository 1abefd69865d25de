//! Several systems moved together: hold all, switch all, verify each by effect, release all. All or none.
//!
//! Owns the order in which systems are spoken to. The fence, the decision and the registers are not its business: the flip step
//! puts them between these calls.

use super::adapters::{AdapterError, Member};
use super::protocol::{Order, Standing, State};
use crate::plan::{Plan, Side};
use futures_util::future::join_all;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;
use uuid::Uuid;

/// Why the systems did not move together.
#[derive(Debug, Error)]
pub enum LockstepError {
    /// A system did not do what it was asked.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A system answered, but does not stand where it must.
    #[error(
        "{system} should be {wanted:?} at epoch {epoch} and is {found:?} at epoch {found_epoch}, {in_flight} in flight"
    )]
    Elsewhere {
        /// Which system.
        system: String,
        /// Where it should stand.
        wanted: State,
        /// The epoch of this flip.
        epoch: i64,
        /// Where it stands.
        found: State,
        /// At which epoch.
        found_epoch: i64,
        /// What it still has under way.
        in_flight: u64,
    },
    /// Somebody else answers on a system's path than the plan expects.
    #[error("{system} is switched to {side}, but {answered} answers on its path and {expected} should")]
    WrongAnswer {
        /// Which system.
        system: String,
        /// The side it was switched to.
        side: Side,
        /// Who answered.
        answered: String,
        /// Who should.
        expected: String,
    },
}

impl LockstepError {
    /// Whether a participant has seen a higher epoch: another orchestrator acts, and this one must stop at once.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        matches!(self, Self::Adapter(AdapterError::Conflict { .. }))
    }
}

/// One proposal to all systems of a plan.
#[derive(Debug, Clone)]
pub struct Lockstep {
    systems: Vec<Member>,
    run: Uuid,
    epoch: i64,
    nonce: Uuid,
}

/// Builds the HTTP client with which systems are spoken to.
///
/// # Errors
/// When TLS cannot be set up on this machine.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    // The second installation of a process fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(2))
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

impl Lockstep {
    /// A proposal of `epoch` with `nonce` to the systems of a plan, listed from the innermost to the outermost.
    #[must_use]
    pub fn new(plan: &Plan, http: &reqwest::Client, run: Uuid, epoch: i64, nonce: Uuid) -> Self {
        Self { systems: Member::all(plan, http), run, epoch, nonce }
    }

    /// The same without these gateways, which were cut off before the hold.
    #[must_use]
    pub fn without(mut self, gateways: &[String]) -> Self {
        self.systems.retain(|member| !member.gateway().is_some_and(|name| gateways.iter().any(|gone| gone == name)));
        self
    }

    /// The epoch of this proposal.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The nonce of this proposal.
    #[must_use]
    pub fn nonce(&self) -> Uuid {
        self.nonce
    }

    /// The systems, from the innermost to the outermost.
    #[must_use]
    pub fn systems(&self) -> &[Member] {
        &self.systems
    }

    /// The highest epoch that any system has accepted; 0 for systems that never heard of one. Proposals must be above it.
    ///
    /// # Errors
    /// The first system that does not answer.
    pub async fn highest_epoch(&self, bound: Duration) -> Result<i64, LockstepError> {
        let answers = join_all(self.systems.iter().map(|system| system.standing(bound))).await;
        let epochs = answers.into_iter().map(|answer| Ok(answer?.epoch)).collect::<Result<Vec<_>, LockstepError>>()?;
        Ok(epochs.into_iter().max().unwrap_or(0))
    }

    /// Announces the proposal; every system stores the epoch and goes on serving.
    ///
    /// # Errors
    /// The first system that does not accept; nothing is held.
    pub async fn prepare(&self, side: Side, bound: Duration) -> Result<(), LockstepError> {
        self.all("prepare", side, bound, State::Prepared).await
    }

    /// Announces the proposal to those that serve; one that is held already has stopped its work and only waits for a release.
    ///
    /// # Errors
    /// The first system that does not answer or does not accept; nothing is held by it.
    pub async fn prepare_serving(&self, side: Side, bound: Duration) -> Result<(), LockstepError> {
        let order = self.order(side, bound);
        for system in &self.systems {
            if matches!(system.standing(bound).await?.state, State::Serving | State::Prepared) {
                self.expect(system, &system.order("prepare", &order).await?, State::Prepared)?;
            }
        }
        Ok(())
    }

    /// Holds every system, the outermost first, so that work under way inside still finds what it needs; the gateways of one system at once.
    /// One that cannot hold is waited for last, when those hold that it stands behind. Each answers when it has nothing in flight; the hold
    /// ends by itself `bound` after each system received it.
    ///
    /// # Errors
    /// The first system that does not hold in time. The caller releases all.
    pub async fn hold(&self, side: Side, bound: Duration) -> Result<(), LockstepError> {
        let until = Instant::now() + bound;
        let (holding, behind): (Vec<_>, Vec<_>) = self.systems.iter().rev().partition(|system| system.can_hold());
        for systems in holding.chunk_by(|one, next| one.system() == next.system()).chain(behind.chunks(1)) {
            let order = self.order(side, until.saturating_duration_since(Instant::now()));
            self.ask(systems, "hold", &order, State::Holding).await?;
        }
        Ok(())
    }

    /// Asks again whether every system is still holding at this epoch with nothing in flight; right before the decision of going to `side`.
    ///
    /// # Errors
    /// The first system that is not.
    pub async fn still_holding(&self, side: Side, bound: Duration) -> Result<(), LockstepError> {
        let order = self.order(side, bound);
        let answers = join_all(self.systems.iter().map(|system| system.still_holding(&order))).await;
        for (system, answer) in self.systems.iter().zip(answers) {
            self.expect(system, &answer?, State::Holding)?;
        }
        Ok(())
    }

    /// Turns every system to `side`, still held.
    ///
    /// # Errors
    /// The first system that does not answer; the call may be repeated.
    pub async fn switch(&self, side: Side, bound: Duration) -> Result<(), LockstepError> {
        self.all("switch", side, bound, State::Switched).await
    }

    /// Verifies each system by effect: a real request on its own path must be answered by the side's engine.
    ///
    /// # Errors
    /// The first system on whose path somebody else answers.
    pub async fn verify(&self, side: Side, bound: Duration) -> Result<(), LockstepError> {
        let order = self.order(side, bound);
        let answers = join_all(self.systems.iter().map(|system| system.order("verify", &order))).await;
        for (system, answer) in self.systems.iter().zip(answers) {
            check_answer(system, side, &answer?)?;
        }
        Ok(())
    }

    /// Lets every system serve `side`, the innermost first, so that none waits for another; those that others hold for, before these.
    ///
    /// # Errors
    /// The first system that did not answer, after all have been asked; the call may be repeated.
    pub async fn release(&self, side: Side, bound: Duration) -> Result<(), LockstepError> {
        let order = self.order(side, bound);
        let mut first_error = None;
        let (holding, behind): (Vec<_>, Vec<_>) = self.systems.iter().partition(|system| system.can_hold());
        for system in behind.into_iter().chain(holding) {
            let answer = system.order("release", &order).await.map_err(LockstepError::from);
            let released = answer.and_then(|standing| self.expect(system, &standing, State::Serving));
            first_error = first_error.or(released.err());
        }
        first_error.map_or(Ok(()), Err)
    }

    fn order(&self, side: Side, bound: Duration) -> Order {
        let resolvers = self.systems.iter().filter_map(Member::resolver).map(str::to_owned).collect();
        let deadline_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        Order { run: self.run, epoch: self.epoch, nonce: self.nonce, side, deadline_ms, resolvers }
    }

    async fn all(&self, verb: &'static str, side: Side, bound: Duration, wanted: State) -> Result<(), LockstepError> {
        let systems: Vec<&Member> = self.systems.iter().collect();
        self.ask(&systems, verb, &self.order(side, bound), wanted).await
    }

    /// Gives an order to some at once; all must stand where they should.
    async fn ask(
        &self,
        systems: &[&Member],
        verb: &'static str,
        order: &Order,
        wanted: State,
    ) -> Result<(), LockstepError> {
        let answers = join_all(systems.iter().map(|system| system.order(verb, order))).await;
        for (system, answer) in systems.iter().zip(answers) {
            self.expect(system, &answer?, wanted)?;
        }
        Ok(())
    }

    fn expect(&self, system: &Member, standing: &Standing, wanted: State) -> Result<(), LockstepError> {
        let same_proposal = standing.epoch == self.epoch && standing.nonce == self.nonce;
        let idle = wanted != State::Holding || standing.in_flight == 0;
        if same_proposal && standing.state == wanted && idle {
            return Ok(());
        }
        Err(LockstepError::Elsewhere {
            system: system.name().to_owned(),
            wanted,
            epoch: self.epoch,
            found: standing.state,
            found_epoch: standing.epoch,
            in_flight: standing.in_flight,
        })
    }
}

fn check_answer(system: &Member, side: Side, standing: &Standing) -> Result<(), LockstepError> {
    let answered = standing.answered_by.clone().unwrap_or_else(|| "nobody".to_owned());
    let wrong = |expected: String| LockstepError::WrongAnswer {
        system: system.name().to_owned(),
        side,
        answered: answered.clone(),
        expected,
    };
    match system.expected(side) {
        _ if standing.side != side => Err(wrong(format!("the engine of {side}"))),
        Some(expected) if !answered.starts_with(expected) => Err(wrong(expected.to_owned())),
        None if standing.answered_by.is_none() => Err(wrong(format!("the engine of {side}"))),
        _ => Ok(()),
    }
}

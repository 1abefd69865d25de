//! `flip` and `return`: hold → fence → catch up → decide → switch → verify → open → release, out to green or back to blue, and the
//! recovery of one without an owner.
//!
//! Its phases are notes; its recovery reads and writes registers, never the journal. Before the decision every failure stays on the
//! side that serves, by a write against the decision; after it there is only forward, or a new epoch.

mod after;
pub(super) mod alone;
mod attempt;
mod counted_out;
mod denials;
mod finish;
mod in_place;
mod revoked;
mod route;
mod settle;

pub(super) use after::AFTER;
pub(super) use counted_out::{bound as counting_out, counted_out, may_be_counted_out};
pub(super) use route::Registers;
pub use route::Route;

use super::failure::fail;
use super::world::World;
use crate::engine::{Context, FailureKind, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Plan;
use crate::traffic::register::{self, State};
use crate::traffic::{Lockstep, LockstepError};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// The name of the way out.
pub const ID: StepId = Route::Out.id();

/// How long the switch and the opening are tried after the decision before a person is asked.
const FORWARD_PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for the locks of a side that nobody writes.
const QUIET_LOCK: Duration = Duration::from_secs(5);
/// Longest wait for the journal's word between the decision and the opening: what it is told there nothing depends on, and clients are held.
const WORD: Duration = Duration::from_millis(250);
/// Pause between two tries after the decision.
const FORWARD_PAUSE: Duration = Duration::from_millis(50);

/// Moves the traffic of all systems to the other side.
#[derive(Debug, Clone)]
pub struct Flip {
    /// Which way.
    pub route: Route,
    /// Names of the systems, from the innermost to the outermost.
    pub systems: Vec<String>,
    /// Whether both sides are one database.
    pub is_in_place: bool,
    /// Longest wait of a client.
    pub hold: Duration,
    /// Longest time without a writer.
    pub write_gap: Duration,
    /// Bound on bringing the other side level before the hold.
    pub level: Duration,
    /// Bound on asking the invariants once more after it.
    pub after: Duration,
    /// Bound on cutting off gateways that are counted out.
    pub count_out: Duration,
}

/// Whether blue was left already, or is about to be: what comes before the flip can stop nothing any more.
pub(super) async fn is_decided(world: &World) -> Result<bool, StepError> {
    Ok(Registers::read(world).await?.blue.state != State::Open)
}

/// The newest proposal in this step's notes, if any: its epoch and nonce.
pub(super) fn last_proposal(notes: &[Value]) -> Option<(i64, Uuid)> {
    let proposal = notes.iter().rev().find(|note| note["phase"] == "propose")?;
    Some((proposal["epoch"].as_i64()?, proposal["nonce"].as_str()?.parse().ok()?))
}

/// The note of the release at `epoch`, if all systems were released there.
pub(super) fn released(context: &Context, epoch: i64) -> Option<Value> {
    context.notes().into_iter().rev().find(|note| note["phase"] == "released" && note["epoch"] == epoch)
}

/// A proposal to all systems but the gateways that this attempt does without.
fn proposal(world: &World, context: &Context, epoch: i64, nonce: Uuid) -> Lockstep {
    Lockstep::new(&world.plan, &world.http, context.run(), epoch, nonce).without(&counted_out(&context.notes()))
}

fn lockstep_failed(what: &str, error: LockstepError) -> StepError {
    let kind = if error.is_superseded() { FailureKind::Locked } else { FailureKind::Failed };
    StepError { kind, ..StepError::failed(what, error) }
}

impl Flip {
    /// The step of a plan that goes this way.
    #[must_use]
    pub fn of(plan: &Plan, route: Route) -> Self {
        Self {
            route,
            systems: plan.systems.iter().map(|system| system.name.clone()).collect(),
            is_in_place: plan.databases.is_in_place,
            hold: plan.window.hold,
            write_gap: plan.window.write_gap,
            level: plan.window.level,
            after: after::bound(plan, route),
            count_out: counting_out(plan),
        }
    }
}

impl Flip {
    /// A decision that another process made is gone on from only when it cannot be lost any more.
    async fn confirmed(&self, world: &World) -> Result<(), StepError> {
        let side = self.route.from();
        let client = world.side(side).await?;
        let confirmed = register::confirm(&client).await;
        confirmed.map_err(|error| fail(format!("see that {side}'s standbys know that it is left"), error))
    }
}

impl Step for Flip {
    type World = World;

    fn id(&self) -> StepId {
        self.route.id()
    }

    fn summary(&self) -> String {
        let (hold, from, to) = (humantime::format_duration(self.hold), self.route.from(), self.route.to());
        let systems = self.systems.join(", ");
        if self.is_in_place {
            return format!(
                "hold {systems} for at most {hold}, decide, turn them from {from}'s engine to {to}'s, release"
            );
        }
        format!("hold {systems} for at most {hold}, fence {from}, catch up, decide, open {to}, release")
    }

    fn undo_summary(&self) -> String {
        match self.route {
            Route::Out => {
                "before green opens: back to blue at once; after that: the way back, step `return`".to_owned()
            }
            Route::Back => "none once decided; before that every failure stays on green by itself".to_owned(),
        }
    }

    fn reversal(&self) -> Reversal {
        Reversal::OneWay
    }

    fn takes_back(&self) -> Option<StepId> {
        (self.route == Route::Back).then_some(ID)
    }

    fn limits(&self) -> Limits {
        Limits::once(self.count_out + self.level + self.hold + FORWARD_PATIENCE * 2 + self.after)
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let registers = Registers::read(world).await?;
        let (from, to) = (registers.of(self.route.from()), registers.of(self.route.to()));
        let proposed = last_proposal(&context.notes());
        Ok(match (from.state, to.state) {
            (State::Sealed | State::Closed, State::Open) => match released(context, to.epoch) {
                Some(receipt) => Standing::Present(after::asked_already(context, receipt).into()),
                None => Standing::Partial(format!("{} is open, the systems are not all released", self.route.to())),
            },
            (State::Sealed, State::Closed) => {
                Standing::Partial(format!("decided for {to}, and {to} is not open yet", to = self.route.to()))
            }
            (State::Open, State::Closed) if proposed.is_some_and(|(epoch, _)| from.epoch < epoch) => {
                Standing::Partial("a move was proposed and is not settled".to_owned())
            }
            (State::Open, State::Closed | State::Sealed) => Standing::Absent,
            (from, to) => {
                let (left, gone_to) = (self.route.from(), self.route.to());
                Standing::Unclear(format!("{left}'s register is {from}, {gone_to}'s is {to}"))
            }
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let found = Registers::read(world).await?;
        let (from, to) = (found.of(self.route.from()), found.of(self.route.to()));
        if from.state != State::Open {
            if to.state != State::Open {
                self.confirmed(world).await?;
            }
            let decided = if to.state == State::Open { to } else { from };
            let lockstep = proposal(world, context, decided.epoch, decided.nonce);
            // Decided by a process that died: green stands still as long as it is closed.
            let kept = if to.state == State::Open { None } else { self.keep_green(world).await };
            let receipt = self.finish(world, context, &lockstep, None).await?;
            return self.ask_after(world, context, kept, receipt).await;
        }
        self.settle_older_proposal(world, context).await?;
        self.attempt(world, context).await
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        if world.gone.is_some() && self.route == Route::Back {
            // Whatever was proposed to green, nobody can decide it there any more.
            return Ok(());
        }
        self.settle(world, context).await
    }
}

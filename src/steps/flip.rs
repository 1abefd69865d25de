//! `flip`: hold → fence → catch up → decide → switch → verify → open → release, and the recovery of a flip without an owner.
//!
//! Its phases are notes; its recovery reads and writes registers, never the journal. Before the decision every failure goes back to
//! blue by a write against it; after the decision there is only forward.

use super::failure::fail;
use super::levelling::Levelling;
use super::world::World;
use crate::database::fence::{Budget, Fence, Sealing, Unfenced, lock_holders, terminate_fence};
use crate::database::refusal::Refusal;
use crate::engine::{Context, Effect, FailureKind, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use crate::traffic::register::{self, Change, Recovered, Register, State};
use crate::traffic::{Lockstep, LockstepError};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// The step's name.
pub const ID: StepId = StepId::new("flip");

/// How long the switch and the opening are tried after the decision before a person is asked.
const FORWARD_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries after the decision.
const FORWARD_PAUSE: Duration = Duration::from_millis(50);

/// Moves the traffic of all systems to green.
#[derive(Debug, Clone)]
pub struct Flip {
    /// Names of the systems, from the innermost to the outermost.
    pub systems: Vec<String>,
    /// Longest wait of a client.
    pub hold: Duration,
    /// Longest time without a writer.
    pub write_gap: Duration,
    /// Bound on bringing green level before the hold.
    pub level: Duration,
}

/// Both registers as they stand.
pub(super) struct Registers {
    pub(super) blue: Register,
    pub(super) green: Register,
}

pub(super) async fn registers(world: &World) -> Result<Registers, StepError> {
    let mut rows = Vec::new();
    for side in [Side::Blue, Side::Green] {
        let client = world.side(side).await?;
        let row = register::read(&client).await.map_err(|error| fail(format!("read {side}'s register"), error))?;
        let missing = || StepError::stuck(format!("{side} has no register"), "cutover status PLAN");
        rows.push(row.ok_or_else(missing)?);
    }
    let green = rows.pop().expect("two rows were read");
    let blue = rows.pop().expect("two rows were read");
    Ok(Registers { blue, green })
}

/// The newest proposal in this step's notes, if any: its epoch and nonce.
fn last_proposal(notes: &[Value]) -> Option<(i64, Uuid)> {
    let proposal = notes.iter().rev().find(|note| note["phase"] == "propose")?;
    Some((proposal["epoch"].as_i64()?, proposal["nonce"].as_str()?.parse().ok()?))
}

impl Step for Flip {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        let hold = humantime::format_duration(self.hold);
        format!(
            "hold {} for at most {hold}, fence blue, catch up, decide, open green, release",
            self.systems.join(", ")
        )
    }

    fn undo_summary(&self) -> String {
        "none once decided; before that every failure goes back to blue by itself".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::OneWay
    }

    fn limits(&self) -> Limits {
        Limits::once(self.level + self.hold + FORWARD_PATIENCE * 2)
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let Registers { blue, green } = registers(world).await?;
        let proposed = last_proposal(&context.notes());
        Ok(match (blue.state, green.state) {
            (State::Sealed, State::Open) if released(context) => Standing::Present(receipt(&context.notes())),
            (State::Sealed, State::Open) => {
                Standing::Partial("green is open, the systems are not all released".to_owned())
            }
            (State::Sealed, _) => Standing::Partial("decided for green, and green is not open yet".to_owned()),
            (State::Open, State::Closed) if proposed.is_some_and(|(epoch, _)| blue.epoch < epoch) => {
                Standing::Partial("a flip was proposed and is not settled".to_owned())
            }
            (State::Open, State::Closed) => Standing::Absent,
            (blue, green) => Standing::Unclear(format!("blue's register is {blue}, green's is {green}")),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let found = registers(world).await?;
        if found.blue.state == State::Sealed {
            let lockstep = self.lockstep(world, context, found.blue.epoch, found.blue.nonce);
            return self.finish(world, context, &lockstep).await;
        }
        self.settle_older_proposal(world, context).await?;
        self.attempt(world, context).await
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        match self.settle_older_proposal(world, context).await {
            Err(error) if error.kind == FailureKind::Stuck => Err(error),
            other => other,
        }
    }
}

/// The last moment at which a stop that was asked for is looked at.
fn stop_here(context: &Context) -> Result<(), StepError> {
    if !context.stop().is_requested() {
        return Ok(());
    }
    let why = format!("went back to blue: asked to stop by {} before the decision", context.stop().by());
    Err(StepError::parked(why, "cutover flip PLAN").effect(Effect::NotApplied))
}

fn released(context: &Context) -> bool {
    context.notes().iter().any(|note| note["phase"] == "released")
}

fn receipt(notes: &[Value]) -> Receipt {
    notes.iter().rev().find(|note| note["phase"] == "released").cloned().unwrap_or_default().into()
}

fn lockstep_failed(what: &str, error: LockstepError) -> StepError {
    let kind = if error.is_superseded() { FailureKind::Locked } else { FailureKind::Failed };
    StepError { kind, ..StepError::failed(what, error) }
}

impl Flip {
    fn lockstep(&self, world: &World, context: &Context, epoch: i64, nonce: Uuid) -> Lockstep {
        Lockstep::new(&world.plan.systems, &world.http, context.run(), epoch, nonce)
    }

    /// Settles a proposal whose owner is gone by a write against it, and gives the systems back to blue.
    async fn settle_older_proposal(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let Some((epoch, nonce)) = last_proposal(&context.notes()) else { return Ok(()) };
        self.keep_blue(world, context, epoch, nonce).await?;
        let lockstep = self.lockstep(world, context, epoch, nonce);
        // A system that is away obeys the register by itself; blue's is open at this epoch now.
        if let Err(error) = lockstep.release(Side::Blue, self.hold).await {
            tracing::warn!(%error, "a system did not answer to its release; it finds blue open by itself");
        }
        Ok(())
    }

    /// Makes blue's register say that blue stays open at `epoch`. `stuck` when the decision was made before.
    async fn keep_blue(&self, world: &World, context: &Context, epoch: i64, nonce: Uuid) -> Result<(), StepError> {
        let blue = world.side(Side::Blue).await?;
        let before = register::read(&blue).await.map_err(|error| fail("read blue's register", error))?;
        if let Some(pid) = before.and_then(|register| register.fence_pid) {
            let ended = terminate_fence(&blue, context.run(), pid, self.hold).await;
            ended.map_err(|error| fail("end an older fence on blue", error))?;
        }
        match register::recover(&blue, epoch, nonce).await.map_err(|error| fail("keep blue open", error))? {
            Recovered::Kept(_) => Ok(()),
            Recovered::Sealed(_) => {
                let why = "blue is sealed: the flip was decided before it could be stopped";
                Err(StepError::stuck(why, "finish it: cutover flip PLAN"))
            }
        }
    }

    async fn attempt(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let mut levelling = Levelling::open(world, context).await?;
        levelling.until_level(self.level, context).await?;
        self.nothing_in_the_way(world).await?;
        let found = registers(world).await?;
        let (epoch, nonce) = (register::propose(&found.blue, &found.green), Uuid::new_v4());
        let lockstep = self.lockstep(world, context, epoch, nonce);
        context.note(json!({ "phase": "propose", "epoch": epoch, "nonce": nonce })).await?;
        let begun = Instant::now();
        match self.up_to_the_decision(world, context, &lockstep, &found, &mut levelling, begun).await {
            Ok(()) => self.finish(world, context, &lockstep).await,
            Err(error) => self.go_back(world, context, &lockstep, error).await,
        }
    }

    async fn nothing_in_the_way(&self, world: &World) -> Result<(), StepError> {
        let blue = world.side(Side::Blue).await?;
        let holders = lock_holders(&blue).await.map_err(|error| fail("look for what holds locks on blue", error))?;
        if holders.is_empty() {
            return Ok(());
        }
        let why = format!("blue is busy with what the fence would wait for: {}", holders.join("; "));
        Err(StepError::refused(why, "let it end or end it, then run cutover flip PLAN again"))
    }

    async fn up_to_the_decision(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        found: &Registers,
        levelling: &mut Levelling,
        begun: Instant,
    ) -> Result<(), StepError> {
        let prepared = lockstep.prepare(Side::Green, self.hold).await;
        prepared.map_err(|error| lockstep_failed("prepare the systems", error))?;
        let unfenced = Unfenced::connect(world.url(Side::Blue), context.run()).await;
        let unfenced = unfenced.map_err(|error| fail("connect the fence to blue", error))?;
        let blue = world.side(Side::Blue).await?;
        let noted = register::note_fence(&blue, found.blue.epoch, unfenced.pid()).await;
        if !noted.map_err(|error| fail("announce the fence in blue's register", error))? {
            return Err(StepError::stuck("blue's register has changed meanwhile", "cutover status PLAN"));
        }
        let held = Instant::now();
        let holding = lockstep.hold(Side::Green, self.hold).await;
        holding.map_err(|error| lockstep_failed("hold the systems", error))?;
        let fence = self.fence(context, unfenced, held).await?;
        levelling.last(lockstep.epoch()).await?;
        stop_here(context)?;
        self.decide(world, lockstep, found, fence).await?;
        let (prepare_ms, gap_ms) = (held.duration_since(begun).as_millis() as u64, held.elapsed().as_millis() as u64);
        context.note(json!({ "phase": "decided", "prepare_ms": prepare_ms, "since_hold_ms": gap_ms })).await
    }

    async fn fence(&self, context: &Context, unfenced: Unfenced, held: Instant) -> Result<Fence, StepError> {
        let left = self.hold.saturating_sub(held.elapsed()).min(self.write_gap);
        let budget = Budget { hold: left, locks: left / 3, attempt: (left / 6).max(Duration::from_millis(20)) };
        unfenced.take(&context.term(), budget).await.map_err(|error| fail("fence blue", error))
    }

    /// The one moment: the seal and blue's register, in one commit.
    async fn decide(
        &self,
        world: &World,
        lockstep: &Lockstep,
        found: &Registers,
        fence: Fence,
    ) -> Result<(), StepError> {
        let still = lockstep.still_holding(self.hold).await;
        still.map_err(|error| lockstep_failed("see that every system still holds", error))?;
        fence.still_held().await.map_err(|error| fail("see that the fence is still held", error))?;
        let change = Change::seal(found.blue.epoch, lockstep.epoch(), lockstep.nonce());
        match fence.seal(&change.raise_sql()).await {
            Sealing::Sealed => Ok(()),
            Sealing::Lost { why } => {
                Err(StepError::new(FailureKind::Failed, format!("decide: the server did not commit: {why}")))
            }
            Sealing::Unknown { why } => self.resolve(world, lockstep, &why).await,
        }
    }

    /// The answer to the decision was lost: write against it, and see who won.
    async fn resolve(&self, world: &World, lockstep: &Lockstep, why: &str) -> Result<(), StepError> {
        let until = Instant::now() + FORWARD_PATIENCE;
        loop {
            let answer = match world.side(Side::Blue).await {
                Ok(blue) => register::recover(&blue, lockstep.epoch(), lockstep.nonce()).await.ok(),
                Err(_) => None,
            };
            match answer {
                Some(Recovered::Sealed(_)) => return Ok(()),
                Some(Recovered::Kept(_)) => {
                    return Err(StepError::new(
                        FailureKind::Failed,
                        format!("decide: the answer was lost ({why}) and blue stays open"),
                    ));
                }
                None if Instant::now() >= until => {
                    let what = format!("the decision's answer was lost ({why}) and blue does not answer");
                    return Err(StepError::stuck(what, "bring blue back, then: cutover flip PLAN"));
                }
                None => tokio::time::sleep(FORWARD_PAUSE).await,
            }
        }
    }

    /// Before the decision: blue stays, whatever failed.
    async fn go_back(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        error: StepError,
    ) -> Result<Receipt, StepError> {
        if error.kind == FailureKind::Stuck || error.kind == FailureKind::Locked {
            return Err(error);
        }
        self.keep_blue(world, context, lockstep.epoch(), lockstep.nonce()).await?;
        let released = lockstep.release(Side::Blue, self.hold).await;
        context.note(json!({ "phase": "returned", "why": error.why() })).await?;
        if let Err(silent) = released {
            tracing::warn!(error = %silent, "a system did not answer to its release; it finds blue open by itself");
        }
        if error.kind == FailureKind::Parked {
            return Err(error);
        }
        let hint =
            if error.hint.is_empty() { "see to it, then: cutover flip PLAN".to_owned() } else { error.hint.clone() };
        Err(StepError::returned(format!("went back to blue: {}", error.why()), hint))
    }

    /// After the decision: forward only, tried until it succeeds or a person is asked.
    async fn finish(&self, world: &World, context: &Context, lockstep: &Lockstep) -> Result<Receipt, StepError> {
        let until = Instant::now() + FORWARD_PATIENCE;
        loop {
            let error = match self.forward_once(world, context, lockstep).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if error.kind == FailureKind::Locked || Instant::now() >= until {
                let why = format!("decided for green, and not finished: {}", error.why());
                return Err(StepError {
                    kind: FailureKind::Stuck,
                    ..StepError::stuck(why, "go on: cutover flip PLAN")
                });
            }
            tracing::warn!(error = %error.why(), "decided for green; trying again");
            tokio::time::sleep(FORWARD_PAUSE).await;
        }
        context.note(json!({ "phase": "released", "epoch": lockstep.epoch(), "live": "green" })).await?;
        Ok(receipt(&context.notes()))
    }

    async fn forward_once(&self, world: &World, context: &Context, lockstep: &Lockstep) -> Result<(), StepError> {
        let found = registers(world).await?;
        if found.green.state != State::Open {
            let switched = lockstep.switch(Side::Green, self.hold).await;
            switched.map_err(|error| lockstep_failed("switch the systems", error))?;
            let verified = lockstep.verify(Side::Green, self.hold).await;
            verified.map_err(|error| lockstep_failed("verify the systems by effect", error))?;
            self.open(world, context, lockstep, &found.green).await?;
        }
        let released = lockstep.release(Side::Green, self.hold).await;
        released.map_err(|error| lockstep_failed("release the systems", error))
    }

    async fn open(
        &self,
        world: &World,
        context: &Context,
        lockstep: &Lockstep,
        green: &Register,
    ) -> Result<(), StepError> {
        let mut client = world.side(Side::Green).await?;
        let change = Change::open(green.epoch, lockstep.epoch(), lockstep.nonce());
        let opened = Refusal::Closed.lift(&mut client, &context.term(), context.run(), &change.raise_sql()).await;
        opened.map_err(|error| fail("open green", error))
    }
}

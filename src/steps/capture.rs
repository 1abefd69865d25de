//! `capture-blue` and `capture-green`: which rows are touched on a side, from before every snapshot of the copy.

use super::failure::fail;
use super::resolve_mapping::{Form, resolve_back};
use super::world::World;
use crate::database::capture::{Capture as Hand, CaptureStanding, Captured};
use crate::database::level::{begin_progress, end_progress, has_position};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::{CaptureMethod, Plan, Side};
use serde_json::json;
use std::time::Duration;

/// Longest wait for each of the two sets of older transactions.
const BOUND: Duration = Duration::from_secs(120);
/// Longest wait for a table of green whose replica identity changes; green is closed, so hardly any.
const LOCK: Duration = Duration::from_secs(10);

/// Captures the touched rows of one side.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Blue, to keep green level; green, for the way back.
    pub side: Side,
    /// By which mapping tables are captured.
    pub form: Form,
    /// The step until whose end the capture must last, if there is one.
    pub until: Option<StepId>,
    /// What captures.
    pub method: CaptureMethod,
}

impl Capture {
    /// The step for a side, as the plan has it.
    #[must_use]
    pub fn of(plan: &Plan, side: Side, form: Form, until: Option<StepId>) -> Self {
        Self { side, form, until, method: plan.databases.of(side).capture }
    }

    fn hand(&self, context: &Context) -> Hand {
        Hand { run: context.run(), side: self.side, method: self.method }
    }

    async fn look(&self, world: &World, context: &Context) -> Result<CaptureStanding, StepError> {
        let client = world.side(self.side).await?;
        let standing = self.hand(context).verify(&client).await;
        standing.map_err(|error| fail(format!("look at the capture on {}", self.side), error))
    }

    /// Whether green holds a position for blue's capture; none for green's own, which nobody reads yet.
    async fn position(&self, world: &World, context: &Context) -> Result<Option<bool>, StepError> {
        if self.side == Side::Green || world.gone.is_some() {
            return Ok(None);
        }
        let green = world.side(Side::Green).await?;
        let held = has_position(&green, &self.hand(context)).await;
        Ok(Some(held.map_err(|error| fail("look at green's position", error))?))
    }
}

fn lost(side: Side, why: &str) -> String {
    format!("the capture on {side} cannot deliver any more, so what was written since is unknown: {why}")
}

fn receipt(captured: &Captured) -> Receipt {
    match captured.method {
        CaptureMethod::Slot => json!({ "slot": captured.name, "start": captured.start.to_string() }).into(),
        CaptureMethod::Triggers => json!({ "log": "cutover.touched", "tables": captured.logged.len() }).into(),
    }
}

impl Step for Capture {
    type World = World;

    fn id(&self) -> StepId {
        match self.side {
            Side::Blue => StepId::new("capture-blue"),
            Side::Green => StepId::new("capture-green"),
        }
    }

    fn summary(&self) -> String {
        let with = match self.method {
            CaptureMethod::Slot => "publication and logical slot",
            CaptureMethod::Triggers => {
                "triggers on every captured table that fill cutover.touched; each table is locked against writers for a moment"
            }
        };
        match self.side {
            Side::Blue => format!("begin to note which rows are touched on blue ({with})"),
            Side::Green => format!("begin to note which rows are touched on green, for the way back ({with})"),
        }
    }

    fn undo_summary(&self) -> String {
        match self.method {
            CaptureMethod::Slot => format!("drop the slot and the publication on {}", self.side),
            CaptureMethod::Triggers => {
                format!("drop the triggers, their functions and cutover.touched on {}", self.side)
            }
        }
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        Limits::retried(BOUND * 3, 3, Duration::from_secs(1))
    }

    fn may_be_cut(&self) -> bool {
        true
    }

    fn holds_until(&self) -> Option<StepId> {
        self.until.clone()
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let position = self.position(world, context).await?;
        Ok(match (self.look(world, context).await?, position) {
            (CaptureStanding::Absent, None | Some(false)) => Standing::Absent,
            (CaptureStanding::Absent, Some(true)) => {
                Standing::Partial("green has a position, the capture is gone".into())
            }
            (CaptureStanding::Partial, _) => Standing::Partial("the capture is begun and not finished".to_owned()),
            (CaptureStanding::Present(_), Some(false)) => Standing::Partial("green has no position yet".to_owned()),
            (CaptureStanding::Present(captured), _) => Standing::Present(receipt(&captured)),
            (CaptureStanding::Foreign(what), _) => Standing::Foreign(what),
            (CaptureStanding::Lost(why), _) => Standing::Partial(lost(self.side, &why)),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        if let CaptureStanding::Lost(why) = self.look(world, context).await? {
            let hint = "begin anew: cutover rollback PLAN, then cutover run PLAN";
            return Err(StepError::refused(lost(self.side, &why), hint));
        }
        let mapping = self.form.mapping(context)?;
        let tables = match self.side {
            Side::Blue => mapping.captured(),
            Side::Green => mapping.carried(),
        };
        let mut client = world.side(self.side).await?;
        if self.side == Side::Green {
            let back = resolve_back(world).await?;
            let identified = self.hand(context).identify(&mut client, &context.term(), &back, LOCK).await;
            identified.map_err(|error| fail("let green's log name rows by what blue keeps of them", error))?;
        }
        let captured = self.hand(context).start(&mut client, &context.term(), &tables, BOUND).await;
        let captured = captured.map_err(|error| fail(self.summary(), error))?;
        if self.side == Side::Blue {
            let mut green = world.side(Side::Green).await?;
            let begun = begin_progress(&mut green, &context.term(), &captured).await;
            begun.map_err(|error| fail("note on green where keeping level begins", error))?;
        }
        Ok(receipt(&captured))
    }

    async fn undo(&self, world: &World, context: &Context) -> Result<(), StepError> {
        let mut client = world.side(self.side).await?;
        let stopped = self.hand(context).stop(&mut client, &context.term()).await;
        stopped.map_err(|error| fail(self.undo_summary(), error))?;
        if self.side == Side::Blue && world.gone.is_none() {
            let mut green = world.side(Side::Green).await?;
            let ended = end_progress(&mut green, &context.term(), &self.hand(context)).await;
            ended.map_err(|error| fail("forget green's position", error))?;
        }
        Ok(())
    }
}

//! `capture-blue` and `capture-green`: which rows are touched on a side, from a logical slot that is older than every snapshot.

use super::failure::fail;
use super::resolve_mapping::mapping;
use super::world::World;
use crate::database::capture::{Capture as Slot, CaptureStanding, Captured};
use crate::database::level::begin_progress;
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::json;
use std::time::Duration;

/// Longest wait for each of the two sets of older transactions.
const BOUND: Duration = Duration::from_secs(120);

/// Captures the touched rows of one side.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Blue, to keep green level; green, for the way back.
    pub side: Side,
    /// The step until whose end the capture must last, if there is one.
    pub until: Option<StepId>,
}

impl Capture {
    fn slot(&self, context: &Context) -> Slot {
        Slot { run: context.run(), side: self.side }
    }
}

fn receipt(captured: &Captured) -> Receipt {
    json!({ "slot": captured.name, "start": captured.start.to_string() }).into()
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
        match self.side {
            Side::Blue => "begin to note which rows are touched on blue (publication and logical slot)".to_owned(),
            Side::Green => "begin to note which rows are touched on green, for the way back".to_owned(),
        }
    }

    fn undo_summary(&self) -> String {
        format!("drop the slot and the publication on {}", self.side)
    }

    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    fn limits(&self) -> Limits {
        Limits::retried(BOUND * 3, 3, Duration::from_secs(1))
    }

    fn holds_until(&self) -> Option<StepId> {
        self.until.clone()
    }

    async fn verify(&self, world: &World, context: &Context) -> Result<Standing, StepError> {
        let client = world.side(self.side).await?;
        let standing = self.slot(context).verify(&client).await;
        Ok(match standing.map_err(|error| fail(format!("look at the capture on {}", self.side), error))? {
            CaptureStanding::Absent => Standing::Absent,
            CaptureStanding::Partial => Standing::Partial("the capture is begun and not finished".to_owned()),
            CaptureStanding::Present(captured) => Standing::Present(receipt(&captured)),
            CaptureStanding::Foreign(what) => Standing::Foreign(what),
            CaptureStanding::Lost(why) => Standing::Partial(format!("the capture cannot deliver any more: {why}")),
        })
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let mapping = mapping(context)?;
        let tables = match self.side {
            Side::Blue => mapping.captured(),
            Side::Green => mapping.carried(),
        };
        let mut client = world.side(self.side).await?;
        let captured = self.slot(context).start(&mut client, &context.term(), &tables, BOUND).await;
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
        let stopped = self.slot(context).stop(&mut client, &context.term()).await;
        stopped.map_err(|error| fail(self.undo_summary(), error))
    }
}

//! Which side is live, as the registers say; for the first line of every screen.

use super::failure::fail;
use super::world::World;
use crate::engine::StepError;
use crate::plan::Side;
use crate::traffic::register::{self, Decision, Seen, State};
use std::time::Duration;

/// Longest wait for a side's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which side may be served, seen from both registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// The side, when it can be told.
    pub side: Option<Side>,
    /// The epoch of its register, 0 without one.
    pub epoch: i64,
    /// Whether a side did not answer.
    pub is_unreachable: bool,
}

impl Live {
    /// `blue`, `green`, or why it cannot be told.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.side, self.is_unreachable) {
            (Some(side), _) => side.to_string(),
            (None, true) => "unknown: a register does not answer".to_owned(),
            (None, false) => "undecided: no side's register is open".to_owned(),
        }
    }
}

/// Reads both registers.
pub async fn live(world: &World) -> Live {
    let (blue, green) = tokio::join!(seen(world, Side::Blue), seen(world, Side::Green));
    match register::decide(&blue, &green, 0) {
        Decision::Serving(side, epoch) => Live { side: Some(side), epoch, is_unreachable: false },
        Decision::Undecided => Live { side: None, epoch: 0, is_unreachable: false },
        Decision::Unreachable => Live { side: None, epoch: 0, is_unreachable: true },
    }
}

/// How one gets back to blue from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayBack {
    /// No client was ever on green, or blue serves again: undo what was done.
    Undo,
    /// Green serves, or a way back is decided: move the traffic.
    Move,
}

/// Reads both registers.
///
/// # Errors
/// When a side does not answer: nothing may be concluded.
pub async fn way_back(world: &World) -> Result<WayBack, StepError> {
    let (blue, green) = (state(world, Side::Blue).await?, state(world, Side::Green).await?);
    Ok(match (blue, green) {
        (_, Some(State::Open | State::Sealed)) => WayBack::Move,
        _ => WayBack::Undo,
    })
}

async fn state(world: &World, side: Side) -> Result<Option<State>, StepError> {
    let client = world.side(side).await?;
    let register =
        register::read_of(&client, side).await.map_err(|error| fail(format!("read {side}'s register"), error))?;
    Ok(register.map(|register| register.state))
}

async fn seen(world: &World, side: Side) -> Seen {
    let look = async {
        let client = world.side(side).await.ok()?;
        Some(Seen::from(register::read_of(&client, side).await))
    };
    tokio::time::timeout(PATIENCE, look).await.ok().flatten().unwrap_or(Seen::Unreachable)
}

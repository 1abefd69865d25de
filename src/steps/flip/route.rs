//! Which way traffic goes, and both registers seen from there.

use crate::engine::{StepError, StepId};
use crate::plan::Side;
use crate::steps::failure::fail;
use crate::steps::world::World;
use crate::traffic::register::{self, Register, State};

/// The way out, to green, and the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Blue is left for green.
    Out,
    /// Green is left for blue.
    Back,
}

impl Route {
    /// The side that is left.
    #[must_use]
    pub fn from(self) -> Side {
        match self {
            Self::Out => Side::Blue,
            Self::Back => Side::Green,
        }
    }

    /// The side that is gone to.
    #[must_use]
    pub fn to(self) -> Side {
        self.from().other()
    }

    /// The step's name.
    #[must_use]
    pub const fn id(self) -> StepId {
        match self {
            Self::Out => StepId::new("flip"),
            Self::Back => StepId::new("return"),
        }
    }

    /// The command that makes it, or goes on with it.
    pub(in crate::steps) fn command(self) -> &'static str {
        match self {
            Self::Out => "cutover flip PLAN",
            Self::Back => "cutover rollback PLAN",
        }
    }
}

/// Both registers as they stand.
#[derive(Debug, Clone)]
pub(in crate::steps) struct Registers {
    pub(in crate::steps) blue: Register,
    pub(in crate::steps) green: Register,
}

impl Registers {
    /// Reads both.
    ///
    /// # Errors
    /// `failed`, to be tried again, when a side does not answer; `stuck` when one has no register.
    pub(in crate::steps) async fn read(world: &World) -> Result<Self, StepError> {
        let blue = read(world, Side::Blue).await?;
        let green = match world.gone {
            // Cut off, it serves nobody: as good as closed.
            Some(_) => Register { side: Side::Green, state: State::Closed, fence_pid: None, ..blue.clone() },
            None => read(world, Side::Green).await?,
        };
        Ok(Self { blue, green })
    }

    /// One side's.
    pub(in crate::steps) fn of(&self, side: Side) -> &Register {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }

    /// An epoch above both.
    pub(in crate::steps) fn next_epoch(&self) -> i64 {
        register::propose(&self.blue, &self.green)
    }
}

async fn read(world: &World, side: Side) -> Result<Register, StepError> {
    let client = world.side(side).await?;
    let row = register::read_of(&client, side).await.map_err(|error| fail(format!("read {side}'s register"), error))?;
    row.ok_or_else(|| StepError::stuck(format!("{side} has no register"), "cutover status PLAN"))
}

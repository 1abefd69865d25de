//! The resolved section `systems`: what flips together, and how each of them is spoken to.

use super::{Isolate, Secret, Side};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One system that moves with the others.
#[derive(Debug, Clone)]
pub struct System {
    /// Name, unique in the plan.
    pub name: String,
    /// How it is spoken to.
    pub adapter: Adapter,
    /// The system that holds for this one, when it cannot hold by itself.
    pub behind: Option<String>,
    /// What the system's own path must say answered, per side, when it is verified by effect; unchecked when empty.
    pub answers: BTreeMap<Side, String>,
}

/// How a system is spoken to.
#[derive(Debug, Clone)]
pub enum Adapter {
    /// The built-in gateway, or several that move as one.
    Gateway(Gateways),
    /// A system that implements the participant protocol.
    Participant {
        /// Base URL; `/cutover/v1/…` is appended.
        url: String,
    },
    /// A system that is told by programs.
    Command(Box<Commands>),
    /// An HAProxy that chooses its backend by a map.
    Haproxy(Box<Haproxy>),
    /// An nginx that asks a gateway's gate.
    Nginx(AnsweredAt),
}

impl Adapter {
    /// Whether it can let its clients wait.
    #[must_use]
    pub fn can_hold(&self) -> bool {
        match self {
            Self::Gateway(_) | Self::Participant { .. } => true,
            Self::Command(commands) => commands.hold.is_some(),
            Self::Haproxy(_) | Self::Nginx(_) => false,
        }
    }

    /// The gateways, when it is one or several.
    #[must_use]
    pub fn gateways(&self) -> &[Control] {
        match self {
            Self::Gateway(gateways) => &gateways.controls,
            _ => &[],
        }
    }
}

/// One gateway, or several that move as one.
#[derive(Debug, Clone)]
pub struct Gateways {
    /// All of them, in the order of their names.
    pub controls: Vec<Control>,
    /// Cuts one off that does not answer, which is then counted out; without it, such a one blocks the flip.
    pub count_out: Option<Isolate>,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The name under which it registers as a producer of revocations.
    pub name: String,
    /// Base URL of its control listener.
    pub url: String,
}

/// Programs, one an order; no shell.
#[derive(Debug, Clone)]
pub struct Commands {
    /// Whether the move is possible.
    pub prepare: Option<Vec<String>>,
    /// Starts no new work; none for a system that cannot hold.
    pub hold: Option<Vec<String>>,
    /// Succeeds when nothing is in flight.
    pub drain: Vec<String>,
    /// Turns to a side.
    pub switch: Vec<String>,
    /// Says who answers on the system's own path.
    pub verify: Vec<String>,
    /// Serves a side.
    pub release: Option<Vec<String>>,
    /// Instead of `release`, on the side that was never left.
    pub undo: Option<Vec<String>>,
    /// Environment added; values are secret.
    pub env: BTreeMap<String, Secret>,
}

/// An HAProxy whose `use_backend` looks a key up in a map.
#[derive(Debug, Clone)]
pub struct Haproxy {
    /// Its runtime API.
    pub socket: Socket,
    /// The map as HAProxy names it.
    pub map: String,
    /// The map's file as this program reaches it.
    pub file: PathBuf,
    /// The system's key in the map.
    pub key: String,
    /// The value of the key on each side.
    pub backends: BTreeMap<Side, String>,
    /// How it is seen by effect which side answers.
    pub verify: AnsweredAt,
}

/// Where a runtime API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// A Unix domain socket.
    Unix(PathBuf),
    /// `HOST:PORT`.
    Tcp(String),
}

/// A request whose answer names the side that answered.
#[derive(Debug, Clone)]
pub struct AnsweredAt {
    /// What is asked, by GET.
    pub url: String,
    /// The header that says who answered; without it the first line of the body does.
    pub header: Option<String>,
}

//! Taking, keeping, replaying and proving revocations.
//!
//! A gateway looks a revocation's chain up on both sides ([`chain`]), appends an [`Event`] durably to the [`queue`]
//! ([`Producer`]), and only then lets the live engine execute it. Messages go on into control's tables ([`Collector`]). The one worker
//! that writes green reads them there ([`Ledger`]), kills the chains on green ([`replay`]) and proves them dead ([`proof`]).

mod arrivals;
pub mod chain;
mod collecting;
mod collector;
mod counted_out;
pub mod doors;
mod drained;
mod error;
mod event;
mod follow;
pub mod hydra;
mod identity;
mod known;
mod ledger;
mod link;
pub mod live;
pub mod message;
mod minted;
mod producer;
pub mod proof;
mod query;
pub mod queue;
pub mod replay;
mod retire;
pub mod rotation;
mod shape;
pub mod sinks;
mod spool;
mod standing;
mod taking;
mod touched;
pub mod unasked;
mod verdicts;
mod waived;
mod waiver;
mod ways;
mod witness;

pub use arrivals::Standing;
pub use collector::Collector;
pub use counted_out::end_producer;
pub use drained::{Drained, arrived, drained, gaps, on_their_way};
pub use error::RevocationError;
pub use event::{Captured, Chain, Door, Event, Outcome, Seen};
pub use follow::{Followed, Follower, unconfirmed};
pub use identity::{Identities, Identity, Kind};
pub use known::{Known, Seen as Batch};
pub use ledger::{Counts, Ledger, Unfinished};
pub use link::Link;
pub use minted::{Minted, minted};
pub use producer::{Install, Producer, Receipt, Setup};
pub use retire::{Dead, Retiring};
pub use shape::{Shape, is_revocable};
pub use standing::{EventState, Overview, Page, Said, ShownChain, Told, Totals};
pub use touched::{Touched, TouchedRows};
pub use verdicts::{Because, Verdicts};
pub use waived::Waived;
pub use waiver::Again;
pub use ways::Ways;
pub use witness::Witness;

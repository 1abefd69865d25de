//! Taking, keeping, replaying and proving revocations.
//!
//! A gateway looks a revocation's chain up on both sides ([`chain`]), appends an [`Event`] durably to the queue
//! ([`Producer`]), and only then lets the live engine execute it. The one worker that writes green reads the queue
//! ([`Ledger`]), kills the chains on green ([`replay`]) and proves them dead ([`proof`]).

pub mod chain;
mod drained;
mod error;
mod event;
pub mod hydra;
mod ledger;
mod link;
mod minted;
mod producer;
pub mod proof;
pub mod replay;
pub mod rotation;
mod shape;
mod touched;

pub use drained::{Drained, drained};
pub use error::RevocationError;
pub use event::{Captured, Chain, Door, Event, Outcome, Seen};
pub use ledger::{Counts, Ledger, Standing};
pub use link::Link;
pub use minted::{Minted, minted};
pub use producer::{Install, Producer, Receipt};
pub use shape::{Shape, is_revocable};
pub use touched::{Touched, TouchedRows};

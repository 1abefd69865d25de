//! How each kind of system is spoken to. Both kinds speak the participant protocol; a gateway is also a resolver.

mod participant;

pub use participant::{AdapterError, Participant};

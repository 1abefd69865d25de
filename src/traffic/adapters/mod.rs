//! How each kind of system is spoken to: over the participant protocol (a gateway, which is also a resolver, and systems of one's own), or by a
//! hand of ours whose memory is kept in control (programs, HAProxy, nginx). Jobs that are frozen are told by plain requests, of `traffic::outside`.

mod asked;
mod command;
mod effect;
mod haproxy;
mod keeper;
mod kept;
mod member;
mod participant;

pub use member::Member;
pub use participant::{AdapterError, Participant};

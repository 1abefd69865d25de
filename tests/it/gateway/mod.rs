//! The gateway: routing, holding, the participant protocol, what it does without word, capture, and its figures.

mod capture;
mod figures;
mod hold;
mod protocol;
pub(crate) mod world;

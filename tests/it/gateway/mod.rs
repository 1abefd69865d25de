//! The gateway: routing, holding, the participant protocol, what it does without word, and capture.

mod capture;
mod hold;
mod protocol;
mod world;

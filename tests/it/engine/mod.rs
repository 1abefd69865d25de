//! The engine's laws, on toy steps and without a server.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod crashes;
mod fold;
mod laws;
pub(crate) mod toy;

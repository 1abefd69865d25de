//! Throw-away servers, a stand-in engine and systems, load and an independent prober.
//!
//! Uses the product as a user would; nothing in the product calls it but `cli`.

mod authorization;
pub mod bench;
mod dashboard;
pub mod demo;
pub mod engine;
mod engine_bug;
pub mod environment;
pub mod fault;
mod http;
pub mod part;
pub mod participant;
mod parts;
mod plan_files;
pub mod prober;
mod process;
pub mod rehearsal;
pub mod report;
pub mod seed;
pub mod servers;
mod system;
pub mod up;
mod upstream;
pub mod verbs;

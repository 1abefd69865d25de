//! `cutover` moves a production PostgreSQL database, and the engine on top of it, to a new version while users are on it.
//!
//! A *plan* (YAML) becomes a *runbook* of *steps*; the *engine* runs the steps and writes every act into the *journal*; the
//! *hands* (`database`, `revocations`, `traffic`, `gates`) act on the world; `report` tells a person.
//!
//! ```text
//! cli → steps → { engine → journal ; database, revocations, traffic, gates → plan }
//! gateway → revocations, traffic (registers and protocol)
//! database::client and database::term are a floor that journal, revocations, traffic and gateway stand on
//! report looks at records and events; sandbox uses the product as a user would; prober knows nobody
//! ```
//!
//! Four promises outrank everything else, in this order:
//! 1. a revoked token is never accepted, before, during and after the switch;
//! 2. no acknowledged write is lost, and there are never two writers;
//! 3. traffic has one side or an honest refusal, never a guess;
//! 4. the way back works.
//!
//! `tests/it/tidy.rs` holds the arrows between the rooms.

pub mod cli;
pub mod database;
pub mod engine;
pub mod gates;
pub mod gateway;
pub mod journal;
pub mod plan;
pub mod prober;
pub mod report;
pub mod revocations;
pub mod sandbox;
pub mod steps;
pub mod traffic;

//! Everything that is said to PostgreSQL: connect, copy, carry, capture, clean, migrate, fence, verify.
//!
//! `client`, `sql` and `term` are the floor on which other rooms stand; the rest is called by `steps` alone.

pub mod account;
mod apply;
mod attend;
pub mod blockers;
pub mod by_hand;
pub mod capture;
pub mod catalog;
pub mod changes;
pub mod claim;
pub mod cleanup;
pub mod client;
mod command;
mod concurrent;
pub mod copy;
pub mod diff;
pub mod dirty;
mod engine_folder;
pub mod fence;
pub mod hot_queries;
pub mod indexes;
pub mod invariants;
pub mod inventory;
pub mod level;
pub mod load_settings;
pub mod mapping;
mod measured;
pub mod migrate;
mod migrate_worker;
pub mod migrations;
pub mod old_statements;
pub mod pending;
pub mod pgoutput;
pub mod preflight;
pub mod prewarm;
pub mod quiet;
pub mod refusal;
mod repair;
pub mod schema;
pub mod scratch;
pub mod sequences;
pub mod snapshot;
pub mod sql;
mod standbys;
pub mod term;
mod tries;

//! The runbook: which steps, in which order, in words. No SQL, no HTTP of its own.

mod account_rows;
mod action;
mod analyze_green;
mod build_indexes;
mod capture;
mod check_servers;
mod claim_sides;
mod compile;
mod copy_rows;
mod cost;
mod failure;
mod fence_green;
mod figures;
pub mod finalize;
pub mod flip;
mod level_backlog;
mod levelling;
pub mod live;
mod migrate;
mod ready_to_flip;
mod ready_to_return;
mod resolve_mapping;
mod set_sequences;
mod soaked;
pub mod standing;
mod strip_green;
mod world;

pub use action::Action;
pub use compile::{FLIP_POINT, compile};
pub use cost::{Cost, cost};
pub use figures::figures;
pub use live::{WayBack, way_back};
pub use resolve_mapping::preview_cleanup;
pub use world::World;

//! Moving and holding clients: registers, the lockstep of several systems, and the adapters that speak to each system.

pub mod adapters;
pub mod conformance;
pub mod figures;
mod lockstep;
pub mod outside;
pub mod protocol;
pub mod register;
pub mod stand;

pub use lockstep::{Lockstep, LockstepError, http_client};

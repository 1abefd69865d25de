//! The plan: the document as typed, its resolved form, and every complaint with its place. Pure: no network, no files beyond
//! those the plan names, no environment of its own.

mod check;
mod digest;
pub mod document;
pub mod env_file;
mod explain;
mod load;
mod model;
mod overrides;
mod place;
mod problem;
mod references;
mod resolve;
mod rules;
mod sections;
mod sql_rules;
mod sql_tables;
mod tokens;
mod tree;

pub use document::{Accepts, CaptureMethod, Door, Flow, Listener, When, schema};
pub use explain::{Explanation, explain};
pub use load::{is_in_place, load, parse};
pub use model::*;
pub use overrides::{OVERRIDABLE, SetError};
pub use problem::Problem;
pub use resolve::Lookup;

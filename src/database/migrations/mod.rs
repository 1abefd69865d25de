//! Migrations as text: folders read in order, files cut into statements, what a statement says to whom runs it. Pure but for reading files.

pub mod batch;
pub mod compare;
pub mod compat;
mod directive;
pub mod lint;
pub mod live;
mod name;
mod place;
pub mod rewrite;
pub(super) mod shape;
pub mod source;
pub mod split;

pub use directive::{Batching, Directive, directives};
pub use place::{Place, Problem};
pub use source::{Folder, Kind, MigrationFile, SourceError};

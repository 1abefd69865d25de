//! Migrations as text: folders read in order, files cut into statements, what a statement says to whom runs it. Pure but for reading files.

mod directive;
mod name;
mod place;
pub(super) mod shape;
pub mod source;
pub mod split;

pub use directive::{Batching, Directive, directives};
pub use place::{Place, Problem};
pub use source::{Folder, Kind, MigrationFile, SourceError};

//! What each statement of a migration locks, for how long, whom it blocks, and the form that hurts nobody.
//!
//! Pure: judges text by squawk's syntax tree and by what is known of the tables, from the statements before and from a live database
//! when somebody has read one. What cannot be told from the text is `unknown`, and unknown is never called safe.

mod advice;
mod alter_table;
mod columns;
mod constraints;
mod effects;
mod functions;
mod indexes;
mod judge;
mod known;
mod learn;
mod lock;
mod rows;
mod tables;
mod tree;
mod types;

pub use self::advice::{Advice, advice};
pub use self::judge::{Finding, Linter, Phase, Severity, is_in_the_way, parse};
pub use self::known::{Known, Rule, Size, Table};
pub use self::lock::{Effect, Lock, Work};
pub(in crate::database::migrations) use self::tree::{columns, defined, has_word, named, plain, written};
pub(in crate::database::migrations) use self::types::{is_serial, unsteady};
pub use effects::effects;

//! Records and events made readable for a person or a program. Only looks, and writes to what it is given: never to the terminal itself.

mod bars;
mod lines;
mod pace;
mod progress;
pub mod words;

pub use progress::{Follower, Style};

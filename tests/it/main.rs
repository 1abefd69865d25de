//! The only test binary; each module below is a file or a folder of its own.

mod engine;
mod harness;
mod journal;
mod plan;
mod tidy;

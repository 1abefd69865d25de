//! Revocations as a person and other systems meet them: the verbs, the gateway's place for revocations from outside, the second witness.

mod added;
mod desk;
mod engine;
mod http_sink;
mod live;
mod stopped;
mod unasked;
mod whole;

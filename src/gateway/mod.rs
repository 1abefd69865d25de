//! The built-in HTTP gateway: routes to the side whose register is open, holds and releases clients, captures revocations.
//!
//! It is a participant of the lockstep (`participant`) and a resolver for the others. It never guesses a side: without a definite
//! answer from the registers it refuses with 503 and `Retry-After`.

mod added;
mod ahead;
mod answer;
mod asked;
mod capture;
mod clients;
mod config;
mod control;
mod counters;
mod error;
mod figures;
mod flows;
mod form;
mod gate;
mod headers;
mod log;
mod metrics;
mod overlay;
mod participant;
mod pool;
mod proxy;
mod recognize;
mod refresh;
mod registers;
mod routes;
mod server;
mod settle;
mod state;
mod taken;
mod times;
mod totals;
mod upload;
mod upstream;
mod waiting;
mod workers;

pub use config::{Config, NotTold};
pub use error::GatewayError;
pub use server::{Addresses, Bound, bind, serve};

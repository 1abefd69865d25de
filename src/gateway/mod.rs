//! The built-in HTTP gateway: routes to the side whose register is open, holds and releases clients, captures revocations.
//!
//! It is a participant of the lockstep (`participant`) and a resolver for the others. It never guesses a side: without a definite
//! answer from the registers it refuses with 503 and `Retry-After`.

mod answer;
mod capture;
mod clients;
mod config;
mod control;
mod error;
mod figures;
mod form;
mod gate;
mod headers;
mod participant;
mod proxy;
mod registers;
mod server;
mod settle;
mod state;
mod times;
mod upload;
mod upstream;
mod waiting;

pub use config::Config;
pub use error::GatewayError;
pub use server::{Addresses, Bound, bind, serve};

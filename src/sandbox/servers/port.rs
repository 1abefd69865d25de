//! Free ports on 127.0.0.1.
//!
//! Picks below the range that the kernel gives to outgoing connections, so that a server that is down keeps its port.

use super::ServerError;
use rand::Rng;
use std::net::{Ipv4Addr, TcpListener};

const TRIES: u32 = 200;

/// A port that nobody listens on now; it is not reserved, so whoever takes it tries again when it has gone.
///
/// # Errors
/// When none of the ports tried was free.
pub fn free_port() -> Result<u16, ServerError> {
    (0..TRIES)
        .map(|_| rand::rng().random_range(15_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(ServerError::NoPort { tried: TRIES })
}

//! Why a gateway cannot start. Once started it refuses requests, one by one, rather than end.

use std::path::PathBuf;
use thiserror::Error;

/// Why a gateway cannot start; nothing was changed.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// An address of the plan cannot be used.
    #[error("{what} {url:?}: {why}")]
    Address {
        /// Which address.
        what: String,
        /// What the plan says.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A listener cannot be opened.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The state file cannot be read or written.
    #[error("{act} the state file {}", path.display())]
    StateFile {
        /// What was tried.
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The state file is not ours or was damaged. It says whether a flip is under way, so it is never skipped.
    #[error("read the state file {}: {why}; if no flip is under way, move it away and start again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// HTTP for outgoing requests could not be set up, or a task of ours has failed.
    #[error("run the gateway: {0}")]
    Failed(String),
}

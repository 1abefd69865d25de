//! Throw-away PostgreSQL servers on 127.0.0.1, each with its own folder, port and passwords.
//!
//! Owns their whole life: create, start, stop, kill, pause, restart, end. May call `database::client` and `database::sql`. Never
//! touches a server it has not created; a server that was not detached ends with its owner, even when that is killed.

mod binaries;
mod folder;
mod guard;
mod port;
mod process;
mod server;

pub use binaries::{Account, Binaries};
pub use port::free_port;
pub use server::{Server, Stop};

use std::path::PathBuf;
use thiserror::Error;

/// How a server is made.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Name, for messages and the application name in its log.
    pub name: String,
    /// The server's own folder: data, log, `server.json`. Must not exist or be empty.
    pub folder: PathBuf,
    /// Folder where a fresh cluster is kept to be copied instead of running `initdb` each time.
    pub templates: Option<PathBuf>,
    /// Whether commits reach the disk; off only for tests that never crash the machine.
    pub fsync: bool,
    /// Shared buffers in mebibytes.
    pub shared_buffers_mb: u32,
    /// Whether the server outlives this process.
    pub detached: bool,
    /// Further lines of `postgresql.conf`; these win.
    pub settings: Vec<(String, String)>,
}

impl ServerOptions {
    /// A durable server of moderate size in `folder` that ends with its owner.
    #[must_use]
    pub fn new(name: &str, folder: PathBuf) -> Self {
        let name = name.to_owned();
        Self {
            name,
            folder,
            templates: None,
            fsync: true,
            shared_buffers_mb: 256,
            detached: false,
            settings: Vec::new(),
        }
    }
}

/// Why a throw-away server could not be had or did not obey. Nothing outside its own folder was changed.
#[derive(Debug, Error)]
pub enum ServerError {
    /// PostgreSQL's programs are missing.
    #[error(
        "find PostgreSQL: no working initdb and postgres in {candidates:?}; install PostgreSQL 15 or newer, or name its bin folder"
    )]
    NoBinaries {
        /// Where we looked.
        candidates: Vec<PathBuf>,
    },
    /// Root calls and there is no account to run the server under.
    #[error("start a server as root: neither an account `postgres` nor `nobody` exists to run it under")]
    NoAccount,
    /// A file or folder of the server.
    #[error("prepare {}: the file system refused", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The server's account cannot enter a parent folder.
    #[error("prepare a server's folder: its account cannot enter {}; choose a folder outside it, such as /var/tmp/cutover", path.display())]
    Unreachable {
        /// The parent that is closed.
        path: PathBuf,
    },
    /// A program could not be started.
    #[error("run {what}: it could not be started")]
    Run {
        /// The program.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program failed.
    #[error("run {what}: it failed: {said}")]
    Failed {
        /// The program.
        what: String,
        /// Its last words.
        said: String,
    },
    /// The server did not come up in time.
    #[error("start server {name}: it did not answer; the end of its log: {log}")]
    NotUp {
        /// The server.
        name: String,
        /// The end of its log.
        log: String,
    },
    /// The server did not end in time.
    #[error("stop server {name}: it is still running after {seconds} s")]
    NotDown {
        /// The server.
        name: String,
        /// The bound.
        seconds: u64,
    },
    /// The server is not running.
    #[error("server {name} is not running")]
    NotRunning {
        /// The server.
        name: String,
    },
    /// No port was free.
    #[error("find a free port on 127.0.0.1: none of {tried} tried was free")]
    NoPort {
        /// How many were tried.
        tried: u32,
    },
    /// No connection to a server, for another reason than its own refusal.
    #[error("reach server {name}")]
    Connect {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: crate::database::client::ConnectError,
    },
    /// A statement on the server failed.
    #[error("prepare server {name}: a statement failed")]
    Sql {
        /// The server.
        name: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The record of a detached server cannot be read.
    #[error("read {}: it is not the record of a server", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

//! What a participant remembers across a restart.
//!
//! Owns the state file. Never answers before the file is on disk: written, flushed, renamed, and the folder flushed.

use super::OrderError;
use crate::traffic::protocol::{Conflict, Order, Standing, State};
use crate::traffic::stand::{Objection, Stand, Verb};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokio::time::Instant;

/// Why the state file could not be used.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// Reading or writing failed.
    #[error("{act} the participant's state file {}: {source}", file.display())]
    File {
        /// `read` or `write`.
        act: &'static str,
        /// Which file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not ours or is damaged.
    #[error("read the participant's state file {}: {source}; remove it only if no flip is under way", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}

/// The remembered state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    #[serde(flatten)]
    pub(super) stand: Stand,
    /// Whom to ask when a hold ends without word.
    pub(super) resolvers: Vec<String>,
    /// Counts orders of this process, so that an older hold's end does not end a newer one.
    #[serde(skip)]
    pub(super) generation: u64,
    /// When the hold of this generation ends by itself.
    #[serde(skip)]
    pub(super) hold_ends: Option<Instant>,
}

impl Memory {
    fn first() -> Self {
        Self { stand: Stand::first(State::Serving), resolvers: Vec::new(), generation: 0, hold_ends: None }
    }

    /// The stored state; a participant that was never asked serves blue at epoch 0. A held one comes back as refusing.
    pub(super) fn load(file: &Path) -> Result<Self, MemoryError> {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::first()),
            Err(source) => return Err(MemoryError::File { act: "read", file: file.to_owned(), source }),
        };
        let memory: Self =
            serde_json::from_slice(&text).map_err(|source| MemoryError::Damaged { file: file.to_owned(), source })?;
        Ok(Self { stand: memory.stand.restarted(), ..memory })
    }

    /// Writes the state so that it survives a crash of the machine.
    pub(super) async fn store(&self, file: &Path) -> Result<(), MemoryError> {
        let (memory, file) = (self.clone(), file.to_owned());
        let written = tokio::task::spawn_blocking(move || {
            write_durably(&file, &memory).map_err(|source| MemoryError::File { act: "write", file, source })
        });
        written.await.expect("writing a file does not panic")
    }

    /// Where an order leads.
    pub(super) fn obey(&self, verb: Verb, order: &Order, in_flight: u64) -> Result<Stand, OrderError> {
        self.stand.obey(verb, order).map_err(|objection| self.refused(objection, in_flight))
    }

    pub(super) fn refused(&self, objection: Objection, in_flight: u64) -> OrderError {
        match objection {
            Objection::Conflict(error) => OrderError::Conflict(self.conflict(error)),
            Objection::NotNow(_) => OrderError::NotNow(self.standing(in_flight)),
        }
    }

    /// Stands where an order of a proposal led.
    pub(super) fn accept(&mut self, stand: Stand, order: &Order) {
        self.stand = stand;
        if !order.resolvers.is_empty() {
            self.resolvers.clone_from(&order.resolvers);
        }
    }

    /// Begins a new hold, or a renewed one; the older hold's end no longer counts.
    pub(super) fn renew(&mut self, ends: Instant) -> u64 {
        self.generation += 1;
        self.hold_ends = Some(ends);
        self.generation
    }

    fn conflict(&self, error: &str) -> Conflict {
        Conflict { error: error.to_owned(), epoch: self.stand.epoch, nonce: self.stand.nonce }
    }

    pub(super) fn standing(&self, in_flight: u64) -> Standing {
        Standing {
            epoch: self.stand.epoch,
            nonce: self.stand.nonce,
            side: self.stand.side,
            state: self.stand.state,
            in_flight,
            answered_by: None,
        }
    }
}

fn write_durably(file: &Path, memory: &Memory) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = file.with_extension("draft");
    let mut out = std::fs::File::create(&draft)?;
    out.write_all(&serde_json::to_vec(memory)?)?;
    out.sync_all()?;
    std::fs::rename(&draft, file)?;
    std::fs::File::open(folder)?.sync_all()
}

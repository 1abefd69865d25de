//! The state file: the highest epoch this gateway has accepted, and where it stands. Written durably before an order is answered.

use super::error::GatewayError;
use crate::plan::Side;
use crate::traffic::protocol::State;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Highest epoch accepted.
    pub(super) epoch: i64,
    /// Its nonce.
    pub(super) nonce: Uuid,
    /// Where the gateway stands.
    pub(super) state: State,
    /// The side it serves or is turned to.
    pub(super) side: Side,
}

impl Stored {
    /// A gateway that has never accepted anything.
    pub(super) fn nothing() -> Self {
        Self { epoch: 0, nonce: Uuid::nil(), state: State::Refusing, side: Side::Blue }
    }

    /// Whether a flip may be under way: then only a register at this epoch or above settles who serves.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.state, State::Holding | State::Switched | State::Refusing)
    }
}

/// The file of one gateway.
#[derive(Debug, Clone)]
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What the file says, or none when there is no file.
    pub(super) fn load(&self) -> Result<Option<Stored>, GatewayError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| self.failed("read", source))?,
        };
        let damaged =
            |error: serde_json::Error| GatewayError::Damaged { path: self.path.clone(), why: error.to_string() };
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Writes the file; when this returns it survives a power cut.
    pub(super) async fn save(&self, stored: &Stored) -> Result<(), GatewayError> {
        let (path, stored) = (self.path.clone(), stored.clone());
        let written = tokio::task::spawn_blocking(move || write_durably(&path, &stored)).await;
        match written {
            Ok(result) => result.map_err(|source| self.failed("write", source)),
            Err(error) => Err(GatewayError::Failed(error.to_string())),
        }
    }

    fn failed(&self, act: &'static str, source: io::Error) -> GatewayError {
        GatewayError::StateFile { act, path: self.path.clone(), source }
    }
}

/// A new file beside the old one, flushed, moved over it, and the folder flushed: at no moment is there half a file.
fn write_durably(path: &Path, stored: &Stored) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(serde_json::to_string(stored)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

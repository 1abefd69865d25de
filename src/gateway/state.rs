//! The state file: the highest epoch this gateway has accepted, and where it stands. Written durably before an order is answered.

use super::error::GatewayError;
use crate::traffic::stand::Stand;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    pub(super) fn load(&self) -> Result<Option<Stand>, GatewayError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| self.failed("read", source))?,
        };
        let damaged =
            |error: serde_json::Error| GatewayError::Damaged { path: self.path.clone(), why: error.to_string() };
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Writes the file; when this returns it survives a power cut.
    pub(super) async fn save(&self, stand: &Stand) -> Result<(), GatewayError> {
        let (path, stand) = (self.path.clone(), stand.clone());
        let written = tokio::task::spawn_blocking(move || write_durably(&path, &stand)).await;
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
fn write_durably(path: &Path, stand: &Stand) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(serde_json::to_string(stand)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

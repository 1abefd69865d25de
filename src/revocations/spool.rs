//! The spool file of a gateway whose queue is outside control: what it has published and not yet built upon, so that a crash leaves no doubt
//! about which numbers were ever used. Written durably before each publication.
//!
//! It names each incarnation that was not closed yet, the highest number it may have used, and the messages that may still have to be
//! published. The file may hold what was confirmed already: publishing that again changes nothing.

use super::message::Kind;
use super::queue::Parcel;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// An incarnation that is over, or may be, and was not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unclosed {
    /// Which.
    pub(super) incarnation: Uuid,
    /// The highest number that counts.
    pub(super) last: i64,
    /// Messages up to that number of which it is not known that they were stored.
    pub(super) parcels: Vec<Parcel>,
}

impl Unclosed {
    /// One that is closed at a number up to which all is stored.
    pub(super) fn at(incarnation: Uuid, last: i64) -> Self {
        Self { incarnation, last, parcels: Vec::new() }
    }

    /// The message that closes it.
    pub(super) fn closing(&self) -> Kind {
        Kind::Closed { incarnation: self.incarnation, last: self.last }
    }
}

#[derive(Serialize, Deserialize)]
struct Content {
    v: u32,
    plan: String,
    gateway: String,
    unclosed: Vec<Unclosed>,
}

/// The file, and what it should hold.
pub(super) struct Spool {
    path: PathBuf,
    plan: String,
    gateway: String,
    /// None until the file was read.
    unclosed: Option<Vec<Unclosed>>,
}

impl Spool {
    pub(super) fn new(path: PathBuf, plan: &str, gateway: &str) -> Self {
        Self { path, plan: plan.to_owned(), gateway: gateway.to_owned(), unclosed: None }
    }

    /// What earlier incarnations left. A file that cannot be understood, or is another gateway's, is an error: it may hold the only trace of
    /// a revocation.
    pub(super) async fn left(&mut self) -> Result<Vec<Unclosed>, String> {
        if self.unclosed.is_none() {
            self.unclosed = Some(self.read()?);
        }
        Ok(self.unclosed.clone().unwrap_or_default())
    }

    /// A new incarnation begins; the file knows it before anybody else does.
    pub(super) async fn begin(&mut self, incarnation: Uuid) -> Result<(), String> {
        // One that never published, because it could not register, needs no closing of its own unless control knows it; so it stays.
        self.unclosed.get_or_insert_default().push(Unclosed::at(incarnation, 0));
        self.write().await
    }

    /// Messages up to number `last` are about to be published.
    pub(super) async fn before(&mut self, incarnation: Uuid, last: i64, parcels: &[Parcel]) -> Result<(), String> {
        if let Some(present) = self.present(incarnation) {
            present.last = last;
            present.parcels = parcels.to_vec();
        }
        self.write().await
    }

    /// They are stored, and with them the closings of all earlier incarnations. The file says so with its next writing.
    pub(super) fn confirmed(&mut self, incarnation: Uuid) {
        if let Some(unclosed) = &mut self.unclosed {
            unclosed.retain(|one| one.incarnation == incarnation);
        }
        if let Some(present) = self.present(incarnation) {
            present.parcels.clear();
        }
    }

    /// The incarnation is over at a number up to which all is stored.
    pub(super) fn failed(&mut self, over: &Unclosed) {
        if let Some(present) = self.present(over.incarnation) {
            *present = over.clone();
        }
    }

    fn present(&mut self, incarnation: Uuid) -> Option<&mut Unclosed> {
        self.unclosed.as_mut()?.iter_mut().find(|one| one.incarnation == incarnation)
    }

    fn read(&self) -> Result<Vec<Unclosed>, String> {
        let said = |why: String| format!("read the spool file {}: {why}", self.path.display());
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| said(error.to_string()))?,
        };
        let damaged = "; it may name revocations that nobody else knows of: keep it, and see docs/revocations.md";
        let content: Content = serde_json::from_str(&text).map_err(|error| said(format!("{error}{damaged}")))?;
        if content.v != 1 || content.plan != self.plan || content.gateway != self.gateway {
            let whose = format!("it belongs to gateway {:?} of plan {:?}", content.gateway, content.plan);
            return Err(said(format!("{whose}, version {}{damaged}", content.v)));
        }
        Ok(content.unclosed)
    }

    async fn write(&self) -> Result<(), String> {
        let unclosed = self.unclosed.clone().unwrap_or_default();
        let content = Content { v: 1, plan: self.plan.clone(), gateway: self.gateway.clone(), unclosed };
        let bytes = serde_json::to_vec(&content).expect("a spool is plain data");
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write_durably(&path, &bytes)).await;
        let said = |why: String| format!("write the spool file {}: {why}", self.path.display());
        written.map_err(|error| said(error.to_string()))?.map_err(|error| said(error.to_string()))
    }
}

/// A new file beside the old one, flushed, moved over it, and the folder flushed: at no moment is there half a file.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new-spool");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

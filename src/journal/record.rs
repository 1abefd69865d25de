//! One record, its place in the hash chain, and what a log must be able to do. Pure but for the log's own storage.

use super::error::JournalError;
use crate::database::term::Term;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::sync::Mutex;
use uuid::Uuid;

/// What a record says. Kinds about a step carry its id; the others are about the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A process took the run up, in a new term (body: holder, verb, overrides).
    Opened,
    /// The step's forward is about to act; the body holds what undo needs to know of the state before.
    Intent,
    /// The step's effect stands; the body is its receipt.
    Done,
    /// The step's forward or its check did not succeed; the body says the effect, why and what next.
    Failed,
    /// A phase inside a step (the flip's), in the step's own words.
    Note,
    /// A rollback began: from here on only undo acts.
    Unwinding,
    /// The step's undo is about to act.
    Undoing,
    /// The step's effect is gone.
    Undone,
    /// The step's undo did not succeed; the body says why and what next.
    UndoFailed,
    /// Everything is undone; the run is over.
    RolledBack,
    /// A done step whose effect must last was asked again and said yes; the body is its receipt.
    Held,
    /// A done step whose effect must last was asked again and said no; the body says why and what next.
    Lapsed,
    /// A done one-way step whose effect another one-way step takes back: it can be made again.
    Superseded,
    /// A verb ended before its aim; the body says how, at which step, why and what next.
    Halted,
    /// A verb reached its aim; the body names it.
    Arrived,
}

impl Kind {
    /// The name under which it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Intent => "intent",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Note => "note",
            Self::Unwinding => "unwinding",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo_failed",
            Self::RolledBack => "rolled_back",
            Self::Held => "held",
            Self::Lapsed => "lapsed",
            Self::Superseded => "superseded",
            Self::Halted => "halted",
            Self::Arrived => "arrived",
        }
    }

    /// Reads a stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(Value::String(text.to_owned())).ok()
    }

    /// Whether a record of this kind is about one step.
    #[must_use]
    pub fn is_of_step(self) -> bool {
        !matches!(self, Self::Opened | Self::Unwinding | Self::RolledBack | Self::Halted | Self::Arrived)
    }
}

/// What is asked to be recorded; the log adds place, time, term and hash.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it says.
    pub kind: Kind,
    /// The step it is about, for kinds of a step.
    pub step: Option<String>,
    /// Details, free of secrets.
    pub body: Value,
}

impl Entry {
    /// An entry about a step.
    #[must_use]
    pub fn of_step(kind: Kind, step: impl Into<String>, body: Value) -> Self {
        Self { kind, step: Some(step.into()), body }
    }

    /// An entry about the whole run.
    #[must_use]
    pub fn of_run(kind: Kind, body: Value) -> Self {
        Self { kind, step: None, body }
    }
}

/// One durable record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Its place in the run, from 1, without gaps.
    pub seq: i64,
    /// The control server's clock; information only, order is by `seq`.
    pub at: Timestamp,
    /// The term of the process that wrote it.
    pub term: i64,
    /// What it says.
    pub kind: Kind,
    /// The step it is about, for kinds of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Details, free of secrets.
    pub body: Value,
    /// Hash over the previous record's hash and all fields above.
    #[serde(serialize_with = "as_hex")]
    pub hash: [u8; 32],
}

fn as_hex<S: serde::Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(hash))
}

/// Hash of a run's header, from which its chain of records starts.
#[must_use]
pub(super) fn header_hash(run: Uuid, plan: &str, digest: &str, header: &str) -> [u8; 32] {
    chained(&[run.as_bytes(), plan.as_bytes(), digest.as_bytes(), header.as_bytes()])
}

/// Hash of one record: `body` is the stored text, byte for byte.
#[must_use]
pub(super) fn record_hash(previous: &[u8; 32], run: Uuid, fields: &Fields<'_>) -> [u8; 32] {
    chained(&[
        previous,
        run.as_bytes(),
        &fields.seq.to_be_bytes(),
        &fields.at.as_microsecond().to_be_bytes(),
        &fields.term.to_be_bytes(),
        fields.kind.as_bytes(),
        fields.step.unwrap_or("").as_bytes(),
        fields.body.as_bytes(),
    ])
}

/// A record's fields as they are stored, for hashing.
pub(super) struct Fields<'a> {
    pub(super) seq: i64,
    pub(super) at: Timestamp,
    pub(super) term: i64,
    pub(super) kind: &'a str,
    pub(super) step: Option<&'a str>,
    pub(super) body: &'a str,
}

/// Each part goes in with its length, so that no two lists of parts look the same.
fn chained(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Where records go: the control database for real runs, memory for dry runs and the laws' tests.
pub trait Log: Send + Sync {
    /// The run's id; everything we create in the world carries it.
    fn run(&self) -> Uuid;
    /// The term in which this process acts.
    fn term(&self) -> Term;
    /// All records of the run, by `seq`.
    ///
    /// # Errors
    /// When they cannot be read or the chain is broken.
    fn records(&self) -> impl Future<Output = Result<Vec<Record>, JournalError>> + Send;
    /// Makes one entry durable; returns only when it is.
    ///
    /// # Errors
    /// When it is not durable (or, for a broken connection, when that is unknown), or another process has taken over.
    fn append(&self, entry: Entry) -> impl Future<Output = Result<Record, JournalError>> + Send;
}

/// A log in memory: nothing of it outlives the process.
#[derive(Debug)]
pub struct MemoryLog {
    run: Uuid,
    term: Term,
    records: Mutex<Vec<Record>>,
}

impl MemoryLog {
    /// An empty log of a new run in term 1.
    #[must_use]
    pub fn new(run: Uuid) -> Self {
        Self::with_records(run, Term { term: 1, nonce: Uuid::new_v4() }, Vec::new())
    }

    /// A log that continues `records` in `term`.
    #[must_use]
    pub fn with_records(run: Uuid, term: Term, records: Vec<Record>) -> Self {
        Self { run, term, records: Mutex::new(records) }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.records.lock().expect("no holder of this lock can panic")
    }
}

impl Log for MemoryLog {
    fn run(&self) -> Uuid {
        self.run
    }

    fn term(&self) -> Term {
        self.term
    }

    async fn records(&self) -> Result<Vec<Record>, JournalError> {
        Ok(self.locked().clone())
    }

    async fn append(&self, entry: Entry) -> Result<Record, JournalError> {
        let mut records = self.locked();
        let previous = records.last().map_or([0; 32], |record| record.hash);
        let (seq, at, term) = (records.len() as i64 + 1, Timestamp::now(), self.term.term);
        let (kind, body) = (entry.kind.as_str(), entry.body.to_string());
        let fields = Fields { seq, at, term, kind, step: entry.step.as_deref(), body: &body };
        let hash = record_hash(&previous, self.run, &fields);
        let record = Record { seq, at, term, kind: entry.kind, step: entry.step, body: entry.body, hash };
        records.push(record.clone());
        Ok(record)
    }
}

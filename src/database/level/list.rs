//! The list of changes that a batch reads: what a worker asks of it, whatever keeps it.
//!
//! Owns the few questions and acts that differ: whether the list is still whole, the mark up to which it holds all that a snapshot sees,
//! the touched keys page by page, and that what the target has stored may go. Never decides what a touched key means.

mod log;
mod slot;

use self::log::{LogList, LogReading};
use self::slot::{SlotList, SlotReading};
use super::LevelError;
use crate::database::capture::{Capture, Captured};
use crate::database::changes::{CapturedTable, Key};
use crate::database::pgoutput::Lsn;
use crate::database::snapshot::Snapshot;
use crate::plan::CaptureMethod;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::{Client, Transaction};

/// Touched keys, by captured table.
pub(super) type Page = Vec<(usize, Vec<Key>)>;

/// What keeps the list.
pub(super) enum List {
    /// A logical slot.
    Slot(SlotList),
    /// A log that triggers write.
    Log(LogList),
}

/// A point in the list before which everything stands that a snapshot taken earlier sees, durably.
pub(super) enum Mark {
    /// A message in the write-ahead log, by its content.
    Message(String),
    /// A number on the source.
    Number(Lsn),
}

/// What a list is read with.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// The session beside the snapshot.
    pub(super) client: &'a Client,
    /// The transaction that has the snapshot.
    pub(super) source: &'a Transaction<'a>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) mark: &'a Mark,
    pub(super) tables: &'a [CapturedTable],
    /// Captured tables, `schema.name`, whose changes mean nothing to the mapping.
    pub(super) ignored: &'a [String],
    pub(super) page_keys: usize,
}

/// A list that is being read.
pub(super) enum Reading<'a> {
    Slot(SlotReading<'a>),
    Log(LogReading<'a>),
}

/// What a list held besides keys, once it was read to its end.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The target's new position; none when nothing may be consumed.
    pub(super) position: Option<Lsn>,
    /// Commits consumed.
    pub(super) commits: u64,
    /// Commits that stay.
    pub(super) left: u64,
    /// Captured tables that were emptied: every key of theirs was touched.
    pub(super) emptied: BTreeSet<usize>,
}

/// What came of drawing the list near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Near {
    /// It was near already.
    Already,
    /// It is now.
    Drawn,
    /// It could not be: whoever hinders it is still there.
    Hindered,
}

impl List {
    pub(super) fn of(capture: Capture, captured: &Captured) -> Self {
        match captured.method {
            CaptureMethod::Slot => Self::Slot(SlotList::of(captured)),
            CaptureMethod::Triggers => Self::Log(LogList::of(capture, captured)),
        }
    }

    /// That the list holds every change since `position`, which the target has stored.
    pub(super) async fn require(&self, client: &Client, position: Lsn) -> Result<(), LevelError> {
        match self {
            Self::Slot(slot) => slot.require(client, position).await,
            Self::Log(log) => log.require(client, position).await,
        }
    }

    /// Sets a mark: call it after the snapshot. Everything that the snapshot sees is durable then.
    pub(super) async fn mark(&self, client: &Client) -> Result<Mark, LevelError> {
        match self {
            Self::Slot(slot) => slot.mark(client).await,
            Self::Log(log) => log.mark(client).await,
        }
    }

    /// Begins to read what was touched up to the mark.
    pub(super) async fn read<'a>(&'a self, at: At<'a>) -> Result<Reading<'a>, LevelError> {
        match (self, at.mark) {
            (Self::Slot(slot), Mark::Message(marker)) => slot.read(at, marker).await.map(Reading::Slot),
            (Self::Log(log), Mark::Number(mark)) => log.read(at, *mark).await.map(Reading::Log),
            (Self::Slot(_), Mark::Number(_)) | (Self::Log(_), Mark::Message(_)) => Err(LevelError::NoMarker),
        }
    }

    /// Lets go what the target has stored: up to `position`, as `snapshot` saw it. Gives the bytes that remain.
    pub(super) async fn consume(&self, client: &Client, position: Lsn, snapshot: &Snapshot) -> Result<u64, LevelError> {
        match self {
            Self::Slot(slot) => slot.consume(client, position).await,
            Self::Log(log) => log.consume(client, snapshot).await,
        }
    }

    /// Sees that the next call does not have to read what was consumed long ago. `limit` is the session's own for a statement.
    pub(super) async fn draw_near(&self, client: &Client, limit: Duration) -> Near {
        match self {
            Self::Slot(slot) => slot.draw_near(client, limit).await,
            Self::Log(log) => log.draw_near(client, limit).await,
        }
    }
}

impl Reading<'_> {
    /// The next touched keys; none at the end of the list.
    pub(super) async fn page(&mut self) -> Result<Option<Page>, LevelError> {
        match self {
            Self::Slot(reading) => reading.page().await,
            Self::Log(reading) => reading.page().await,
        }
    }

    /// What else the list held. Call it after the last page.
    pub(super) fn ended(self) -> Ended {
        match self {
            Self::Slot(reading) => reading.ended(),
            Self::Log(reading) => reading.ended(),
        }
    }
}

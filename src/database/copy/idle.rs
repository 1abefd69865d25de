//! What a worker does that finds no chunk any more while others still copy: it builds an index of a table whose rows all stand.
//!
//! Rows go first, because blue's snapshot is held for them. Nothing depends on it: an index that is not built here, for whatever reason,
//! is built by the step that builds indexes, which also tells why it could not be.

use super::noted::Chunks;
use super::work::Piece;
use super::{CopyOptions, CopyTold};
use crate::database::indexes::{Builder, Definitions, Index, Queue};
use crate::plan::TableName;
use std::collections::BTreeMap;
use tokio::sync::watch::Sender;

/// The indexes that idle workers may build.
#[derive(Debug, Clone, Copy)]
pub struct IdleWork<'a> {
    /// What was dropped before the rows.
    pub indexes: &'a Definitions,
    /// Memory for each builder.
    pub memory_bytes: u64,
}

/// How a copy stands, as far as idle workers must know.
#[derive(Debug, Default)]
struct Standing {
    /// Workers without a chunk.
    idle: usize,
    /// Chunks that are missing, of tables of which no row stood before. Rows of the others come from more than one moment of blue, and
    /// their unique indexes may have to wait.
    missing: BTreeMap<TableName, usize>,
    /// Whether nobody copies any more.
    is_over: bool,
}

impl Standing {
    fn is_whole(&self, table: &TableName) -> bool {
        self.missing.get(table) == Some(&0)
    }
}

/// Hands indexes to workers that have no chunk.
#[derive(Debug)]
pub(super) struct Idle(Sender<Standing>);

impl Idle {
    pub(super) fn new(noted: &BTreeMap<TableName, Chunks>, pieces: &[Piece<'_>]) -> Self {
        let mut missing = BTreeMap::new();
        for piece in pieces {
            let table = &piece.table.target;
            if noted.get(table).is_none_or(Chunks::is_untouched) {
                *missing.entry(table.clone()).or_default() += 1;
            }
        }
        Self(Sender::new(Standing { missing, ..Standing::default() }))
    }

    /// A chunk of `table` stands.
    pub(super) fn copied(&self, table: &TableName) {
        self.0.send_modify(|standing| {
            if let Some(missing) = standing.missing.get_mut(table) {
                *missing -= 1;
            }
        });
    }

    /// A worker has no chunk any more.
    pub(super) fn one_more(&self) {
        self.0.send_modify(|standing| standing.idle += 1);
    }

    /// Nobody copies any more: what is being built is finished, and nothing is begun.
    pub(super) fn over(&self) {
        self.0.send_modify(|standing| standing.is_over = true);
    }

    /// Builds indexes, never more at a time than workers are idle, until the copy is over.
    pub(super) async fn build(
        &self,
        options: &CopyOptions<'_>,
        queue: Option<&Queue<'_>>,
        tell: &(dyn Fn(CopyTold<'_>) + Sync),
    ) {
        let (Some(queue), Some(work)) = (queue, options.idle) else { return };
        let builders = (0..options.workers).map(async |place| {
            let mut builder = None;
            while let Some(index) = self.next(place, queue).await {
                tell(CopyTold::Index(&index.name));
                if let Err(error) = build(&mut builder, options, work.memory_bytes, index).await {
                    tracing::debug!(%error, index = %index.name, "not built while rows were copied");
                    return;
                }
            }
        });
        futures_util::future::join_all(builders).await;
    }

    /// Waits until the worker of this place among the idle ones has something to build; none when the copy is over.
    async fn next<'q>(&self, place: usize, queue: &Queue<'q>) -> Option<&'q Index> {
        let mut changes = self.0.subscribe();
        loop {
            {
                let standing = changes.borrow_and_update();
                if standing.is_over {
                    return None;
                }
                let is_idle = place < standing.idle;
                if let Some(index) = is_idle.then(|| queue.take(|table| standing.is_whole(table))).flatten() {
                    return Some(index);
                }
            }
            changes.changed().await.ok()?;
        }
    }
}

async fn build(
    builder: &mut Option<Builder>,
    options: &CopyOptions<'_>,
    memory_bytes: u64,
    index: &Index,
) -> Result<(), crate::database::indexes::IndexError> {
    let builder = match builder {
        Some(builder) => builder,
        none => none.insert(Builder::connect(options.green, options.term, memory_bytes).await?),
    };
    builder.build(index).await
}

//! Killing again what a batch may have brought back, in its own transaction; which, and which proofs stand afterwards, the worker's
//! [`Known`] says.

use crate::database::level::{Answer, Explained, Gone, Reapply, TouchedTable};
use crate::database::sql::qualified;
use crate::engine::chain;
use crate::revocations::replay::{replay, replay_each};
use crate::revocations::unasked::{DeadChain, dead_chains};
use crate::revocations::{Batch, Event, Known, Ledger, Touched, TouchedRows, Ways, rotation};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

/// Touched keys above which everything counts as touched; the chains of fewer are held in memory.
const MOST_KEYS: u64 = 20_000;
/// Revocations that are applied with one set of statements.
const PER_STATEMENT: usize = 2000;

/// Kills again, in a batch's own transaction, what it may have brought back; and knows the engine's own reasons for a row to go.
pub(super) struct Again<'a> {
    source_ways: &'a Ways,
    target_ways: &'a Ways,
    ledger: &'a Ledger,
    known: &'a Known,
    /// Revocations whose chains the batch touched; none when it was too much to say.
    met: Mutex<Option<BTreeSet<Uuid>>>,
    /// Chains that it found dead, and that nobody revoked through a door.
    unasked: Mutex<Vec<DeadChain>>,
    /// Revocations that could not be applied.
    failed: Mutex<BTreeSet<Uuid>>,
}

impl<'a> Again<'a> {
    pub(super) fn new(source_ways: &'a Ways, target_ways: &'a Ways, ledger: &'a Ledger, known: &'a Known) -> Self {
        Self {
            source_ways,
            target_ways,
            ledger,
            known,
            met: Mutex::default(),
            unasked: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// What there is to say once the batch has committed, and the chains that it found dead although nobody revoked them through a door.
    pub(super) fn seen(self) -> (Batch, Vec<DeadChain>) {
        let met = self.met.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = self.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        (Batch { met, failed }, self.unasked.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read(
        &self,
        target: &Transaction<'_>,
        tables: &[TouchedTable<'_>],
    ) -> Result<Option<BTreeSet<Uuid>>, Error> {
        if tables.iter().map(|table| table.keys).sum::<u64>() > MOST_KEYS {
            return Ok(None);
        }
        let rows = |touched: &TouchedTable<'_>| TouchedRows {
            table: qualified(&touched.table.schema, &touched.table.name),
            name: touched.table.name.clone(),
            from: touched.from.to_owned(),
        };
        let rows: Vec<TouchedRows> = tables.iter().filter(|table| table.keys > 0).map(rows).collect();
        let dead = dead_chains(target, self.target_ways.shape(), &rows).await?;
        *self.unasked.lock().unwrap_or_else(PoisonError::into_inner) = self.known.unexplained(dead);
        let touched = Touched::read(target, self.target_ways, &rows).await?;
        Ok(Some(self.known.met_by(&touched)))
    }

    async fn kill(&self, target: &Transaction<'_>, tables: &[TouchedTable<'_>]) -> Result<u64, Error> {
        let met = self.read(target, tables).await?;
        let mut killed = 0;
        for page in self.known.due(met.as_ref()).chunks(PER_STATEMENT) {
            killed += self.apply(target, page).await?;
        }
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = met;
        Ok(killed)
    }

    /// Those that control does not tell now stay unapplied, and no proof of them stands: the next batch applies them.
    async fn apply(&self, target: &Transaction<'_>, ids: &[Uuid]) -> Result<u64, Error> {
        let page = match self.ledger.events(ids).await {
            Ok(page) => {
                let told: BTreeSet<Uuid> = page.iter().map(|event| event.id).collect();
                let untold = ids.iter().filter(|id| !told.contains(id));
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).extend(untold);
                page
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "revocations are not applied again in this batch");
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
                return Ok(0);
            }
        };
        match self.target_ways.sql().is_empty() {
            true => replay(target, self.target_ways, &page).await,
            false => self.apply_apart(target, &page).await,
        }
    }

    /// One event on which a statement of the plan fails keeps neither the batch nor the others: it stays unapplied, and no proof of it stands.
    async fn apply_apart(&self, target: &Transaction<'_>, page: &[Event]) -> Result<u64, Error> {
        let mut killed = 0;
        for (id, replayed) in replay_each(target, self.target_ways, page).await? {
            match replayed {
                Ok(rows) => killed += rows,
                Err(error) => {
                    tracing::warn!(%id, %error, "a revocation is not applied again in this batch");
                    self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                }
            }
        }
        Ok(killed)
    }
}

impl Reapply for Again<'_> {
    fn reapply<'a>(&'a self, target: &'a Transaction<'a>, touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(self.kill(target, touched))
    }

    fn explain<'a>(&'a self, source: &'a Transaction<'a>, gone: Gone<'a>) -> Answer<'a, Explained> {
        Box::pin(async move {
            if rotation::holds_used_marks(&gone.table.name) {
                return Ok(Explained::All);
            }
            rotation::known_chains(source, self.source_ways.shape(), gone.chains).await.map(Explained::Chains)
        })
    }
}

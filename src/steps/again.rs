//! Killing again what a batch may have brought back, and knowing which proofs it leaves standing.
//!
//! One worker writes the closed side, so what it has applied there holds until one of its batches touches the chain: its first batch applies
//! every revocation, a later one those that are new to it and those whose chains it touches. Whatever else was true before this worker
//! opened is not relied on.

use crate::database::level::{Answer, Explained, Gone, Reapply, TouchedTable};
use crate::database::sql::qualified;
use crate::revocations::replay::reapply_for;
use crate::revocations::{Event, Shape, Touched, TouchedRows, rotation};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

/// Touched keys above which everything counts as touched; the chains of fewer are held in memory.
const MOST_KEYS: u64 = 20_000;

/// What the batches and proofs of one worker have established.
#[derive(Debug, Default)]
pub(super) struct Established {
    /// Revocations that a committed batch has applied, wherever their chains are.
    applied: BTreeSet<Uuid>,
    /// Revocations proved since a batch last touched their chains.
    proved: BTreeSet<Uuid>,
}

impl Established {
    /// After the commit of a batch.
    pub(super) fn batch_committed(&mut self, seen: Seen) {
        match seen.met {
            Some(met) => self.proved.retain(|id| !met.contains(id)),
            None => self.proved.clear(),
        }
        self.applied = seen.applied;
    }

    /// After a batch that failed: it may have committed all the same, so no proof stands.
    pub(super) fn batch_failed(&mut self) {
        self.proved.clear();
    }

    /// After a proof; gives those that were not proved before.
    pub(super) fn proof_taken(&mut self, proved: &[Uuid]) -> Vec<Uuid> {
        proved.iter().filter(|id| self.proved.insert(**id)).copied().collect()
    }

    /// Those whose proof does not stand.
    pub(super) fn unproved(&self, events: &BTreeMap<Uuid, Event>) -> Vec<Event> {
        events.values().filter(|event| !self.proved.contains(&event.id)).cloned().collect()
    }
}

/// Kills again, in a batch's own transaction, what it may have brought back; and knows the engine's own reasons for a row to go.
pub(super) struct Again<'a> {
    source_shape: &'a Shape,
    target_shape: &'a Shape,
    events: &'a BTreeMap<Uuid, Event>,
    applied: &'a BTreeSet<Uuid>,
    /// What the batch touched; none when it was too much to say.
    touched: Mutex<Option<Touched>>,
}

/// What a batch leaves behind when it commits.
pub(super) struct Seen {
    /// The revocations that it has applied, or that stood applied and were not touched.
    applied: BTreeSet<Uuid>,
    /// Those whose chains it touched; none when that was too much to say.
    met: Option<BTreeSet<Uuid>>,
}

impl<'a> Again<'a> {
    pub(super) fn new(
        source_shape: &'a Shape,
        target_shape: &'a Shape,
        events: &'a BTreeMap<Uuid, Event>,
        established: &'a Established,
    ) -> Self {
        Self { source_shape, target_shape, events, applied: &established.applied, touched: Mutex::default() }
    }

    /// What there is to say once the batch has committed.
    pub(super) fn seen(self) -> Seen {
        let touched = self.touched.into_inner().unwrap_or_else(PoisonError::into_inner);
        let met = |touched: Touched| {
            self.events.values().filter(|event| touched.meets(event)).map(|event| event.id).collect()
        };
        Seen { applied: self.events.keys().copied().collect(), met: touched.map(met) }
    }

    async fn read(&self, target: &Transaction<'_>, tables: &[TouchedTable<'_>]) -> Result<Option<Touched>, Error> {
        if tables.iter().map(|table| table.keys).sum::<u64>() > MOST_KEYS {
            return Ok(None);
        }
        let rows = |touched: &TouchedTable<'_>| TouchedRows {
            table: qualified(&touched.table.schema, &touched.table.name),
            from: touched.from.to_owned(),
        };
        let rows: Vec<TouchedRows> = tables.iter().map(rows).collect();
        Touched::read(target, self.target_shape, &rows).await.map(Some)
    }

    async fn kill(&self, target: &Transaction<'_>, tables: &[TouchedTable<'_>]) -> Result<u64, Error> {
        let touched = self.read(target, tables).await?;
        let is_due = |event: &&Event| {
            !self.applied.contains(&event.id) || touched.as_ref().is_none_or(|touched| touched.meets(event))
        };
        let due: Vec<Event> = self.events.values().filter(is_due).cloned().collect();
        let killed = reapply_for(target, self.target_shape, &due).await?;
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = touched;
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
            rotation::known_chains(source, self.source_shape, gone.chains).await.map(Explained::Chains)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(applied: &[Uuid], met: Option<&[Uuid]>) -> Seen {
        Seen { applied: applied.iter().copied().collect(), met: met.map(|met| met.iter().copied().collect()) }
    }

    #[test]
    fn a_proof_stands_until_a_batch_touches_the_chain() {
        let [one, two] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let mut established = Established::default();
        assert_eq!(established.proof_taken(&[one, two]), [one, two]);
        established.batch_committed(seen(&[one, two], Some(&[two])));
        assert_eq!(established.proof_taken(&[one, two]), [two], "the first stood, the second is taken anew");
        established.batch_committed(seen(&[one, two], None));
        assert_eq!(established.proof_taken(&[one, two]), [one, two], "what was touched is not known");
        established.batch_failed();
        assert_eq!(established.proof_taken(&[one]), [one], "it may have committed");
    }

    #[test]
    fn only_a_committed_batch_has_applied_anything() {
        let (id, mut established) = (Uuid::from_u128(1), Established::default());
        established.batch_failed();
        assert!(established.applied.is_empty());
        established.batch_committed(seen(&[id], Some(&[])));
        assert!(established.applied.contains(&id));
        established.batch_committed(seen(&[], Some(&[])));
        assert!(established.applied.is_empty(), "one that counted no more and comes back is applied anew");
    }
}

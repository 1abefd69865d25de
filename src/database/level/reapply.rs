//! What the leveller asks of those who know revocations: to kill again, and to explain what is gone.

use crate::plan::TableName;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use tokio_postgres::Transaction;

/// An answer that is still to come, or the server's refusal.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, tokio_postgres::Error>> + Send + 'a>>;

/// Rows that live on the target and are gone on the source.
#[derive(Debug, Clone, Copy)]
pub struct Gone<'a> {
    /// The target's table.
    pub table: &'a TableName,
    /// Their chains, each once, a page at a time; empty when the table knows none.
    pub chains: &'a [String],
}

/// Which of such rows may be removed without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explained {
    /// All of the table's.
    All,
    /// Those of some of the chains.
    Chains(BTreeSet<String>),
}

/// Rows of one table of the target whose keys a batch touched, those that it did not have to change included.
#[derive(Debug, Clone, Copy)]
pub struct TouchedTable<'a> {
    /// The target's table.
    pub table: &'a TableName,
    /// What follows `from` in the batch's transaction to read them, as `t`.
    pub from: &'a str,
    /// At most how many there are.
    pub keys: u64,
}

/// What is done in each batch's transaction beside making rows equal.
pub trait Reapply: Sync {
    /// Kills again what the batch may have brought back: `touched` is all that it can have written. Gives the number of rows changed.
    fn reapply<'a>(&'a self, target: &'a Transaction<'a>, touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64>;

    /// Which of the rows that are gone on the source, as it is at the batch's snapshot, are explained there. None, unless said otherwise.
    fn explain<'a>(&'a self, _source: &'a Transaction<'a>, _gone: Gone<'a>) -> Answer<'a, Explained> {
        Box::pin(async { Ok(Explained::Chains(BTreeSet::new())) })
    }
}

/// Nothing to do again, and nothing to explain.
impl Reapply for () {
    fn reapply<'a>(&'a self, _target: &'a Transaction<'a>, _touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(async { Ok(0) })
    }
}

//! Building what is missing: one queue, the largest tables first, from which every builder takes the next.

use super::{Definitions, Index, IndexError, read};
use crate::database::client::connect;
use crate::database::sql::{ident, qualified};
use crate::database::term::{Term, hold};
use crate::plan::{Secret, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio_postgres::{Client, GenericClient};

const SIZES: &str = "
select n.nspname, c.relname, pg_catalog.pg_table_size(c.oid)::bigint
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname || '.' || c.relname = any($1::text[])";

/// Indexes that do not stand yet, the largest tables first; each is taken once.
#[derive(Debug)]
pub(in crate::database) struct Queue<'a>(Mutex<Vec<&'a Index>>);

impl<'a> Queue<'a> {
    /// What is missing of `wanted`, by the tables' sizes on green; `size` of a table that is being filled is what the caller expects.
    pub(in crate::database) async fn missing(
        client: &Client,
        wanted: &'a Definitions,
        size: impl Fn(&TableName) -> i64,
    ) -> Result<Self, IndexError> {
        let standing = read(client, &tables(wanted)).await?;
        let is_missing = |index: &&Index| !standing.indexes.contains(index);
        let mut missing: Vec<&Index> = wanted.indexes.iter().filter(is_missing).collect();
        missing.sort_by_key(|index| std::cmp::Reverse(size(&index.table)));
        Ok(Self(Mutex::new(missing)))
    }

    /// The next one of a table that `may` be built on.
    pub(in crate::database) fn take(&self, may: impl Fn(&TableName) -> bool) -> Option<&'a Index> {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = missing.iter().position(|index| may(&index.table))?;
        Some(missing.remove(place))
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A connection whose builds, or validations of foreign keys, may take `memory_bytes` each.
pub(super) async fn with_memory(url: &Secret, memory_bytes: u64) -> Result<Client, IndexError> {
    let client = connect(url, "green").await?;
    let memory = format!("set maintenance_work_mem = '{}kB'", memory_bytes.clamp(1 << 20, 1 << 40) >> 10);
    let failed =
        |source| IndexError::Server { act: "give memory to", object: "a builder of indexes".to_owned(), source };
    client.batch_execute(&memory).await.map_err(failed)?;
    Ok(client)
}

/// A connection that builds one index after the other.
pub(in crate::database) struct Builder {
    client: Client,
    term: Term,
}

impl Builder {
    /// Connects; each index may take `memory_bytes`.
    pub(in crate::database) async fn connect(url: &Secret, term: Term, memory_bytes: u64) -> Result<Self, IndexError> {
        Ok(Self { client: with_memory(url, memory_bytes).await?, term })
    }

    /// Builds one, or what is left of it, and lets its constraint adopt it.
    pub(in crate::database) async fn build(&mut self, index: &Index) -> Result<(), IndexError> {
        let object = format!("{} of {}", index.name, index.table);
        let failed = |source| IndexError::Server { act: "build index", object: object.clone(), source };
        let adopt = index.constraint.as_ref().map(|constraint| {
            let table = qualified(&index.table.schema, &index.table.name);
            format!("alter table {table} add constraint {} {constraint}", ident(&index.name))
        });
        let transaction = self.client.transaction().await.map_err(failed)?;
        hold(&transaction, &self.term).await?;
        if !index.builds_itself && !exists(&transaction, index).await.map_err(failed)? {
            transaction.batch_execute(&index.definition).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        let Some(adopt) = adopt else { return Ok(()) };
        // A transaction of its own: adopting takes ACCESS EXCLUSIVE, which must not be held while an index is being built.
        let transaction = self.client.transaction().await.map_err(failed)?;
        hold(&transaction, &self.term).await?;
        transaction.batch_execute(&adopt).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}

/// Builds what is missing of `wanted.indexes` with `workers` connections, the largest tables first, and tells of each as it stands.
///
/// Each builder may take `memory_bytes`. The rows of `mixed` tables come from more than one moment of the source: a unique index that finds
/// two of them alike is left to a later call, when they are level.
///
/// # Errors
/// The first object that could not be built; the others under way are finished, the rest is left for the next attempt.
pub async fn build(
    url: &Secret,
    term: &Term,
    wanted: &Definitions,
    workers: usize,
    memory_bytes: u64,
    mixed: &BTreeSet<TableName>,
    tell: &(dyn Fn(usize, usize, &str) + Sync),
) -> Result<(), IndexError> {
    let client = connect(url, "green").await?;
    let sizes = sizes(&client, &tables(wanted)).await?;
    let queue = Queue::missing(&client, wanted, |table| sizes.get(table).copied().unwrap_or(0)).await?;
    let (missing, all) = (queue.len(), wanted.indexes.len());
    let done = AtomicUsize::new(all - missing);
    let work = || async {
        let mut builder = Builder::connect(url, *term, memory_bytes).await?;
        while let Some(index) = queue.take(|_| true) {
            match builder.build(index).await {
                Err(error) if error.is_duplicate() && mixed.contains(&index.table) => continue,
                other => other?,
            }
            tell(1 + done.fetch_add(1, Ordering::Relaxed), all, &index.name);
        }
        Ok::<(), IndexError>(())
    };
    let workers = workers.clamp(1, missing.max(1));
    let results = futures_util::future::join_all((0..workers).map(|_| work())).await;
    results.into_iter().collect()
}

async fn exists(client: &impl GenericClient, index: &Index) -> Result<bool, tokio_postgres::Error> {
    let name = qualified(&index.table.schema, &index.name);
    let row = client.query_one("select pg_catalog.to_regclass($1::text) is not null", &[&name]).await?;
    Ok(row.get(0))
}

fn tables(wanted: &Definitions) -> Vec<TableName> {
    wanted.indexes.iter().map(|index| index.table.clone()).collect()
}

pub(super) async fn sizes(client: &Client, tables: &[TableName]) -> Result<BTreeMap<TableName, i64>, IndexError> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let failed = |source| IndexError::Server { act: "measure", object: "tables".to_owned(), source };
    let rows = client.query(SIZES, &[&names]).await.map_err(failed)?;
    Ok(rows.iter().map(|row| (TableName { schema: row.get(0), name: row.get(1) }, row.get(2))).collect())
}

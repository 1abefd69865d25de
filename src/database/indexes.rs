//! Secondary indexes, keys and foreign keys of carried tables: read, dropped before the rows come, built again after them, compared.
//!
//! A unique or primary key is built as an index first and then adopted by its constraint, so that several of one table can be
//! built at a time. Every act looks at what is already there, so that it can be repeated after a crash.

use super::client::{ConnectError, connect};
use super::sql::{ident, qualified};
use super::term::{Term, TermError, hold};
use crate::plan::{Secret, TableName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

/// Why indexes or keys could not be read, dropped or built.
#[derive(Debug, Error)]
pub enum IndexError {
    /// No connection for a builder; nothing was changed by it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another process has taken over; nothing more is changed.
    #[error(transparent)]
    Term(#[from] TermError),
    /// The server refused; the transaction of this one object was rolled back.
    #[error("{act} {object} on green")]
    Server {
        /// What was tried.
        act: &'static str,
        /// On what.
        object: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl IndexError {
    /// Whether two rows share what must be unique.
    fn is_duplicate(&self) -> bool {
        matches!(self, Self::Server { source, .. } if source.code() == Some(&SqlState::UNIQUE_VIOLATION))
    }
}

/// An index, and the constraint it stands for, if any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its table.
    pub table: TableName,
    /// Its name; it lives in the table's schema.
    pub name: String,
    /// As the server writes it: `CREATE INDEX …`.
    pub definition: String,
    /// The constraint it stands for: what follows `add constraint NAME` once the index stands (or, for an exclusion, builds it).
    pub constraint: Option<String>,
    /// Whether the constraint cannot adopt an index and builds its own (exclusion).
    pub builds_itself: bool,
    /// Whether it can be used.
    pub is_valid: bool,
}

impl Index {
    /// Whether it refuses two rows that are alike.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        self.definition.starts_with("CREATE UNIQUE INDEX ")
    }
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// The referencing table.
    pub table: TableName,
    /// Its name.
    pub name: String,
    /// What follows `add constraint NAME`, without `not valid`.
    pub definition: String,
    /// Whether every row was found to satisfy it.
    pub is_valid: bool,
}

/// What stands beside the rows of some tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definitions {
    /// Indexes, those of constraints included.
    pub indexes: Vec<Index>,
    /// Foreign keys that start or end at one of the tables.
    pub foreign_keys: Vec<ForeignKey>,
}

const INDEXES: &str = "
select n.nspname, c.relname, i.relname, pg_catalog.pg_get_indexdef(x.indexrelid), x.indisvalid,
       case when k.contype is null then null
            when k.contype = 'x' then pg_catalog.pg_get_constraintdef(k.oid)
            else case k.contype when 'p' then 'primary key' else 'unique' end || ' using index ' || quote_ident(i.relname)
                 || case when k.condeferrable then ' deferrable' else '' end
                 || case when k.condeferred then ' initially deferred' else '' end end,
       coalesce(k.contype = 'x', false)
  from pg_catalog.pg_index x
  join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_class c on c.oid = x.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_constraint k on k.conindid = x.indexrelid and k.contype in ('p', 'u', 'x')
 where n.nspname || '.' || c.relname = any($1::text[])
 order by 1, 2, 3";

const FOREIGN_KEYS: &str = "
select n.nspname, c.relname, k.conname,
       regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), ' NOT VALID$', ''), k.convalidated
  from pg_catalog.pg_constraint k
  join pg_catalog.pg_class c on c.oid = k.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class p on p.oid = k.confrelid
  join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
 where k.contype = 'f' and k.conparentid = 0
   and (n.nspname || '.' || c.relname = any($1::text[]) or pn.nspname || '.' || p.relname = any($1::text[]))
 order by 1, 2, 3";

const SIZES: &str = "
select n.nspname, c.relname, pg_catalog.pg_table_size(c.oid)::bigint
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname || '.' || c.relname = any($1::text[])";

/// Reads what stands beside the rows of `tables`.
///
/// # Errors
/// When the server refuses.
pub async fn read(client: &impl GenericClient, tables: &[TableName]) -> Result<Definitions, IndexError> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let failed = |source| IndexError::Server { act: "read", object: "indexes and foreign keys".to_owned(), source };
    let indexes = client.query(INDEXES, &[&names]).await.map_err(failed)?.iter().map(index).collect();
    let foreign_keys = client.query(FOREIGN_KEYS, &[&names]).await.map_err(failed)?.iter().map(foreign_key).collect();
    Ok(Definitions { indexes, foreign_keys })
}

/// Drops foreign keys, constraints and indexes, in one transaction, so that rows can come fast and in any order.
///
/// # Errors
/// When another process took over or the server refuses; nothing was dropped.
pub async fn strip(client: &mut Client, term: &Term, definitions: &Definitions) -> Result<(), IndexError> {
    let failed = |source| IndexError::Server { act: "drop", object: "indexes and keys".to_owned(), source };
    let transaction = client.transaction().await.map_err(failed)?;
    hold(&transaction, term).await?;
    transaction.batch_execute(&strip_sql(definitions)).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

fn strip_sql(definitions: &Definitions) -> String {
    let keys = definitions.foreign_keys.iter().map(|key| drop_constraint(&key.table, &key.name));
    let indexes = definitions.indexes.iter().map(|index| match index.constraint {
        Some(_) => drop_constraint(&index.table, &index.name),
        None => format!("drop index if exists {};", qualified(&index.table.schema, &index.name)),
    });
    keys.chain(indexes).collect::<Vec<_>>().join("\n")
}

fn drop_constraint(table: &TableName, name: &str) -> String {
    format!("alter table {} drop constraint if exists {};", qualified(&table.schema, &table.name), ident(name))
}

/// Builds what is missing of `wanted.indexes` with `workers` connections, the largest tables first, and tells of each as it stands.
///
/// Each builder may take `memory_bytes`. The rows of `mixed` tables come from more than one moment of the source: a unique index that finds two of them alike is left to a later
/// call, when they are level.
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
    let tables: Vec<TableName> = wanted.indexes.iter().map(|index| index.table.clone()).collect();
    let standing = read(&client, &tables).await?;
    let sizes = sizes(&client, &tables).await?;
    let mut missing: Vec<&Index> = wanted.indexes.iter().filter(|index| !standing.indexes.contains(index)).collect();
    missing.sort_by_key(|index| std::cmp::Reverse(sizes.get(&index.table).copied().unwrap_or(0)));
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(wanted.indexes.len() - missing.len()));
    let work = || async {
        let mut builder = connect(url, "green").await?;
        let memory = format!("set maintenance_work_mem = '{}kB'", memory_bytes.clamp(1 << 20, 1 << 40) >> 10);
        builder.batch_execute(&memory).await.map_err(|source| IndexError::Server {
            act: "give memory to",
            object: "a builder of indexes".to_owned(),
            source,
        })?;
        while let Some(index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            match build_one(&mut builder, term, index).await {
                Err(error) if error.is_duplicate() && mixed.contains(&index.table) => continue,
                other => other?,
            }
            tell(1 + done.fetch_add(1, Ordering::Relaxed), wanted.indexes.len(), &index.name);
        }
        Ok::<(), IndexError>(())
    };
    let workers = workers.clamp(1, missing.len().max(1));
    let results = futures_util::future::join_all((0..workers).map(|_| work())).await;
    results.into_iter().collect()
}

async fn build_one(client: &mut Client, term: &Term, index: &Index) -> Result<(), IndexError> {
    let object = format!("{} of {}", index.name, index.table);
    let failed = |source| IndexError::Server { act: "build index", object: object.clone(), source };
    let adopt = index.constraint.as_ref().map(|constraint| {
        let table = qualified(&index.table.schema, &index.table.name);
        format!("alter table {table} add constraint {} {constraint}", ident(&index.name))
    });
    let transaction = client.transaction().await.map_err(failed)?;
    hold(&transaction, term).await?;
    if !index.builds_itself && !exists(&transaction, index).await.map_err(failed)? {
        transaction.batch_execute(&index.definition).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    let Some(adopt) = adopt else { return Ok(()) };
    // A transaction of its own: adopting takes ACCESS EXCLUSIVE, which must not be held while an index is being built.
    let transaction = client.transaction().await.map_err(failed)?;
    hold(&transaction, term).await?;
    transaction.batch_execute(&adopt).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

async fn exists(client: &impl GenericClient, index: &Index) -> Result<bool, tokio_postgres::Error> {
    let name = qualified(&index.table.schema, &index.name);
    let row = client.query_one("select pg_catalog.to_regclass($1::text) is not null", &[&name]).await?;
    Ok(row.get(0))
}

async fn sizes(client: &Client, tables: &[TableName]) -> Result<BTreeMap<TableName, i64>, IndexError> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let failed = |source| IndexError::Server { act: "measure", object: "tables".to_owned(), source };
    let rows = client.query(SIZES, &[&names]).await.map_err(failed)?;
    Ok(rows.iter().map(|row| (TableName { schema: row.get(0), name: row.get(1) }, row.get(2))).collect())
}

/// Adds what is missing of `wanted.foreign_keys` and validates each against every row.
///
/// # Errors
/// The first key that some row breaks (23503, with the row's key), or that the server refuses; it is then left unvalidated.
pub async fn build_foreign_keys(client: &mut Client, term: &Term, wanted: &Definitions) -> Result<(), IndexError> {
    let tables: Vec<TableName> = wanted.foreign_keys.iter().map(|key| key.table.clone()).collect();
    let standing = read(client, &tables).await?;
    for key in &wanted.foreign_keys {
        let found = standing.foreign_keys.iter().find(|other| other.table == key.table && other.name == key.name);
        let table = qualified(&key.table.schema, &key.table.name);
        if found.is_none() {
            let add = format!("alter table {table} add constraint {} {} not valid", ident(&key.name), key.definition);
            alter(client, term, key, "add foreign key", &add).await?;
        }
        if !found.is_some_and(|found| found.is_valid) {
            let validate = format!("alter table {table} validate constraint {}", ident(&key.name));
            alter(client, term, key, "validate foreign key", &validate).await?;
        }
    }
    Ok(())
}

async fn alter(
    client: &mut Client,
    term: &Term,
    key: &ForeignKey,
    act: &'static str,
    sql: &str,
) -> Result<(), IndexError> {
    let failed = |source| IndexError::Server { act, object: format!("{} of {}", key.name, key.table), source };
    let transaction = client.transaction().await.map_err(failed)?;
    hold(&transaction, term).await?;
    transaction.batch_execute(sql).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// What of `wanted` is missing or differs in `standing`, in words; nothing when all of it stands and is valid. Unique indexes of `mixed`
/// tables may wait.
#[must_use]
pub fn missing(
    wanted: &Definitions,
    standing: &Definitions,
    with_foreign_keys: bool,
    mixed: &BTreeSet<TableName>,
) -> Vec<String> {
    let may_wait = |index: &&Index| index.is_unique() && mixed.contains(&index.table);
    let indexes = wanted.indexes.iter().filter(|index| !standing.indexes.contains(index) && !may_wait(index));
    let mut words: Vec<String> = indexes.map(|index| format!("index {} of {}", index.name, index.table)).collect();
    if with_foreign_keys {
        let keys = wanted.foreign_keys.iter().filter(|key| !standing.foreign_keys.contains(key));
        words.extend(keys.map(|key| format!("foreign key {} of {}", key.name, key.table)));
    }
    words
}

fn index(row: &tokio_postgres::Row) -> Index {
    Index {
        table: TableName { schema: row.get(0), name: row.get(1) },
        name: row.get(2),
        definition: row.get(3),
        is_valid: row.get(4),
        constraint: row.get(5),
        builds_itself: row.get(6),
    }
}

fn foreign_key(row: &tokio_postgres::Row) -> ForeignKey {
    ForeignKey {
        table: TableName { schema: row.get(0), name: row.get(1) },
        name: row.get(2),
        definition: row.get(3),
        is_valid: row.get(4),
    }
}

//! Secondary indexes, keys and foreign keys of carried tables: read, dropped before the rows come, built again after them, compared.
//!
//! A unique or primary key is built as an index first and then adopted by its constraint, so that several of one table can be
//! built at a time. Every act looks at what is already there, so that it can be repeated after a crash. May call `client`, `term` and `sql`.

mod build;
mod foreign_keys;

pub use build::build;
pub(super) use build::{Builder, Queue};
pub use foreign_keys::build_foreign_keys;

use super::client::ConnectError;
use super::sql::{ident, qualified};
use super::term::{Term, TermError, hold};
use crate::plan::TableName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
    #[error("{0}")]
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
    keys.chain([drop_sql(definitions, |_| true)]).collect::<Vec<_>>().join("\n")
}

/// Statements that drop the indexes of the tables that `may` lose them, and what they stand for, where they are there.
pub(super) fn drop_sql(definitions: &Definitions, may: impl Fn(&TableName) -> bool) -> String {
    let dropped = definitions.indexes.iter().filter(|index| may(&index.table)).map(|index| match index.constraint {
        // Whoever died before its constraint adopted it has left an index that no constraint drops.
        Some(_) => drop_constraint(&index.table, &index.name) + &drop_index(index),
        None => drop_index(index),
    });
    dropped.collect::<Vec<_>>().join("\n")
}

fn drop_index(index: &Index) -> String {
    format!("drop index if exists {};", qualified(&index.table.schema, &index.name))
}

fn drop_constraint(table: &TableName, name: &str) -> String {
    format!("alter table {} drop constraint if exists {};", qualified(&table.schema, &table.name), ident(name))
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

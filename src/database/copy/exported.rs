//! A moment of blue that many connections look through: locks first, then the snapshot, then the sizes and files of its tables.

use super::CopyError;
use crate::database::client::connect;
use crate::database::sql::{literal, qualified};
use crate::plan::{Secret, TableName};
use std::collections::BTreeMap;
use tokio_postgres::{Client, IsolationLevel, Transaction};
use uuid::Uuid;

/// Longest wait for somebody who is altering a table; readers would wait behind us.
const LOCK: &str = "5s";
const FILES: &str = "select c.oid::bigint, pg_catalog.pg_relation_filenode(c.oid)::bigint,
  (pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint)::bigint
from unnest($1::text[]) with ordinality as w(name, place)
join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(w.name) order by w.place";

/// A table as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Table and file: another one means that blocks are numbered anew.
    pub(super) name: String,
    /// Its blocks.
    pub(super) blocks: i64,
}

/// A snapshot of a database that other connections can look through; it lasts as long as this value.
pub struct ExportedSnapshot {
    id: String,
    /// A name that no other snapshot ever has. What the server prints of one will not do: a standby leaves out who was under way.
    pub(super) moment: Uuid,
    files: BTreeMap<TableName, File>,
    /// Keeps the exporting transaction and its locks.
    client: Client,
}

impl ExportedSnapshot {
    /// Opens a transaction on a connection of its own, locks `tables` against being altered, emptied or rewritten, and exports its
    /// snapshot. The capture's slot must be older.
    ///
    /// # Errors
    /// When the server does not answer or refuses, for one because somebody is altering one of the tables; nothing was changed.
    pub async fn export(url: &Secret, what: &str, tables: &[TableName]) -> Result<Self, CopyError> {
        let client = connect(url, what).await?;
        let failed = CopyError::server("export a snapshot of", what);
        let names: Vec<String> = tables.iter().map(|table| qualified(&table.schema, &table.name)).collect();
        let lock = if names.is_empty() {
            String::new()
        } else {
            format!("lock table {} in access share mode;", names.join(", "))
        };
        let begin =
            format!("begin isolation level repeatable read, read only; set local lock_timeout = '{LOCK}'; {lock}");
        client.batch_execute(&begin).await.map_err(&failed)?;
        let export = "select pg_catalog.pg_export_snapshot()";
        let row = client.query_one(export, &[]).await.map_err(&failed)?;
        let found = client.query(FILES, &[&names]).await.map_err(&failed)?;
        let file = |row: &tokio_postgres::Row| File {
            name: format!("{}:{}", row.get::<_, i64>(0), row.get::<_, Option<i64>>(1).unwrap_or(0)),
            blocks: row.get(2),
        };
        let files = tables.iter().cloned().zip(found.iter().map(file)).collect();
        Ok(Self { id: row.get(0), moment: Uuid::new_v4(), files, client })
    }

    /// The name by which another connection to the same database takes it over.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The exporting transaction's own connection.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A locked table as it lies on disk.
    pub(super) fn file(&self, table: &TableName) -> Option<&File> {
        self.files.get(table)
    }

    /// Begins a read-only transaction on `client` that sees what the snapshot sees; it lasts until the client is dropped.
    ///
    /// # Errors
    /// When the server refuses, for one because the exporting transaction has ended.
    pub async fn enter(&self, client: &Client) -> Result<(), CopyError> {
        let id = literal(&self.id);
        let enter = format!("begin isolation level repeatable read, read only; set transaction snapshot {id}");
        client.batch_execute(&enter).await.map_err(CopyError::server("look through", "blue's snapshot"))
    }

    /// A read-only transaction that sees what the snapshot sees.
    ///
    /// # Errors
    /// When the server refuses, for one because the exporting transaction has ended.
    pub async fn look<'c>(&self, client: &'c mut Client) -> Result<Transaction<'c>, CopyError> {
        let failed = CopyError::server("look through", "blue's snapshot");
        let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = begin.start().await.map_err(&failed)?;
        let take = format!("set transaction snapshot {}", literal(&self.id));
        transaction.batch_execute(&take).await.map_err(&failed)?;
        Ok(transaction)
    }
}

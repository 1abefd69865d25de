//! The side that is read: sessions pinned so that both sides print alike, the captured tables, locks before the snapshot.

use super::{LevelError, Limits};
use crate::database::capture::Relations;
use crate::database::changes::CapturedTable;
use crate::database::client;
use crate::database::copy::ExportedSnapshot;
use crate::database::mapping::Mapping;
use crate::database::snapshot::Snapshot;
use crate::database::sql::qualified;
use crate::plan::{Secret, Side};
use std::collections::BTreeSet;
use tokio_postgres::{Client, IsolationLevel, Transaction};

/// Settings under which values print alike on both sides and bare names mean `public`, whoever logs in: a login named as our schema
/// would otherwise find our tables first.
const PINNED: &str = "set search_path = public; set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set extra_float_digits = 1;
set bytea_output = 'hex'; set row_security = off; set client_encoding = 'UTF8'; set synchronous_commit = on; set lc_monetary = 'C'";

pub(super) async fn session(url: &Secret, side: Side, limits: Limits) -> Result<Client, LevelError> {
    let client = client::connect(url, side.as_str()).await?;
    let settings = format!("{PINNED}; set statement_timeout = {}", limits.statement.as_millis());
    client.batch_execute(&settings).await.map_err(LevelError::on(side, "set up the session"))?;
    Ok(client)
}

/// The plugin writes values in the database's own encoding, and we read UTF-8.
pub(super) async fn require_utf8(source: &Client, side: Side) -> Result<(), LevelError> {
    let row = source.query_one("select getdatabaseencoding()", &[]).await;
    let encoding: String = row.map_err(LevelError::on(side, "ask for the encoding"))?.get(0);
    let why = format!("the encoding of {side} is {encoding}, and keys can only be read as UTF8");
    if encoding == "UTF8" { Ok(()) } else { Err(LevelError::LostSlot { why }) }
}

pub(super) fn captured_tables(mapping: &Mapping) -> Vec<CapturedTable> {
    let mut tables: Vec<CapturedTable> = Vec::new();
    for touch in mapping.tables.iter().flat_map(|table| &table.touched_by) {
        if !tables.iter().any(|table| table.name == touch.source) {
            let key = touch.source_key.iter().map(|column| column.name.clone()).collect();
            tables.push(CapturedTable { name: touch.source.clone(), key });
        }
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables
}

/// Begins to read, as of `moment` or of now.
pub(super) async fn begin<'c>(
    client: &'c mut Client,
    side: Side,
    moment: Option<&ExportedSnapshot>,
) -> Result<Transaction<'c>, LevelError> {
    if let Some(moment) = moment {
        return Ok(moment.look(client).await?);
    }
    let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    begin.start().await.map_err(LevelError::on(side, "begin"))
}

/// Locks first, then the snapshot: one that is older than a truncate would see an empty table.
pub(super) async fn snapshot(
    source: &Transaction<'_>,
    side: Side,
    tables: &[CapturedTable],
    limits: Limits,
) -> Result<Snapshot, LevelError> {
    let on_source = |what| LevelError::on(side, what);
    let names: Vec<String> = tables.iter().map(|table| qualified(&table.name.schema, &table.name.name)).collect();
    let mut lock = format!("set local lock_timeout = {}", limits.lock.as_millis().max(1));
    if !names.is_empty() {
        lock.push_str(&format!("; lock table {} in access share mode", names.join(", ")));
    }
    source.batch_execute(&lock).await.map_err(on_source("lock the captured tables"))?;
    let row = source.query_one("select pg_current_snapshot()::text", &[]).await;
    let text: String = row.map_err(on_source("take the snapshot"))?.get(0);
    text.parse().map_err(|_| LevelError::LostSlot { why: format!("{side} gave {text:?} for a snapshot") })
}

/// Tables whose files changed since the last batch: truncated, rewritten, or with other partitions. All their keys count as touched.
pub(super) fn rewritten(
    tables: &[CapturedTable],
    before: &Relations,
    now: &Relations,
) -> Result<BTreeSet<usize>, LevelError> {
    let mut rewritten = BTreeSet::new();
    for (place, table) in tables.iter().enumerate() {
        let name = table.name.to_string();
        let (Some(was), Some(is)) = (before.get(&name), now.get(&name)) else {
            return Err(LevelError::LostSlot { why: format!("{name} is mapped and was not captured") });
        };
        if was.columns != is.columns {
            return Err(LevelError::Changed { table: name, before: was.columns.clone(), now: is.columns.clone() });
        }
        if was.files != is.files {
            rewritten.insert(place);
        }
    }
    Ok(rewritten)
}

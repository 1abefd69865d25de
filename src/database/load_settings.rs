//! Settings of green for the time of a load: what they were, what they are meanwhile, and back as they were.
//!
//! Autovacuum would read tables again that are being filled, and a checkpoint every gigabyte writes whole pages again. Nothing is set back
//! that somebody else has changed meanwhile. May call `client`, `term` and `sql`.

use super::client::{ConnectError, connect};
use super::sql::{ident, literal};
use super::term::{Term, TermError, hold};
use crate::plan::{LoadSettings, Secret, TableName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, GenericClient, Transaction};

const TABLES: &str = "
select pn.nspname, p.relname,
       (select option_value from pg_catalog.pg_options_to_table(p.reloptions) where option_name = 'autovacuum_enabled')
  from unnest($1::text[], $2::text[]) as w(schema, name)
  join pg_catalog.pg_namespace n on n.nspname = w.schema
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name
  left join lateral pg_catalog.pg_partition_tree(c.oid) t on t.isleaf
  join pg_catalog.pg_class p on p.oid = coalesce(t.relid::oid, c.oid) and p.relkind = 'r'
  join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
 order by 1, 2";
const SERVER: &str = "select s.setting::bigint, f.setting from pg_catalog.pg_settings s
left join lateral (select f.setting from pg_catalog.pg_file_settings f
  where f.name = s.name and f.sourcefile like '%postgresql.auto.conf' order by f.seqno desc limit 1) f on true
where s.name = $1";
/// How long a server may take to read its settings again.
const RELOADED: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
const OFF: &str = "false";

/// Why settings could not be read or changed.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another process has taken over; nothing more is changed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// The server refused.
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
    /// The server did not take a setting over.
    #[error("set {name} on green: the server still uses {value} after {waited_s} s")]
    NotTaken {
        /// The setting.
        name: String,
        /// In the setting's own unit.
        value: i64,
        /// How long we waited.
        waited_s: u64,
    },
}

/// Settings as they stand; in the journal, as they stood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What each table says about its autovacuum; nothing when it says nothing.
    pub tables: Vec<(TableName, Option<String>)>,
    /// Of each of the server's settings: its value in its own unit, and what `alter system` has said about it.
    pub server: BTreeMap<String, (i64, Option<String>)>,
}

/// A setting of the server with the value wanted, in its own unit.
fn wanted(load: &LoadSettings) -> Vec<(&'static str, i64)> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let size = load.max_wal_size_bytes.map(|bytes| ("max_wal_size", number(bytes >> 20)));
    let time = load.checkpoint_timeout.map(|time| ("checkpoint_timeout", number(time.as_secs())));
    size.into_iter().chain(time).collect()
}

fn failed(act: &'static str, object: impl ToString) -> impl Fn(tokio_postgres::Error) -> SettingsError {
    let object = object.to_string();
    move |source| SettingsError::Server { act, object: object.clone(), source }
}

/// Reads the settings that a load would change.
///
/// # Errors
/// When the server refuses, for one because our login may not read what `alter system` has said.
pub async fn read(
    green: &impl GenericClient,
    tables: &[TableName],
    load: &LoadSettings,
) -> Result<Settings, SettingsError> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = green.query(TABLES, &[&schemas, &names]).await.map_err(failed("read", "the settings of tables"))?;
    let table = |row: &tokio_postgres::Row| (TableName { schema: row.get(0), name: row.get(1) }, row.get(2));
    let mut settings = Settings { tables: rows.iter().map(table).collect(), server: BTreeMap::new() };
    for (name, _) in wanted(load) {
        let row = green.query_one(SERVER, &[&name]).await.map_err(failed("read", name))?;
        settings.server.insert(name.to_owned(), (row.get(0), row.get(1)));
    }
    Ok(settings)
}

/// Whether everything stands as a load wants it.
#[must_use]
pub fn is_set(now: &Settings, load: &LoadSettings) -> bool {
    let tables = now.tables.iter().all(|(_, autovacuum)| autovacuum.as_deref() == Some(OFF));
    tables && wanted(load).iter().all(|(name, value)| now.server.get(*name).is_some_and(|(is, _)| is == value))
}

/// Whether nothing stands any more that a load has set.
#[must_use]
pub fn is_given_back(now: &Settings, before: &Settings, load: &LoadSettings) -> bool {
    ours(now, before, load).next().is_none() && our_tables(now, before).next().is_none()
}

/// Sets what a load wants, and sees that it is taken over.
///
/// # Errors
/// When another process took over, our login may not, or the server does not take a setting over.
pub async fn set(url: &Secret, term: &Term, now: &Settings, load: &LoadSettings) -> Result<(), SettingsError> {
    let (mut holder, other) = (connect(url, "green").await?, connect(url, "green").await?);
    let transaction = holder.transaction().await.map_err(failed("begin", "a change of settings"))?;
    hold(&transaction, term).await?;
    for (table, _) in &now.tables {
        alter(&transaction, table, &format!("set (autovacuum_enabled = {OFF})")).await?;
    }
    for (name, value) in wanted(load) {
        say(&other, name, &format!("= {value}"), |is| is == value).await?;
    }
    transaction.commit().await.map_err(failed("commit", "a change of settings"))
}

/// Sets back what a load has set and nobody else has changed since.
///
/// # Errors
/// When another process took over, or the server does not take a setting over.
pub async fn give_back(
    url: &Secret,
    term: &Term,
    before: &Settings,
    tables: &[TableName],
    load: &LoadSettings,
) -> Result<(), SettingsError> {
    let (mut holder, other) = (connect(url, "green").await?, connect(url, "green").await?);
    let transaction = holder.transaction().await.map_err(failed("begin", "a change of settings"))?;
    hold(&transaction, term).await?;
    let now = read(&transaction, tables, load).await?;
    for (table, was) in our_tables(&now, before) {
        let back = match was {
            Some(value) => format!("set (autovacuum_enabled = {})", literal(value)),
            None => "reset (autovacuum_enabled)".to_owned(),
        };
        alter(&transaction, table, &back).await?;
    }
    for (name, (_, said)) in ours(&now, before, load) {
        let is_ours = now.server.get(name).map(|(is, _)| *is);
        let back = said.as_ref().map_or_else(|| "to default".to_owned(), |said| format!("= {}", literal(said)));
        say(&other, name, &back, |is| Some(is) != is_ours).await?;
    }
    transaction.commit().await.map_err(failed("commit", "a change of settings"))
}

/// The server's settings that are as we set them, and were otherwise before: as they were.
fn ours<'s>(
    now: &'s Settings,
    before: &'s Settings,
    load: &LoadSettings,
) -> impl Iterator<Item = (&'s String, &'s (i64, Option<String>))> {
    let wanted: BTreeMap<&str, i64> = wanted(load).into_iter().collect();
    before.server.iter().filter(move |(name, was)| {
        now.server.get(*name).is_some_and(|is| is != *was && wanted.get(name.as_str()) == Some(&is.0))
    })
}

fn our_tables<'s>(
    now: &'s Settings,
    before: &'s Settings,
) -> impl Iterator<Item = (&'s TableName, Option<&'s String>)> {
    let is_ours = |table: &TableName| now.tables.iter().any(|(name, is)| name == table && is.as_deref() == Some(OFF));
    let changed = before.tables.iter().filter(move |(table, was)| was.as_deref() != Some(OFF) && is_ours(table));
    changed.map(|(table, was)| (table, was.as_ref()))
}

async fn alter(transaction: &Transaction<'_>, table: &TableName, what: &str) -> Result<(), SettingsError> {
    let sql = format!("alter table {}.{} {what}", ident(&table.schema), ident(&table.name));
    transaction.batch_execute(&sql).await.map_err(failed("change the settings of", table))
}

/// `alter system` for one setting; it stands in no transaction, so the term is held by another connection meanwhile.
async fn say(client: &Client, name: &str, what: &str, is_taken: impl Fn(i64) -> bool) -> Result<(), SettingsError> {
    let change = format!("alter system set {} {what}", ident(name));
    client.batch_execute(&change).await.map_err(failed("change", name))?;
    client
        .batch_execute("select pg_catalog.pg_reload_conf()")
        .await
        .map_err(failed("have settings read again for", name))?;
    let end = Instant::now() + RELOADED;
    loop {
        let row = client.query_one(SERVER, &[&name]).await.map_err(failed("read", name))?;
        let is: i64 = row.get(0);
        if is_taken(is) {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(SettingsError::NotTaken { name: name.to_owned(), value: is, waited_s: RELOADED.as_secs() });
        }
        sleep(POLL).await;
    }
}

//! Hot queries of the application, planned on a side and never run: what the planner would do, and what it thinks that costs.
//!
//! Owns how the server is asked. A query is text that people wrote, so it goes in one message that takes one statement only, as the
//! body of a `prepare`, inside a read-only transaction with a bound. May call `client` and `plan` sections.

mod shape;
mod verdict;

pub use shape::{Node, Planned};
pub use verdict::{Limits, Worse, worse};

use crate::plan::{Side, TableName};
use std::collections::BTreeMap;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

/// A generic plan is the one that is kept for all parameters; PostgreSQL 15 shows it for nulls when it is told to keep one.
const BOUNDS: &str = "set local statement_timeout = '30s'; set local lock_timeout = '5s'; set local plan_cache_mode = force_generic_plan";
/// Partitions that a null leads away from are left out of a shown plan; all of them are wanted.
const UNPRUNED: &str = "set local enable_partition_pruning = off";
const NAME: &str = "cutover_hot_query";
const PARAMETERS: &str =
    "select coalesce(cardinality(parameter_types), 0) from pg_catalog.pg_prepared_statements where name = $1";
/// The table a partition belongs to, and what reading the relation from end to end reads.
const RELATIONS: &str = "
select w.schema, w.name, rn.nspname::text, r.relname::text, pg_catalog.pg_relation_size(c.oid)
  from unnest($1::text[], $2::text[]) as w(schema, name)
  join pg_catalog.pg_namespace n on n.nspname = w.schema
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p', 'm')
  join pg_catalog.pg_class r on r.oid = coalesce(pg_catalog.pg_partition_root(c.oid)::oid, c.oid)
  join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace";

/// Why a side cannot plan a query; nothing was changed.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The server refused, or did not answer.
    #[error("plan hot query {query} on {side}")]
    Server {
        /// The query's name.
        query: String,
        /// The side.
        side: Side,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server's plan cannot be read.
    #[error("plan hot query {query} on {side}: what it answered is no plan")]
    Unread {
        /// The query's name.
        query: String,
        /// The side.
        side: Side,
    },
}

impl QueryError {
    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Server { source, .. } => source.code(),
            Self::Unread { .. } => None,
        }
    }

    /// Whether asking again may help: a lock is in the way, or the connection broke.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let is_broken = matches!(self, Self::Server { source, .. } if source.is_closed());
        is_broken
            || self.code().is_some_and(|code| [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(code))
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let (Self::Server { query, side, .. } | Self::Unread { query, side }) = self;
        match self.code() {
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => format!(
                "`grant select, insert, update, delete on TABLE to LOGIN` on {side}, for our login and the table that it names: planning \
                 a query needs the rights of running it"
            ),
            _ if self.may_pass() => format!("see who locks the table on {side}, and ask again"),
            _ => format!("correct hot query {query} in the plan, for {side}"),
        }
    }
}

/// Asks a side how it would plan a query.
///
/// # Errors
/// When the server cannot plan it: no such table, a missing right, several statements.
pub async fn ask(client: &mut Client, side: Side, query: &str, text: &str) -> Result<Planned, QueryError> {
    let mut plan = asked(client, side, query, text, BOUNDS).await?;
    if plan.is_pruned {
        plan = asked(client, side, query, text, &format!("{BOUNDS}; {UNPRUNED}")).await?;
    }
    Ok(plan)
}

async fn asked(client: &mut Client, side: Side, query: &str, text: &str, bounds: &str) -> Result<Planned, QueryError> {
    let planned = in_transaction(client, text, bounds).await;
    // A prepared statement outlives its transaction; there is none when the text was refused.
    let _ = client.batch_execute(&format!("deallocate {NAME}")).await;
    match planned {
        Ok(Some(plan)) => Ok(plan),
        Ok(None) => Err(QueryError::Unread { query: query.to_owned(), side }),
        Err(source) => Err(QueryError::Server { query: query.to_owned(), side, source }),
    }
}

async fn in_transaction(
    client: &mut Client,
    text: &str,
    bounds: &str,
) -> Result<Option<Planned>, tokio_postgres::Error> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    transaction.batch_execute(bounds).await?;
    // Not by the simple protocol: that would run whatever follows a semicolon.
    transaction.execute(&format!("prepare {NAME} as\n{text}"), &[]).await?;
    let parameters: i32 = transaction.query_one(PARAMETERS, &[&NAME]).await?.get(0);
    let nulls = vec!["null"; parameters.unsigned_abs() as usize].join(", ");
    let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
    let explain = format!("explain (format json, verbose) execute {NAME}{arguments}");
    let answer: serde_json::Value = transaction.query_one(&explain, &[]).await?.get(0);
    let Some(mut plan) = Planned::read(&answer) else { return Ok(None) };
    resolve_tables(&transaction, &mut plan).await?;
    transaction.rollback().await?;
    Ok(Some(plan))
}

/// Gives each node the table that its partition belongs to, and the bytes of what it reads.
async fn resolve_tables(transaction: &Transaction<'_>, plan: &mut Planned) -> Result<(), tokio_postgres::Error> {
    let tables: Vec<&TableName> = plan.nodes.iter().filter_map(|node| node.table.as_ref()).collect();
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = transaction.query(RELATIONS, &[&schemas, &names]).await?;
    let known: BTreeMap<TableName, (TableName, i64)> = rows
        .iter()
        .map(|row| {
            let (table, root) = (table(row, 0), table(row, 2));
            (table, (root, row.get(4)))
        })
        .collect();
    for node in &mut plan.nodes {
        if let Some((root, bytes)) = node.table.as_ref().and_then(|table| known.get(table)) {
            node.bytes = bytes.unsigned_abs();
            node.table = Some(root.clone());
        }
    }
    Ok(())
}

fn table(row: &tokio_postgres::Row, at: usize) -> TableName {
    TableName { schema: row.get(at), name: row.get(at + 1) }
}

//! The account of a copy: rows on green against rows of blue and rows left behind; and statistics for green's planner.
//!
//! Counts and judges; what the copy noted is `copy`'s. True between the copy and the first level batch only: from then on rows come
//! and go. May call `client`, `copy`, `term` and `sql`. Never changes a row.

use super::client::{ConnectError, connect};
use super::copy::{Copied, CopyError, read_copied};
use super::sql::qualified;
use super::term::{Term, TermError, hold};
use crate::plan::{Secret, TableName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, GenericClient};

/// Leaves of the tables whose statistics are missing or older than most of their rows.
const STALE: &str = "
select t.name
  from unnest($1::text[]) as t(name)
  left join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(t.name)
 where c.oid is null
    or exists (select from (select coalesce(p.relid::oid, c.oid) as leaf
                              from (select c.oid) as self left join pg_catalog.pg_partition_tree(c.oid) p on p.isleaf) as leaves
                 left join pg_catalog.pg_stat_user_tables s on s.relid = leaves.leaf
                where s.last_analyze is null or s.n_mod_since_analyze > greatest(s.n_live_tup / 5, 50))
 order by 1";
/// How long a server may take to publish the statistics' own counters.
const PUBLISHED: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// Why green could not be counted or analyzed; rows are untouched.
#[derive(Debug, Error)]
pub enum AccountError {
    /// Another process has taken over; nothing more is done.
    #[error("{0}")]
    Term(#[from] TermError),
    /// No connection; nothing was changed by it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What the copy noted cannot be read.
    #[error(transparent)]
    Copied(#[from] CopyError),
    /// The server refused.
    #[error("{act} {table} on green")]
    Server {
        /// What was tried.
        act: &'static str,
        /// On which table.
        table: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// One carried table's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableAccount {
    /// The green table.
    pub table: TableName,
    /// Rows that green has now.
    pub green_rows: u64,
    /// What the copy noted; nothing when it never committed the table.
    pub copied: Option<Copied>,
}

/// Something in an account that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discrepancy {
    /// The copy never committed the table.
    NotCopied {
        /// The table.
        table: TableName,
    },
    /// Green does not have the rows that the copy gave it.
    GreenDiffers {
        /// The table.
        table: TableName,
        /// Rows that green has.
        green_rows: u64,
        /// Rows that it received.
        copied_rows: u64,
    },
    /// Copied and left behind do not make up what blue had.
    SourceDiffers {
        /// The table.
        table: TableName,
        /// Rows of blue.
        source_rows: u64,
        /// Rows copied.
        copied_rows: u64,
        /// Rows left behind by rules.
        cleaned_rows: u64,
    },
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCopied { table } => write!(f, "{table}: the copy never committed it"),
            Self::GreenDiffers { table, green_rows, copied_rows } => {
                write!(f, "{table}: green has {green_rows} rows, it received {copied_rows}")
            }
            Self::SourceDiffers { table, source_rows, copied_rows, cleaned_rows } => {
                write!(f, "{table}: blue had {source_rows} rows, {copied_rows} copied and {cleaned_rows} left behind")
            }
        }
    }
}

/// The planner's estimate of a table's rows, at once and of any size; 0 when it has none.
///
/// # Errors
/// When the server does not answer.
pub async fn estimate(client: &impl GenericClient, table: &TableName) -> Result<u64, AccountError> {
    let failed = |source| AccountError::Server { act: "estimate", table: table.to_string(), source };
    let name = qualified(&table.schema, &table.name);
    let estimate =
        "select greatest(reltuples, 0)::bigint from pg_catalog.pg_class where oid = pg_catalog.to_regclass($1)";
    let row = client.query_opt(estimate, &[&name]).await.map_err(failed)?;
    Ok(row.map_or(0, |row| row.get::<_, i64>(0).cast_unsigned()))
}

/// Counts each of `tables` on green and sets what the copy noted beside it. Reads every row: minutes on large tables.
///
/// # Errors
/// When the server refuses, for one because a table is not there.
pub async fn count(green: &impl GenericClient, tables: &[TableName]) -> Result<Vec<TableAccount>, AccountError> {
    let copied = read_copied(green).await?.unwrap_or_default();
    let mut accounts = Vec::new();
    for table in tables {
        let question = format!("select count(*) from {}", qualified(&table.schema, &table.name));
        let failed = |source| AccountError::Server { act: "count", table: table.to_string(), source };
        let rows: i64 = green.query_one(&question, &[]).await.map_err(failed)?.get(0);
        let noted = copied.iter().find(|copied| copied.table == *table).cloned();
        let green_rows = u64::try_from(rows).unwrap_or(0);
        accounts.push(TableAccount { table: table.clone(), green_rows, copied: noted });
    }
    Ok(accounts)
}

/// What does not add up: rows on green must be the rows copied, and blue's rows those and the ones left behind.
#[must_use]
pub fn judge(accounts: &[TableAccount]) -> Vec<Discrepancy> {
    accounts.iter().flat_map(discrepancies).collect()
}

fn discrepancies(account: &TableAccount) -> Vec<Discrepancy> {
    let (table, green_rows) = (account.table.clone(), account.green_rows);
    let Some(copied) = &account.copied else { return vec![Discrepancy::NotCopied { table }] };
    let (copied_rows, source_rows, cleaned_rows) = (copied.rows, copied.source_rows, copied.cleaned_rows());
    let mut found = Vec::new();
    if green_rows != copied_rows {
        found.push(Discrepancy::GreenDiffers { table: table.clone(), green_rows, copied_rows });
    }
    if copied_rows.checked_add(cleaned_rows) != Some(source_rows) {
        found.push(Discrepancy::SourceDiffers { table, source_rows, copied_rows, cleaned_rows });
    }
    found
}

/// Gathers statistics of each of `tables` with `workers` connections, partitions included, our term held meanwhile, and tells of each as it
/// is done.
///
/// # Errors
/// When another process took over or the server refuses; statistics gathered so far stay.
pub async fn analyze(
    url: &Secret,
    term: &Term,
    tables: &[TableName],
    workers: usize,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<(), AccountError> {
    let next = AtomicUsize::new(0);
    let work = || async {
        let mut green = connect(url, "green").await?;
        while let Some(table) = tables.get(next.fetch_add(1, Ordering::Relaxed)) {
            analyze_one(&mut green, term, table).await?;
            tell(&table.to_string());
        }
        Ok::<Client, AccountError>(green)
    };
    let workers = workers.clamp(1, tables.len().max(1));
    let results = futures_util::future::join_all((0..workers).map(|_| work())).await;
    let connections = results.into_iter().collect::<Result<Vec<Client>, _>>()?;
    let end = Instant::now() + PUBLISHED;
    while !analyzed(&connections[0], tables).await? && Instant::now() < end {
        sleep(POLL).await;
    }
    Ok(())
}

async fn analyze_one(green: &mut Client, term: &Term, table: &TableName) -> Result<(), AccountError> {
    let failed = |source| AccountError::Server { act: "analyze", table: table.to_string(), source };
    let transaction = green.transaction().await.map_err(failed)?;
    hold(&transaction, term).await?;
    let sql = format!("analyze {}", qualified(&table.schema, &table.name));
    transaction.batch_execute(&sql).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Whether every one of `tables` was analyzed after most of its rows came; reads only. The server forgets it in a crash.
///
/// # Errors
/// When the server refuses.
pub async fn analyzed(green: &impl GenericClient, tables: &[TableName]) -> Result<bool, AccountError> {
    let names: Vec<String> = tables.iter().map(|table| qualified(&table.schema, &table.name)).collect();
    let failed =
        |source| AccountError::Server { act: "look for statistics of", table: "carried tables".to_owned(), source };
    Ok(green.query(STALE, &[&names]).await.map_err(failed)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(green_rows: u64, noted: Option<(u64, u64, u64)>) -> TableAccount {
        let table = TableName { schema: "public".to_owned(), name: "grants".to_owned() };
        let copied = noted.map(|(rows, source_rows, left)| Copied {
            table: table.clone(),
            rows,
            source_rows,
            cleaned: vec![("orphans".to_owned(), left), ("none".to_owned(), 0)],
            chunks: 1,
            repeated: 0,
            is_mixed: false,
        });
        TableAccount { table, green_rows, copied }
    }

    fn words(account: TableAccount) -> Vec<String> {
        judge(&[account]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn adds_up_only_when_every_row_is_accounted_for() {
        assert_eq!(words(account(90, Some((90, 100, 10)))), Vec::<String>::new());
        assert_eq!(words(account(90, None)), ["public.grants: the copy never committed it"]);
        assert_eq!(words(account(89, Some((90, 100, 10)))), ["public.grants: green has 89 rows, it received 90"]);
        let left = ["public.grants: blue had 100 rows, 90 copied and 9 left behind"];
        assert_eq!(words(account(90, Some((90, 100, 9)))), left);
        assert_eq!(words(account(1, Some((u64::MAX, 0, 1)))).len(), 2, "an overflow adds nothing up");
    }
}

//! Back from the archive on green, once green serves: rows whose key is not there now and that point to something.
//!
//! A restored row was revoked by nobody's word only if no event says otherwise: each batch asks for that in its own transaction, as a batch of
//! keeping level does.

use super::CleanupError;
use super::archive::name_of;
use super::keys::{KeyAt, Keyset};
use super::sweep::{Batches, MOST_FAILURES, is_passing};
use super::tuning::Tuning;
use crate::database::catalog::Catalog;
use crate::database::level::{Reapply, TouchedTable};
use crate::database::mapping::{KeyColumn, LeftBehind, RULE};
use crate::database::sql::{ident, literal, qualified};
use crate::database::term::{Term, hold};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, GenericClient};

/// Locked until the commit, so that green cannot be left meanwhile.
const SERVES: &str = "select state = 'open' from cutover.register for share";

/// What is to be restored.
#[derive(Debug, Clone, Copy)]
pub struct Restore<'a> {
    /// The table and its archive.
    pub left: &'a LeftBehind,
    /// The rule whose rows come back.
    pub rule: &'a str,
    /// Only rows with these keys; all when empty.
    pub keys: &'a [KeyAt],
    /// Green's tables.
    pub catalog: &'a Catalog,
    /// The term to act in.
    pub term: Term,
    /// Bounds.
    pub batches: Batches,
}

/// What could come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Restorable {
    /// Rows of the rule in the archive, those asked for.
    pub parked: u64,
    /// Of these, rows that can come back.
    pub restorable: u64,
    /// Rows whose key is on green now.
    pub present: u64,
    /// Rows that would point to nothing.
    pub hanging: u64,
}

/// What came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Rows that came back.
    pub rows: u64,
    /// Rows that were switched off or deleted at once, because they had been revoked since.
    pub revoked: u64,
    /// Batches.
    pub batches: u64,
}

/// What one batch did.
struct Batch {
    /// The end of its window; none when it was the last.
    end: Option<KeyAt>,
    rows: u64,
    revoked: u64,
}

/// Counts what would come back; reads only.
///
/// # Errors
/// When green does not answer.
pub async fn restorable(green: &impl GenericClient, restore: &Restore<'_>) -> Result<Restorable, CleanupError> {
    let (present, hanging) = (restore.is_present(), restore.is_hanging());
    let query = format!(
        "select count(*), count(*) filter (where not {present} and not {hanging}), count(*) filter (where {present}),
           count(*) filter (where not {present} and {hanging}) from {} as a where {}",
        name_of(&restore.left.rows),
        restore.is_asked()
    );
    let what = format!("count the parked rows of {}", restore.left.table);
    let row = green.query_one(&query, &[]).await.map_err(CleanupError::server(what))?;
    let count = |place: usize| row.get::<_, i64>(place).cast_unsigned();
    Ok(Restorable { parked: count(0), restorable: count(1), present: count(2), hanging: count(3) })
}

/// Brings rows back, batch by batch, until none is left or `stop` says so; what has come back is no longer in the archive.
///
/// # Errors
/// `Refused` when green does not serve; batches that have committed stand.
pub async fn restore(
    green: &mut Client,
    restore: &Restore<'_>,
    reapply: &impl Reapply,
    stop: &(dyn Fn() -> bool + Sync),
    tell: &(dyn Fn(&Restored) + Sync),
) -> Result<Restored, CleanupError> {
    let (mut restored, mut position) = (Restored::default(), None);
    let mut tuning = Tuning::new(restore.batches.target, restore.batches.first, restore.batches.most);
    let (begun, mut failures) = (Instant::now(), 0);
    while !stop() {
        if begun.elapsed() > restore.batches.whole {
            let why = format!("restoring took longer than {} s", restore.batches.whole.as_secs());
            return Err(CleanupError::refused(why, "what has come back stands; run it again for the rest"));
        }
        let started = Instant::now();
        let batch = restore.batch(green, position.as_ref(), tuning.rows(), reapply).await;
        let took = started.elapsed();
        match batch {
            Ok(batch) => {
                failures = 0;
                tuning.took(took);
                restored.batches += 1;
                (restored.rows, restored.revoked) = (restored.rows + batch.rows, restored.revoked + batch.revoked);
                tell(&restored);
                if batch.end.is_none() {
                    break;
                }
                position = batch.end;
            }
            Err(CleanupError::Server { source, .. }) if is_passing(&source) && failures < MOST_FAILURES => {
                failures += 1;
                tuning.failed();
            }
            Err(error) => return Err(error),
        }
        sleep(took.min(restore.batches.statement)).await;
    }
    Ok(restored)
}

impl Restore<'_> {
    fn keyset(&self) -> Keyset {
        Keyset::new(&self.left.rows.key)
    }

    fn target(&self) -> String {
        qualified(&self.left.table.schema, &self.left.table.name)
    }

    fn is_asked(&self) -> String {
        let rule = format!("a.{} = {}", ident(RULE), literal(self.rule));
        if self.keys.is_empty() {
            return rule;
        }
        let one = |key: &KeyAt| {
            let values = self.left.rows.key.iter().zip(key);
            let values: Vec<String> =
                values.map(|(column, value)| format!("{}::{}", literal(value), column.type_sql)).collect();
            format!("({})", values.join(", "))
        };
        let keys: Vec<String> = self.keys.iter().map(one).collect();
        format!("{rule} and ({}) in ({})", self.keyset().list("a"), keys.join(", "))
    }

    fn is_present(&self) -> String {
        format!("exists (select from {} as g where {})", self.target(), self.keyset().same("g", "a"))
    }

    /// Whether a row would point to nothing by one of the table's foreign keys.
    fn is_hanging(&self) -> String {
        let keys = self.catalog.table(&self.left.table).map(|table| table.foreign_keys.as_slice()).unwrap_or_default();
        let is_carried = |name: &String| self.columns().any(|column| column.name == *name);
        let hangs = keys.iter().filter(|key| key.columns.iter().all(is_carried)).map(|key| {
            let given: Vec<String> = key.columns.iter().map(|name| format!("a.{} is not null", ident(name))).collect();
            let pairs = key.columns.iter().zip(&key.parent_columns);
            let pairs: Vec<String> =
                pairs.map(|(own, other)| format!("p.{} = a.{}", ident(other), ident(own))).collect();
            format!(
                "({} and not exists (select from {} as p where {}))",
                given.join(" and "),
                qualified(&key.parent.schema, &key.parent.name),
                pairs.join(" and ")
            )
        });
        let hangs: Vec<String> = hangs.collect();
        if hangs.is_empty() { "false".to_owned() } else { format!("({})", hangs.join(" or ")) }
    }

    fn columns(&self) -> impl Iterator<Item = &KeyColumn> {
        self.left.rows.columns.iter().filter(|column| column.name != RULE)
    }

    /// One window of the archive.
    async fn batch(
        &self,
        green: &mut Client,
        from: Option<&KeyAt>,
        rows: u32,
        reapply: &impl Reapply,
    ) -> Result<Batch, CleanupError> {
        let failed = || CleanupError::server(format!("restore parked rows of {}", self.left.table));
        let (keys, archive, target) = (self.keyset(), name_of(&self.left.rows), self.target());
        let transaction = green.transaction().await.map_err(failed())?;
        hold(&transaction, &self.term).await?;
        let serves = transaction.query_opt(SERVES, &[]).await.map_err(failed())?;
        if !serves.is_some_and(|row| row.get(0)) {
            return Err(CleanupError::refused("green does not serve", "before the flip a rule is changed in the plan"));
        }
        let bounds = format!(
            "set local synchronous_commit = on; set local lock_timeout = {}; set local statement_timeout = {};
             create temporary table cutover_restored on commit drop as select {} from {target} as t with no data",
            self.batches.lock.as_millis().max(1),
            self.batches.statement.as_millis().max(1),
            keys.list("t")
        );
        transaction.batch_execute(&bounds).await.map_err(failed())?;
        let end = transaction.query_opt(&keys.end(&archive, from, rows), &[]).await.map_err(failed())?;
        let end: Option<KeyAt> = end.map(|row| row.get(0));
        let names: Vec<String> = self.columns().map(|column| ident(&column.name)).collect();
        let values: Vec<String> = names.iter().map(|name| format!("a.{name}")).collect();
        let come = format!(
            "with come as (insert into {target} as t ({}) overriding system value select {} from {archive} as a
               where {} and {} and not {} and not {} on conflict do nothing returning {})
             insert into pg_temp.cutover_restored select * from come",
            names.join(", "),
            values.join(", "),
            keys.within("a", from, end.as_ref()),
            self.is_asked(),
            self.is_present(),
            self.is_hanging(),
            keys.list("t")
        );
        let rows = transaction.execute(&come, &[]).await.map_err(failed())?;
        let gone =
            format!("delete from {archive} as a using pg_temp.cutover_restored as k where {}", keys.same("a", "k"));
        transaction.execute(&gone, &[]).await.map_err(failed())?;
        let touched = format!("pg_temp.cutover_restored k join {target} t on {}", keys.same("t", "k"));
        let touched = [TouchedTable { table: &self.left.table, from: &touched, keys: rows }];
        // What is revoked again is as much as there are revocations, however few rows come back.
        let patience = format!("set local statement_timeout = {}", self.batches.whole.as_millis().max(1));
        transaction.batch_execute(&patience).await.map_err(failed())?;
        let revoked = match rows {
            0 => 0,
            _ => reapply.reapply(&transaction, &touched).await.map_err(failed())?,
        };
        transaction.commit().await.map_err(failed())?;
        Ok(Batch { end, rows, revoked })
    }
}

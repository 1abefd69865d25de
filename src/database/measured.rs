//! What a file of migrations did to a database, as the server tells: locks, rewritten tables, log written, temporary bytes, time.
//!
//! Locks are read at the end of each transaction, when it holds all it ever took, and sampled beside statements outside one. Tables that
//! the file made itself are left out: nobody waits for them. A command's are sampled over all sessions but ours.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, GenericClient, Row};

/// Locks on tables from the weakest to the strongest.
const STRENGTH: [&str; 8] = [
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
];
const LOCKS: &str = "
select l.relation, l.mode from pg_catalog.pg_locks l
 where l.pid = $1 and l.granted and l.locktype = 'relation'
   and l.database = (select oid from pg_catalog.pg_database where datname = current_database())";
/// Those of every session that is not ours: a command connects as often as it likes.
const LOCKS_OF_OTHERS: &str = "
select l.relation, l.mode from pg_catalog.pg_locks l
 where l.pid <> pg_catalog.pg_backend_pid() and l.granted and l.locktype = 'relation'
   and l.database = (select oid from pg_catalog.pg_database where datname = current_database())";
/// Between two looks at a command's locks; one that is held for less may not be seen.
const LOOK: Duration = Duration::from_millis(20);
const TABLES: &str = "
select c.oid, format('%I.%I', n.nspname, c.relname), coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'm') and n.nspname <> 'cutover' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";
const FIGURES: &str = "
select (pg_catalog.pg_current_wal_insert_lsn() - '0/0')::int8, coalesce(temp_bytes, 0)
  from pg_catalog.pg_stat_database where datname = current_database()";
/// Statistics of a session are written at the end of its transaction only now and then, unless it asks.
pub(super) const FLUSH: &str = "select pg_catalog.pg_stat_force_next_flush()";

/// The strongest lock on each relation, by its number.
#[derive(Debug, Clone, Default)]
pub(super) struct Locks(BTreeMap<u32, usize>);

impl Locks {
    /// Adds what `pid` holds now.
    pub(super) async fn sample(&mut self, client: &impl GenericClient, pid: i32) -> Result<(), tokio_postgres::Error> {
        self.take(&client.query(LOCKS, &[&pid]).await?);
        Ok(())
    }

    fn take(&mut self, rows: &[Row]) {
        for row in rows {
            let mode: &str = row.get(1);
            let strength = STRENGTH.iter().position(|known| *known == mode).unwrap_or(STRENGTH.len() - 1);
            self.add(row.get(0), strength);
        }
    }

    /// Adds what others have seen.
    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(relation, strength)| self.add(*relation, *strength));
    }

    fn add(&mut self, relation: u32, strength: usize) {
        let known = self.0.entry(relation).or_insert(strength);
        *known = strength.max(*known);
    }
}

/// What one file did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The file.
    pub file: String,
    /// From its first statement to its last commit, waits for locks and all.
    pub ms: u64,
    /// The strongest lock on each table that was there before.
    pub locks: BTreeMap<String, String>,
    /// Tables that were there before and lie in another file now.
    pub rewritten: Vec<String>,
    /// Log written by the whole server meanwhile.
    pub wal_bytes: u64,
    /// Temporary files written in this database meanwhile.
    pub temp_bytes: u64,
}

/// A database before a file.
pub(super) struct Before {
    begun: Instant,
    tables: BTreeMap<u32, (String, u32)>,
    wal: i64,
    temp: i64,
}

impl Before {
    /// Looks at the database.
    pub(super) async fn read(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let (begun, tables) = (Instant::now(), tables(client).await?);
        let row = client.query_one(FIGURES, &[]).await?;
        Ok(Self { begun, tables, wal: row.get(0), temp: row.get(1) })
    }

    /// Looks again; the difference is what `file` did, with the `locks` that it held.
    pub(super) async fn after(
        self,
        client: &Client,
        file: &str,
        locks: &Locks,
    ) -> Result<Measured, tokio_postgres::Error> {
        let took: Duration = self.begun.elapsed();
        let (now, row) = (tables(client).await?, client.query_one(FIGURES, &[]).await?);
        let grown = |at: usize, before: i64| u64::try_from(row.get::<_, i64>(at) - before).unwrap_or(0);
        let is_moved = |(oid, (name, node)): (&u32, &(String, u32))| {
            now.get(oid).is_some_and(|(_, now)| now != node).then(|| name.clone())
        };
        let named = |(oid, strength): (&u32, &usize)| {
            Some((self.tables.get(oid)?.0.clone(), STRENGTH.get(*strength)?.trim_end_matches("Lock").to_owned()))
        };
        Ok(Measured {
            file: file.to_owned(),
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            locks: locks.0.iter().filter_map(named).collect(),
            rewritten: self.tables.iter().filter_map(is_moved).collect(),
            wal_bytes: grown(0, self.wal),
            temp_bytes: grown(1, self.temp),
        })
    }
}

/// Watches a database beside a command that changes it by itself.
pub struct Beside<'a> {
    watcher: &'a Client,
    before: Before,
}

/// Locks that were seen beside a command.
pub struct LocksSeen(Locks);

impl<'a> Beside<'a> {
    /// Looks at the database before the command starts; `watcher` is for this alone.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn begin(watcher: &'a Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { before: Before::read(watcher).await?, watcher })
    }

    /// Waits for the command and looks on, as often as every 20 ms: what was locked for less than that may not be seen.
    pub async fn attend<T>(&self, command: impl Future<Output = T>) -> (T, LocksSeen) {
        let mut command = std::pin::pin!(command);
        let mut locks = Locks::default();
        loop {
            tokio::select! {
                biased;
                done = &mut command => return (done, LocksSeen(locks)),
                () = sleep(LOOK) => {}
            }
            // What cannot be seen is not counted: the command itself is what matters.
            if let Ok(rows) = self.watcher.query(LOCKS_OF_OTHERS, &[]).await {
                locks.take(&rows);
            }
        }
    }

    /// What the command did, under `name`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn end(self, name: &str, locks: &LocksSeen) -> Result<Measured, tokio_postgres::Error> {
        self.before.after(self.watcher, name, &locks.0).await
    }
}

async fn tables(client: &Client) -> Result<BTreeMap<u32, (String, u32)>, tokio_postgres::Error> {
    let rows = client.query(TABLES, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

//! What lint says of every statement of the corpus, held against a server: its locks, and which tables it wrote anew.

use crate::harness::Place;
use cutover::database::migrations::lint::{Effect, Known, Lock, Work, effects, parse};
use cutover::database::migrations::split::{Statement, split};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

/// Everything that can be locked, by oid: name, kind and file.
const RELATIONS: &str = "
select c.oid, case n.nspname when 'public' then '' else n.nspname || '.' end || c.relname, c.relkind::text, c.relfilenode
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and c.relkind in ('r', 'p', 'm', 'v', 'S')";
const LOCKS: &str = "
select relation, mode from pg_locks
 where pid = pg_backend_pid() and locktype = 'relation' and granted
   and database = (select oid from pg_database where datname = current_database())";

/// What one statement did, or what lint says it does: the strongest lock on each table above `access share`, and tables written anew.
#[derive(Debug, PartialEq, Eq)]
struct Did {
    locks: BTreeMap<String, &'static str>,
    anew: BTreeSet<String>,
}

struct Relation {
    name: String,
    kind: String,
    file: u32,
}

async fn relations(client: &Client) -> BTreeMap<u32, Relation> {
    let rows = client.query(RELATIONS, &[]).await.expect("relations");
    rows.iter().map(|row| (row.get(0), Relation { name: row.get(1), kind: row.get(2), file: row.get(3) })).collect()
}

async fn measured(client: &Client, statement: &Statement) -> Result<Did, tokio_postgres::Error> {
    client.batch_execute("begin").await?;
    let before = relations(client).await;
    let ran = client.batch_execute(&statement.text).await;
    if let Err(error) = ran {
        client.batch_execute("rollback").await?;
        return Err(error);
    }
    let mut locks: BTreeMap<String, Lock> = BTreeMap::new();
    for row in client.query(LOCKS, &[]).await? {
        let Some(relation) = before.get(&row.get::<_, u32>(0)) else { continue };
        let lock = Lock::of(row.get(1)).expect("a mode of lock");
        // A sequence is locked by whoever counts with it; that is told only of statements that are about it.
        if lock > Lock::AccessShare && (relation.kind != "S" || statement.has("sequence")) {
            let strongest = locks.entry(relation.name.clone()).or_insert(lock);
            *strongest = lock.max(*strongest);
        }
    }
    let after = relations(client).await;
    client.batch_execute("rollback").await?;
    let is_anew = |oid: &u32, was: &Relation| {
        ["r", "m"].contains(&was.kind.as_str()) && after.get(oid).is_some_and(|is| is.file != was.file)
    };
    let anew = before.iter().filter(|(oid, was)| is_anew(oid, was)).map(|(_, was)| was.name.clone()).collect();
    Ok(Did { locks: locks.into_iter().map(|(name, lock)| (name, lock.word())).collect(), anew })
}

fn predicted(effects: &[Effect], known: &Known, partitioned: &[&str]) -> Did {
    let mut locks: BTreeMap<String, Lock> = BTreeMap::new();
    let mut anew = BTreeSet::new();
    for effect in effects {
        let (Some(table), Some(lock)) = (&effect.table, effect.lock) else { continue };
        let is_index = known.indexes.contains_key(table) && !known.tables.contains_key(table);
        if lock > Lock::AccessShare && !is_index {
            let strongest = locks.entry(table.clone()).or_insert(lock);
            *strongest = lock.max(*strongest);
        }
        if [Work::Rewrite, Work::Truncate].contains(&effect.work)
            && lock == Lock::AccessExclusive
            && !partitioned.contains(&table.as_str())
            && effect.rule != "change-type"
        {
            anew.insert(table.clone());
        } else if effect.rule == "change-type"
            && effect.work == Work::Rewrite
            && !effect.why.starts_with("the foreign key")
        {
            anew.insert(table.clone());
        }
    }
    Did { locks: locks.into_iter().map(|(name, lock)| (name, lock.word())).collect(), anew }
}

/// Statements that fail on these tables by design, so that a server cannot be asked.
const NOT_RUN: [&str; 1] = ["execute prepared_before"];

pub(crate) async fn differences(client: &Client, setup: &str, statements: &str) -> Vec<String> {
    let mut known = Known::default();
    for statement in split(setup) {
        known.learn(&parse(&statement.text).expect("the setup parses"));
        client.batch_execute(&statement.text).await.expect("the setup runs");
    }
    // In UTC a change between the types of time writes nothing anew; lint does not know the session's zone.
    client.batch_execute("set timezone = 'Asia/Tokyo'").await.expect("a zone is set");
    known.next_file();
    let mut found = Vec::new();
    for statement in
        split(statements).iter().filter(|one| !NOT_RUN.contains(&one.text.as_str()) && !one.begins(&["do"]))
    {
        let said = predicted(&effects(&parse(&statement.text).expect("it parses"), &known), &known, &["event"]);
        match measured(client, statement).await {
            Ok(did) if did == said => {}
            // What may not be there is locked in lint's eyes, and not in the server's when it is not.
            Ok(did)
                if statement.has("exists")
                    && did.locks.iter().all(|(table, lock)| said.locks.get(table) == Some(lock)) => {}
            Ok(did) => found.push(format!("{}\n  lint {said:?}\n  server {did:?}", statement.summary())),
            Err(error) => found.push(format!(
                "{}\n  {}",
                statement.summary(),
                error.as_db_error().map_or(error.to_string(), |e| e.message().to_owned())
            )),
        }
    }
    found
}

const WAITING: &str = "
select case n.nspname when 'public' then '' else n.nspname || '.' end || c.relname, l.mode
  from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace
 where l.pid = $1 and not l.granted";

/// For statements outside a transaction: which lock they wait for while somebody is in their way, against what lint says.
pub(crate) async fn waiting(place: &Place, known: &Known, setup: &str, statements: &str) -> Vec<String> {
    place.execute(setup).await;
    let mut found = Vec::new();
    for statement in split(statements) {
        let said = effects(&parse(&statement.text).expect("it parses"), known);
        let Some((table, lock)) = said.first().and_then(|effect| Some((effect.table.clone()?, effect.lock?))) else {
            found.push(format!("{}: lint names no lock", statement.summary()));
            continue;
        };
        let (blocker, runner, watcher) = (place.client().await, place.client().await, place.client().await);
        blocker
            .batch_execute(&format!("begin; lock table {table} in share update exclusive mode"))
            .await
            .expect("in the way");
        let pid: i32 = runner.query_one("select pg_backend_pid()", &[]).await.expect("a pid").get(0);
        // The last query's snapshot would be held otherwise.
        runner.batch_execute("select").await.expect("the snapshot goes");
        let text = statement.text.clone();
        let running = tokio::spawn(async move { runner.batch_execute(&text).await });
        let mut seen = None;
        for _ in 0..200 {
            seen = watcher
                .query_opt(WAITING, &[&pid])
                .await
                .expect("locks")
                .map(|row| (row.get::<_, String>(0), Lock::of(row.get(1))));
            if seen.is_some() || running.is_finished() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        blocker.batch_execute("rollback").await.expect("out of the way");
        running.await.expect("it ends").expect("it runs");
        if seen != Some((table.clone(), Some(lock))) {
            found.push(format!("{}\n  lint {lock} on {table}\n  server {seen:?}", statement.summary()));
        }
    }
    found
}

//! An index on a partitioned table, without stopping its writers: on the parent alone, which is quick, then concurrently on each partition,
//! and each attached. The parent's index is valid when the last one is.
//!
//! PostgreSQL builds no index concurrently on a partitioned table. What an earlier attempt made is found by name and kept.

use super::super::migrate::MigrateError;
use super::super::migrate_worker::Worker;
use super::super::migrations::shape::on_only;
use super::super::migrations::split::ConcurrentIndex;
use super::super::sql::qualified;
use super::Work;
use super::index::{one, table};
use sha2::{Digest, Sha256};

const IS_PARTITIONED: &str =
    "select exists (select from pg_catalog.pg_class where oid = pg_catalog.to_regclass($1::text) and relkind = 'p')";
/// The partitions below a table, each after the one that it is part of.
const PARTITIONS: &str = "
select n.nspname, c.relname, t.isleaf, c.relkind = 'f', pn.nspname, p.relname
  from pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1::text)) t
  join pg_catalog.pg_class c on c.oid = t.relid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class p on p.oid = t.parentrelid
  join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
 where t.level > 0
 order by t.level, n.nspname, c.relname";
/// Whether an index is there, valid, and part of another.
const PART: &str = "
select x.indisvalid, exists (select from pg_catalog.pg_inherits h where h.inhrelid = x.indexrelid)
  from pg_catalog.pg_index x where x.indexrelid = pg_catalog.to_regclass($1::text)";
/// An index of a parent, in two halves: before its name, and after its table.
const HALVES: &str = "
select case when x.indisunique then 'create unique index' else 'create index' end,
       substr(pg_catalog.pg_get_indexdef(x.indexrelid), 1 + length(format('CREATE %sINDEX %I ON ONLY %I.%I ',
         case when x.indisunique then 'UNIQUE ' else '' end, i.relname, tn.nspname, t.relname)))
  from pg_catalog.pg_index x
  join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_class t on t.oid = x.indrelid
  join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
 where x.indexrelid = pg_catalog.to_regclass($1::text)";
const SCHEMA: &str =
    "select n.nspname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = pg_catalog.to_regclass($1::text)";
/// Longest name that PostgreSQL keeps.
const LONGEST: usize = 63;

/// A partition below the table.
struct Partition {
    schema: String,
    name: String,
    is_leaf: bool,
    is_foreign: bool,
    parent: (String, String),
}

/// Whether the index's table is partitioned.
pub(super) async fn is_partitioned(worker: &Worker<'_>, index: &ConcurrentIndex) -> Result<bool, MigrateError> {
    let failed = MigrateError::server("look at the table of an index");
    Ok(worker.client.query_one(IS_PARTITIONED, &[&table(index)]).await.map_err(failed)?.get(0))
}

/// Builds the index on the parent, on every partition, and attaches them.
pub(super) async fn build(
    worker: &mut Worker<'_>,
    work: &Work<'_>,
    index: &ConcurrentIndex,
) -> Result<(), MigrateError> {
    let failed = || MigrateError::server("look at the partitions of a table");
    let schema: String = worker.client.query_one(SCHEMA, &[&table(index)]).await.map_err(failed())?.get(0);
    let root = qualified(&schema, &index.name);
    let partitions = partitions(worker, index).await?;
    if let Some(foreign) = partitions.iter().find(|partition| partition.is_foreign) {
        let what = format!("{}.{} is a foreign table, which can have no index", foreign.schema, foreign.name);
        return Err(MigrateError::History { what });
    }
    if part(worker, &root).await?.is_none() {
        worker.transaction(&work.file, &work.summary, &on_only(&work.statement.text), "").await?;
    }
    let halves = worker.client.query_one(HALVES, &[&root]).await.map_err(failed())?;
    let (create, rest): (String, String) = (halves.get(0), halves.get(1));
    // The names of the indexes of the table and of the partitions that have partitions themselves.
    let name_of = |(schema, name): &(String, String)| qualified(schema, &part_name(&index.name, name));
    let top = table_of(worker, index).await?;
    for (at, partition) in partitions.iter().enumerate() {
        let mine = part_name(&index.name, &partition.name);
        let quoted = qualified(&partition.schema, &mine);
        let on = qualified(&partition.schema, &partition.name);
        let standing = part(worker, &quoted).await?;
        (worker.tell)(&format!("{}: partition {} of {}: {on}", work.file, at + 1, partitions.len()));
        if standing.is_none_or(|(is_valid, _)| !is_valid) && partition.is_leaf {
            let place = (Some(partition.schema.clone()), partition.name.clone());
            let sql = format!("{create} concurrently {} on {on} {rest}", super::super::sql::ident(&mine));
            one(worker, work, &ConcurrentIndex { name: mine, table: place }, &sql, true).await?;
            worker.applied.indexes_concurrent += 1;
        } else if standing.is_none() {
            let sql = format!("{create} {} on only {on} {rest}", super::super::sql::ident(&mine));
            worker.transaction(&work.file, &work.summary, &sql, "").await?;
        }
        if standing.is_none_or(|(_, is_attached)| !is_attached) {
            let parent = if partition.parent == top { root.clone() } else { name_of(&partition.parent) };
            let sql = format!("alter index {parent} attach partition {quoted}");
            worker.transaction(&work.file, &work.summary, &sql, "").await?;
        }
    }
    match part(worker, &root).await? {
        Some((true, _)) => Ok(()),
        _ => Err(MigrateError::InvalidIndex { file: work.file.clone(), index: index.name.clone() }),
    }
}

async fn table_of(worker: &Worker<'_>, index: &ConcurrentIndex) -> Result<(String, String), MigrateError> {
    let failed = MigrateError::server("look at the table of an index");
    let schema = worker.client.query_one(SCHEMA, &[&table(index)]).await.map_err(failed)?.get(0);
    Ok((schema, index.table.1.clone()))
}

async fn partitions(worker: &Worker<'_>, index: &ConcurrentIndex) -> Result<Vec<Partition>, MigrateError> {
    let failed = MigrateError::server("look at the partitions of a table");
    let rows = worker.client.query(PARTITIONS, &[&table(index)]).await.map_err(failed)?;
    let one = |row: &tokio_postgres::Row| Partition {
        schema: row.get(0),
        name: row.get(1),
        is_leaf: row.get(2),
        is_foreign: row.get(3),
        parent: (row.get(4), row.get(5)),
    };
    Ok(rows.iter().map(one).collect())
}

/// Whether an index is valid, and attached to one of its parent's table; nothing when it is not there.
async fn part(worker: &Worker<'_>, index: &str) -> Result<Option<(bool, bool)>, MigrateError> {
    let failed = MigrateError::server("look for an index");
    let row = worker.client.query_opt(PART, &[&index]).await.map_err(failed)?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// The name of a partition's index: always the same, so that a repetition finds it.
fn part_name(index: &str, partition: &str) -> String {
    let name = format!("{index}_{partition}");
    if name.len() <= LONGEST {
        return name;
    }
    let mark = &hex::encode(Sha256::digest(&name))[..8];
    let kept: String =
        name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= LONGEST - 9).map(|(_, c)| c).collect();
    format!("{kept}_{mark}")
}

#[cfg(test)]
mod tests {
    use super::part_name;

    #[test]
    fn a_partition_s_index_has_a_name_that_fits_and_is_its_own() {
        assert_eq!(part_name("by_day", "log_2026"), "by_day_log_2026");
        let long = "ü".repeat(30);
        let names = [part_name(&long, "one"), part_name(&long, "two")];
        assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
        assert_ne!(names[0], names[1]);
    }
}

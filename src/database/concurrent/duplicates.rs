//! The rows that a unique index could not be built over: keys, how often each is there, and which rows hold it. The server names one.

use super::super::migrate_worker::Worker;

/// The keys of an index, without its included columns, as expressions over its table; and what it looks like.
const SHAPE: &str = "
select format('%I.%I', n.nspname, t.relname),
       array(select pg_catalog.pg_get_indexdef(x.indexrelid, k, false) from generate_series(1, x.indnkeyatts) k order by k),
       coalesce(pg_catalog.pg_get_expr(x.indpred, x.indrelid), 'true'),
       coalesce((pg_catalog.to_jsonb(x) ->> 'indnullsnotdistinct')::boolean, false),
       array(select format('%I', a.attname) from pg_catalog.pg_index p
              cross join lateral unnest(p.indkey::int2[]) with ordinality k (attnum, at)
               join pg_catalog.pg_attribute a on a.attrelid = p.indrelid and a.attnum = k.attnum
              where p.indrelid = x.indrelid and p.indisprimary order by k.at)
  from pg_catalog.pg_index x
  join pg_catalog.pg_class t on t.oid = x.indrelid
  join pg_catalog.pg_namespace n on n.oid = t.relnamespace
 where x.indexrelid = pg_catalog.to_regclass($1::text) and x.indisunique";
/// A whole table is read once more, so it is given up in time.
const BOUND: &str = "set statement_timeout = '30s'";
const UNBOUND: &str = "set statement_timeout = 0";
/// Keys that are shown.
const KEYS: u32 = 5;

/// The first duplicate keys under an index that is there, valid or not; nothing when they could not be asked for.
pub(super) async fn of(worker: &Worker<'_>, index: &str) -> Option<String> {
    let row = worker.watcher.query_opt(SHAPE, &[&index]).await.ok()??;
    let (table, keys, predicate): (String, Vec<String>, String) = (row.get(0), row.get(1), row.get(2));
    let (nulls_are_equal, primary): (bool, Vec<String>) = (row.get(3), row.get(4));
    let query = query(&table, &keys, &predicate, nulls_are_equal, &primary);
    worker.watcher.batch_execute(BOUND).await.ok()?;
    let rows = worker.watcher.query(&query, &[]).await;
    worker.watcher.batch_execute(UNBOUND).await.ok()?;
    let told: Vec<String> = rows.ok()?.iter().map(|row| row.get(0)).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Values are cut short: they are here to be found again, not to be read.
fn query(table: &str, keys: &[String], predicate: &str, nulls_are_equal: bool, primary: &[String]) -> String {
    let key = keys.iter().map(|key| format!("left(({key})::text, 64)")).collect::<Vec<_>>().join(", ");
    let group = keys.iter().map(|key| format!("({key})")).collect::<Vec<_>>().join(", ");
    let is_known = keys.iter().map(|key| format!("and ({key}) is not null")).collect::<Vec<_>>().join(" ");
    let is_known = if nulls_are_equal { "" } else { &is_known };
    let row = if primary.is_empty() {
        "ctid::text".to_owned()
    } else {
        let columns: Vec<String> = primary.iter().map(|column| format!("left({column}::text, 64)")).collect();
        format!("concat_ws(', ', {})", columns.join(", "))
    };
    format!(
        "select format('(%s) %s times, in rows %s', concat_ws(', ', {key}), count(*), array_to_string((array_agg({row} order by ctid))[1:3], ' and '))
           from {table} where ({predicate}) {is_known} group by {group} having count(*) > 1 order by count(*) desc, 1 limit {KEYS}"
    )
}

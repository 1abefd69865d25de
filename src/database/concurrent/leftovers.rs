//! What a `reindex concurrently` that was cut off left behind: an invalid copy (`_ccnew`) or the old index (`_ccold`), dropped before it is
//! tried again. Every write pays for them, and a unique one goes on refusing rows.

use super::super::migrate::MigrateError;
use super::super::migrate_worker::Worker;
use super::super::migrations::shape::reindexed;
use super::super::tries::Tries;
use super::Work;
use super::index::drop_index;

/// Leftovers that nobody is building or dropping just now: of one index, of one table, or of the whole database.
const LEFTOVERS: &str = r"
select format('%I.%I', n.nspname, i.relname)
  from pg_catalog.pg_index x
  join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_namespace n on n.oid = i.relnamespace
 where not x.indisvalid and i.relkind = 'i' and i.relname ~ '_cc(new|old)[0-9]*$'
   and (x.indrelid = pg_catalog.to_regclass($1::text) or $1 is null
        or x.indrelid = (select t.indrelid from pg_catalog.pg_index t where t.indexrelid = pg_catalog.to_regclass($1::text)))
   and not exists (select from pg_catalog.pg_stat_progress_create_index p
                    where p.relid = x.indrelid and p.datid = (select oid from pg_catalog.pg_database where datname = current_database()))
 order by 1 limit 1000";

/// Drops what earlier attempts of this statement left behind.
pub(super) async fn clear(worker: &mut Worker<'_>, work: &Work<'_>, tries: &mut Tries) -> Result<(), MigrateError> {
    let Some(target) = reindexed(&work.statement.text) else { return Ok(()) };
    let failed = MigrateError::server("look for what an earlier attempt left behind");
    let rows = worker.client.query(LEFTOVERS, &[&target]).await.map_err(failed)?;
    for row in rows {
        let name: String = row.get(0);
        (worker.tell)(&format!("{}: index {name} was left behind; dropping it", work.file));
        drop_index(worker, work, &name, tries).await?;
    }
    Ok(())
}

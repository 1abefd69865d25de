//! An update or delete over a whole table, in pieces along a key: each piece a transaction of its own that notes how far it came.
//!
//! A piece that keeps clients waiting is made smaller. What a piece looks like is `migrations::batch`'s.

use super::super::migrate::MigrateError;
use super::super::migrate_worker::Worker;
use super::super::migrations::Batching;
use super::super::migrations::batch::Batch;
use super::super::sql::literal;
use super::Work;

/// A unique index over just these columns, none of which can be null.
const IS_KEY: &str = "
select exists (
  select from pg_catalog.pg_index x
   where x.indrelid = pg_catalog.to_regclass($1::text) and x.indisunique and x.indisvalid and x.indpred is null
     and (select array_agg(a.attname::text order by a.attname) from pg_catalog.pg_attribute a
           where a.attrelid = x.indrelid and a.attnotnull and a.attnum = any ((x.indkey::int2[])[0:x.indnkeyatts - 1]))
         = (select array_agg(c order by c) from unnest($2::text[]) c)
     and x.indnkeyatts = cardinality($2::text[]))";
const POSITION: &str = "select position from cutover.migration_statement where file = $1 and statement = $2";
/// No piece is made smaller than this.
const LEAST: u64 = 100;

/// Runs the statement piece by piece, from where an earlier attempt came to.
pub(super) async fn run(worker: &mut Worker<'_>, work: &Work<'_>, batching: &Batching) -> Result<(), MigrateError> {
    let mut batch = of(worker, work, batching.clone()).await?;
    worker.transaction(&work.file, &work.summary, "", &work.begin()).await?;
    let row = worker.client.query_one(POSITION, &[&work.noted_as, &work.key]).await;
    let mut from: Option<Vec<String>> = row.map_err(MigrateError::server("read how far a statement came"))?.get(0);
    let (mut rows, mut pieces) = (batching.rows, 0_u64);
    loop {
        let row = worker.client.query_opt(&batch.next(from.as_deref()), &[]).await;
        let row = row.map_err(MigrateError::server("look where the next piece of a statement ends"))?;
        let Some(row) = row else { return worker.transaction(&work.file, &work.summary, "", &work.done()).await };
        let to: Vec<String> = (0..row.len()).map(|at| row.get(at)).collect();
        let sql = batch.bounded(from.as_deref(), &to);
        match worker.transaction(&work.file, &work.summary, &sql, &position(work, &to)).await {
            Ok(()) => {}
            Err(MigrateError::Blocks { .. }) if rows > LEAST => {
                rows = (rows / 2).max(LEAST);
                (worker.tell)(&format!("{}: clients waited for a piece; going on with {rows} rows", work.file));
                batch = of(worker, work, Batching { rows, ..batching.clone() }).await?;
                continue;
            }
            Err(error) => return Err(error),
        }
        pieces += 1;
        (worker.tell)(&format!("{}: {pieces} pieces done, of {rows} rows: {}", work.file, work.summary));
        from = Some(to);
    }
}

/// The statement in pieces, if it can run so.
async fn of(worker: &Worker<'_>, work: &Work<'_>, batching: Batching) -> Result<Batch, MigrateError> {
    let refused =
        |why: String| MigrateError::Unbatched { file: work.file.clone(), statement: work.summary.clone(), why };
    let batch = Batch::of(&work.statement.text, &batching).map_err(refused)?;
    let looked = worker.client.query_one(IS_KEY, &[&batch.table, &batching.key]).await;
    if looked.map_err(MigrateError::server("look for the key of a batch"))?.get(0) {
        return Ok(batch);
    }
    Err(refused(format!("({}) is no unique key without nulls of its table", batching.key.join(", "))))
}

fn position(work: &Work<'_>, to: &[String]) -> String {
    let (file, key) = (literal(work.noted_as), literal(&work.key));
    let to = to.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ");
    format!(
        "update cutover.migration_statement set position = array[{to}]::text[] where file = {file} and statement = {key}"
    )
}

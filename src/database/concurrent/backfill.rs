//! An update or delete over a whole table, in pieces along a key: each piece a transaction of its own that notes how far it came.
//!
//! A piece that keeps clients waiting is made smaller. Rows that come while it goes on are seen when they lie ahead of it, and by the last
//! piece, which has no end.

use super::super::migrate::MigrateError;
use super::super::migrate_worker::Worker;
use super::super::migrations::Batching;
use super::super::migrations::shape::{WholeTable, whole_table};
use super::super::sql::{ident, literal};
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
    let refused = |why: &str| MigrateError::Unbatched {
        file: work.file.clone(),
        statement: work.summary.clone(),
        why: why.to_owned(),
    };
    let shape = whole_table(&work.statement.text)
        .ok_or_else(|| refused("it is no plain update or delete with one table in front and without `returning`"))?;
    let looked = worker.client.query_one(IS_KEY, &[&shape.table, &batching.key]).await;
    if !looked.map_err(MigrateError::server("look for the key of a batch"))?.get::<_, bool>(0) {
        return Err(refused(&format!("({}) is no unique key without nulls of its table", batching.key.join(", "))));
    }
    worker.transaction(&work.file, &work.summary, "", &work.begin()).await?;
    let row = worker.client.query_one(POSITION, &[&work.noted_as, &work.key]).await;
    let mut from: Option<Vec<String>> = row.map_err(MigrateError::server("read how far a statement came"))?.get(0);
    let (mut rows, mut pieces) = (batching.rows, 0_u64);
    loop {
        let to = end(worker, &shape, &batching.key, from.as_deref(), rows).await?;
        let sql = piece(&shape, &batching.key, from.as_deref(), to.as_deref());
        match worker.transaction(&work.file, &work.summary, &sql, &note(work, to.as_deref())).await {
            Ok(()) => {}
            Err(MigrateError::Blocks { .. }) if rows > LEAST => {
                rows = (rows / 2).max(LEAST);
                (worker.tell)(&format!("{}: clients waited for a piece; going on with {rows} rows", work.file));
                continue;
            }
            Err(error) => return Err(error),
        }
        pieces += 1;
        let Some(to) = to else { return Ok(()) };
        (worker.tell)(&format!("{}: {pieces} pieces done, at {rows} rows: {}", work.file, work.summary));
        from = Some(to);
    }
}

/// The key that the next piece ends with; none when fewer rows are left.
async fn end(
    worker: &Worker<'_>,
    shape: &WholeTable,
    key: &[String],
    from: Option<&[String]>,
    rows: u64,
) -> Result<Option<Vec<String>>, MigrateError> {
    let columns: Vec<String> = key.iter().map(|column| ident(column)).collect();
    let texts = columns.iter().map(|column| format!("{column}::text")).collect::<Vec<_>>().join(", ");
    let behind = from.map_or_else(String::new, |from| format!("where ({}) > ({})", columns.join(", "), literals(from)));
    let query = format!(
        "select array[{texts}] from {} {behind} order by {} offset {} limit 1",
        shape.table,
        columns.join(", "),
        rows - 1
    );
    let row = worker.client.query_opt(&query, &[]).await;
    Ok(row.map_err(MigrateError::server("look where the next piece of a statement ends"))?.map(|row| row.get(0)))
}

/// The statement between two keys.
fn piece(shape: &WholeTable, key: &[String], from: Option<&[String]>, to: Option<&[String]>) -> String {
    let columns: Vec<String> = key.iter().map(|column| format!("{}.{}", shape.reference, ident(column))).collect();
    let columns = columns.join(", ");
    let behind = from.map_or_else(String::new, |from| format!(" and ({columns}) > ({})", literals(from)));
    let up_to = to.map_or_else(String::new, |to| format!(" and ({columns}) <= ({})", literals(to)));
    format!("{}\nwhere ({}\n){behind}{up_to}", shape.head, shape.predicate)
}

fn note(work: &Work<'_>, to: Option<&[String]>) -> String {
    let Some(to) = to else { return work.done() };
    let (file, key) = (literal(work.noted_as), literal(&work.key));
    format!(
        "update cutover.migration_statement set position = array[{}]::text[] where file = {file} and statement = {key}",
        literals(to)
    )
}

fn literals(values: &[String]) -> String {
    values.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ")
}

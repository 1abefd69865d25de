//! The table `cutover.compared` on green: which parts a diff has, and what was found in each, so that one that was cut off goes on.
//!
//! One that ended is begun anew by the next call: what was found then may have been put right since.

use super::DiffError;
use super::found::{Difference, Found};
use super::sql::Part;
use crate::database::mapping::{Mapping, TableMapping};
use crate::database::term::{Term, hold};
use crate::plan::TableName;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

const CREATE: &str = "create table if not exists cutover.compared (
  green_table text not null,
  part integer not null,
  parts integer not null,
  mapping text not null,
  found jsonb,
  primary key (green_table, part))";
const READ: &str = "select green_table, part, parts, mapping, found from cutover.compared order by green_table, part";
const CLEAR: &str = "delete from cutover.compared";
const PLAN: &str = "insert into cutover.compared (green_table, part, parts, mapping)
select $1, part, $2, $3 from generate_series(0, $2 - 1) as part";
/// What was found at a moment that is gone, and not asked for its reason then, cannot be asked any more.
const REOPEN: &str = "update cutover.compared set found = null
where not (found->>'is_settled')::boolean and pg_catalog.jsonb_array_length(found->'listed') > 0";
const DONE: &str = "update cutover.compared set found = $3 where green_table = $1 and part = $2";

/// One part, and what was found in it, if it has been compared.
pub(super) struct Noted {
    pub(super) table: TableName,
    pub(super) part: Part,
    pub(super) found: Option<Found>,
}

/// The parts of the diff that is under way; begins one when none is, or when it was of another mapping. `parts` says in how many parts a table is compared.
pub(super) async fn begin(
    green: &mut Client,
    term: &Term,
    mapping: &Mapping,
    parts: impl Fn(&TableMapping) -> i32,
) -> Result<Vec<Noted>, DiffError> {
    let failed = DiffError::server("note the parts of a diff in", "cutover.compared on green");
    let transaction = green.transaction().await.map_err(&failed)?;
    hold(&transaction, term).await?;
    transaction.batch_execute(CREATE).await.map_err(&failed)?;
    let digest = transaction.query_one("select md5($1::text)", &[&text(mapping)]).await.map_err(&failed)?;
    let digest: String = digest.get(0);
    transaction.execute(REOPEN, &[]).await.map_err(&failed)?;
    let rows = transaction.query(READ, &[]).await.map_err(&failed)?;
    let is_under_way = rows.iter().any(|row| row.get::<_, Option<serde_json::Value>>(4).is_none());
    if !is_under_way || rows.iter().any(|row| row.get::<_, &str>(3) != digest) {
        transaction.execute(CLEAR, &[]).await.map_err(&failed)?;
        for table in &mapping.tables {
            let name = table.target.to_string();
            transaction.execute(PLAN, &[&name, &parts(table), &digest]).await.map_err(&failed)?;
        }
    }
    transaction.commit().await.map_err(&failed)?;
    read(green, mapping).await
}

/// All parts, as they are noted now.
pub(super) async fn read(green: &Client, mapping: &Mapping) -> Result<Vec<Noted>, DiffError> {
    let failed = DiffError::server("read", "cutover.compared on green");
    let names: BTreeMap<String, &TableName> =
        mapping.tables.iter().map(|table| (table.target.to_string(), &table.target)).collect();
    let rows = green.query(READ, &[]).await.map_err(failed)?;
    let noted = rows.iter().filter_map(|row| {
        let found: Option<serde_json::Value> = row.get(4);
        Some(Noted {
            table: (*names.get(row.get::<_, &str>(0))?).clone(),
            part: Part { at: row.get(1), of: row.get(2) },
            found: found.and_then(|found| serde_json::from_value(found).ok()),
        })
    });
    Ok(noted.collect())
}

/// Notes what was found in a part.
pub(super) async fn done(
    green: &mut Client,
    term: &Term,
    table: &TableName,
    part: Part,
    found: &Found,
) -> Result<(), DiffError> {
    let failed = DiffError::server("note what was compared in", "cutover.compared on green");
    let body = serde_json::to_value(found).expect("counts and names are JSON");
    let transaction = green.transaction().await.map_err(&failed)?;
    hold(&transaction, term).await?;
    transaction.execute(DONE, &[&table.to_string(), &part.at, &body]).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)
}

/// What was found and not asked for its reason yet, part by part.
pub(super) async fn settle(
    green: &mut Client,
    term: &Term,
    mapping: &Mapping,
    revoked: &BTreeSet<Difference>,
) -> Result<(), DiffError> {
    for mut part in read(green, mapping).await? {
        if let Some(found) = part.found.as_mut().filter(|found| !found.is_settled && found.differences() > 0) {
            found.settle(revoked);
            done(green, term, &part.table, part.part, found).await?;
        }
    }
    Ok(())
}

fn text(mapping: &Mapping) -> String {
    serde_json::to_string(mapping).expect("names and SQL are JSON")
}

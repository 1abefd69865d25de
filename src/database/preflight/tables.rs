//! What must be true of one side's tables: keys, an empty or claimed green, what the log can follow.

use super::{Findings, Server};
use crate::plan::{CaptureMethod, CopyMethod, Plan, TableName};
use tokio_postgres::Row;

/// Application tables as capture and fence see them; `key` says whether the log can name a changed row.
const TABLES: &str = "select n.nspname as schema, c.relname as name, c.relpersistence = 'u' as is_unlogged,
  case c.relreplident when 'f' then true when 'n' then false
    else exists (select from pg_index i where i.indrelid = c.oid
                 and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end) end as has_key,
  c.relkind <> 'p' and exists (select from pg_inherits i where i.inhparent = c.oid) as has_children
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and not c.relispartition
  and n.nspname not in ('information_schema', 'cutover') and n.nspname not like 'pg\\_%'
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by 1, 2";
const HAS_IDENTITY: &str = "select to_regclass('cutover.identity') is not null";
const IDENTITY: &str = "select run::text, side from cutover.identity";
const LARGE_OBJECTS: &str = "select exists (select from pg_largeobject_metadata)";

pub(super) async fn examine(server: &Server<'_>, plan: &Plan, run: Option<&str>, findings: &mut Findings) {
    let tables = server.client.query(TABLES, &[]).await;
    let tables = findings.answer("its tables", tables).unwrap_or_default();
    let claimed_by = claim(server, findings).await;
    let is_ours = match (&claimed_by, run) {
        (Some((found, side)), Some(run)) => found == run && side == server.name,
        _ => false,
    };
    if let Some((found, side)) = claimed_by.filter(|_| !is_ours) {
        let why = "two runs on one database would undo each other's work";
        let next = "look with `cutover status`; take that run to its end, or `cutover rollback` it";
        findings.error(format!("run {found} has claimed it as {side}"), why, next);
    } else if server.name == "green" && !is_ours && !tables.is_empty() {
        let names: Vec<String> = tables.iter().take(3).map(|row| name(row).to_string()).collect();
        let what = format!("it is not empty: {} tables, such as {}", tables.len(), names.join(", "));
        let why = match plan.copy.method {
            CopyMethod::Carry => "green gets its schema from `migrate`, and what stands there would be lost",
            CopyMethod::Logical => "green gets blue's schema, which what stands there is in the way of",
        };
        findings.error(what, why, "name an empty database");
    }
    if server.name == "blue" && !plan.databases.is_in_place {
        keys(&tables, plan, findings);
        large_objects(server, findings).await;
    }
}

async fn claim(server: &Server<'_>, findings: &mut Findings) -> Option<(String, String)> {
    let exists = server.client.query_one(HAS_IDENTITY, &[]).await;
    if !findings.answer("whether a run has claimed it", exists)?.get::<_, bool>(0) {
        return None;
    }
    let row = server.client.query_opt(IDENTITY, &[]).await;
    let row = findings.answer("which run has claimed it", row)??;
    Some((row.get(0), row.get(1)))
}

fn keys(tables: &[Row], plan: &Plan, findings: &mut Findings) {
    let is_carried = |row: &&Row| !plan.drop.contains(&name(row)) && !plan.own.contains(&name(row));
    for row in tables.iter().filter(is_carried) {
        let table = name(row);
        if row.get("is_unlogged") {
            let why = "its rows go in a crash without a word in any log, so green would keep them";
            findings.error(format!("table {table} is unlogged"), why, "make it logged, or list it in `drop`");
        }
        if row.get("has_children") {
            let why = "rows of an inheritance tree have no common key";
            findings.error(
                format!("table {table} is inherited from"),
                why,
                "partition it by declaration, or list it in `drop`",
            );
        }
        if !row.get::<_, bool>("has_key") {
            let why = match plan.databases.blue.capture {
                CaptureMethod::Slot => {
                    "once it is published, the application's own updates and deletes there would fail"
                }
                CaptureMethod::Triggers => "a touched row could not be named",
            };
            let next = "add a primary key, or `alter table … replica identity using index …`; or list it in `drop`";
            findings.error(format!("table {table} has no key"), why, next);
        }
    }
}

async fn large_objects(server: &Server<'_>, findings: &mut Findings) {
    let exists = server.client.query_one(LARGE_OBJECTS, &[]).await;
    if findings.answer("its large objects", exists).is_some_and(|row| row.get(0)) {
        findings.warning(
            "it holds large objects",
            "they are not carried",
            "move them yourself, or into a bytea column",
        );
    }
}

fn name(row: &Row) -> TableName {
    TableName { schema: row.get("schema"), name: row.get("name") }
}

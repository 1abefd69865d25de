//! The statements of a trigger log: the table, a function for each captured table, its triggers, and taking them away. Only text.
//!
//! What must not happen: that a write of the application fails on our account. So the function runs with our rights, knows its own way to
//! every name, and looks before it names a column of theirs; when one is gone it says that every key was touched.

use super::LoggedTable;
use crate::database::sql::{ident, literal, qualified};
use crate::plan::TableName;
use std::fmt::Write as _;
use uuid::Uuid;

/// In the log, the relation of the one row that is no touched key and holds the nonce: whoever empties the log takes it along.
pub(in crate::database) const NONCE_RELATION: u32 = 0;
pub(super) const HAS_NONCE: &str =
    "select exists (select from cutover.touched where relation = 0 and key = array[$1::text])";
/// The tables that have triggers of a run, with the triggers' names; clones on partitions go with the one that was cloned.
pub(super) const TRIGGERED: &str =
    "select n.nspname::text, c.relname::text, array_agg(t.tgname::text order by t.tgname)
from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
join pg_proc p on p.oid = t.tgfoid join pg_namespace f on f.oid = p.pronamespace
where t.tgname ~ '^cutover_touch_' and t.tgparentid = 0 and f.nspname = 'cutover' and position($1 in p.prosrc) > 0
group by 1, 2 order by 1, 2";
/// Values print as they do in the sessions that read them, whatever the application has set.
const PINNED: &str = "set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, MDY' set intervalstyle = 'postgres'
  set extra_float_digits = 1 set bytea_output = 'hex' set lc_monetary = 'C'";

/// The log, with no index, since every index is a cost to every write of the application; and its nonce. It is written to the
/// write-ahead log like the rows it tells of, and known by whole rows, so that nobody's publication of all tables forbids us to delete.
/// One that is there already may be in use by triggers: nothing is asked of it for which a writer would have to wait.
pub(super) fn log(nonce: Uuid) -> String {
    format!(
        "do $cutover$ begin if to_regclass('cutover.touched') is null then
  create table cutover.touched (xid xid8 not null default pg_current_xact_id(), relation oid not null, key text[])
    with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
  alter table cutover.touched replica identity full;
end if; end $cutover$;
delete from cutover.touched where relation = 0;
insert into cutover.touched (relation, key) values (0, array[{}]);
",
        literal(&nonce.to_string())
    )
}

/// By what this run's functions are known.
pub(super) fn mark(run: Uuid) -> String {
    format!("-- cutover touch {run}")
}

pub(super) fn function_name(table: &LoggedTable) -> String {
    format!("touch_{}", table.oid)
}

/// What a table's triggers do. An update leaves old and new keys, each once; a truncate leaves a null, which stands for every key.
pub(super) fn body(run: Uuid, table: &LoggedTable) -> String {
    let oid = table.oid;
    let names: Vec<String> = table.key.iter().map(|column| literal(column).trim_start().to_owned()).collect();
    let (old, new) = (key_of("o", table), key_of("n", table));
    let (inserted, deleted, updated) = if table.each_row {
        let (old, new) = (key_of("old", table), key_of("new", table));
        (
            format!("values ({oid}, {new})"),
            format!("values ({oid}, {old})"),
            format!("select {oid}, {old} union select {oid}, {new}"),
        )
    } else {
        (
            format!("select {oid}, {new} from cutover_new n"),
            format!("select {oid}, {old} from cutover_old o"),
            format!("select {oid}, {old} from cutover_old o union select {oid}, {new} from cutover_new n"),
        )
    };
    format!(
        "{mark}
#variable_conflict use_column
begin
  if tg_op = 'TRUNCATE' or (select count(*) from pg_catalog.pg_attribute where attrelid = tg_relid and not attisdropped
      and attname in ({names})) < {count} then
    insert into cutover.touched (relation, key) values ({oid}, null);
  elsif tg_op = 'INSERT' then
    insert into cutover.touched (relation, key) {inserted};
  elsif tg_op = 'DELETE' then
    insert into cutover.touched (relation, key) {deleted};
  else
    insert into cutover.touched (relation, key) {updated};
  end if;
  return null;
end",
        mark = mark(run),
        names = names.join(", "),
        count = names.len()
    )
}

/// A key as the server prints its columns, which is how a slot gives them; a cast to text would print some types in another way.
fn key_of(row: &str, table: &LoggedTable) -> String {
    let printed = table.key.iter().map(|column| {
        let value = format!("{row}.{}", ident(column));
        format!("case when {value} is not null then format('%s', {value}) end")
    });
    format!("array[{}]", printed.collect::<Vec<_>>().join(", "))
}

/// The application needs no right on the log: the function has ours. Nobody else may hang it on a table of theirs.
pub(super) fn function(run: Uuid, table: &LoggedTable) -> String {
    let (name, body) = (function_name(table), literal(&body(run, table)));
    format!(
        "create or replace function cutover.{name}() returns trigger language plpgsql security definer {PINNED} as {body};
revoke all on function cutover.{name}() from public;
"
    )
}

/// Names and events of a table's triggers, with `pg_trigger`'s code for what they fire on.
pub(super) fn trigger_names(table: &LoggedTable) -> &'static [(&'static str, &'static str, i16)] {
    const TRUNCATE: (&str, &str, i16) = ("cutover_touch_truncate", "after truncate on {} for each statement", 32);
    if table.each_row {
        &[("cutover_touch_row", "after insert or update or delete on {} for each row", 29), TRUNCATE]
    } else {
        &[
            ("cutover_touch_insert", "after insert on {} referencing new table as cutover_new for each statement", 4),
            ("cutover_touch_delete", "after delete on {} referencing old table as cutover_old for each statement", 8),
            (
                "cutover_touch_update",
                "after update on {} referencing old table as cutover_old new table as cutover_new for each statement",
                16,
            ),
            TRUNCATE,
        ]
    }
}

/// All triggers of a table under one lock, which proves that no writer is left who does not fire them.
pub(super) fn triggers(table: &TableName, logged: &LoggedTable) -> String {
    let (name, function) = (qualified(&table.schema, &table.name), function_name(logged));
    let mut statements = format!("lock table {name} in share row exclusive mode;\n");
    for (trigger, event, _) in trigger_names(logged) {
        let event = event.replace("{}", &name);
        // Also in sessions of the replica role: whatever they write is read by the application.
        let _ = writeln!(
            statements,
            "create or replace trigger {trigger} {event} execute function cutover.{function}();
alter table {name} enable always trigger {trigger};"
        );
    }
    statements
}

pub(super) fn drop_triggers(table: &TableName, names: &[String]) -> String {
    let table = qualified(&table.schema, &table.name);
    let drops = names.iter().map(|name| format!("drop trigger if exists {} on {table};\n", ident(name)));
    drops.collect()
}

/// The functions of a run, and the log.
pub(super) fn drop_log(run: Uuid) -> String {
    format!(
        "do $cutover$ declare f regprocedure; begin
  for f in select p.oid from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'cutover' and p.proname ~ '^touch_[0-9]+$' and position({} in p.prosrc) > 0
  loop execute format('drop function %s', f); end loop;
end $cutover$;
drop table if exists cutover.touched",
        literal(&mark(run))
    )
}

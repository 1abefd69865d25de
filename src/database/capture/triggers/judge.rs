//! Whether a trigger log is whole: what the catalog holds, and what it must hold. The judgement is pure.

use super::{Logged, LoggedTable, sql};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Error, GenericClient};
use uuid::Uuid;

const TABLES: &str = "select c.oid, format('%s.%s', n.nspname, c.relname), c.relkind = 'p' or exists (select from pg_inherits where inhrelid = c.oid),
  c.relkind <> 'p' and exists (select from pg_inherits where inhparent = c.oid),
  array(select t.relid::oid from pg_partition_tree(c.oid) t where t.relid <> c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = any($1)";
const TRIGGERS: &str =
    "select t.tgrelid, t.tgname::text, t.tgenabled = 'A', t.tgtype, t.tgqual is null, p.proname::text
from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = p.pronamespace
where t.tgname ~ '^cutover_touch_' and n.nspname = 'cutover'";
const FUNCTIONS: &str = "select p.proname::text, p.prosrc, p.prosecdef and p.proconfig @> array['search_path=pg_catalog, pg_temp']
from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'cutover' and p.proname ~ '^touch_[0-9]+$'";
const HAS_LOG: &str = "select exists (select from pg_class where oid = to_regclass('cutover.touched') and relkind = 'r' and relpersistence = 'p')";

/// What the catalog holds of trigger logs.
#[derive(Debug, Default)]
pub(super) struct Found {
    tables: BTreeMap<u32, FoundTable>,
    triggers: BTreeMap<(u32, String), FoundTrigger>,
    functions: BTreeMap<String, FoundFunction>,
    has_log: bool,
}

#[derive(Debug, Clone)]
struct FoundTable {
    name: String,
    is_child: bool,
    is_parent: bool,
    /// Its partitions, at every depth.
    members: Vec<u32>,
}

#[derive(Debug, Clone)]
struct FoundTrigger {
    fires_always: bool,
    kind: i16,
    is_unconditional: bool,
    function: String,
}

#[derive(Debug, Clone)]
struct FoundFunction {
    source: String,
    /// Runs with our rights, on a search path of its own.
    is_closed: bool,
}

impl Found {
    /// Reads the catalog; of tables, those with these oids.
    pub(super) async fn read(client: &impl GenericClient, oids: Vec<u32>) -> Result<Self, Error> {
        let mut found = Self { has_log: client.query_one(HAS_LOG, &[]).await?.get(0), ..Self::default() };
        for row in client.query(TABLES, &[&oids]).await? {
            let table =
                FoundTable { name: row.get(1), is_child: row.get(2), is_parent: row.get(3), members: row.get(4) };
            found.tables.insert(row.get(0), table);
        }
        for row in client.query(TRIGGERS, &[]).await? {
            let (fires_always, kind, is_unconditional) = (row.get(2), row.get(3), row.get(4));
            let trigger = FoundTrigger { fires_always, kind, is_unconditional, function: row.get(5) };
            found.triggers.insert((row.get(0), row.get(1)), trigger);
        }
        for row in client.query(FUNCTIONS, &[]).await? {
            let is_closed = row.get::<_, Option<bool>>(2).unwrap_or(false);
            found.functions.insert(row.get(0), FoundFunction { source: row.get(1), is_closed });
        }
        Ok(found)
    }

    pub(super) fn is_nothing(&self) -> bool {
        !self.has_log && self.triggers.is_empty() && self.functions.is_empty()
    }

    /// A function of ours by name that carries another run's id.
    pub(super) fn of_another_run(&self, run: Uuid) -> Option<String> {
        let mark = sql::mark(run);
        let strange = self.functions.iter().find(|(_, function)| !function.source.contains(&mark));
        strange.map(|(name, _)| format!("a function cutover.{name} exists and is not this run's"))
    }
}

/// That every change of every captured table reaches the log.
pub(super) fn whole(run: Uuid, logged: &Logged, found: &Found) -> Result<(), String> {
    if !found.has_log {
        return Err("the log cutover.touched is gone".to_owned());
    }
    logged.iter().try_for_each(|(name, table)| whole_table(run, name, table, found))
}

fn whole_table(run: Uuid, name: &str, table: &LoggedTable, found: &Found) -> Result<(), String> {
    let there = found.tables.get(&table.oid).ok_or_else(|| format!("table {name} was dropped or made anew"))?;
    if there.name != name {
        return Err(format!("table {name} was renamed to {}", there.name));
    }
    if there.is_parent || there.is_child != table.each_row {
        return Err(format!("{name} joined or left an inheritance tree, of which its triggers do not see every write"));
    }
    let function = sql::function_name(table);
    match found.functions.get(&function) {
        None => return Err(format!("the function cutover.{function} of {name} is gone")),
        Some(there) if !there.is_closed || there.source != sql::body(run, table) => {
            return Err(format!("the function cutover.{function} of {name} was altered"));
        }
        Some(_) => {}
    }
    let names = sql::trigger_names(table);
    for (trigger, _, kind) in names {
        whole_trigger(table.oid, name, trigger, *kind, &function, found)?;
    }
    // A trigger for each row is cloned to every partition, those attached later too.
    let (clone, _, kind) = names[0];
    let members: BTreeSet<u32> = if table.each_row { there.members.iter().copied().collect() } else { BTreeSet::new() };
    let mut members = members.into_iter();
    members
        .try_for_each(|member| whole_trigger(member, &format!("a partition of {name}"), clone, kind, &function, found))
}

fn whole_trigger(oid: u32, name: &str, trigger: &str, kind: i16, function: &str, found: &Found) -> Result<(), String> {
    match found.triggers.get(&(oid, trigger.to_owned())) {
        None => Err(format!("the trigger {trigger} on {name} is gone")),
        Some(there) if !there.fires_always => Err(format!(
            "the trigger {trigger} on {name} was disabled, if only for a time: what was written meanwhile is unknown"
        )),
        Some(there) if there.kind != kind || !there.is_unconditional || there.function != function => {
            Err(format!("the trigger {trigger} on {name} was altered"))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_up(each_row: bool) -> (Uuid, Logged, Found) {
        let run = Uuid::new_v4();
        let table = LoggedTable { oid: 7, key: vec!["id".to_owned()], each_row };
        let members = if each_row { vec![8] } else { vec![] };
        let mut found = Found { has_log: true, ..Found::default() };
        let there = FoundTable { name: "public.t".to_owned(), is_child: each_row, is_parent: false, members };
        found.tables.insert(7, there);
        let function = FoundFunction { source: sql::body(run, &table), is_closed: true };
        found.functions.insert("touch_7".to_owned(), function);
        for (name, _, kind) in sql::trigger_names(&table) {
            let trigger = FoundTrigger {
                fires_always: true,
                kind: *kind,
                is_unconditional: true,
                function: "touch_7".to_owned(),
            };
            found.triggers.insert((7, (*name).to_owned()), trigger.clone());
            found.triggers.insert((8, (*name).to_owned()), trigger);
        }
        (run, Logged::from([("public.t".to_owned(), table)]), found)
    }

    fn said(each_row: bool, spoil: impl FnOnce(&mut Found)) -> String {
        let (run, logged, mut found) = set_up(each_row);
        assert_eq!(whole(run, &logged, &found), Ok(()));
        spoil(&mut found);
        whole(run, &logged, &found).expect_err("it is not whole")
    }

    #[test]
    fn a_log_is_whole_only_with_every_trigger_as_it_was_made() {
        let insert = || (7, "cutover_touch_insert".to_owned());
        assert!(said(false, |found| found.has_log = false).contains("is gone"));
        assert!(said(false, |found| drop(found.triggers.remove(&insert()))).contains("insert on public.t is gone"));
        let disabled = said(false, |found| found.triggers.get_mut(&insert()).expect("there").fires_always = false);
        assert!(disabled.contains("disabled"), "{disabled}");
        let changed = said(false, |found| found.triggers.get_mut(&insert()).expect("there").kind = 5);
        assert!(changed.contains("altered"), "{changed}");
        let other = |found: &mut Found| found.functions.get_mut("touch_7").expect("there").source.push(' ');
        assert!(said(false, other).contains("altered"));
        let open = |found: &mut Found| found.functions.get_mut("touch_7").expect("there").is_closed = false;
        assert!(said(false, open).contains("altered"));
        assert!(said(false, |found| drop(found.tables.remove(&7))).contains("dropped"));
        assert!(said(false, |found| found.tables.get_mut(&7).expect("there").is_child = true).contains("inheritance"));
        let leaf = |found: &mut Found| drop(found.triggers.remove(&(8, "cutover_touch_row".to_owned())));
        assert!(said(true, leaf).contains("a partition of public.t is gone"));
    }
}

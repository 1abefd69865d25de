//! Combinations that no plan may have. Owns which, and for each the way out; single values are judged where they are read.

mod cleanup;
mod in_place;
mod invariants;
mod logical;
mod prepare;
mod probes;
mod systems;

use super::document::{self, Document, ReverseWord};
use super::model::{Plan, Refresh, Reverse, TableName};
use super::place::Place;
use super::problem::Problems;
use super::resolve::parse_table;
use super::sql_tables::tables_read;
use std::collections::BTreeMap;
use std::time::Duration;

/// A gateway looks back so many seconds at most.
const LONGEST_S: u64 = 3600;

/// Looks for every combination that cannot work or breaks a promise.
pub(super) fn check(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    databases(plan, document, problems);
    window(plan, problems);
    cleanup::check(plan, document, problems);
    migrations(plan, problems);
    one_list_each(document, problems);
    carry(plan, document, problems);
    logical::check(plan, document, problems);
    in_place::check(plan, document, problems);
    reverse(plan, document, problems);
    lost_marks(plan, document, problems);
    hot_queries(plan, problems);
    invariants::check(plan, document, problems);
    prepare::check(plan, document, problems);
    probes::check(plan, document, problems);
    systems::check(plan, document, problems);
    gateway(plan, problems);
    soak(plan, problems);
}

/// Three databases; what is said here compares texts, `cutover check` asks the servers.
fn databases(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let (blue, green) = (&plan.databases.blue, &plan.databases.green);
    let place = Place::top("databases");
    let control = Place::top("control");
    let urls = [place.key("blue").key("url"), place.key("green").key("url")];
    let named = if plan.databases.is_in_place { 1 } else { 2 };
    if named == 2 && urls.iter().all(|url| !problems.is_spoiled(url)) && blue.url == green.url {
        let hint = "green is another database, empty at first, best on another server";
        problems.value(&urls[1], "blue and green are the same database", hint);
    }
    for (side, database, url) in [("blue", blue, &urls[0]), ("green", green, &urls[1])].into_iter().take(named) {
        if !problems.is_spoiled(&control) && !problems.is_spoiled(url) && plan.control == database.url {
            let hint = "the journal must outlive both sides: give it a database of its own, on another server";
            problems.value(&control, format!("the control database is {side}"), hint);
        }
    }
    let typed = [("blue", Some(&document.databases.blue)), ("green", document.databases.green.as_ref())];
    for (side, database) in typed.into_iter().filter_map(|(side, typed)| Some((side, typed?))) {
        let resolved = if side == "blue" { blue } else { green };
        let login = url::Url::parse(resolved.url.expose()).map(|url| url.username().to_owned()).unwrap_or_default();
        if !login.is_empty() && login == resolved.role && !database.role.is_empty() {
            let hint = "the fence stops the application's role and lets our login pass, so they must differ";
            let place = place.key(side).key("role");
            problems.value(&place, format!("`{place}` is also the login of its URL"), hint);
        }
    }
}

fn window(plan: &Plan, problems: &mut Problems<'_>) {
    let place = Place::top("window");
    if plan.window.wal_drop_bytes.is_some_and(|drop| drop <= plan.window.wal_keep_bytes)
        && !problems.is_spoiled(&place.key("wal_keep"))
    {
        let place = place.key("wal_drop");
        let hint = "the run warns up to `wal_keep` and beyond; `wal_drop` is where it gives green up for blue's sake";
        problems.value(&place, format!("`{place}` is not above `window.wal_keep`"), hint);
    }
    if plan.window.write_gap > plan.window.hold && !problems.is_spoiled(&place.key("hold")) {
        let hint = "the write gap lies inside the hold: lengthen `hold` or shorten `write_gap`";
        problems.value(&place.key("write_gap"), "`window.write_gap` is longer than `window.hold`", hint);
    }
    let percent = place.key("unexplained").key("percent");
    if !(0.0..=100.0).contains(&plan.window.unexplained.percent) {
        problems.value(&percent, format!("`{percent}` is no cap"), "from 0 to 100, in per cent of the table on blue");
    }
    if let (Some(opens), Some(closes)) = (plan.window.opens, plan.window.closes)
        && closes <= opens
    {
        let hint = "a window closes after it opens";
        problems.value(&place.key("closes"), "`window.closes` is not after `window.opens`", hint);
    }
}

fn migrations(plan: &Plan, problems: &mut Problems<'_>) {
    let mut seen = BTreeMap::new();
    for (index, migration) in plan.migrate.iter().enumerate() {
        if let Some(first) = seen.insert(migration.name.as_str(), index) {
            let message = format!("two migrations are named `{}`: the first is `migrate[{first}]`", migration.name);
            problems.key(&Place::top("migrate").index(index), message, "give each a `name` of its own");
        }
    }
}

/// A table has one fate: green's own, dropped, or mapped.
fn one_list_each(document: &Document, problems: &mut Problems<'_>) {
    let mut fates: BTreeMap<TableName, Place> = BTreeMap::new();
    let list = |key: &'static str, names: &[String]| {
        names.iter().enumerate().map(|(i, name)| (Place::top(key).index(i), parse_table(name))).collect::<Vec<_>>()
    };
    let carried = document.carry.keys().map(|name| (Place::top("carry").key(name), parse_table(name)));
    for (place, table) in list("own", &document.own).into_iter().chain(list("drop", &document.drop)).chain(carried) {
        let Some(table) = table else { continue };
        if let Some(first) = fates.get(&table) {
            let hint = "a table is green's own (`own`), left behind (`drop`) or mapped (`carry`): keep one";
            let message = format!("{table} is listed twice: here and in `{first}`");
            if place.parent() == Place::top("carry") {
                problems.key(&place, message, hint);
            } else {
                problems.value(&place, message, hint);
            }
        } else {
            fates.insert(table, place);
        }
    }
}

fn carry(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    for (name, typed) in &document.carry {
        let place = Place::top("carry").key(name);
        for (key, columns) in [("key", &typed.key), ("own_columns", &typed.own_columns)] {
            columns_once(problems, &place.key(key), columns);
        }
        for column in typed.own_columns.iter().filter(|column| typed.set.contains_key(*column)) {
            let hint = "a column is given by the mapping or kept by green: keep one";
            problems.key(&place.key("set").key(column), format!("`{column}` is in `set` and in `own_columns`"), hint);
        }
        match &typed.from {
            Some(_) => written(plan, name, typed, &place, problems),
            None if !typed.touched_by.is_empty() => {
                let hint = "a generated mapping follows the key of blue's table by itself: leave `touched_by` out";
                problems.key(&place.key("touched_by"), format!("`{place}` has `touched_by` but no `from`"), hint);
            }
            None => {}
        }
    }
}

/// A mapping written as a whole select.
fn written(plan: &Plan, name: &str, typed: &document::CarryTable, place: &Place, problems: &mut Problems<'_>) {
    let from = place.key("from");
    if typed.key.is_empty() {
        let hint = "the select is wrapped by key: add `key: [column]`, the key columns of the green table";
        problems.key(&from, format!("`{place}` has `from` but no `key`"), hint);
    }
    if typed.touched_by.is_empty() {
        let hint = "add `touched_by: { blue_table: { key: …, back: […] } }` for every table that the select reads";
        problems.key(&from, format!("`{place}` has `from` but no `touched_by`"), hint);
    }
    for (key, is_given) in [("set", !typed.set.is_empty()), ("table", typed.table.is_some())] {
        if is_given {
            let hint = "the select gives every column: put it there";
            problems.key(&place.key(key), format!("`{place}` has both `from` and `{key}`"), hint);
        }
    }
    for (table, touched) in &typed.touched_by {
        let back = place.key("touched_by").key(table).key("back");
        if touched.back.is_empty() {
            let hint = "name the indexed green columns that hold the key of the blue row; without them a moved row leaves its old self behind";
            problems.value(&back, format!("`{back}` is empty"), hint);
        }
        columns_once(problems, &back, &touched.back);
    }
    let mapping = parse_table(name).and_then(|table| plan.carry.get(&table));
    let Some((mapping, select)) = mapping.and_then(|mapping| Some((mapping, mapping.from.as_ref()?))) else { return };
    if typed.touched_by.is_empty() || problems.is_spoiled(&from) {
        return;
    }
    for table in tables_read(&select.text).iter().filter(|table| !mapping.touched_by.contains_key(table)) {
        let hint = "a change of a table that is not named there would never reach green";
        problems.value(&from, format!("`{from}` reads {table}, which is not in `touched_by`"), hint);
    }
}

fn columns_once(problems: &mut Problems<'_>, place: &Place, columns: &[String]) {
    for (index, column) in columns.iter().enumerate() {
        if column.is_empty() {
            problems.value(&place.index(index), format!("`{}` is empty", place.index(index)), "name a column");
        } else if columns[..index].contains(column) {
            problems.value(&place.index(index), format!("`{place}` names `{column}` twice"), "keep one of them");
        }
    }
}

/// What goes back whole has a row of blue to go back to.
fn reverse(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    for (name, typed) in &document.reverse {
        let place = Place::top("reverse").key(name);
        if let document::Reverse::Mapped(mapped) = typed {
            columns_once(problems, &place.key("carry").key("key"), &mapped.carry.key);
        }
        let Some(table) = parse_table(name) else { continue };
        let is_written = plan.carry.get(&table).is_some_and(|mapping| mapping.from.is_some());
        if is_written && matches!(plan.reverse.get(&table), Some(Reverse::Carry(_))) {
            let hint = "its select made one row out of several of blue, and nothing says how to take it apart: use `revocations` or `lose`";
            problems.value(&place, format!("`{name}` is mapped with `from`, so it cannot be carried back"), hint);
        }
    }
}

/// Used-marks, secrets and keys: what is lost of them makes a used code, a replayed assertion or an old key good again.
fn lost_marks(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let hint =
        "it holds used-marks, secrets or keys; what is lost there is accepted again: use `carry` or `revocations`";
    for (name, reverse) in &document.reverse {
        let place = Place::top("reverse").key(name);
        if matches!(reverse, document::Reverse::Word(ReverseWord::Lose)) && holds_marks(name) {
            problems.value(&place, format!("`{name}` cannot be lost on the way back"), hint);
        }
        if parse_table(name).is_some_and(|table| plan.own.contains(&table)) {
            let hint = "it is green's own (`own`): leave it out here";
            problems.key(&place, format!("`{name}` is never carried, so it has no way back"), hint);
        }
    }
    for (list, names) in [("drop", &document.drop), ("own", &document.own)] {
        for (index, name) in names.iter().enumerate().filter(|(_, name)| holds_marks(name)) {
            let hint = "it holds used-marks, secrets or keys; what is left behind there is accepted again: carry it";
            let place = Place::top(list).index(index);
            problems.value(&place, format!("`{name}` cannot be left behind on blue"), hint);
        }
    }
}

/// True for tables that hold used-marks, secrets or keys, by their names.
fn holds_marks(table: &str) -> bool {
    let name = table.rsplit('.').next().unwrap_or(table).trim_matches('"').to_lowercase();
    let ends = ["code", "pkce", "client", "jwk", "issuer"].iter().any(|end| name.ends_with(end));
    ends || name.starts_with("jti") || name.contains("_jti")
}

fn hot_queries(plan: &Plan, problems: &mut Problems<'_>) {
    let Some(hot) = &plan.hot_queries else { return };
    let place = Place::top("hot_queries");
    let queries = place.key("queries");
    unique(problems, &queries, "name", "hot queries", hot.queries.iter().map(|query| query.name.as_str()));
    if hot.queries.is_empty() {
        problems.value(&queries, format!("`{queries}` is empty"), "name a query, or leave `hot_queries` out");
    }
    if hot.cost_ratio.is_nan() || hot.cost_ratio < 1.0 {
        let place = place.key("cost_ratio");
        let hint = "how many times blue's estimated cost green's may be";
        problems.value(&place, format!("`{place}` is less than 1"), hint);
    }
}

fn gateway(plan: &Plan, problems: &mut Problems<'_>) {
    let Some(gateway) = &plan.gateway else { return };
    let place = Place::top("gateway");
    let named = [
        ("listen", "public", &gateway.listen.public),
        ("listen", "admin", &gateway.listen.admin),
        ("listen", "control", &gateway.listen.control),
        ("blue", "public", &gateway.blue.public),
        ("blue", "admin", &gateway.blue.admin),
        ("green", "public", &gateway.green.public),
        ("green", "admin", &gateway.green.admin),
    ];
    for (index, (section, key, address)) in named.iter().enumerate() {
        let same_engine = |other: &str| other == *section && other != "listen";
        let clash = named[..index].iter().find(|(other, _, earlier)| earlier == address && !same_engine(other));
        if let Some((other, other_key, _)) = clash
            && !address.is_empty()
        {
            let place = place.key(section).key(key);
            let message = format!("`{place}` is the same address as `gateway.{other}.{other_key}`");
            problems.value(&place, message, "listeners and engines each have an address of their own");
        }
    }
    match gateway.refresh {
        Some(Refresh::Coalesce(coalesce)) => coalesced(coalesce.ttl, plan.window.hold, problems),
        Some(Refresh::EngineGrace(grace)) if grace > probes::LONGEST_GRACE => {
            let place = place.key("refresh").key("engine_grace");
            problems.value(&place, format!("`{place}` is longer than 5 minutes"), "Hydra 2.3 knows no longer one");
        }
        _ => {}
    }
}

/// Kept too short, an answer that was lost in a hold is gone when its client comes again; kept too long, a thief goes unseen.
fn coalesced(ttl: Duration, hold: Duration, problems: &mut Problems<'_>) {
    let place = Place::top("gateway").key("refresh").key("coalesce").key("ttl");
    if problems.is_spoiled(&place) {
        return;
    }
    if ttl < Duration::from_secs(1) || ttl > Duration::from_secs(30) {
        let hint = "for as long as answers are kept, no engine sees that a token is used twice; 10s is usual";
        problems.value(&place, "answers to refreshes are kept from 1s to 30s", hint);
    } else if ttl <= hold && !problems.is_spoiled(&Place::top("window").key("hold")) {
        let hint = "a client that lost its answer comes again after the hold, and must find it: give the hold's length and a few seconds more";
        problems.value(&place, "answers to refreshes are not kept as long as `window.hold` lasts", hint);
    }
}

fn soak(plan: &Plan, problems: &mut Problems<'_>) {
    let place = Place::top("soak");
    let shares = [
        ("failed", plan.soak.failed),
        ("forbidden", plan.soak.forbidden),
        ("refused_refreshes", plan.soak.refused_refreshes),
    ];
    for (key, share) in shares {
        if !(0.0..=100.0).contains(&share) {
            let place = place.key(key);
            problems.value(&place, format!("`{place}` is no share"), "from 0 to 100, in percentage points");
        }
    }
    if plan.soak.slower.is_nan() || plan.soak.slower < 1.0 {
        let place = place.key("slower");
        problems.value(&place, format!("`{place}` is less than 1"), "how many times as slow as blue green may be");
    }
    if plan.soak.over > Duration::from_secs(LONGEST_S) {
        let place = place.key("over");
        problems.value(&place, format!("`{place}` is longer than an hour"), "a gateway remembers one hour");
    }
}

/// Complains about the second of two equal names.
fn unique<'n>(problems: &mut Problems<'_>, list: &Place, key: &str, what: &str, names: impl Iterator<Item = &'n str>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, name) in names.enumerate() {
        if let Some(first) = seen.get(name) {
            let message = format!("two {what} are named `{name}`: the first is `{}`", list.index(*first));
            problems.value(&list.index(index).key(key), message, "give each a name of its own");
        } else {
            seen.insert(name, index);
        }
    }
}

//! The plan's sections, one function each, from the document's form to the resolved one. Owns the defaults that depend on other values.

mod cleanup;
mod compat;
mod diff;
mod doors;
mod freeze;
mod hot_queries;
mod invariants;
mod level;
mod prepare;
mod probes;
mod queue;
mod replay;
mod routes;
mod systems;

use super::document as typed;
use super::model::{
    CarryTable, Coalesce, Copy, CopyMethod, Database, Databases, Gateway, Isolate, Listen, Live, LoadSettings,
    Migration, MigrationSource, Refresh, Reverse, ReverseCarry, Secret, Soak, Sql, TableName, Throttle, TouchedBy,
    Unexplained, Upstream, Window,
};
use super::place::Place;
use super::references;
use super::resolve::{LONGEST_NAME, Resolver};
use super::sql_rules::Kind;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What stands for SQL that could not be read; the plan is refused then, so nobody runs it.
fn no_sql() -> Sql {
    Sql { text: String::new(), file: None }
}

impl Resolver<'_, '_> {
    pub(super) fn databases(&mut self, typed: &typed::Databases) -> Databases {
        let place = Place::top("databases");
        Databases {
            blue: self.database(&place.key("blue"), &typed.blue),
            green: self.database(
                &place.key(if typed.green.is_some() { "green" } else { "blue" }),
                typed.green.as_ref().unwrap_or(&typed.blue),
            ),
            is_in_place: typed.green.is_none(),
        }
    }

    fn database(&mut self, place: &Place, typed: &typed::Database) -> Database {
        let url = self.database_url(&place.key("url"), &typed.url).unwrap_or_else(|| Secret::new(""));
        let role_place = place.key("role");
        let role = self.text(&role_place, &typed.role).unwrap_or_default();
        self.nonempty(&role_place, &role);
        let place = place.key("unpromoted");
        let standbys = typed.unpromoted.iter().enumerate();
        let unpromoted = standbys.filter_map(|(index, name)| {
            let place = place.index(index);
            let name = self.text(&place, name)?;
            self.nonempty(&place, &name);
            Some(name)
        });
        Database { url, role, capture: typed.capture, unpromoted: unpromoted.collect() }
    }

    pub(super) fn window(&mut self, typed: &typed::Window) -> Window {
        let place = Place::top("window");
        let mut length = |key: &str, typed| self.length(&place.key(key), typed).unwrap_or(Duration::from_secs(1));
        let hold = length("hold", &typed.hold);
        let write_gap = typed.write_gap.as_ref().map_or(hold / 2, |gap| length("write_gap", gap));
        let (level, copy) = (length("level", &typed.level), length("copy", &typed.copy));
        let (migrate, soak) = (length("migrate", &typed.migrate), length("soak", &typed.soak));
        let invariants = length("invariants", &typed.invariants);
        Window {
            opens: typed.opens.as_ref().and_then(|time| self.time(&place.key("opens"), time)),
            closes: typed.closes.as_ref().and_then(|time| self.time(&place.key("closes"), time)),
            hold,
            write_gap,
            level,
            copy,
            migrate,
            invariants,
            soak,
            wal_keep_bytes: self.size(&place.key("wal_keep"), &typed.wal_keep).unwrap_or(1),
            wal_drop_bytes: typed.wal_drop.as_ref().and_then(|size| self.size(&place.key("wal_drop"), size)),
            unexplained: unexplained(typed.unexplained.as_ref()),
        }
    }

    pub(super) fn migrations(&mut self, typed: &[typed::Migration]) -> Vec<Migration> {
        let place = Place::top("migrate");
        let one = |(index, migration): (usize, &typed::Migration)| match migration {
            typed::Migration::Command(command) => self.command(&place.index(index).key("command"), command),
            typed::Migration::Refinery(folder) => self.refinery(&place.index(index).key("refinery"), folder),
            typed::Migration::Engine(folder) => self.engine(&place.index(index).key("engine"), folder),
        };
        typed.iter().enumerate().map(one).collect()
    }

    fn command(&mut self, place: &Place, typed: &typed::CommandMigration) -> Migration {
        let (run, env) = self.program(place, &typed.run, &typed.env);
        let name = match &typed.name {
            Some(name) => self.name(&place.key("name"), name),
            None => command_name(&typed.run),
        };
        let (live, contract) = (Live::default(), false);
        Migration { name, after_copy: typed.after_copy, live, contract, source: MigrationSource::Command { run, env } }
    }

    /// A program with its arguments, and the environment added for it.
    fn program(
        &mut self,
        place: &Place,
        run: &[String],
        env: &BTreeMap<String, String>,
    ) -> (Vec<String>, BTreeMap<String, Secret>) {
        self.program_at(place, "run", run, env)
    }

    /// The same, when the program stands under another key.
    pub(super) fn program_at(
        &mut self,
        place: &Place,
        key: &str,
        run: &[String],
        env: &BTreeMap<String, String>,
    ) -> (Vec<String>, BTreeMap<String, Secret>) {
        let (run_place, env_place) = (place.key(key), place.key("env"));
        if run.is_empty() {
            self.problems.value(&run_place, format!("`{run_place}` is empty"), "the program first, then its arguments");
        }
        let run = run.iter().enumerate().filter_map(|(i, word)| self.argument(&run_place.index(i), word)).collect();
        let mut resolved = BTreeMap::new();
        for (name, value) in env {
            let place = env_place.key(name);
            if !references::is_name(name) {
                let message = format!("`{name}` is not the name of a variable");
                self.problems.key(&place, message, "letters, digits and underscores");
            }
            resolved.extend(self.text(&place, value).map(|value| (name.clone(), Secret::new(value))));
        }
        (run, resolved)
    }

    pub(super) fn isolate(&mut self, typed: &typed::Isolate) -> Isolate {
        self.isolate_at(&Place::top("isolate_green"), typed)
    }

    fn isolate_at(&mut self, place: &Place, typed: &typed::Isolate) -> Isolate {
        let (run, env) = self.program(place, &typed.run, &typed.env);
        Isolate { run, env }
    }

    pub(super) fn soak(&mut self, typed: &typed::Soak) -> Soak {
        let over = self.length(&Place::top("soak").key("over"), &typed.over).unwrap_or(Duration::from_secs(1));
        Soak {
            failed: typed.failed,
            forbidden: typed.forbidden.unwrap_or(5.0),
            refused_refreshes: typed.refused_refreshes,
            slower: typed.slower,
            over,
            least: typed.least,
            returns: typed.when_worse == typed::WhenWorse::Return,
        }
    }

    /// One word of a command; everyone on the machine can see it, so it must not hold a login.
    fn argument(&mut self, place: &Place, typed: &str) -> Option<String> {
        let word = self.text(place, typed)?;
        let login = word
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('@'))
            .is_some_and(|(login, _)| login.contains(':'));
        if login {
            let hint = "everyone on the machine can see a command's arguments; give it in `env`";
            self.problems.value(place, format!("`{place}` becomes a URL with a password"), hint);
        }
        Some(word)
    }

    fn refinery(&mut self, place: &Place, typed: &typed::RefineryMigration) -> Migration {
        let folder = self.refinery_folder(&place.key("folder"), &typed.folder).unwrap_or_default();
        let name = match &typed.name {
            Some(name) => self.name(&place.key("name"), name),
            None => as_name(typed.folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default(), "refinery"),
        };
        let history = typed.history.as_ref().map(|table| self.table(&place.key("history"), table, false));
        let (live, source) = (self.live(place, typed.live.as_ref()), MigrationSource::Refinery { folder, history });
        Migration { name, after_copy: typed.after_copy, live, contract: typed.contract, source }
    }

    fn engine(&mut self, place: &Place, typed: &typed::EngineMigration) -> Migration {
        let folder = self.engine_folder(&place.key("folder"), &typed.folder).unwrap_or_default();
        let name = match &typed.name {
            Some(name) => self.name(&place.key("name"), name),
            None => as_name(typed.folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default(), "engine"),
        };
        let versions = self.table(&place.key("versions"), &typed.versions, false);
        let (live, source) = (self.live(place, typed.live.as_ref()), MigrationSource::Engine { folder, versions });
        Migration { name, after_copy: typed.after_copy, live, contract: typed.contract, source }
    }

    fn live(&mut self, place: &Place, typed: Option<&typed::Live>) -> Live {
        let (place, usual) = (place.key("live"), Live::default());
        let Some(typed) = typed else { return usual };
        let mut length = |key: &str, typed, usual| self.length(&place.key(key), typed).unwrap_or(usual);
        Live {
            lock_timeout: length("lock_timeout", &typed.lock_timeout, usual.lock_timeout),
            tries: typed.tries,
            bound: length("bound", &typed.bound, usual.bound),
            block: length("block", &typed.block, usual.block),
        }
    }

    pub(super) fn tables(&mut self, key: &str, typed: &[String]) -> Vec<TableName> {
        let place = Place::top(key);
        typed.iter().enumerate().map(|(index, table)| self.table(&place.index(index), table, false)).collect()
    }

    pub(super) fn values(&mut self, typed: &BTreeMap<String, String>) -> BTreeMap<String, Sql> {
        let place = Place::top("values");
        let one = |(name, query): (&String, &String)| {
            let place = place.key(name);
            if !references::is_name(name) {
                self.problems.key(
                    &place,
                    format!("`{name}` cannot be written as `${name}`"),
                    "letters, digits and underscores",
                );
            }
            (name.clone(), self.sql(&place, query, Kind::Value).unwrap_or_else(no_sql))
        };
        typed.iter().map(one).collect()
    }

    pub(super) fn carry(&mut self, typed: &BTreeMap<String, typed::CarryTable>) -> BTreeMap<TableName, CarryTable> {
        let place = Place::top("carry");
        let mut tables = BTreeMap::new();
        for (name, mapping) in typed {
            let place = place.key(name);
            let table = self.table(&place, name, true);
            let mapping = self.carry_table(&place, mapping);
            if tables.insert(table.clone(), mapping).is_some() {
                self.problems.key(&place, format!("{table} is mapped twice"), "keep one of them");
            }
        }
        tables
    }

    fn carry_table(&mut self, place: &Place, typed: &typed::CarryTable) -> CarryTable {
        let set_place = place.key("set");
        let mut set = BTreeMap::new();
        for (column, expression) in &typed.set {
            set.insert(
                column.clone(),
                self.sql(&set_place.key(column), expression, Kind::Expression).unwrap_or_else(no_sql),
            );
        }
        let touched_place = place.key("touched_by");
        let mut touched_by = BTreeMap::new();
        for (name, touched) in &typed.touched_by {
            let place = touched_place.key(name);
            let table = self.table(&place, name, true);
            let key = self.sql(&place.key("key"), &touched.key, Kind::Key).unwrap_or_else(no_sql);
            touched_by.insert(table, TouchedBy { key, back: touched.back.clone() });
        }
        CarryTable {
            set,
            table: typed.table.as_ref().map(|table| self.table(&place.key("table"), table, false)),
            key: typed.key.clone(),
            from: typed
                .from
                .as_ref()
                .map(|from| self.sql(&place.key("from"), from, Kind::Select).unwrap_or_else(no_sql)),
            touched_by,
            own_columns: typed.own_columns.clone(),
        }
    }

    pub(super) fn reverse(&mut self, typed: &BTreeMap<String, typed::Reverse>) -> BTreeMap<TableName, Reverse> {
        let place = Place::top("reverse");
        let one = |(name, reverse): (&String, &typed::Reverse)| {
            let place = place.key(name);
            let reverse = match reverse {
                typed::Reverse::Word(typed::ReverseWord::Carry) => Reverse::Carry(ReverseCarry::default()),
                typed::Reverse::Word(typed::ReverseWord::Revocations) => Reverse::Revocations,
                typed::Reverse::Word(typed::ReverseWord::Lose) => Reverse::Lose,
                typed::Reverse::Mapped(mapped) => {
                    Reverse::Carry(self.reverse_carry(&place.key("carry"), &mapped.carry))
                }
            };
            (self.table(&place, name, true), reverse)
        };
        typed.iter().map(one).collect()
    }

    fn reverse_carry(&mut self, place: &Place, typed: &typed::ReverseCarry) -> ReverseCarry {
        let place = place.key("set");
        let one = |(column, expression): (&String, &String)| {
            (column.clone(), self.sql(&place.key(column), expression, Kind::Back).unwrap_or_else(no_sql))
        };
        ReverseCarry { set: typed.set.iter().map(one).collect(), key: typed.key.clone() }
    }

    pub(super) fn gateway(&mut self, typed: &typed::Gateway) -> Gateway {
        let place = Place::top("gateway");
        let mut url = |section: &str, key: &str, typed: &str| {
            self.http_url(&place.key(section).key(key), typed).unwrap_or_default()
        };
        let listen = Listen {
            public: url("listen", "public", &typed.listen.public),
            admin: url("listen", "admin", &typed.listen.admin),
            control: url("listen", "control", &typed.listen.control),
        };
        let blue = Upstream {
            public: url("blue", "public", &typed.blue.public),
            admin: url("blue", "admin", &typed.blue.admin),
        };
        let green = Upstream {
            public: url("green", "public", &typed.green.public),
            admin: url("green", "admin", &typed.green.admin),
        };
        let state = self.text(&place.key("state"), &typed.state).unwrap_or_default();
        let revocations_token = typed.revocations.as_ref().and_then(|typed| self.added_token(&place, typed));
        let held_bytes = self.size(&place.key("held_bytes"), &typed.held_bytes).unwrap_or(1);
        let doors = self.doors(typed);
        Gateway {
            listen,
            blue,
            green,
            routes: self.routes(typed, &doors),
            doors,
            revocations_token,
            state: self.folder.join(PathBuf::from(state)),
            held_requests: typed.held_requests as usize,
            held_bytes: usize::try_from(held_bytes).unwrap_or(usize::MAX),
            request_timeout: self
                .length(&place.key("request_timeout"), &typed.request_timeout)
                .unwrap_or(Duration::from_secs(1)),
            overlay_entries: typed.overlay_entries as usize,
            refresh: typed.refresh.as_ref().map(|refresh| self.refresh(refresh)),
            flows: typed.flows.as_ref().map(|flows| self.flows(flows)),
        }
    }

    fn refresh(&mut self, typed: &typed::Refresh) -> Refresh {
        let place = Place::top("gateway").key("refresh");
        let mut length =
            |place: &Place, typed: &typed::Length| self.length(place, typed).unwrap_or(Duration::from_secs(1));
        match typed {
            typed::Refresh::Coalesce(typed) => {
                let ttl = length(&place.key("coalesce").key("ttl"), &typed.ttl);
                Refresh::Coalesce(Coalesce { ttl, public: typed.public })
            }
            typed::Refresh::EngineGrace(typed) => Refresh::EngineGrace(length(&place.key("engine_grace"), typed)),
        }
    }
}

/// The cap on what the way back may remove for no known reason.
fn unexplained(typed: Option<&typed::Unexplained>) -> Unexplained {
    typed.map_or(Unexplained { rows: 1000, percent: 5.0 }, |cap| Unexplained { rows: cap.rows, percent: cap.percent })
}

/// How green is filled; `auto` is one worker per core, at least 2 and at most 8.
impl Resolver<'_, '_> {
    fn load(&mut self, place: &Place, typed: &typed::Load) -> LoadSettings {
        let mut size = |key: &str, typed| self.size(&place.key(key), typed);
        LoadSettings {
            index_memory_bytes: size("index_memory", &typed.index_memory).unwrap_or(1),
            max_wal_size_bytes: typed.max_wal_size.as_ref().and_then(|typed| size("max_wal_size", typed)),
            checkpoint_timeout: typed
                .checkpoint_timeout
                .as_ref()
                .and_then(|time| self.length(&place.key("checkpoint_timeout"), time)),
        }
    }

    pub(super) fn copy(&mut self, typed: &typed::Copy) -> Copy {
        let place = Place::top("copy").key("throttle");
        let typed_throttle = &typed.throttle;
        let throttle = Throttle {
            rate_bytes: typed_throttle.rate.as_ref().and_then(|rate| self.size(&place.key("rate"), rate)),
            replica_lag: typed_throttle
                .replica_lag
                .as_ref()
                .and_then(|lag| self.length(&place.key("replica_lag"), lag)),
            snapshot: self.length(&place.key("snapshot"), &typed_throttle.snapshot).unwrap_or(Duration::from_secs(1)),
        };
        let load = self.load(&Place::top("copy").key("load"), &typed.load);
        let standby = Place::top("copy").key("standby");
        let standby = typed.standby.as_ref().and_then(|url| self.database_url(&standby, url));
        let method = match typed.method {
            typed::CopyMethod::Carry => CopyMethod::Carry,
            typed::CopyMethod::Logical => CopyMethod::Logical,
        };
        let workers = match typed.workers {
            typed::Workers::Count(count) => count as usize,
            typed::Workers::Auto(_) => automatic_workers(),
        };
        Copy { method, workers, standby, throttle, load, prewarm: typed.prewarm }
    }
}

/// One per core, at least 2 (a large table must not hold up the rest) and at most 8 (blue is serving).
pub(super) fn automatic_workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 8)
}

/// The default name of a command, from what is typed, so that it is the same in every environment: the program's own name, or its
/// sub-commands when the program is a reference.
fn command_name(run: &[String]) -> String {
    let program = run.first().map(String::as_str).unwrap_or_default();
    if !references::has_reference(program) {
        return as_name(program.rsplit('/').next().unwrap_or_default(), "command");
    }
    let is_plain = |word: &&String| !word.starts_with('-') && !references::has_reference(word);
    let words: Vec<&str> = run.iter().skip(1).take_while(is_plain).map(String::as_str).collect();
    as_name(&words.join("-"), "command")
}

/// A text made into a name.
fn as_name(text: &str, otherwise: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(letter).take(LONGEST_NAME).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { otherwise.to_owned() } else { name.to_owned() }
}

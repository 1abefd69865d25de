//! Rows that are left behind: orphans and what hangs on them, the archive and its way back, sweeping a live table, questions for dirty rows.

mod dirty;
mod in_place;
mod orphans;
mod restore;
mod sweep;

use crate::harness::Pair;
use cutover::database::capture::Capture;
use cutover::database::catalog::{self, Catalog};
use cutover::database::claim;
use cutover::database::cleanup::archive;
use cutover::database::level::{LevelSetup, Limits, Worker, begin_progress};
use cutover::database::mapping::{self, LeftBehind, Mapping, MappingProblem};
use cutover::database::term::{self, Term};
use cutover::plan::{self, CaptureMethod, Plan, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

/// Blue does not hold its own rows together: no foreign key, so that there are orphans.
const BLUE: &str = "
create table client (id text primary key, dead boolean not null default false, name text);
create table grant_row (id text primary key, client_id text, scope text);
create index grant_client on grant_row (client_id);
create table token (signature text primary key, grant_id text, body text, amount numeric);
create index token_grant on token (grant_id);
insert into client select 'c' || n, n % 10 = 0, 'name ' || n from generate_series(0, 29) n;
insert into grant_row select 'g' || n, 'c' || n % 35, 'all' from generate_series(0, 99) n;
insert into grant_row values ('g-none', null, 'none');
insert into token select 't' || n, 'g' || n % 110, 'body', 1.50 from generate_series(0, 399) n;
insert into token values ('t-none', null, 'none', null);";
const GREEN: &str = "
create table client (id text primary key, dead boolean not null, name text);
create table grant_row (id text primary key, client_id text references client (id) on delete cascade, scope text);
create table token (signature text primary key, grant_id text references grant_row (id) on delete cascade, body text, amount numeric);";
/// Each rule makes orphans for the next one.
const RULES: &str = "cleanup:
  - { name: dead-clients, table: client, where: dead, cap: { rows: 1000, percent: 90 }, because: a test }
  - { name: lost-grants, table: grant_row, orphan_of: { table: client, columns: [client_id] }, cap: { rows: 1000, percent: 90 }, because: a test }
  - { name: lost-tokens, table: token, orphan_of: { table: grant_row, columns: [grant_id] }, cap: { rows: 1000, percent: 90 }, because: a test }
";

pub(super) fn plan_of(pair: &Pair, rest: &str) -> Plan {
    let text = format!(
        "version: 1\nname: cleanup\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {{ url: \"${{BLUE_URL}}\", role: hydra }}\n  \
         green: {{ url: \"${{GREEN_URL}}\", role: hydra }}\nmigrate:\n  - command: {{ run: [\"true\"] }}\n{rest}"
    );
    let lookup = |name: &str| {
        let place = match name {
            "CONTROL_URL" => &pair.control,
            "BLUE_URL" => &pair.blue,
            _ => &pair.green,
        };
        Some(place.url().expose().to_owned())
    };
    plan::parse(&text, Path::new("."), &lookup).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Blue with rows and a capture, green filled by hand, and an archive on its way to be filled.
pub(super) struct Stage {
    pub(super) pair: Pair,
    pub(super) plan: Plan,
    pub(super) term: Term,
    pub(super) run: Uuid,
    pub(super) capture: Capture,
    pub(super) on_blue: Catalog,
    pub(super) on_green: Catalog,
    pub(super) mapping: Mapping,
    pub(super) left: Vec<LeftBehind>,
}

impl Stage {
    pub(super) async fn new(rules: &str) -> Self {
        Self::by(CaptureMethod::Slot, BLUE, GREEN, rules).await
    }

    pub(super) async fn by(method: CaptureMethod, blue: &str, green: &str, rules: &str) -> Self {
        let pair = Pair::shared().await;
        pair.blue.execute(blue).await;
        pair.green.execute(green).await;
        let plan = plan_of(&pair, rules);
        let (term, run) = (Term { term: 1, nonce: Uuid::new_v4() }, Uuid::new_v4());
        for (side, place) in [(Side::Blue, &pair.blue), (Side::Green, &pair.green)] {
            term::install(&place.client().await, &term).await.expect("the term is installed");
            claim::claim(&mut place.client().await, run, side).await.expect("the side is claimed");
        }
        let on_blue = catalog::read(&pair.blue.client().await).await.expect("blue's catalog");
        let on_green = catalog::read(&pair.green.client().await).await.expect("green's catalog");
        let nothing = BTreeMap::new();
        let mapping =
            mapping::resolve(&plan, &on_blue, &on_green, &nothing).unwrap_or_else(|problems| panic!("{problems:?}"));
        let left = mapping::left_behind(&plan, &on_blue, &on_green, &nothing)
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        let problems = mapping::judge(&mapping, Side::Blue, &pair.blue.client().await).await.expect("blue answers");
        assert_eq!(problems, []);
        let capture = Capture { run, side: Side::Blue, method };
        Self { pair, plan, term, run, capture, on_blue, on_green, mapping, left }
    }

    /// Captures, fills green from one snapshot, and makes the archive.
    pub(super) async fn fill(&self) -> Worker {
        let mut blue = self.pair.blue.client().await;
        let captured =
            self.capture.start(&mut blue, &self.term, &self.mapping.captured(), Duration::from_secs(30)).await;
        let captured = captured.expect("the capture starts");
        let mut green = self.pair.green.client().await;
        begin_progress(&mut green, &self.term, &captured).await.expect("the first position is stored");
        green.batch_execute("set session_replication_role = replica").await.expect("green is a replica");
        let look = blue.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
        let look = look.start().await.expect("a snapshot");
        for table in &self.mapping.tables {
            let list: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            let (list, name) = (list.join(", "), &table.target.name);
            let query = format!("select coalesce(jsonb_agg(q)::text, '[]') from ({}) q", table.select);
            let rows: String = look.query_one(&query, &[]).await.expect("blue is read").get(0);
            let fill = format!(
                "insert into {name} ({list}) select {list} from jsonb_populate_recordset(null::{name}, $1::text::jsonb)"
            );
            green.execute(&fill, &[&rows]).await.expect("green is filled");
        }
        look.commit().await.expect("the snapshot ends");
        self.park().await;
        let mut mapping = self.mapping.clone();
        mapping.tables.extend(self.archives().tables);
        let setup = LevelSetup {
            source: self.pair.blue.url(),
            target: self.pair.green.url(),
            capture: self.capture,
            mapping,
            term: self.term,
            limits: Limits { lock: Duration::from_secs(5), statement: Duration::from_secs(30), page_keys: 50 },
        };
        Worker::open(setup).await.expect("the worker opens")
    }

    pub(super) fn archives(&self) -> Mapping {
        mapping::parked(&self.left).expect("archives")
    }

    pub(super) async fn park(&self) -> Vec<u64> {
        let (mut blue, mut green) = (self.pair.blue.client().await, self.pair.green.client().await);
        let begun = archive::begin(&mut blue, &mut green, (&self.term, self.run, "park-rows"), &self.archives()).await;
        begun.expect("the archive is made").into_iter().map(|(_, rows)| rows).collect()
    }

    pub(super) async fn blue(&self, statements: &str) {
        self.pair.blue.execute(statements).await;
    }

    /// Every carried row of green, and every parked one, is what the mapping gives on blue.
    pub(super) async fn assert_level(&self) {
        let (blue, green) = (self.pair.blue.client().await, self.pair.green.client().await);
        for table in self.mapping.tables.iter().chain(&self.archives().tables) {
            let list: Vec<String> = table.columns.iter().map(|column| format!("q.{}::text", column.name)).collect();
            let select = |from: &str| format!("select row({})::text from {from} q", list.join(", "));
            let wanted = texts(&blue, &select(&format!("({})", table.select))).await;
            let found = texts(&green, &select(&format!("{}.\"{}\"", table.target.schema, table.target.name))).await;
            let missing: Vec<_> = wanted.difference(&found).take(3).collect();
            let extra: Vec<_> = found.difference(&wanted).take(3).collect();
            assert!(missing.is_empty() && extra.is_empty(), "{}: missing {missing:?}, extra {extra:?}", table.target);
        }
    }
}

pub(super) async fn texts(client: &Client, query: &str) -> BTreeSet<String> {
    client.query(query, &[]).await.expect("the query runs").iter().map(|row| row.get(0)).collect()
}

/// What is said against a mapping of these rules.
pub(super) async fn problems(blue: &str, green: &str, rules: &str) -> Vec<MappingProblem> {
    let pair = Pair::shared().await;
    pair.blue.execute(blue).await;
    pair.green.execute(green).await;
    let on_blue = catalog::read(&pair.blue.client().await).await.expect("blue's catalog");
    let on_green = catalog::read(&pair.green.client().await).await.expect("green's catalog");
    mapping::resolve(&plan_of(&pair, rules), &on_blue, &on_green, &BTreeMap::new()).err().unwrap_or_default()
}

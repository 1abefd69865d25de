//! Filling green on real servers: what a copy gives, that it can be cut off anywhere, and what it says when something breaks.

mod copy;
mod faults;
mod resume;
mod standby;

use crate::harness::Pair;
use crate::harness::fill::copy_options;
use cutover::database::capture::Capture;
use cutover::database::catalog;
use cutover::database::copy::{Copied, CopyError, CopyOptions, CopyTold, Ended, IdleWork};
use cutover::database::indexes::{self, Definitions, IndexError};
use cutover::database::level::{LevelSetup, Limits, Worker, begin_progress};
use cutover::database::mapping::{self, Mapping};
use cutover::database::term::{self, Term};
use cutover::plan::{self, CaptureMethod, Side};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::Client;
use uuid::Uuid;

/// Rows wide enough for some tens of blocks, in a table that is copied in binary and one (an enum) that is not.
const SCHEMA: &str = "
create type mood as enum ('calm', 'cross');
create table owner (id text primary key, tag text unique, mood mood not null default 'calm', pad text);
create table item (id int primary key, owner text references owner(id) on delete cascade on update cascade, slot int,
  pad text, unique (owner, slot));
create table old (id int primary key, dead boolean not null, pad text);";
const ROWS: &str = "
insert into owner select 'o' || n, 'tag' || n, 'calm', repeat('p', 300) from generate_series(1, 300) n;
insert into item select n, 'o' || n % 300 + 1, n, repeat('q', 200) from generate_series(1, 3000) n;
insert into old select n, n % 5 = 0, repeat('r', 100) from generate_series(1, 1000) n;";
const PLAN: &str = "version: 1
name: fill
control: ${CONTROL_URL}
databases:
  blue: { url: \"${BLUE_URL}\", role: hydra }
  green: { url: \"${GREEN_URL}\", role: hydra }
migrate:
  - command: { run: [\"true\"] }
cleanup:
  - { name: dead, table: old, where: dead, cap: { rows: 900, percent: 90 }, because: nobody asks for them }
carry:
  item: { set: { pad: \"upper(pad)\" } }
";

/// Blue with rows and green with its schema, on the way to being filled.
pub(super) struct Stage {
    pub(super) pair: Pair,
    pub(super) term: Term,
    pub(super) capture: Capture,
    pub(super) mapping: Mapping,
    pub(super) definitions: Definitions,
}

impl Stage {
    /// Blue with rows and a slot, green with its schema, stripped for a copy.
    pub(super) async fn new() -> Self {
        Self::of(Pair::shared().await).await
    }

    /// The same on other servers.
    pub(super) async fn of(pair: Pair) -> Self {
        Self::by(pair, CaptureMethod::Slot).await
    }

    /// The same, captured in this way.
    pub(super) async fn by(pair: Pair, method: CaptureMethod) -> Self {
        pair.blue.execute(&format!("{SCHEMA}{ROWS}")).await;
        pair.green.execute(SCHEMA).await;
        let term = Term { term: 1, nonce: Uuid::new_v4() };
        for side in [&pair.blue, &pair.green] {
            term::install(&side.client().await, &term).await.expect("the term is installed");
        }
        let mapping = resolved(&pair).await;
        let capture = Capture { run: Uuid::new_v4(), side: Side::Blue, method };
        let (mut blue, mut green) = (pair.blue.client().await, pair.green.client().await);
        let definitions = indexes::read(&green, &mapping.carried()).await.expect("green's indexes");
        indexes::strip(&mut green, &term, &definitions).await.expect("green is stripped");
        let bound = Duration::from_secs(30);
        let captured = capture.start(&mut blue, &term, &mapping.captured(), bound).await.expect("the capture starts");
        begin_progress(&mut green, &term, &captured).await.expect("the first position is stored");
        Self { pair, term, capture, mapping, definitions }
    }

    /// Copies until something was told `tells` times, and is then cut off in the middle of whatever it does.
    pub(super) async fn copy_for(&self, tells: usize) -> Option<Result<Ended, CopyError>> {
        let (told, enough) = (AtomicUsize::new(0), Notify::new());
        let tell = |_: CopyTold<'_>| {
            if told.fetch_add(1, Ordering::Relaxed) + 1 == tells {
                enough.notify_one();
            }
        };
        tokio::select! {
            biased;
            () = enough.notified() => None,
            copied = self.copy(&tell) => Some(copied),
        }
    }

    pub(super) async fn copy(&self, tell: &(dyn Fn(CopyTold<'_>) + Sync)) -> Result<Ended, CopyError> {
        let (blue, green) = (self.pair.blue.url(), self.pair.green.url());
        let options = CopyOptions { idle: Some(self.idle()), ..copy_options(&blue, &green, self.term) };
        cutover::database::copy::copy(&options, &self.mapping, tell).await
    }

    /// What workers do that have no chunk left.
    pub(super) fn idle(&self) -> IdleWork<'_> {
        IdleWork { indexes: &self.definitions, memory_bytes: 64 << 20 }
    }

    /// Copies, cut off again and again until it gets to its end.
    pub(super) async fn copy_in_spite(&self) -> Vec<Copied> {
        for _ in 0..400 {
            let tells = rand::rng().random_range(1..25);
            match self.copy_for(tells).await {
                Some(Ok(Ended::Whole(copied))) => return copied,
                // What was cut off may have been committed meanwhile.
                None | Some(Ok(Ended::Part { .. })) | Some(Err(CopyError::Twice { .. })) => {}
                Some(Err(other)) => panic!("{other}: {:?}", std::error::Error::source(&other)),
            }
        }
        panic!("400 attempts did not come to an end");
    }

    pub(super) async fn build(&self, mixed: &BTreeSet<plan::TableName>) {
        let built = self.try_build(mixed).await;
        built.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    }

    pub(super) async fn try_build(&self, mixed: &BTreeSet<plan::TableName>) -> Result<(), IndexError> {
        let (green, memory) = (self.pair.green.url(), 64 << 20);
        indexes::build(&green, &self.term, &self.definitions, 2, memory, mixed, &|_, _, _| ()).await
    }

    pub(super) async fn worker(&self) -> Worker {
        let setup = LevelSetup {
            source: self.pair.blue.url(),
            target: self.pair.green.url(),
            capture: self.capture,
            mapping: self.mapping.clone(),
            term: self.term,
            limits: Limits { lock: Duration::from_secs(5), statement: Duration::from_secs(30), page_keys: 50 },
        };
        Worker::open(setup).await.expect("the worker opens")
    }

    /// Every carried row of green is what the mapping gives on blue, as text.
    pub(super) async fn assert_rows(&self) {
        let (blue, green) = (self.pair.blue.client().await, self.pair.green.client().await);
        for table in &self.mapping.tables {
            let list: Vec<String> = table.columns.iter().map(|column| format!("q.{}::text", column.name)).collect();
            let select = |from: &str| format!("select row({})::text from {from} q", list.join(", "));
            let wanted = texts(&blue, &select(&format!("({})", table.select))).await;
            let found = texts(&green, &select(&table.target.name)).await;
            let missing: Vec<_> = wanted.difference(&found).take(3).collect();
            let extra: Vec<_> = found.difference(&wanted).take(3).collect();
            assert!(missing.is_empty() && extra.is_empty(), "{}: missing {missing:?}, extra {extra:?}", table.target);
        }
    }

    /// That, and green's keys and indexes stand.
    pub(super) async fn assert_equal(&self) {
        self.assert_rows().await;
        let green = self.pair.green.client().await;
        let standing = indexes::read(&green, &self.mapping.carried()).await.expect("green's indexes");
        assert_eq!(standing, self.definitions);
    }
}

async fn texts(client: &Client, query: &str) -> BTreeSet<String> {
    client.query(query, &[]).await.expect("the query runs").iter().map(|row| row.get(0)).collect()
}

async fn resolved(pair: &Pair) -> Mapping {
    let lookup = |name: &str| {
        let place = match name {
            "CONTROL_URL" => &pair.control,
            "BLUE_URL" => &pair.blue,
            _ => &pair.green,
        };
        Some(place.url().expose().to_owned())
    };
    let plan = plan::parse(PLAN, Path::new("."), &lookup).unwrap_or_else(|problems| panic!("{problems:?}"));
    let blue = catalog::read(&pair.blue.client().await).await.expect("blue's catalog");
    let green = catalog::read(&pair.green.client().await).await.expect("green's catalog");
    mapping::resolve(&plan, &blue, &green, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

//! A touched row that leads to many keys is followed again only when a column that the mapping reads has changed, and always when that cannot be told.

use crate::level::{Stage, batch, mapping, table, touch};
use cutover::database::level::{LevelSetup, Worker};
use cutover::database::mapping::Mapping;
use cutover::plan::CaptureMethod;

const NAMED: &str = "select t.signature, c.name as request_id, t.client_id, t.active, t.session, t.amount
from token t join client c on c.id = t.client_id";
/// A row as a whole: whatever is read of it, the catalog does not say.
const WHOLE: &str =
    "select t.signature, to_jsonb(c) ->> 'name' as request_id, t.client_id, t.active, t.session, t.amount
from token t join client c on c.id = t.client_id";
const MANY: &str = "insert into token select 'many' || i, 'r', 'c1', true, null, 1 from generate_series(1, 2000) i";
const WRONG: &str =
    "select count(*) from token t left join client c on c.id = t.client_id where t.request_id is distinct from c.name";

/// Tokens that carry their client's name.
fn with_names(select: &str) -> Mapping {
    let mut mapping = mapping();
    let token = mapping.tables.pop().expect("token is the last");
    mapping.tables.retain(|table| table.target.name == "client");
    let columns: Vec<(&str, &str)> =
        token.columns.iter().map(|column| (column.name.as_str(), column.type_sql.as_str())).collect();
    let mut touched_by = token.touched_by.clone();
    let of_client = "select signature::text from token where client_id = any($1::text[])";
    touched_by.push(touch("client", &[("id", "text")], of_client, &["client_id"]));
    mapping.tables.push(table("token", &columns[..1], &columns, select, touched_by));
    mapping
}

struct Fanning {
    stage: Stage,
    mapping: Mapping,
    worker: Worker,
}

impl Fanning {
    async fn new(select: &str) -> Self {
        let stage = Stage::by(CaptureMethod::Slot).await;
        stage.start().await;
        stage.blue(MANY).await;
        let mapping = with_names(select);
        let worker = open(&stage, &mapping).await;
        let mut fanning = Self { stage, mapping, worker };
        fanning.worker.touch_everything();
        fanning.batch().await;
        fanning
    }

    async fn reopen(&mut self) {
        self.worker = open(&self.stage, &self.mapping).await;
    }

    /// Whether a batch derives tokens; afterwards every token has its client's name.
    async fn batch(&mut self) -> bool {
        let report = batch(&mut self.worker).await;
        assert_eq!(self.stage.pair.green.ask::<i64>(WRONG).await, 0, "{report:?}");
        let count = "select count(*) from token";
        let (blue, green) = (self.stage.pair.blue.ask::<i64>(count), self.stage.pair.green.ask::<i64>(count));
        assert_eq!(blue.await, green.await);
        report.touched.iter().any(|table| table.name == "token")
    }

    async fn follows(&mut self, change: &str) -> bool {
        self.stage.blue(change).await;
        self.batch().await
    }

    async fn remembered(&self) -> i64 {
        self.stage.pair.green.ask("select count(*) from cutover.fanned").await
    }
}

async fn open(stage: &Stage, mapping: &Mapping) -> Worker {
    let setup = LevelSetup { mapping: mapping.clone(), ..stage.setup(stage.term) };
    Worker::open(setup).await.expect("the worker opens")
}

fn tag(value: &str) -> String {
    format!("update client set tag = '{value}' where id = 'c1'")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_followed_again_only_when_what_counts_of_it_has_changed() {
    let mut fanning = Fanning::new(NAMED).await;
    assert!(fanning.follows("update client set tag = 'few' where id = 'c2'").await, "it leads to a few");
    assert_eq!(fanning.remembered().await, 0, "of which nothing is kept");
    assert!(fanning.follows(&tag("first")).await, "nothing is known of it yet");
    assert_eq!(fanning.remembered().await, 1);
    assert!(!fanning.follows(&tag("second")).await);
    fanning.reopen().await;
    assert!(!fanning.follows(&tag("third")).await, "the target remembers");

    assert!(fanning.follows("update client set name = 'another', tag = 'fourth' where id = 'c1'").await);
    assert!(!fanning.follows(&tag("fifth")).await);
    // There and back within one batch is no change, and over two batches it is two.
    let there = "update client set name = 'there' where id = 'c1'; update client set name = 'another' where id = 'c1'";
    assert!(!fanning.follows(there).await);
    for name in ["one", "another"] {
        assert!(fanning.follows(&format!("update client set name = '{name}' where id = 'c1'")).await);
    }
    assert!(!fanning.follows(&tag("sixth")).await);

    // The row moves away and another of the same content takes its place; then all of it goes.
    assert!(fanning.follows("update client set id = 'moved' where id = 'c1'").await);
    assert!(fanning.follows("insert into client values ('c1', 'another', null); update token set client_id = 'c1' where client_id = 'moved'").await);
    assert!(fanning.follows("update client set name = 'last' where id = 'c1'").await);
    assert!(fanning.follows("delete from client where id in ('c1', 'moved')").await);
    assert_eq!(fanning.remembered().await, 0, "nothing is kept of what is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_comes_back_after_its_table_was_emptied_is_followed() {
    let mut fanning = Fanning::new(NAMED).await;
    fanning.stage.blue("alter table token drop constraint token_client_id_fkey").await;
    fanning.stage.pair.green.execute("alter table token drop constraint token_client_id_fkey").await;
    assert!(fanning.follows(&tag("first")).await);
    let carried = "select count(*) from token where client_id = 'c1'";
    let before: i64 = fanning.stage.pair.green.ask(carried).await;
    fanning.stage.blue("create table kept as select * from client; truncate client, member").await;
    batch(&mut fanning.worker).await;
    assert_eq!(fanning.stage.pair.green.ask::<i64>(carried).await, 0, "they went with their client");
    fanning.stage.blue("insert into client select * from kept").await;
    batch(&mut fanning.worker).await;
    assert_eq!(fanning.stage.pair.green.ask::<i64>(carried).await, before, "and came back with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_which_nobody_can_tell_what_counts_is_always_followed() {
    let mut fanning = Fanning::new(WHOLE).await;
    for value in ["first", "second", "third"] {
        assert!(fanning.follows(&tag(value)).await, "{value}");
    }
    assert_eq!(fanning.remembered().await, 0);
}

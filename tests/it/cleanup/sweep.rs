//! Sweeping a live table: parked and deleted in one transaction, within its cap, children first, from where it stopped; and no slower for others
//! than a batch may take.

use super::Stage;
use crate::harness::Place;
use cutover::database::catalog::{self, Catalog};
use cutover::database::cleanup::{Batches, CleanupError, Sweep, Swept, children_first, sweep};
use cutover::database::mapping::KeyColumn;
use cutover::database::term::{self, Term};
use cutover::plan::{Level, Load, Side, Sql, TableName};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

const SCHEMA: &str = "
create table parent (id int primary key, part text not null, dead boolean not null);
create table child (id int primary key, parent_id int references parent (id) on delete cascade);
create index on child (parent_id);
insert into parent select n, 'p' || n % 7, n % 4 = 0 from generate_series(1, 4000) n;";

struct Live {
    place: Place,
    term: Term,
    catalog: Catalog,
    table: TableName,
    key: Vec<KeyColumn>,
    calm: Level,
}

impl Live {
    async fn new() -> Self {
        let place = Place::shared("live").await;
        place.execute(SCHEMA).await;
        let term = Term { term: 1, nonce: Uuid::new_v4() };
        let client = place.client().await;
        term::install(&client, &term).await.expect("the term is installed");
        let catalog = catalog::read(&client).await.expect("the catalog");
        let table = TableName { schema: "public".into(), name: "parent".into() };
        let key = vec![KeyColumn { name: "id".into(), type_sql: "integer".into() }];
        let calm = Level { replica_lag: None, load: None, every: Duration::from_millis(50), fan_out: 1 };
        Self { place, term, catalog, table, key, calm }
    }

    fn sweep(&self) -> Sweep<'_> {
        Sweep {
            rule: "dead",
            table: &self.table,
            key: &self.key,
            predicate: "dead",
            cap_rows: 1000,
            cap_percent: 30.0,
            park: true,
            catalog: &self.catalog,
            term: self.term,
            side: Side::Blue,
            calm: &self.calm,
            batches: Batches { first: 100, most: 500, ..Batches::default() },
        }
    }

    async fn run(&self, asked: &Sweep<'_>) -> Result<Swept, CleanupError> {
        sweep(&mut self.place.client().await, asked, &|| false, &|_| ()).await
    }

    async fn counts(&self) -> (i64, i64) {
        let parked: i64 =
            self.place.ask("select count(*) from cutover.parked_parent where dead and cutover_rule = 'dead'").await;
        (self.place.ask("select count(*) from parent").await, parked)
    }
}

#[tokio::test]
async fn what_goes_is_parked_and_nothing_else_goes() {
    let live = Live::new().await;
    let swept = live.run(&live.sweep()).await.expect("the sweep");
    assert_eq!((swept.rows, swept.is_done), (1000, true));
    assert!(swept.batches > 5, "{swept:?}");
    assert_eq!(live.counts().await, (3000, 1000));
    let again = live.run(&live.sweep()).await.expect("the sweep");
    assert_eq!((again.rows, again.batches), (1000, 0), "there is nothing left to do");
    live.place.execute("insert into parent values (0, 'late', true)").await;
    let over = live.run(&live.sweep()).await.expect_err("one more than the cap, with those that have gone");
    assert!(over.to_string().contains("1001 of 4001 rows of public.parent match"), "{over}");
    let more = Sweep { cap_rows: 1001, ..live.sweep() };
    assert_eq!(live.run(&more).await.expect("the sweep").rows, 1001, "what came behind its end is found");
    assert_eq!(live.counts().await, (3000, 1001));
}

#[tokio::test]
async fn a_sweep_goes_on_from_where_it_was_stopped() {
    let live = Live::new().await;
    let told = AtomicU64::new(0);
    let stop = || told.load(Ordering::Relaxed) >= 3;
    let tell = |_: &Swept| {
        told.fetch_add(1, Ordering::Relaxed);
    };
    let asked = live.sweep();
    let part = sweep(&mut live.place.client().await, &asked, &stop, &tell).await.expect("a part");
    assert!(!part.is_done && part.batches == 3 && part.rows > 0 && part.rows < 1000, "{part:?}");
    let (left, parked) = live.counts().await;
    assert_eq!((left + parked, parked.cast_unsigned()), (4000, part.rows), "every batch stands whole");
    let rest = live.run(&asked).await.expect("the rest");
    assert_eq!((rest.rows, rest.is_done), (1000, true));
    assert_eq!(live.counts().await, (3000, 1000));
}

#[tokio::test]
async fn over_its_cap_nothing_goes() {
    let live = Live::new().await;
    for asked in [Sweep { cap_rows: 999, ..live.sweep() }, Sweep { cap_percent: 24.9, ..live.sweep() }] {
        let refused = live.run(&asked).await.expect_err("over the cap");
        assert!(matches!(refused, CleanupError::Refused { .. }), "{refused}");
    }
    let all = Sweep { predicate: "true", cap_rows: u64::MAX, cap_percent: 99.0, ..live.sweep() };
    assert!(live.run(&all).await.is_err(), "everything is over every cap");
    assert_eq!(live.place.ask::<i64>("select count(*) from parent").await, 4000);
}

#[tokio::test]
async fn rows_that_others_point_to_stay_and_are_named() {
    let live = Live::new().await;
    live.place.execute("insert into child select n, 4000 from generate_series(1, 3) n").await;
    let refused = live.run(&live.sweep()).await.expect_err("children hang on it");
    assert_eq!(
        refused.to_string(),
        "3 rows of public.child point to rows of public.parent that dead would delete (child_parent_id_fkey)"
    );
    assert_eq!(live.place.ask::<i64>("select count(*) from child").await, 3, "no cascade took them");
    assert_eq!(live.place.ask::<i64>("select count(*) from parent where id = 4000").await, 1);
    live.place.execute("delete from child").await;
    assert_eq!(live.run(&live.sweep()).await.expect("the sweep").rows, 1000);
}

#[tokio::test]
async fn a_superseded_sweep_deletes_nothing() {
    let live = Live::new().await;
    let newer = Term { term: 2, nonce: Uuid::new_v4() };
    term::install(&live.place.client().await, &newer).await.expect("another takes over");
    assert!(matches!(live.run(&live.sweep()).await, Err(CleanupError::Term(_))));
    assert_eq!(live.place.ask::<i64>("select count(*) from parent").await, 4000);
}

/// Ten milliseconds for each row: batches come down until one takes no longer than it may, and who writes beside them waits no longer
/// than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_made_smaller_until_others_do_not_feel_them() {
    let live = Live::new().await;
    live.place
        .execute("create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.01); return old; end $$;
            create trigger slow before delete on parent for each row execute function slow(); delete from parent where id > 600;")
        .await;
    let target = Duration::from_millis(100);
    let batches = Batches { target, first: 400, most: 5000, statement: Duration::from_secs(5), ..Batches::default() };
    let asked = Sweep { batches, ..live.sweep() };
    let sizes = Mutex::new(Vec::new());
    let tell = |swept: &Swept| sizes.lock().expect("no holder panics").push(swept.rows);
    let swept = sweep(&mut live.place.client().await, &asked, &|| false, &tell).await.expect("the sweep");
    assert_eq!(swept.rows, 150);
    let rows = sizes.into_inner().expect("no holder panics");
    let each: Vec<u64> = std::iter::once(rows[0]).chain(rows.windows(2).map(|pair| pair[1] - pair[0])).collect();
    assert!(each[0] >= 90, "the first did not know better: {each:?}");
    assert!(each.len() > 4 && each[1..].iter().all(|rows| *rows <= 20), "a tenth of a second is ten rows: {each:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_somebody_holds_is_waited_for_shortly_and_again() {
    let live = Live::new().await;
    let holder = live.place.client().await;
    holder.batch_execute("begin; update parent set part = 'held' where id = 4").await.expect("a row is held");
    let release = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        holder.batch_execute("commit").await.expect("the row is let go");
    };
    let batches = Batches { lock: Duration::from_millis(50), ..live.sweep().batches };
    let asked = Sweep { batches, ..live.sweep() };
    let (swept, ()) = tokio::join!(live.run(&asked), release);
    assert_eq!(swept.expect("the sweep").rows, 1000);
    assert_eq!(live.place.ask::<i64>("select count(*) from cutover.parked_parent where part = 'held'").await, 1);
}

#[tokio::test]
async fn a_sweep_waits_while_the_side_has_too_much_to_do() {
    let mut live = Live::new().await;
    live.place.execute("create table busy (is_busy boolean); insert into busy values (true)").await;
    let query = "select count(*)::int from busy where is_busy".to_owned();
    live.calm.load = Some(Load { query: Sql { text: query, file: None }, most: 0.0 });
    let (told, calm) = (AtomicU64::new(0), AtomicU64::new(0));
    let tell = |swept: &Swept| {
        let count = if swept.waits.is_some() { &told } else { &calm };
        count.fetch_add(1, Ordering::Relaxed);
    };
    let later = async {
        while told.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(calm.load(Ordering::Relaxed), 0, "no batch was begun");
        live.place.execute("update busy set is_busy = false").await;
    };
    let (asked, mut client) = (live.sweep(), live.place.client().await);
    let (swept, ()) = tokio::join!(sweep(&mut client, &asked, &|| false, &tell), later);
    assert_eq!(swept.expect("the sweep").rows, 1000);
}

#[tokio::test]
async fn children_go_before_parents_and_a_circle_is_refused() {
    let stage = Stage::new("").await;
    let catalog = &stage.on_green;
    let names = ["client", "token", "grant_row"].map(|name| TableName { schema: "public".into(), name: name.into() });
    let tables: Vec<&TableName> = names.iter().collect();
    assert_eq!(children_first(&tables, catalog).expect("an order"), [1, 2, 0]);
    stage.pair.green.execute("alter table client add lead text references token (signature)").await;
    let circle = catalog::read(&stage.pair.green.client().await).await.expect("the catalog");
    let refused = children_first(&tables, &circle).expect_err("a circle");
    assert!(refused.to_string().contains("in a circle: public.client, public.token, public.grant_row"), "{refused}");
}

//! The archive and its way back: closed to the application, restored only where a row may stand, and what was revoked stays revoked.

use super::{RULES, Stage};
use cutover::database::claim;
use cutover::database::cleanup::{Batches, CleanupError, Restorable, Restore, Restored, archive, restorable, restore};
use cutover::database::level::{Answer, Reapply, TouchedTable};
use cutover::database::mapping::LeftBehind;
use cutover::database::term::{self, Term};
use tokio_postgres::Transaction;
use uuid::Uuid;

/// A filled green that serves, with its archive.
async fn serving() -> Stage {
    let stage = Stage::new(RULES).await;
    let mut worker = stage.fill().await;
    worker.batch(&()).await.expect("a batch");
    stage.assert_level().await;
    stage
        .pair
        .green
        .execute("create table cutover.register (state text); insert into cutover.register values ('open')")
        .await;
    stage
}

fn left<'s>(stage: &'s Stage, table: &str) -> &'s LeftBehind {
    stage.left.iter().find(|left| left.table.name == table).expect("the table has rules")
}

fn asked<'s>(stage: &'s Stage, table: &str, rule: &'s str, keys: &'s [Vec<String>]) -> Restore<'s> {
    let batches = Batches { first: 3, most: 20, ..Batches::default() };
    Restore { left: left(stage, table), rule, keys, catalog: &stage.on_green, term: stage.term, batches }
}

async fn restored(stage: &Stage, asked: &Restore<'_>, reapply: &impl Reapply) -> Result<Restored, CleanupError> {
    restore(&mut stage.pair.green.client().await, asked, reapply, &|| false, &|_| ()).await
}

#[tokio::test]
async fn an_archive_is_closed_to_the_application_and_goes_with_its_step() {
    let stage = Stage::new(RULES).await;
    let first = stage.park().await;
    assert_eq!(stage.park().await, first, "made twice it is the same");
    let application = stage.pair.green.application().await;
    let refused = application.query("select * from cutover.parked_token", &[]).await.expect_err("it is not theirs");
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));
    let green = stage.pair.green.client().await;
    assert!(claim::noted(&green, stage.run, "park-rows").await.expect("green answers").is_some());
    let mut green = stage.pair.green.client().await;
    let older = Term { term: 0, nonce: Uuid::new_v4() };
    assert!(archive::remove(&mut green, &older, "park-rows").await.is_err(), "an older term takes nothing away");
    for _ in 0..2 {
        archive::remove(&mut green, &stage.term, "park-rows").await.expect("it is taken away");
        let tables: i64 = stage
            .pair
            .green
            .ask("select count(*) from pg_tables where schemaname = 'cutover' and tablename like 'parked%'")
            .await;
        let keys: i64 = stage.pair.green.ask("select count(*) from cutover.repair").await;
        assert_eq!((tables, keys), (0, 0));
        assert!(claim::noted(&green, stage.run, "park-rows").await.expect("green answers").is_none());
    }
}

#[tokio::test]
async fn rows_that_share_a_key_cannot_be_kept() {
    let blue =
        "create table flow (id int primary key, login text); insert into flow values (1, 'a'), (2, 'a'), (3, 'b');";
    let green = "create table flow (login text primary key);";
    let rules = "carry:\n  flow:\n    key: [login]\n    from: select id, login from flow\n    touched_by: { flow: { key: login, back: [login] } }\n";
    let rules = format!(
        "{rules}cleanup:\n  - {{ name: doubled, table: flow, where: login = 'a', cap: {{ rows: 9, percent: 90 }}, because: a test }}\n"
    );
    let stage = Stage::by(cutover::plan::CaptureMethod::Slot, blue, green, &rules).await;
    let (mut on_blue, mut on_green) = (stage.pair.blue.client().await, stage.pair.green.client().await);
    let begun =
        archive::begin(&mut on_blue, &mut on_green, (&stage.term, stage.run, "park-rows"), &stage.archives()).await;
    let why = begun.expect_err("two rows with one key").to_string();
    assert_eq!(why, "two rows that are left behind would have one key in cutover.parked_flow");
    assert!(claim::noted(&on_green, stage.run, "park-rows").await.expect("green answers").is_none());
}

#[tokio::test]
async fn rows_come_back_where_they_may_stand() {
    let stage = serving().await;
    let green = stage.pair.green.client().await;
    let grants = asked(&stage, "grant_row", "lost-grants", &[]);
    let found = restorable(&green, &grants).await.expect("green answers");
    assert!(
        found.parked > 15 && found.hanging == found.parked && found.restorable == 0,
        "{found:?}: no client is there"
    );
    assert_eq!(restored(&stage, &grants, &()).await.expect("nothing comes").rows, 0);

    let one = [vec!["c10".to_owned()]];
    let client = asked(&stage, "client", "dead-clients", &one);
    assert_eq!(
        restorable(&green, &client).await.expect("green answers"),
        Restorable { parked: 1, restorable: 1, present: 0, hanging: 0 }
    );
    assert_eq!(restored(&stage, &client, &()).await.expect("it comes").rows, 1);
    let name: String = stage.pair.green.ask("select name from client where id = 'c10' and dead").await;
    assert_eq!(name, "name 10", "as it was");

    let clients = asked(&stage, "client", "dead-clients", &[]);
    stage.pair.green.execute("insert into client values ('c20', false, 'made on green')").await;
    let found = restorable(&green, &clients).await.expect("green answers");
    assert_eq!(found, Restorable { parked: 2, restorable: 1, present: 1, hanging: 0 });
    assert_eq!(restored(&stage, &clients, &()).await.expect("the other comes").rows, 1);
    let kept: String = stage.pair.green.ask("select name from client where id = 'c20'").await;
    assert_eq!(kept, "made on green", "green's own row stays");

    let back = restored(&stage, &grants, &()).await.expect("grants come");
    assert!(back.batches > 1, "{back:?}");
    let wanted: i64 =
        stage.pair.blue.ask("select count(*) from grant_row where client_id in ('c0', 'c10', 'c20')").await;
    assert_eq!(back.rows, wanted.cast_unsigned(), "all whose clients are there, and no other");
    let both: i64 =
        stage.pair.green.ask("select count(*) from grant_row g join cutover.parked_grant_row p using (id)").await;
    assert_eq!(both, 0, "what came back is no longer in the archive");
    let tokens = asked(&stage, "token", "lost-tokens", &[]);
    assert!(restored(&stage, &tokens, &()).await.expect("tokens come").rows > 0);
}

/// A revocation that was made of one client's grants.
struct Revoked;

impl Reapply for Revoked {
    fn reapply<'a>(&'a self, target: &'a Transaction<'a>, touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(async move {
            let [table] = touched else { panic!("one table is touched") };
            let delete = format!(
                "delete from grant_row where id in (select t.id from {} where t.client_id = 'c10')",
                table.from
            );
            target.execute(&delete, &[]).await
        })
    }
}

#[tokio::test]
async fn what_was_revoked_since_is_revoked_again_in_the_same_transaction() {
    let stage = serving().await;
    restored(&stage, &asked(&stage, "client", "dead-clients", &[]), &()).await.expect("clients come");
    let back = restored(&stage, &asked(&stage, "grant_row", "lost-grants", &[]), &Revoked).await.expect("grants come");
    assert_eq!((back.rows, back.revoked), (9, 3));
    assert_eq!(stage.pair.green.ask::<i64>("select count(*) from grant_row where client_id = 'c10'").await, 0);
}

#[tokio::test]
async fn nothing_comes_back_where_green_does_not_serve_or_another_has_taken_over() {
    let stage = serving().await;
    stage.pair.green.execute("update cutover.register set state = 'sealed'").await;
    let clients = asked(&stage, "client", "dead-clients", &[]);
    let refused = restored(&stage, &clients, &()).await.expect_err("green is sealed");
    assert_eq!(refused.to_string(), "green does not serve");
    stage.pair.green.execute("update cutover.register set state = 'open'").await;
    let newer = Term { term: 2, nonce: Uuid::new_v4() };
    term::install(&stage.pair.green.client().await, &newer).await.expect("another takes over");
    assert!(matches!(restored(&stage, &clients, &()).await, Err(CleanupError::Term(_))));
    assert_eq!(stage.pair.green.ask::<i64>("select count(*) from client where dead").await, 0);
}

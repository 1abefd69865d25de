//! Cleanup of a plan in place, by the binary: rows leave the database that serves before it is migrated, and come back when the run is undone.

use crate::harness::stage::Stage;
use serde_json::Value;

const CAP: &str = "cap: { rows: 100, percent: 40 }, because: a test";

/// A plan in place with these rules.
fn write(stage: &Stage, rules: &[String]) {
    stage.write_file("expand/20200101000001_kind.up.sql", "alter table note add column kind text;");
    let rules: Vec<String> = rules.iter().map(|rule| format!("  - {{ {rule}, {CAP} }}\n")).collect();
    let plan = format!(
        "version: 1\nname: stage\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {{ url: \"${{BLUE_URL}}\", role: hydra }}\n\
         migrate:\n  - engine: {{ folder: expand }}\ncleanup:\n{}",
        rules.concat()
    );
    stage.write_file("plan.yaml", &plan);
}

fn dead_accounts() -> String {
    "name: dead-accounts, table: account, where: \"email like '%7@example.org'\"".to_owned()
}

fn lost_notes() -> String {
    "name: lost-notes, table: note, orphan_of: { table: account }".to_owned()
}

/// No foreign key, and not the primary key: in place nothing hangs on how a change names a row.
fn lost_invites() -> String {
    "name: lost-invites, table: invite, orphan_of: { table: account, columns: [email], references: [email] }".to_owned()
}

const INVITES: &str = "create table invite (id bigint primary key, email text);
insert into invite select n, 'user' || n || '@example.org' from generate_series(1, 105) n";

async fn counts(stage: &Stage) -> (i64, i64) {
    let blue = &stage.pair.blue;
    (blue.ask("select count(*) from account").await, blue.ask("select count(*) from note").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_leave_before_the_migrations_and_come_back_with_a_rollback() {
    let stage = Stage::with_accounts(100).await;
    // Parents first in the plan: the order is ours.
    stage.pair.blue.execute(INVITES).await;
    write(&stage, &[dead_accounts(), lost_notes(), lost_invites()]);
    let before = stage.rows(true).await;
    let (code, said) = stage.verb(&["cleanup", "preview"]).await;
    assert_eq!((code, said["rules"].as_u64(), &said["hanging"]), (0, Some(3), &serde_json::json!([])), "{said}");
    assert_eq!(counts(&stage).await, (100, 300), "a preview only reads");

    let is_swept = |event: &Value| event.to_string().contains("swept by");
    assert!(stage.killed("run", is_swept).await.is_some(), "it is killed behind a batch");
    let invites: i64 = stage.pair.blue.ask("select count(*) from invite").await;
    assert_eq!(invites, 90, "what has committed stands");
    let (code, said) = stage.verb(&["run"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(counts(&stage).await, (90, 270));
    assert_eq!(stage.pair.blue.ask::<i64>("select count(*) from invite").await, 90);
    let blue = &stage.pair.blue;
    let parked = "select (select count(*) from cutover.parked_account where cutover_rule = 'dead-accounts') * 1000
      + (select count(*) from cutover.parked_note where cutover_rule = 'lost-notes')";
    assert_eq!(blue.ask::<i64>(parked).await, 10_030);
    assert!(
        blue.application().await.query("select * from cutover.parked_note", &[]).await.is_err(),
        "not the application's"
    );
    assert!(
        blue.ask::<bool>(
            "select exists (select from pg_attribute where attrelid = 'note'::regclass and attname = 'kind')"
        )
        .await
    );

    // The application has made one of them anew: that one stays as it is.
    blue.application()
        .await
        .batch_execute("insert into account (id, email) values (7, 'new@example.org')")
        .await
        .expect("a row");
    let (code, said) = stage.verb(&["rollback", "--yes"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(counts(&stage).await, (100, 300));
    assert_eq!(blue.ask::<i64>("select count(*) from invite").await, 105);
    let new: String = blue.ask("select email from account where id = 7").await;
    assert_eq!((new.as_str(), stage.left_on_blue().await), ("new@example.org", 0));
    let mend = "alter table note drop column kind; update account set email = 'user7@example.org', created_at = '2026-01-01'::timestamptz + interval '7 s' where id = 7";
    blue.execute(mend).await;
    assert_eq!(stage.rows(true).await, before, "every row as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_swept_to_its_end_is_not_begun() {
    let stage = Stage::with_accounts(100).await;
    let refused = async |rules: &[String], why: &str| {
        write(&stage, rules);
        let (code, said) = stage.verb(&["run"]).await;
        assert_eq!(code, 3, "{said}");
        assert!(said["why"].as_str().is_some_and(|said| said.contains(why)), "{why}: {said}");
        assert_eq!(counts(&stage).await, (100, 300), "no row has gone");
        assert_eq!(stage.verb(&["rollback", "--yes"]).await.0, 0);
    };
    refused(&[dead_accounts()], "30 rows of public.note point to rows that dead-accounts would delete").await;
    let some = "name: some-notes, table: note, where: id % 3 = 0".to_owned();
    refused(
        &[dead_accounts(), some],
        "rows of public.note point to rows of public.account that dead-accounts leaves behind",
    )
    .await;
    let many = "name: many-notes, table: note, where: id % 2 = 0".to_owned();
    refused(&[many], "cleanup rule many-notes: 150 of 300 rows of public.note match").await;
    stage
        .pair
        .blue
        .execute("create table hydra_oauth2_access (signature text primary key, active boolean not null)")
        .await;
    let tokens = "name: old-tokens, table: hydra_oauth2_access, where: not active".to_owned();
    refused(&[tokens], "hydra_oauth2_access holds what people revoke").await;
}

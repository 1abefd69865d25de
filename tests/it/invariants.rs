//! Invariants and repairs on real servers: every class of difference is named, what cannot be compared is refused, and nothing is held or written.

use crate::harness::stage::Stage;
use crate::harness::{Pair, Place};
use cutover::database::invariants::{self, Answer, Changed, Class, InvariantError, put_right};
use cutover::plan::{Expect, Invariant, Repair, Side, Sql, TableName};
use std::time::Duration;
use tokio_postgres::{Client, Transaction};

const GRANTS: &str = "
create table consent (challenge text primary key, state int not null, subject text, data jsonb, amount numeric, at timestamptz);
insert into consent select 'c' || n, 6, 'user' || n, jsonb_build_object('b', n, 'a', 1), 1.50, '2026-01-01 00:00+00'::timestamptz + n * interval '1 s' from generate_series(1, 500) n";
const ROWS: &str = "select challenge, state, subject, data, amount, at from consent";

fn sql(text: &str) -> Sql {
    Sql { text: text.to_owned(), file: None }
}

fn of_values(blue: &str, green: &str, expect: Expect) -> Invariant {
    let (name, key, because) = ("one".to_owned(), Vec::new(), None);
    Invariant { name, blue: Some(sql(blue)), green: sql(green), expect, key, because }
}

fn of_rows(blue: &str, green: &str) -> Invariant {
    Invariant { key: vec!["challenge".to_owned()], ..of_values(blue, green, Expect::SetEqual) }
}

async fn session(place: &Place, side: Side) -> Client {
    invariants::session(&place.url(), side).await.expect("a session")
}

async fn begin<'a>(client: &'a mut Client, side: Side) -> Transaction<'a> {
    let transaction = client.build_transaction().read_only(true).start().await.expect("a transaction");
    invariants::pin(&transaction, side, Duration::from_secs(20)).await.expect("settings");
    transaction
}

async fn ask(pair: &Pair, invariant: &Invariant) -> Result<Answer, InvariantError> {
    let (mut blue, mut green) = (session(&pair.blue, Side::Blue).await, session(&pair.green, Side::Green).await);
    let (blue, green) = (begin(&mut blue, Side::Blue).await, begin(&mut green, Side::Green).await);
    invariants::ask(invariant, &blue, &green).await
}

async fn pair() -> Pair {
    let pair = Pair::shared().await;
    pair.blue.execute(GRANTS).await;
    pair.green.execute(GRANTS).await;
    pair
}

/// Class, key and columns of every row that is named.
fn named(answer: &Answer) -> Vec<(Class, String, String)> {
    let key = |row: &invariants::Differing| row.key["challenge"].as_str().unwrap_or("null").to_owned();
    answer.rows.iter().map(|row| (row.class, key(row), row.columns.join(" "))).collect()
}

#[tokio::test]
async fn invariants_name_every_class_of_difference_by_its_key_and_columns() {
    let pair = pair().await;
    let rows = of_rows(ROWS, ROWS);
    let equal = ask(&pair, &rows).await.expect("an answer");
    assert!(equal.holds && equal.rows.is_empty(), "{equal:?}");
    // Who keeps another zone or another collation asks the same.
    pair.green
        .execute(&format!("alter role cutover in database {} set timezone = 'Asia/Tokyo'", pair.green.database))
        .await;
    assert!(ask(&pair, &rows).await.expect("an answer").holds, "settings are pinned");
    pair.green
        .execute(
            "delete from consent where challenge = 'c10'; insert into consent select 'new', state, subject, data, amount, at from consent where challenge = 'c11';
             update consent set state = 128 where challenge = 'c20'; update consent set subject = '' where challenge = 'c30';
             update consent set subject = null where challenge = 'c40'; update consent set at = at + interval '9 h' where challenge = 'c50';
             update consent set amount = 1.5 where challenge = 'c60'; update consent set data = '{\"a\": 1, \"b\": 70}' where challenge = 'c70'",
        )
        .await;
    let answer = ask(&pair, &rows).await.expect("an answer");
    let wanted = [
        (Class::Missing, "c10", ""),
        (Class::Changed, "c20", "state"),
        (Class::Changed, "c30", "subject"),
        (Class::Changed, "c40", "subject"),
        (Class::Changed, "c50", "at"),
        (Class::Changed, "c60", "amount"),
        (Class::Extra, "new", ""),
    ];
    let wanted: Vec<_> = wanted.map(|(class, key, columns)| (class, key.to_owned(), columns.to_owned())).into();
    assert_eq!(named(&answer), wanted, "c70 is the same JSON in another order");
    assert_eq!((answer.holds, answer.missing, answer.extra, answer.changed), (false, 1, 1, 5));
    let told = format!("{} {answer:?}", answer.words());
    assert!(told.contains("missing challenge c10") && !told.contains("user30") && !told.contains("user40"), "{told}");
    assert!(told.len() < 4000, "keys alone, and few");
}

#[tokio::test]
async fn invariants_count_all_rows_that_differ_and_name_the_first() {
    let pair = pair().await;
    pair.green.execute("update consent set state = 128; insert into consent (challenge, state) select 'é' || n, 1 from generate_series(1, 300) n").await;
    let answer = ask(&pair, &of_rows(ROWS, ROWS)).await.expect("an answer");
    assert_eq!((answer.missing, answer.extra, answer.changed, answer.rows.len()), (0, 300, 500, 20));
    let empty = Invariant {
        blue: None,
        expect: Expect::Empty,
        ..of_rows("", "select challenge from consent where state = 128")
    };
    let answer = ask(&pair, &empty).await.expect("an answer");
    assert_eq!((answer.holds, answer.extra, answer.rows.len()), (false, 500, 20));
    let none = Invariant { green: sql("select challenge from consent where state = 6"), ..empty };
    assert!(ask(&pair, &none).await.expect("an answer").holds);
}

#[tokio::test]
async fn invariants_compare_numbers_as_numbers_and_texts_as_texts() {
    let pair = pair().await;
    let judge = async |blue: &str, green: &str, expect: Expect| {
        ask(&pair, &of_values(blue, green, expect))
            .await
            .unwrap_or_else(|error| panic!("{blue} {green}: {error}"))
            .holds
    };
    let within = |rows, percent| Expect::Within { rows, percent };
    assert!(judge("select count(*) from consent", "select 500.0", Expect::Equal).await);
    assert!(!judge("select 'a'", "select 'a '", Expect::Equal).await);
    assert!(judge("select null::text", "select null::text", Expect::Equal).await);
    assert!(!judge("select null::text", "select ''", Expect::Equal).await, "null is not empty");
    assert!(
        judge("select 10", "select 10", Expect::AtLeast).await
            && judge("select 10", "select 11", Expect::AtLeast).await
    );
    assert!(!judge("select 10", "select 9", Expect::AtLeast).await);
    assert!(
        judge("select 100", "select 98", within(2, 2.0)).await
            && judge("select 100", "select 102", within(2, 2.0)).await
    );
    assert!(
        !judge("select 100", "select 97", within(2, 50.0)).await
            && !judge("select 100", "select 98", within(50, 1.9)).await
    );
    assert!(
        judge("select 0", "select 0", within(5, 1.0)).await && !judge("select 0", "select 1", within(5, 1.0)).await
    );
    let answer = ask(&pair, &of_values("select 's3cret'", "select 'other'", Expect::Equal)).await.expect("an answer");
    assert_eq!(answer.words(), "one: *** on blue, *** on green", "what may be a secret is not shown");
    let answer = ask(&pair, &of_values("select 5", "select 4", Expect::Equal)).await.expect("an answer");
    assert_eq!(answer.words(), "one: 5 on blue, 4 on green");
}

#[tokio::test]
async fn invariants_that_cannot_be_compared_are_refused_and_write_nothing() {
    let pair = pair().await;
    let said = async |invariant: Invariant| ask(&pair, &invariant).await.expect_err("refused").to_string();
    let equal = |blue: &str| of_values(blue, "select 1", Expect::Equal);
    assert_eq!(
        said(equal("select state from consent")).await,
        "invariant one gives several rows where one value is expected on blue"
    );
    assert_eq!(
        said(equal("select 1 where false")).await,
        "invariant one gives no row where one value is expected on blue"
    );
    assert_eq!(said(equal("select 1, 2")).await, "invariant one gives 2 columns where one value is expected on blue");
    let text = of_values("select 1", "select 'many'", Expect::AtLeast);
    assert_eq!(said(text).await, "invariant one gives a value of type text where a number is expected on green");
    let other = of_rows("select challenge, state from consent", "select challenge, subject from consent");
    assert_eq!(said(other).await, "invariant one gives the columns subject, and on blue state on green");
    let keyless = of_rows("select state from consent", "select state from consent");
    assert_eq!(said(keyless).await, "invariant one gives no column challenge, which is in its key on blue");
    let one_key = "select 'c' as challenge, n from generate_series(1, 10001) n";
    assert!(said(of_rows(one_key, one_key)).await.contains("more than 10000 rows of one key"));
    for write in ["delete from consent returning 1", "select 1; delete from consent", "select nextval('numbers')"] {
        pair.blue.execute("create sequence if not exists numbers").await;
        let error = ask(&pair, &equal(write)).await.expect_err(write);
        assert_eq!(error.to_string(), "ask invariant one of blue", "{write}");
        assert!(error.hint().contains("correct invariant one"), "{}", error.hint());
    }
    assert_eq!(pair.blue.ask::<i64>("select count(*) from consent").await, 500);
    assert!(!pair.blue.ask::<bool>("select is_called from numbers").await);

    let (mut blue, mut green) = (session(&pair.blue, Side::Blue).await, session(&pair.green, Side::Green).await);
    let (blue, green) = (begin(&mut blue, Side::Blue).await, begin(&mut green, Side::Green).await);
    blue.batch_execute("set local statement_timeout = 200").await.expect("set");
    let late = invariants::ask(&equal("select count(*) from pg_sleep(20)"), &blue, &green).await.expect_err("late");
    assert!(late.hint().contains("window.invariants"), "{}", late.hint());
}

#[tokio::test]
async fn repairs_are_counted_and_capped_before_anything_of_them_stands() {
    let pair = pair().await;
    pair.green.execute("update consent set state = 128 where challenge like 'c1%'").await;
    let repair = |most: u64, percent: f64| Repair {
        name: "states".to_owned(),
        invariant: "one".to_owned(),
        sql: sql("update consent set state = 6 where state = 128"),
        table: TableName { schema: "public".to_owned(), name: "consent".to_owned() },
        cap_rows: most,
        cap_percent: percent,
        because: "the merge".to_owned(),
    };
    let mut client = session(&pair.green, Side::Green).await;
    let transaction = client.transaction().await.expect("a transaction");
    let changed = put_right(&transaction, &repair(200, 50.0)).await.expect("it runs");
    assert_eq!(changed, Changed { rows: 111, of: 500 });
    assert_eq!((changed.above(&repair(111, 22.2)), changed.above(&repair(200, 50.0))), (None, None));
    let above = changed.above(&repair(110, 100.0)).expect("more rows");
    assert_eq!(above, "repair states changes 111 of 500 rows of public.consent, and its cap is 110 rows and 100 %");
    assert!(changed.above(&repair(200, 22.1)).is_some(), "a larger share");
    let mut blue = session(&pair.blue, Side::Blue).await;
    let blue = begin(&mut blue, Side::Blue).await;
    assert!(invariants::ask(&of_rows(ROWS, ROWS), &blue, &transaction).await.expect("an answer").holds, "asked within");
    transaction.rollback().await.expect("back");
    assert_eq!(pair.green.ask::<i64>("select count(*) from consent where state = 128").await, 111);
}

#[tokio::test]
async fn invariants_are_asked_of_blue_by_check_before_anything_is_touched() {
    let stage = Stage::with_accounts(5).await;
    stage.write_plan(
        "invariants:
  - { name: good, blue: select count(*) from account, green: select count(*) from account, expect: equal }
  - { name: rows, blue: select id, email from account, green: select id, email from account, expect: set_equal, key: [id] }
  - { name: several, blue: select id from account, green: select 1, expect: equal }
  - { name: nowhere, blue: select count(*) from nowhere, green: select 1, expect: equal }
  - { name: text, blue: \"select 'a'\", green: select 1, expect: at_least }
  - { name: keyless, blue: select email from account, green: select email from account, expect: set_equal, key: [id] }
"
        .replace("select id, email from account", "\"select id, email from account\"")
        .as_str(),
    );
    let (code, said) = stage.verb(&["check"]).await;
    assert_eq!((code, said["errors"].as_u64()), (3, Some(4)), "{said}");
    let findings = cutover::database::preflight::check(&stage.plan(), None, None).await;
    let mut told: Vec<&str> =
        findings.iter().map(|finding| finding.what.as_str()).filter(|what| what.contains("invariant")).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "invariant keyless cannot be asked: invariant keyless gives no column id, which is in its key on blue",
            "invariant nowhere cannot be asked: relation \"nowhere\" does not exist",
            "invariant several cannot be asked: invariant several gives several rows where one value is expected on blue",
            "invariant text cannot be asked: invariant text gives a value of type text where a number is expected on blue",
        ]
    );
}

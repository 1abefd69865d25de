//! The plan's own statements: they kill what is named and nothing younger, many events at once, and their question speaks against a proof.

use super::tables::{create, grant};
use super::{captured, event_of, meets, token};
use crate::harness::Pair;
use crate::plan::{anything, whole};
use cutover::plan::{Replay, Side};
use cutover::revocations::chain::Lookups;
use cutover::revocations::hydra::Knock;
use cutover::revocations::proof::prove_on_target;
use cutover::revocations::replay::{replay, replay_each};
use cutover::revocations::sinks::Flaw;
use cutover::revocations::{Chain, Door, Event, Outcome, Touched, TouchedRows, Ways, Witness};
use jiff::{Timestamp, ToSpan as _};
use std::path::Path;
use uuid::Uuid;

const SESSIONS: &str = "create table app_session (id int primary key, request text, subject text not null,
  created_at timestamptz not null, ended boolean not null default false);
create index on app_session (subject)";
const REVOKE: &str = "update app_session s set ended = true
  from unnest($1::uuid[], $6::text[], $8::timestamptz[]) as r (event, subject, before)
  where s.subject = r.subject and s.created_at <= r.before and not s.ended";
const ALIVE: &str =
    "select r.event from unnest($1::uuid[], $6::text[], $8::timestamptz[]) as r (event, subject, before)
  join app_session s on s.subject = r.subject and s.created_at <= r.before and not s.ended";

/// A plan's section, as a person writes it.
fn section(revoke: &str, alive: Option<&str>) -> Replay {
    let quoted = |sql: &str| serde_json::to_string(sql).expect("a text");
    let alive = alive.map(|alive| format!(", alive: {}", quoted(alive))).unwrap_or_default();
    let on = format!("{{ revoke: {}{alive} }}", quoted(revoke));
    let sql = format!("[{{ name: sessions, doors: [consent], green: {on}, blue: {on} }}]");
    let text = whole().replace("replay: { hydra: {} }", &format!("replay: {{ hydra: {{}}, sql: {sql} }}"));
    let plan =
        cutover::plan::parse(&text, Path::new("."), &anything).unwrap_or_else(|problems| panic!("{problems:#?}"));
    plan.revocations.expect("a queue").replay
}

async fn ways(pair: &Pair, side: Side, replay: &Replay) -> Ways {
    let client = if side == Side::Blue { pair.blue.client().await } else { pair.green.client().await };
    Ways::of(&client, side, Some(replay)).await.expect("the catalog answers")
}

/// The consents of a subject, withdrawn at a moment.
fn withdrawn(subject: &str, at: Timestamp) -> Event {
    let knock = Knock::Consents { subject: subject.to_owned(), client: None };
    let chain = Chain { subject: Some(subject.to_owned()), at: Some(at), ..Chain::default() };
    let what = captured(&knock, chain);
    let (id, outcome) = (Uuid::new_v4(), Outcome::Executed);
    Event { id, incarnation: Uuid::nil(), seq: 1, captured_at: at, what, outcome }
}

fn row(id: i32, subject: &str, at: Timestamp) -> String {
    format!("insert into app_session (id, subject, created_at) values ({id}, '{subject}', '{at}');")
}

async fn pair() -> Pair {
    let pair = Pair::shared().await;
    create(&pair).await;
    for server in [&pair.blue, &pair.green] {
        server.execute(SESSIONS).await;
    }
    pair
}

async fn living(pair: &Pair) -> Vec<i32> {
    let client = pair.green.client().await;
    let rows =
        client.query("select id from app_session where not ended order by id", &[]).await.expect("green answers");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn replayed(pair: &Pair, ways: &Ways, events: &[Event]) -> u64 {
    let mut green = pair.green.client().await;
    let tx = green.transaction().await.expect("green begins");
    let rows = replay(&tx, ways, events).await.expect("green takes it");
    tx.commit().await.expect("green commits");
    rows
}

#[tokio::test]
async fn revocations_by_statement_kill_what_is_older_and_leave_a_later_grant() {
    let pair = pair().await;
    let at: Timestamp = "2026-11-01T10:00:00Z".parse().expect("a moment");
    let hostile = "'; drop table app_session; --";
    let later = at + 1.millisecond();
    for one in [row(1, "ann", at), row(2, "ann", later), row(3, "bob", at)] {
        pair.green.execute(&one).await;
    }
    let ways = ways(&pair, Side::Green, &section(REVOKE, Some(ALIVE))).await;
    let mut token = event_of(&pair, token("x.nobody")).await;
    token.what.chain.subject = Some("bob".to_owned());
    let events = [withdrawn("ann", at), withdrawn(hostile, at), token];
    let green = pair.green.client().await;
    let proof = prove_on_target(&green, &ways, &events[..1]).await.expect("green answers");
    assert!(
        proof.open.is_empty() && proof.proved.is_empty(),
        "nothing of its chain is known: blue is asked too, under the hold"
    );
    let witness = Witness::ask(&green, &ways, &events).await.expect("green answers");
    assert_eq!(witness.alive.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [events[0].id], "{witness:?}");
    assert!(witness.alive[0].1.contains("sessions says"), "{witness:?}");

    assert_eq!(replayed(&pair, &ways, &events).await, 1);
    assert_eq!(living(&pair).await, [2, 3], "a later one, and one whose door is not the statement's");
    assert_eq!(replayed(&pair, &ways, &events).await, 0, "once is enough");
    let witness = Witness::ask(&green, &ways, &events).await.expect("green answers");
    assert_eq!((witness.alive.len(), witness.dead.len()), (0, 3));
    pair.green.execute("update app_session set ended = false where id = 1").await;
    let mut green = pair.green.client().await;
    let tx = green.transaction().await.expect("green begins");
    assert_eq!(replay(&tx, &ways, &events).await.expect("green takes it"), 1, "what a batch brings back dies again");
}

#[tokio::test]
async fn revocations_by_statement_fail_a_proof_that_the_engines_tables_would_give() {
    let pair = pair().await;
    // Whole microseconds: a server rounds a text to them, and a row would be younger than the revocation half of the time.
    let at = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("a moment");
    pair.blue.execute(&grant("r1", "t1", "app", "ann")).await;
    pair.green.execute(&row(1, "ann", at)).await;
    let mut event = event_of(&pair, Knock::Consent { challenge: "r1".to_owned() }).await;
    event.what.chain.subject = Some("ann".to_owned());
    event.what.chain.at = Some(at);
    let events = [event];
    let green = pair.green.client().await;
    let asked = ways(&pair, Side::Green, &section(REVOKE, Some(ALIVE))).await;
    let unasked = ways(&pair, Side::Green, &section(REVOKE, None)).await;
    let proof = prove_on_target(&green, &asked, &events).await.expect("green answers");
    assert!(proof.open[0].1.contains("sessions says that it lives"), "{proof:?}");
    let proof = prove_on_target(&green, &unasked, &events).await.expect("green answers");
    assert_eq!(proof.proved.len(), 1, "without a question the engine's tables alone are asked");
    replayed(&pair, &asked, &events).await;
    let proof = prove_on_target(&green, &asked, &events).await.expect("green answers");
    assert_eq!(proof.proved.len(), 1);

    let vague = "select null::uuid from unnest($1::uuid[]) as r (event)";
    let vague = ways(&pair, Side::Green, &section(REVOKE, Some(vague))).await;
    let proof = prove_on_target(&green, &vague, &events).await.expect("green answers");
    assert!(proof.open[0].1.contains("not of which event"), "{proof:?}");
}

#[tokio::test]
async fn revocations_by_statement_go_many_at_once_and_one_that_fails_keeps_no_other() {
    let pair = pair().await;
    let at = Timestamp::now();
    let fill = "insert into app_session (id, subject, created_at) select n, 'u' || n, '2020-01-01' from generate_series(1, 5000) n";
    pair.green.execute(fill).await;
    let every = section(REVOKE, Some(ALIVE));
    let ways = ways(&pair, Side::Green, &every).await;
    let events: Vec<Event> = (1..=5000).map(|n| withdrawn(&format!("u{n}"), at)).collect();
    let witness = Witness::ask(&pair.green.client().await, &ways, &events).await.expect("green answers");
    assert_eq!(witness.alive.len(), 5000);
    assert_eq!(replayed(&pair, &ways, &events).await, 5000);
    assert_eq!(living(&pair).await, [0_i32; 0]);

    let fails =
        "update app_session s set ended = true from unnest($6::text[]) as r (subject) where s.id = r.subject::int";
    let ways = self::ways(&pair, Side::Green, &section(fails, None)).await;
    pair.green.execute("update app_session set ended = false where id = 7").await;
    let mut green = pair.green.client().await;
    let tx = green.transaction().await.expect("green begins");
    let events = [withdrawn("no-number", at), withdrawn("7", at)];
    let results = replay_each(&tx, &ways, &events).await.expect("the connection holds");
    assert!(results[0].1.is_err() && results[1].1.is_ok(), "{results:?}");
    tx.commit().await.expect("green commits");
    assert_eq!(living(&pair).await, [0_i32; 0], "the other one was replayed");
}

#[tokio::test]
async fn revocations_by_statement_are_prepared_before_they_are_needed() {
    let pair = pair().await;
    pair.green.execute("create view seen as select * from app_session; create function gone(text) returns boolean language sql as 'select true'").await;
    let green = pair.green.client().await;
    let sound = ways(&pair, Side::Green, &section(REVOKE, Some(ALIVE))).await;
    assert_eq!(sound.sql().examine(&green).await.expect("green answers"), []);
    for (revoke, alive, said) in [
        (REVOKE.replace("app_session", "nowhere"), None, "does not exist"),
        (REVOKE.replace("s.subject", "s.nobody"), None, "revoke: column s.nobody does not exist"),
        (
            REVOKE.to_owned(),
            Some(ALIVE.replace("select r.event", "select r.subject")),
            "alive: its first column is of type text",
        ),
        (REVOKE.replace("not s.ended", "gone(s.subject)"), None, "names the function gone"),
        (REVOKE.to_owned(), Some(ALIVE.replace("app_session", "seen")), "names the view seen"),
    ] {
        let flawed = ways(&pair, Side::Green, &section(&revoke, alive.as_deref())).await;
        let flaws: Vec<Flaw> = flawed.sql().examine(&green).await.expect("green answers");
        assert!(flaws.len() == 1 && flaws[0].what.contains(said), "{said}: {flaws:?}");
        assert_eq!(flaws[0].is_absent, said == "does not exist", "{flaws:?}");
    }
    assert_eq!(living(&pair).await, [0_i32; 0], "nothing was run");
}

/// Which rows a statement kills only it knows: a batch that touched one of its tables has touched all that it is for.
#[tokio::test]
async fn revocations_by_statement_are_met_by_a_batch_over_their_tables() {
    let pair = pair().await;
    let ways = ways(&pair, Side::Green, &section(REVOKE, Some(ALIVE))).await;
    let (event, green) = (withdrawn("ann", Timestamp::now()), pair.green.client().await);
    for (table, is_met) in [("app_session", true), ("hydra_client", false)] {
        let from = format!("{table} t");
        let rows = [TouchedRows { table: format!("\"public\".\"{table}\""), name: table.to_owned(), from }];
        let touched = Touched::read(&green, &ways, &rows).await.expect("green answers");
        assert_eq!(meets(&touched, &event), is_met, "{table}");
        let mut other = event.clone();
        other.what.door = Door::Logout;
        assert!(!meets(&touched, &other), "its statement is for another door");
    }
}

#[tokio::test]
async fn revocations_are_dated_by_the_side_that_serves() {
    let pair = pair().await;
    pair.blue.execute(&grant("r1", "t1", "app", "ann")).await;
    let clock = "select clock_timestamp()";
    let lookups = Lookups::new(&pair.blue.url(), &pair.green.url(), super::LIMIT);
    let before: Timestamp = pair.blue.client().await.query_one(clock, &[]).await.expect("blue answers").get(0);
    let found = lookups.both(&token("x.t1-refresh"), Side::Blue).await.expect("both answer");
    let after: Timestamp = pair.blue.client().await.query_one(clock, &[]).await.expect("blue answers").get(0);
    let at = found.chain.at.expect("a time");
    assert!(before <= at && at <= after, "{before} {at} {after}");
    let nowhere = Lookups::new(&pair.blue.url(), &crate::gateway::world::nowhere(), super::LIMIT);
    assert!(nowhere.both(&token("x.t1-refresh"), Side::Blue).await.expect("blue answers").chain.at.is_some());
}

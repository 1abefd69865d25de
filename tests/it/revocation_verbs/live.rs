//! Executing on the side that serves, and asking its tables: the second witness over real tables.

use super::engine::{Engine, Manner};
use crate::harness::{Pair, Place};
use crate::revocations::{captured, tables, ways};
use cutover::database::term::{self, Term};
use cutover::revocations::hydra::Knock;
use cutover::revocations::live::execute;
use cutover::revocations::sinks::{HydraSink, Sink, client};
use cutover::revocations::{Chain, Event, Outcome, Witness};
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_millis(500);

fn event(seq: i64, knock: &Knock, chain: Chain, outcome: Outcome) -> Event {
    let (id, captured_at, what) = (Uuid::new_v4(), jiff::Timestamp::now(), captured(knock, chain));
    Event { id, incarnation: Uuid::nil(), seq, captured_at, what, outcome }
}

/// A consent of a subject to `app`, as it is captured.
fn consent(seq: i64, subject: &str, challenge: &str, outcome: Outcome) -> Event {
    let chain = Chain {
        requests: [challenge.to_owned()].into(),
        consents: [challenge.to_owned()].into(),
        subject: Some(subject.to_owned()),
        ..Chain::default()
    };
    event(seq, &Knock::Consents { subject: subject.to_owned(), client: None }, chain, outcome)
}

/// A login session that was ended by its id.
fn session(seq: i64, id: &str, outcome: Outcome) -> Event {
    let chain = Chain { sessions: [id.to_owned()].into(), ..Chain::default() };
    event(seq, &Knock::Session { id: id.to_owned() }, chain, outcome)
}

/// Login sessions that stand on blue.
async fn sessions(blue: &Place) -> String {
    blue.ask("select coalesce(string_agg(id, ' ' order by id), '') from hydra_oauth2_authentication_session").await
}

async fn grant(blue: &Place, name: &str, subject: &str) {
    blue.execute(&(tables::blue_consent(name, "app", subject) + &tables::grant(name, name, "app", subject))).await;
}

async fn living(blue: &Place, name: &str) -> i64 {
    let query = format!(
        "select (select count(*) from hydra_oauth2_access where request_id = '{name}') + (select count(*) from hydra_oauth2_refresh where request_id = '{name}' and active)"
    );
    blue.ask(&query).await
}

/// Blue with our term in it.
async fn prepared() -> (Pair, Term) {
    let pair = Pair::shared().await;
    tables::create(&pair).await;
    pair.blue.execute("create schema if not exists cutover").await;
    let term = Term { term: 7, nonce: Uuid::new_v4() };
    let blue = pair.blue.client().await;
    term::install(&blue, &term).await.expect("our term is installed");
    (pair, term)
}

/// A connection of ours whose SQL blue's token tables refuse.
async fn refused(blue: &Place) -> Client {
    blue.execute(
        "create function refuse() returns trigger language plpgsql as
  $$ begin if current_setting('it.who', true) = 'us' then raise 'not yours'; end if; return coalesce(new, old); end $$;
create trigger refuse before update or delete on hydra_oauth2_access for each row execute function refuse();
create trigger refuse before update or delete on hydra_oauth2_refresh for each row execute function refuse()",
    )
    .await;
    let client = blue.client().await;
    client.batch_execute("set it.who = 'us'").await.expect("set");
    client
}

/// An engine that does what its API says on blue's tables, and the sink that tells it.
async fn engine(pair: &Pair) -> (Engine, HydraSink) {
    let engine = Engine::start(Manner::First).await;
    *engine.database.lock().expect("no panic") = Some(pair.blue.url());
    let http = client(LIMIT).expect("a client");
    let sink = HydraSink::new(http, engine.url.parse().expect("an address"), LIMIT);
    (engine, sink)
}

#[tokio::test]
async fn revocation_verbs_execute_by_chain_so_that_a_grant_made_meanwhile_lives() {
    let (pair, term) = prepared().await;
    let (engine, sink) = engine(&pair).await;
    for (name, subject) in [("r1", "ann"), ("r2", "bob"), ("r3", "bob"), ("r4", "eve")] {
        grant(&pair.blue, name, subject).await;
    }
    let mut blue = pair.blue.client().await;
    let ways = ways(&blue).await;
    let token = event(
        3,
        &Knock::Token { signatures: vec!["r4-access".to_owned()] },
        Chain { requests: ["r4".to_owned()].into(), signatures: vec!["r4-access".to_owned()], ..Chain::default() },
        Outcome::Captured,
    );
    let events = [consent(1, "ann", "r1", Outcome::Captured), consent(2, "bob", "r2", Outcome::Captured), token];
    let before = Witness::ask(&blue, &ways, &events).await.expect("blue answers");
    assert_eq!((before.unsettled.len(), before.alive.len()), (3, 0), "{before:?}");

    let done = execute(&mut blue, &ways, &term, Some(&sink as &dyn Sink), &events).await.expect("blue answers");
    assert_eq!((done.dead.len(), done.alive.len()), (3, 0), "{done:?}");
    assert_eq!(engine.count(), 0, "an API by subject and client would kill whatever is granted while it is asked");
    assert_eq!(living(&pair.blue, "r3").await, 2, "what came later lives");
    for name in ["r1", "r2", "r4"] {
        assert_eq!(living(&pair.blue, name).await, 0, "{name}");
    }
    let again = execute(&mut blue, &ways, &term, Some(&sink as &dyn Sink), &events).await.expect("blue answers");
    assert_eq!((again.dead.len(), living(&pair.blue, "r3").await), (3, 2), "twice does no harm");
}

#[tokio::test]
async fn revocation_verbs_execute_by_api_what_sql_cannot_reach_and_only_what_means_the_same() {
    let (pair, term) = prepared().await;
    let (engine, sink) = engine(&pair).await;
    for (name, subject) in [("r1", "ann"), ("r2", "bob"), ("r3", "bob")] {
        grant(&pair.blue, name, subject).await;
    }
    let mut blue = refused(&pair.blue).await;
    let ways = ways(&blue).await;
    let events = [consent(1, "ann", "r1", Outcome::Captured), consent(2, "bob", "r2", Outcome::Captured)];
    let done = execute(&mut blue, &ways, &term, Some(&sink as &dyn Sink), &events).await.expect("blue answers");
    assert_eq!(done.dead, [(events[0].id, Some(204))]);
    assert_eq!(done.alive.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [events[1].id], "{done:?}");
    let asked = engine.asked.lock().expect("no panic").clone();
    assert!(asked.iter().all(|asked| asked.contains("subject=ann&client=app")), "bob has granted anew: {asked:?}");
    assert_eq!((living(&pair.blue, "r1").await, living(&pair.blue, "r3").await), (0, 2));
}

#[tokio::test]
async fn revocation_verbs_end_one_session_of_several_by_api_only_where_the_engine_knows_ids() {
    let (pair, term) = prepared().await;
    let (engine, sink) = engine(&pair).await;
    for (id, subject) in [("s1", "ann"), ("s2", "ann"), ("s3", "bob"), ("s4", "eve"), ("s5", "eve")] {
        pair.blue
            .execute(&format!("insert into hydra_oauth2_authentication_session values ('{id}', '{subject}')"))
            .await;
    }
    let mut blue = refused(&pair.blue).await;
    pair.blue
        .execute("create trigger refuse before delete on hydra_oauth2_authentication_session for each row execute function refuse()")
        .await;
    let ways = ways(&blue).await;
    let one = |seq, id| session(seq, id, Outcome::Captured);
    let mut events = [one(1, "s1"), one(2, "s3"), one(3, "s4"), one(4, "s4")];
    events[3].what.chain.sessions.insert("s5".to_owned());
    let done = execute(&mut blue, &ways, &term, Some(&sink as &dyn Sink), &events).await.expect("blue answers");
    let dead = [(events[1].id, Some(204)), (events[2].id, None), (events[3].id, Some(204))];
    assert_eq!(done.dead, dead, "all of bob's are meant; eve's first by the word for all of hers");
    assert!(done.alive.len() == 1 && done.alive[0].0 == events[0].id && done.alive[0].1.contains("400"), "{done:?}");
    assert_eq!(sessions(&pair.blue).await, "s1 s2", "1.x would end all of ann's, and is not asked to");
    let asked = engine.asked.lock().expect("no panic").clone();
    let said = ["?sid=s1", "?sid=s4", "?subject=bob", "?subject=eve"];
    assert!(asked.iter().all(|asked| said.iter().any(|said| asked.ends_with(said))), "{asked:?}");

    engine.behave(Manner::Second);
    let done = execute(&mut blue, &ways, &term, Some(&sink as &dyn Sink), &events[..1]).await.expect("blue answers");
    assert_eq!(done.dead, [(events[0].id, Some(204))], "{done:?}");
    assert_eq!(sessions(&pair.blue).await, "s2");
}

#[tokio::test]
async fn revocation_verbs_end_a_session_by_chain_that_its_engine_did_not_look_for() {
    let (pair, term) = prepared().await;
    let made = "insert into hydra_oauth2_authentication_session values ('s1', 'ann', false), ('s2', 'ann', true)";
    pair.blue.execute(made).await;
    let mut blue = pair.blue.client().await;
    let ways = ways(&blue).await;
    let (idle, lied) = (session(1, "s1", Outcome::Executed), session(2, "s2", Outcome::Executed));
    let found = Witness::ask(&blue, &ways, &[idle.clone(), lied.clone()]).await.expect("blue answers");
    let ids = |list: &[(Uuid, String)]| list.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!((ids(&found.idle), ids(&found.stopping(false))), (vec![idle.id], vec![lied.id]), "{found:?}");
    assert_eq!(ids(&found.stopping(true)), [lied.id], "in place it lets nobody in either");
    assert_eq!(found.unfinished, [idle.id].into());
    let done = execute(&mut blue, &ways, &term, None, &[idle]).await.expect("blue answers");
    assert_eq!((done.dead.len(), done.alive.len()), (1, 0), "{done:?}");
    assert_eq!(sessions(&pair.blue).await, "s2");
}

#[tokio::test]
async fn revocation_verbs_name_what_neither_sql_nor_the_engine_has_killed() {
    let (pair, term) = prepared().await;
    let (engine, sink) = engine(&pair).await;
    let mut blue = refused(&pair.blue).await;
    let ways = ways(&blue).await;
    let manners =
        [(Manner::Lies, ""), (Manner::Says(500), "500"), (Manner::Dawdles, "within"), (Manner::Says(401), "401")];
    for (n, (manner, says)) in manners.into_iter().enumerate() {
        let name = format!("r{n}");
        grant(&pair.blue, &name, &name).await;
        engine.behave(manner);
        let events = [consent(1, &name, &name, Outcome::Captured)];
        let done = execute(&mut blue, &ways, &term, Some(&sink as &dyn Sink), &events).await.expect("blue answers");
        assert!(engine.count() > 0, "it was asked");
        assert_eq!((done.dead.len(), done.alive.len()), (0, 1), "{done:?}");
        assert!(done.alive[0].1.contains("is active") && done.alive[0].1.contains(says), "{done:?}");
    }
}

#[tokio::test]
async fn revocation_verbs_execute_nothing_when_another_process_may_act() {
    let (pair, term) = prepared().await;
    let (engine, sink) = engine(&pair).await;
    let mut blue = pair.blue.client().await;
    let ways = ways(&blue).await;
    grant(&pair.blue, "late", "late").await;
    let stale = Term { term: 6, ..term };
    let events = [consent(1, "late", "late", Outcome::Captured)];
    let done = execute(&mut blue, &ways, &stale, Some(&sink as &dyn Sink), &events).await;
    assert!(done.is_err(), "{done:?}");
    assert_eq!((living(&pair.blue, "late").await, engine.count()), (2, 0));
}

#[tokio::test]
async fn revocation_verbs_witness_names_what_an_engine_only_said_and_what_it_has_not_finished() {
    let (pair, term) = prepared().await;
    for (name, subject) in [("r1", "ann"), ("r2", "bob"), ("r3", "eve")] {
        grant(&pair.blue, name, subject).await;
    }
    let blue = pair.blue.client().await;
    let ways = ways(&blue).await;
    let of = |request: &str, signature: &str| Chain {
        requests: [request.to_owned()].into(),
        signatures: vec![signature.to_owned()],
        ..Chain::default()
    };
    let knock = Knock::Token { signatures: Vec::new() };
    let lied = consent(1, "ann", "r1", Outcome::Executed);
    let rotated = event(2, &knock, of("r2", "an-elder-token"), Outcome::Executed);
    let token = event(3, &knock, of("r3", "r3-refresh"), Outcome::Executed);
    let gone = event(4, &knock, of("r9", "r9-refresh"), Outcome::Executed);
    let events = [lied.clone(), rotated.clone(), token.clone(), gone.clone()];
    let found = Witness::ask(&blue, &ways, &events).await.expect("blue answers");
    assert_eq!(found.alive.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [lied.id, token.id], "{found:?}");
    assert_eq!(found.rotated.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [rotated.id], "{found:?}");
    assert_eq!(found.dead, [gone.id]);
    assert_eq!(
        found.unfinished,
        [rotated.id].into(),
        "the token's own chain dies too, or the sides would not say the same"
    );
    let done = execute(&mut pair.blue.client().await, &ways, &term, None, &[rotated]).await.expect("blue answers");
    assert_eq!(
        (done.dead.len(), living(&pair.blue, "r2").await, living(&pair.blue, "r1").await),
        (1, 0, 2),
        "{done:?}"
    );

    let until = async |at: &str| {
        let chain = Chain { clients: ["app".to_owned()].into(), until: Some(at.to_owned()), ..Chain::default() };
        let event = event(5, &Knock::ClientTokens { client: "app".to_owned() }, chain, Outcome::Executed);
        let found = Witness::ask(&blue, &ways, &[event]).await.expect("blue answers");
        assert!(found.alive.is_empty(), "it may have been under way while the engine deleted the others: {found:?}");
        found.late.len()
    };
    pair.blue.execute("update hydra_oauth2_access set requested_at = '2026-01-01 10:00:00'").await;
    assert_eq!(until("2026-01-01 10:00:01.000000").await, 1);
    assert_eq!(until("2026-01-01 10:00:00.500000").await, 0, "one of the same second may have come later");
}

#[tokio::test]
async fn revocation_verbs_execute_by_chain_what_was_under_way_while_an_engine_deleted_a_clients_tokens() {
    let (pair, term) = prepared().await;
    let (engine, sink) = engine(&pair).await;
    for (name, at) in [("late", "10:00:00"), ("next", "10:00:03")] {
        grant(&pair.blue, name, "ann").await;
        pair.blue
            .execute(&format!(
                "update hydra_oauth2_access set requested_at = '2026-01-01 {at}' where request_id = '{name}'"
            ))
            .await;
    }
    let mut blue = pair.blue.client().await;
    let ways = ways(&blue).await;
    let (clients, until) = (["app".to_owned()].into(), Some("2026-01-01 10:00:02.000000".to_owned()));
    let chain = Chain { clients, until, ..Chain::default() };
    let deleted = event(1, &Knock::ClientTokens { client: "app".to_owned() }, chain, Outcome::Executed);
    let found = Witness::ask(&blue, &ways, std::slice::from_ref(&deleted)).await.expect("blue answers");
    assert_eq!(found.unfinished, [deleted.id].into(), "{found:?}");
    let done = execute(&mut blue, &ways, &term, Some(&sink as &dyn Sink), &[deleted]).await.expect("blue answers");
    assert_eq!((done.dead.len(), done.alive.len(), engine.count()), (1, 0, 0), "{done:?}");
    let left = "select count(*) from hydra_oauth2_access where request_id = ";
    assert_eq!(pair.blue.ask::<i64>(&format!("{left}'late'")).await, 0);
    assert_eq!(pair.blue.ask::<i64>(&format!("{left}'next'")).await, 1, "what was asked for later lives");
}

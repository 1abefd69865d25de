//! Chains: found on blue, killed on green, proved dead there; and what may not count as proof.

use super::tables::{LIVING, blue_consent, create, grant, green_consent};
use super::{event_of, token, ways};
use crate::harness::{Pair, Place};
use cutover::plan::Side;
use cutover::revocations::hydra::Knock;
use cutover::revocations::proof::{Proof, prove, prove_on_target};
use cutover::revocations::replay::{replay, replay_each};
use cutover::revocations::{Event, Seen};

async fn replay_on_green(pair: &Pair, events: &[Event]) -> u64 {
    replay_on(&pair.green, events).await
}

async fn replay_on(target: &Place, events: &[Event]) -> u64 {
    let mut client = target.client().await;
    let ways = ways(&client).await;
    let tx = client.transaction().await.expect("the target begins");
    let rows = replay(&tx, &ways, events).await.expect("the target takes it");
    tx.commit().await.expect("the target commits");
    rows
}

async fn proof_of(pair: &Pair, events: &[Event]) -> Proof {
    proof_on((&pair.green, &pair.blue), events).await
}

async fn proof_of_way_back(pair: &Pair, events: &[Event]) -> Proof {
    proof_on((&pair.blue, &pair.green), events).await
}

async fn proof_on((target, source): (&Place, &Place), events: &[Event]) -> Proof {
    let (target, source) = (target.client().await, source.client().await);
    let target_ways = ways(&target).await;
    let source_ways = ways(&source).await;
    prove(&target, &target_ways, &source, &source_ways, events).await.expect("both answer")
}

async fn pair() -> Pair {
    let pair = Pair::shared().await;
    create(&pair).await;
    pair
}

/// Refreshed on blue after the snapshot: green knows only the older token, the revocation names only the newer one.
#[tokio::test]
async fn revoking_a_token_that_green_never_had_kills_its_elder_there() {
    let pair = pair().await;
    pair.green.execute(&grant("r1", "t1", "app", "ann")).await;
    pair.blue.execute(&grant("r1", "t2", "app", "ann")).await;
    let events = [event_of(&pair, token("ory_rt_random.t2-refresh")).await];
    assert_eq!(proof_of(&pair, &events).await.open.len(), 1, "the elder lives");
    assert_eq!(replay_on_green(&pair, &events).await, 2);
    assert_eq!(pair.green.ask::<i64>(LIVING).await, 0);
    assert_eq!(proof_of(&pair, &events).await.proved, [events[0].id]);
    assert_eq!(replay_on_green(&pair, &events).await, 0, "once is enough");
}

#[tokio::test]
async fn a_proof_falls_with_one_living_row_and_a_batch_kills_it_again() {
    let pair = pair().await;
    pair.blue.execute(&grant("r1", "t1", "app", "ann")).await;
    let events = [event_of(&pair, token("x.t1-access")).await];
    replay_on_green(&pair, &events).await;
    assert_eq!(proof_of(&pair, &events).await.proved.len(), 1);
    // A batch brings the chain over as blue still has it.
    pair.green.execute(&grant("r1", "t1", "app", "ann")).await;
    let proof = proof_of(&pair, &events).await;
    assert!(proof.open[0].1.contains("r1"), "{proof:?}");
    let mut green = pair.green.client().await;
    let ways = ways(&green).await;
    let tx = green.transaction().await.expect("green begins");
    assert_eq!(replay(&tx, &ways, &events).await.expect("green takes it"), 2);
    tx.commit().await.expect("green commits");
    assert_eq!(proof_of(&pair, &events).await.proved.len(), 1);
}

#[tokio::test]
async fn absence_proves_nothing_where_the_side_that_served_was_not_asked_or_knows_better() {
    let pair = pair().await;
    let unknown = event_of(&pair, token("x.nobody-knows-it")).await;
    assert_eq!(proof_of(&pair, std::slice::from_ref(&unknown)).await.proved.len(), 1, "blue does not know it either");

    let mut unasked = unknown.clone();
    unasked.what.blue = Seen::Unreachable;
    assert_eq!(proof_of(&pair, &[unasked]).await.open.len(), 1);

    // The other way round blue did not serve, and is asked for it when it is to open.
    let mut dark = unknown.clone();
    (dark.what.live, dark.what.blue) = (Side::Green, Seen::Unreachable);
    assert_eq!(proof_of_way_back(&pair, std::slice::from_ref(&dark)).await.proved, [dark.id]);

    let late = "insert into hydra_oauth2_access (signature, request_id, client_id, subject) values ('nobody-knows-it', 'r9', 'app', 'ann')";
    pair.blue.execute(late).await;
    assert_eq!(proof_of(&pair, &[unknown]).await.open.len(), 1, "blue knows it now");
    assert_eq!(
        proof_of_way_back(&pair, std::slice::from_ref(&dark)).await.open.len(),
        1,
        "it lives where it is to open"
    );
    pair.blue.execute("delete from hydra_oauth2_access").await;
    pair.green.execute(late).await;
    assert_eq!(proof_of_way_back(&pair, &[dark]).await.open.len(), 1, "green knows it now");
}

#[tokio::test]
async fn a_token_unknown_at_capture_dies_on_green_by_its_signature() {
    let pair = pair().await;
    let event = event_of(&pair, token("x.t1-access")).await;
    pair.green.execute(&grant("r1", "t1", "app", "ann")).await;
    assert_eq!(proof_of(&pair, std::slice::from_ref(&event)).await.open.len(), 1);
    replay_on_green(&pair, &[event]).await;
    assert_eq!(pair.green.ask::<i64>(LIVING).await, 0);
}

#[tokio::test]
async fn a_withdrawn_consent_stands_no_more_and_others_do() {
    let pair = pair().await;
    for consent in
        [blue_consent("r1", "app", "ann"), blue_consent("r2", "other", "ann"), grant("r1", "t1", "app", "ann")]
    {
        pair.blue.execute(&consent).await;
    }
    for consent in
        [green_consent("r1", "app", "ann"), green_consent("r2", "other", "ann"), grant("r1", "t1", "app", "ann")]
    {
        pair.green.execute(&consent).await;
    }
    let knock = Knock::Consents { subject: "ann".into(), client: Some("app".into()) };
    let events = [event_of(&pair, knock).await];
    assert_eq!(proof_of(&pair, &events).await.open.len(), 1);
    assert!(replay_on_green(&pair, &events).await > 0);
    assert_eq!(pair.green.ask::<i64>(LIVING).await, 0);
    let standing = "select count(*) from hydra_oauth2_flow where state = 6 and consent_error = '{}'";
    assert_eq!(pair.green.ask::<i64>(standing).await, 1);
    assert_eq!(proof_of(&pair, &events).await.proved.len(), 1);
}

#[tokio::test]
async fn an_ended_login_leaves_its_flow_without_a_session() {
    let pair = pair().await;
    let session = "insert into hydra_oauth2_authentication_session values ('s1', 'ann')";
    pair.blue.execute(session).await;
    pair.green.execute(session).await;
    pair.green.execute(&green_consent("r1", "app", "ann")).await;
    pair.green.execute("update hydra_oauth2_flow set login_session_id = 's1'").await;
    let events = [event_of(&pair, Knock::Sessions { subject: "ann".into() }).await];
    replay_on_green(&pair, &events).await;
    let left = "select count(*) from hydra_oauth2_flow where login_session_id is null";
    assert_eq!(pair.green.ask::<i64>(left).await, 1);
    assert_eq!(proof_of(&pair, &events).await.proved.len(), 1);
}

#[tokio::test]
async fn a_session_ended_by_its_id_is_dead_on_either_side_and_others_of_its_subject_stand() {
    let pair = pair().await;
    let sessions = "insert into hydra_oauth2_authentication_session values ('s1', 'ann'), ('s2', 'ann')";
    pair.blue.execute(sessions).await;
    pair.green.execute(sessions).await;
    pair.green.execute(&green_consent("r1", "app", "ann")).await;
    pair.green.execute("update hydra_oauth2_flow set login_session_id = 's1'").await;
    // What 1.x has instead of a parameter: its rows.
    pair.blue.execute(&blue_consent("r1", "app", "ann")).await;
    pair.blue.execute("insert into hydra_oauth2_authentication_request values ('l1', 's1')").await;
    pair.blue.execute("update hydra_oauth2_consent_request set login_session_id = 's1'").await;
    let events = [event_of(&pair, Knock::Session { id: "s1".into() }).await];
    let open = proof_of(&pair, &events).await.open;
    assert!(open.len() == 1 && open[0].1.contains("login session s1"), "{open:?}");
    assert_eq!(proof_of_way_back(&pair, &events).await.open.len(), 1, "on blue it stands as well");
    for side in [&pair.green, &pair.blue] {
        replay_on(side, &events).await;
        let left: String = side.ask("select string_agg(id, ' ') from hydra_oauth2_authentication_session").await;
        assert_eq!(left, "s2");
        assert_eq!(replay_on(side, &events).await, 0, "once is enough");
    }
    for proof in [proof_of(&pair, &events).await, proof_of_way_back(&pair, &events).await] {
        assert_eq!(proof.proved, [events[0].id]);
    }
    let kept = "select count(*) from hydra_oauth2_authentication_request where login_session_id is null";
    assert_eq!(pair.blue.ask::<i64>(kept).await, 1, "the login that made it is kept");
    assert_eq!(pair.green.ask::<i64>("select count(*) from hydra_oauth2_flow where state = 6").await, 1);
}

#[tokio::test]
async fn deleting_a_clients_tokens_spares_those_granted_later() {
    let pair = pair().await;
    pair.blue.execute(&grant("r1", "t1", "app", "ann")).await;
    pair.green.execute(&grant("r1", "t1", "app", "ann")).await;
    pair.green.execute("update hydra_oauth2_access set requested_at = requested_at - interval '1 day'").await;
    let events = [event_of(&pair, Knock::ClientTokens { client: "app".into() }).await];
    pair.green.execute(&grant("r2", "t2", "app", "ann")).await;
    pair.green
        .execute("update hydra_oauth2_access set requested_at = now() + interval '1 day' where request_id = 'r2'")
        .await;
    replay_on_green(&pair, &events).await;
    let left: String = pair.green.ask("select string_agg(request_id, ' ') from hydra_oauth2_access").await;
    assert_eq!(left, "r2");
    let refresh: i64 = pair.green.ask("select count(*) from hydra_oauth2_refresh where active").await;
    assert_eq!(refresh, 2, "refresh tokens stay");
    assert_eq!(proof_of(&pair, &events).await.proved.len(), 1);
}

#[tokio::test]
async fn a_changed_client_is_proved_only_when_green_says_what_blue_says() {
    let pair = pair().await;
    pair.blue.execute("insert into hydra_client (id, client_secret) values ('app', 'new')").await;
    pair.green.execute("insert into hydra_client (id, client_secret) values ('app', 'old')").await;
    let events = [event_of(&pair, Knock::ClientUpdate { client: "app".into() }).await];
    assert_eq!(proof_of(&pair, &events).await.open.len(), 1);
    pair.green.execute("update hydra_client set client_secret = 'new'").await;
    assert_eq!(proof_of(&pair, &events).await.proved.len(), 1);
    pair.blue.execute("delete from hydra_client").await;
    let events = [event_of(&pair, Knock::ClientDelete { client: "app".into() }).await];
    assert_eq!(proof_of(&pair, &events).await.open.len(), 1, "deleted on blue alone");
}

#[tokio::test]
async fn poison_does_not_keep_the_others() {
    let pair = pair().await;
    pair.blue.execute(&grant("r1", "t1", "app", "ann")).await;
    pair.green.execute(&grant("r1", "t1", "app", "ann")).await;
    pair.green.execute(&grant("r2", "t2", "app", "ann")).await;
    let good = event_of(&pair, token("x.t1-access")).await;
    let mut poison = event_of(&pair, Knock::ClientTokens { client: "app".into() }).await;
    poison.what.chain.until = Some("not a time".to_owned());
    let mut green = pair.green.client().await;
    let ways = ways(&green).await;
    let tx = green.transaction().await.expect("green begins");
    let results = replay_each(&tx, &ways, &[poison, good]).await.expect("the connection holds");
    tx.commit().await.expect("green commits");
    assert!(results[0].1.is_err());
    assert!(results[1].1.is_ok());
    assert_eq!(pair.green.ask::<i64>(LIVING).await, 0);
}

#[tokio::test]
async fn before_the_hold_only_what_needs_no_answer_of_blue_is_proved() {
    let pair = pair().await;
    pair.blue.execute(&grant("r1", "t1", "app", "ann")).await;
    let known = event_of(&pair, token("x.t1-access")).await;
    let unknown = event_of(&pair, token("x.nobody-knows-it")).await;
    let changed = event_of(&pair, Knock::ClientUpdate { client: "app".into() }).await;
    let green = pair.green.client().await;
    let ways = ways(&green).await;
    let events = [known.clone(), unknown, changed];
    let proof = prove_on_target(&green, &ways, &events).await.expect("green answers");
    assert_eq!(proof, Proof { proved: vec![known.id], open: Vec::new() });
    pair.green.execute(&grant("r1", "t1", "app", "ann")).await;
    let proof = prove_on_target(&green, &ways, &events).await.expect("green answers");
    assert_eq!(proof.open.len(), 1);
}

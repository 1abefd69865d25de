//! Which chains a batch touched, and that asking for the rest costs no reading of whole tables.

use super::tables::{create, grant, green_consent};
use super::{event_of, meets, token, ways};
use crate::harness::Pair;
use cutover::revocations::hydra::Knock;
use cutover::revocations::proof::prove_on_target;
use cutover::revocations::replay::replay;
use cutover::revocations::{Event, Touched, TouchedRows};
use tokio_postgres::Client;

/// Two chains on both sides, each with a consent and a login session, of clients of their own.
async fn two_chains() -> Pair {
    let pair = Pair::shared().await;
    create(&pair).await;
    for n in ["1", "2"] {
        let (request, name, client) = (format!("r{n}"), format!("t{n}"), format!("app{n}"));
        for side in [&pair.blue, &pair.green] {
            side.execute(&grant(&request, &name, &client, "ann")).await;
            side.execute(&format!("insert into hydra_oauth2_authentication_session values ('s{n}', 'ann')")).await;
            for table in ["access", "refresh"] {
                side.execute(&format!("update hydra_oauth2_{table} set requested_at = '2026-01-01'")).await;
            }
        }
        pair.green.execute(&green_consent(&request, &client, "ann")).await;
        let login =
            format!("update hydra_oauth2_flow set login_session_id = 's{n}' where consent_challenge_id = '{request}'");
        pair.green.execute(&login).await;
    }
    pair
}

async fn touched(green: &Client, rows: &[(&str, &str)]) -> Touched {
    let rows: Vec<TouchedRows> = rows
        .iter()
        .map(|(table, condition)| TouchedRows {
            table: format!("\"public\".\"{table}\""),
            name: (*table).to_owned(),
            from: format!("{table} t where {condition}"),
        })
        .collect();
    Touched::read(green, &ways(green).await, &rows).await.expect("green answers")
}

#[tokio::test]
async fn a_batch_meets_the_chains_of_its_rows_and_no_others() {
    let pair = two_chains().await;
    let green = pair.green.client().await;
    let by_token = touched(&green, &[("hydra_oauth2_refresh", "signature = 't1-refresh'")]).await;
    let by_flow = touched(&green, &[("hydra_oauth2_flow", "login_challenge = 'l-r1'")]).await;
    let by_session = touched(&green, &[("hydra_oauth2_authentication_session", "id = 's1'")]).await;
    for (n, is_met) in [("1", true), ("2", false)] {
        let first = event_of(&pair, token(&format!("x.t{n}-access"))).await;
        assert_eq!(meets(&by_token, &first), is_met, "a sibling of the revoked token is touched");
        let consent = event_of(&pair, Knock::Consent { challenge: format!("r{n}") }).await;
        assert_eq!((meets(&by_token, &consent), meets(&by_flow, &consent)), (is_met, is_met));
        let session = event_of(&pair, Knock::Session { id: format!("s{n}") }).await;
        assert_eq!((meets(&by_session, &session), meets(&by_flow, &session)), (is_met, is_met));
        assert!(!meets(&by_token, &session), "a token says nothing of a session");
        let client = event_of(&pair, Knock::ClientTokens { client: format!("app{n}") }).await;
        assert_eq!(meets(&by_token, &client), is_met);
    }
    let nothing = touched(&green, &[("hydra_client", "true")]).await;
    assert_eq!(nothing, Touched::default(), "no revocation is about rows of clients");
    let unknown = event_of(&pair, token("x.nobody-knows-it")).await;
    assert!(meets(&nothing, &unknown), "nothing says which rows are its");
}

#[tokio::test]
async fn a_client_s_later_tokens_do_not_meet_what_killed_its_earlier_ones() {
    let pair = two_chains().await;
    let event = event_of(&pair, Knock::ClientTokens { client: "app1".into() }).await;
    let later =
        "update hydra_oauth2_access set requested_at = now() + interval '1 minute' where signature = 't1-access'";
    pair.green.execute(later).await;
    let green = pair.green.client().await;
    let row = ("hydra_oauth2_access", "signature = 't1-access'");
    assert!(!meets(&touched(&green, &[row]).await, &event));
    pair.green.execute("update hydra_oauth2_access set requested_at = '2025-12-31'").await;
    assert!(meets(&touched(&green, &[row]).await, &event));
}

/// Many clients, a few tokens each, and revocations of clients that have none left.
#[tokio::test]
async fn clients_without_tokens_cost_no_reading_of_whole_tables() {
    let pair = Pair::shared().await;
    create(&pair).await;
    for table in ["access", "refresh", "code", "oidc", "pkce"] {
        let fill = format!(
            "insert into hydra_oauth2_{table} (signature, request_id, client_id, subject)
  select 's' || n, 'r' || n, 'client-' || n % 2000, 'ann' from generate_series(1, 40000) n;
create index on hydra_oauth2_{table} (client_id, subject); analyze hydra_oauth2_{table}"
        );
        pair.green.execute(&fill).await;
    }
    let mut events: Vec<Event> = Vec::new();
    for knock in [Knock::ClientDelete { client: String::new() }, Knock::ClientTokens { client: String::new() }] {
        let event = event_of(&pair, knock).await;
        events.extend((0..300).map(|n| {
            let mut event = event.clone();
            event.what.chain.clients = [format!("gone-{n}")].into();
            event.what.chain.until = Some("2100-01-01 00:00:00.000000".to_owned());
            event
        }));
    }
    let mut green = pair.green.client().await;
    let ways = ways(&green).await;
    let tx = green.transaction().await.expect("green begins");
    assert_eq!(replay(&tx, &ways, &events).await.expect("green takes it"), 0);
    prove_on_target(&tx, &ways, &events).await.expect("green answers");
    let read =
        "select coalesce(sum(seq_tup_read), 0)::bigint from pg_stat_xact_user_tables where schemaname = 'public'";
    let read: i64 = tx.query_one(read, &[]).await.expect("the counters answer").get(0);
    assert_eq!(read, 0, "rows were read one after another");
}

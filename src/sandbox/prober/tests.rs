//! The prober's rules on histories of a flip and its way back, told by an engine of straw that answers as it is bidden.

use super::actions::{self, Asked};
use super::ledger::Tokens;
use super::settle::{ask_apps, ask_consents, ask_revoked, try_old_secrets};
use super::turns::Origin;
use super::words::{Door, Seen};
use super::writers::Met;
use super::{Client, Doors, History, Prober, doors, secrets, sessions};
use crate::plan::{Secret, Side};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

const BLUE: Origin = Origin { side: Side::Blue, epoch: 1 };
const GREEN: Origin = Origin { side: Side::Green, epoch: 2 };
const BACK: Origin = Origin { side: Side::Blue, epoch: 3 };
const AGAIN: Origin = Origin { side: Side::Green, epoch: 4 };

/// What the straw engine answers, and from where.
struct Bidden {
    at: Origin,
    answers: BTreeMap<&'static str, (u16, Value)>,
}

/// A prober before a straw engine.
struct World {
    prober: Prober,
    bidden: Arc<Mutex<Bidden>>,
}

/// The systems behind the gateway do not say where they are; the gateway does.
async fn answer(State(bidden): State<Arc<Mutex<Bidden>>>, request: Request) -> Response {
    let bidden = bidden.lock().expect("nobody panicked");
    let path = request.uri().path();
    let (status, body) = bidden.answers.get(path).cloned().unwrap_or((500, Value::Null));
    let mut response = (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response();
    if !matches!(path, "/check" | "/consents") {
        let headers = response.headers_mut();
        headers.insert("x-cutover-side", bidden.at.side.as_str().parse().expect("a word"));
        headers.insert("x-cutover-epoch", bidden.at.epoch.into());
    }
    response
}

impl World {
    async fn new(name: &str) -> Self {
        let bidden = Arc::new(Mutex::new(Bidden { at: BLUE, answers: BTreeMap::new() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("its address"));
        let router = Router::new().fallback(answer).with_state(bidden.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (public, admin, dashboard, authorization) = (base.clone(), base.clone(), base.clone(), base.clone());
        let client = Client::new(Doors { public, admin, control: base, dashboard, authorization });
        let file = std::env::temp_dir().join(format!("cutover-prober-{name}-{}.jsonl", std::process::id()));
        let history = History::open(&file).expect("a file");
        std::fs::remove_file(&file).expect("it is there");
        let [blue, green, revocations_token] = ["unused"; 3].map(Secret::new);
        let prober = Prober { client, history, blue, green, revocations_token, report_file: file, is_in_place: false };
        let world = Self { prober, bidden };
        world.prober.history.lock().ledger.add_app("app".into(), "secret".into(), "app".into(), true);
        world.bid("/oauth2/introspect", 200, json!({"active": true}));
        world
    }

    fn bid(&self, path: &'static str, status: u16, body: Value) {
        self.bidden.lock().expect("nobody panicked").answers.insert(path, (status, body));
    }

    /// Traffic is there from now on, and the load has seen it.
    async fn turn(&self, at: Origin) {
        self.bidden.lock().expect("nobody panicked").at = at;
        self.prober.introspect("nothing").await;
    }

    /// A client is issued tokens where traffic is.
    async fn issue(&self) -> usize {
        self.bid("/oauth2/token", 200, json!({"access_token": "access", "refresh_token": "refresh"}));
        actions::issue(&self.prober).await.expect("an app");
        self.prober.history.lock().ledger.chains.len() - 1
    }

    /// The only chain is refreshed where traffic is.
    async fn refresh(&self) {
        self.bid("/oauth2/token", 200, json!({"access_token": "access.2", "refresh_token": "refresh.2"}));
        actions::refresh(&self.prober).await.expect("a chain that is free");
    }

    /// A user gives consent where traffic is, and its code becomes tokens.
    async fn grant(&self) {
        self.bid("/consents", 201, json!({"code": "code", "browser": "session=1"}));
        self.bid("/oauth2/token", 200, json!({"access_token": "access", "refresh_token": "refresh"}));
        actions::grant(&self.prober).await.expect("an app");
    }

    async fn revoke(&self, chain: usize) {
        let now = self.prober.client.now_us();
        let mut state = self.prober.history.lock();
        state.ledger.chains[chain].fate.doom(now);
        state.ledger.chain_revoked(chain, now, "a test");
    }

    fn all_unknown(&self) {
        self.bid("/oauth2/introspect", 200, json!({"active": false}));
        self.bid("/oauth2/token", 400, json!({"error": "invalid_grant"}));
        self.bid("/userinfo", 401, json!({"error": "request_unauthorized"}));
        self.bid("/check", 200, json!({"allow": false}));
    }

    async fn introspected(&self, chain: usize, asked: Asked) -> bool {
        let token = self.prober.history.lock().ledger.chains[chain].access.clone();
        actions::ask_about(&self.prober, chain, &token, asked).await
    }

    /// What the end check misses of clients.
    async fn lost_apps(&self) -> Vec<String> {
        let lost = Mutex::default();
        ask_apps(&self.prober, &lost).await;
        lost.into_inner().expect("nobody panicked").into_iter().collect()
    }

    fn seen(&self) -> Seen {
        self.prober.history.lock().report().prober
    }

    /// How often a door was used.
    fn uses(&self, door: Door) -> u64 {
        self.seen().doors.get(&door).copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn what_green_issued_may_be_unknown_after_the_way_back_and_is_counted() {
    let world = World::new("given-up").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.all_unknown();
    world.turn(BACK).await;
    assert!(!world.introspected(0, Asked::UnderLoad).await && !world.introspected(0, Asked::AtTheEnd).await);
    actions::userinfo(&world.prober).await.expect("the only chain");
    actions::check(&world.prober).await.expect("the only consent");
    let lost = Mutex::default();
    ask_consents(&world.prober, &lost).await;
    assert_eq!(lost.into_inner().expect("nobody panicked"), BTreeSet::new());
    let seen = world.seen();
    assert_eq!((seen.failed, seen.given_up, seen.given_up_consents), (0, 1, 1));
    assert!(actions::refresh(&world.prober).await.is_none(), "it is used no further");
    assert!(actions::revoke_token(&world.prober).await.is_none(), "it is used no further");
    assert!(actions::revoke_consent(&world.prober).await.is_none(), "it is used no further");
}

#[tokio::test]
async fn while_green_is_live_nothing_of_it_is_given_up() {
    let world = World::new("live").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.all_unknown();
    assert!(world.introspected(0, Asked::UnderLoad).await && world.introspected(0, Asked::AtTheEnd).await);
    actions::check(&world.prober).await.expect("the only consent");
    assert_eq!((world.seen().failed, world.seen().given_up), (2, 0));
}

#[tokio::test]
async fn what_blue_issued_and_green_never_refreshed_must_work_after_the_way_back() {
    let world = World::new("kept").await;
    world.turn(BLUE).await;
    world.grant().await;
    world.turn(GREEN).await;
    world.all_unknown();
    world.turn(BACK).await;
    assert!(world.introspected(0, Asked::AtTheEnd).await, "a lost write");
    actions::userinfo(&world.prober).await.expect("the only chain");
    actions::check(&world.prober).await.expect("the only consent");
    actions::refresh(&world.prober).await.expect("the only chain");
    let seen = world.seen();
    assert_eq!((seen.failed, seen.given_up, seen.given_up_consents), (3, 0, 0));
}

#[tokio::test]
async fn a_chain_that_green_refreshed_is_given_up_and_what_the_refresh_replaced_stays_dead() {
    let world = World::new("rotated").await;
    world.turn(BLUE).await;
    world.grant().await;
    world.turn(GREEN).await;
    world.refresh().await;
    world.all_unknown();
    world.turn(BACK).await;
    assert!(!world.introspected(0, Asked::AtTheEnd).await);
    ask_revoked(&world.prober).await;
    let seen = world.seen();
    assert_eq!((seen.failed, seen.given_up, seen.given_up_consents), (0, 1, 0), "the consent is blue's own");
    actions::check(&world.prober).await.expect("the only consent");
    assert_eq!(world.seen().failed, 1, "a consent given on blue must stand");
    world.bid("/oauth2/introspect", 200, json!({"active": true}));
    ask_revoked(&world.prober).await;
    let seen = world.seen();
    assert_eq!((seen.failed, seen.ended_accepted), (1, 2), "the access and the refresh token before the rotation");
}

#[tokio::test]
async fn a_chain_refreshed_after_the_way_back_is_blues_again() {
    let world = World::new("refreshed").await;
    world.turn(BLUE).await;
    world.issue().await;
    world.turn(GREEN).await;
    world.turn(BACK).await;
    world.refresh().await;
    world.all_unknown();
    assert!(world.introspected(0, Asked::UnderLoad).await);
    assert_eq!((world.seen().failed, world.seen().given_up), (1, 0));
}

#[tokio::test]
async fn a_revoked_chain_is_never_to_be_accepted_by_any_token_it_ever_had() {
    let world = World::new("revoked").await;
    world.turn(BLUE).await;
    world.issue().await;
    world.turn(GREEN).await;
    world.refresh().await;
    world.revoke(0).await;
    world.turn(BACK).await;
    ask_revoked(&world.prober).await;
    assert_eq!(world.seen().revoked_accepted, 5, "four tokens were called active, one was refreshed");
    for _ in 0..20 {
        actions::introspect(&world.prober).await.expect("the only chain");
        actions::refresh_revoked(&world.prober).await.expect("the only chain");
    }
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (45, 0));
    assert_eq!(world.seen().given_up, 0, "it was ended before");
    let shown: BTreeSet<String> = (0..200).map(|_| world.prober.history.lock().ledger.token_to_show(0)).collect();
    assert_eq!(shown.len(), 4, "{shown:?}");
}

#[tokio::test]
async fn a_chain_born_on_green_and_revoked_keeps_its_full_strength() {
    let world = World::new("strength").await;
    world.turn(GREEN).await;
    world.issue().await;
    world.turn(BACK).await;
    world.revoke(0).await;
    world.introspected(0, Asked::UnderLoad).await;
    assert_eq!(world.seen().revoked_accepted, 1);
    world.turn(AGAIN).await;
    world.introspected(0, Asked::UnderLoad).await;
    assert_eq!(world.seen().revoked_accepted, 2, "neither after a second flip");
}

#[tokio::test]
async fn a_second_flip_expects_nothing_that_was_given_up_and_all_the_rest() {
    let world = World::new("again").await;
    world.turn(GREEN).await;
    let given_up = world.issue().await;
    world.turn(BACK).await;
    let between = world.issue().await;
    world.turn(AGAIN).await;
    let of_the_second = world.issue().await;
    world.all_unknown();
    assert!(!world.introspected(given_up, Asked::AtTheEnd).await);
    assert!(world.introspected(between, Asked::AtTheEnd).await);
    assert!(world.introspected(of_the_second, Asked::AtTheEnd).await);
    assert_eq!(world.seen().given_up, 1);
}

#[tokio::test]
async fn a_denial_that_names_no_side_is_ruled_on_after_the_gateway_has_named_one() {
    let world = World::new("unnamed").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.all_unknown();
    world.bidden.lock().expect("nobody panicked").at = BACK;
    actions::check(&world.prober).await.expect("the only consent");
    assert_eq!((world.seen().failed, world.seen().given_up_consents), (0, 1));
}

#[tokio::test]
async fn a_consent_given_before_the_load_knew_of_the_flip_came_from_green_all_the_same() {
    let world = World::new("unseen").await;
    world.turn(BLUE).await;
    world.bidden.lock().expect("nobody panicked").at = GREEN;
    world.grant().await;
    world.all_unknown();
    world.turn(BACK).await;
    actions::check(&world.prober).await.expect("the only consent");
    assert_eq!((world.seen().failed, world.seen().given_up_consents), (0, 1));
}

#[tokio::test]
async fn what_is_in_flight_during_the_way_back_may_be_unknown_but_must_be_answered() {
    for (status, error, failed) in [(400, "invalid_grant", 0), (401, "invalid_client", 1), (503, "held", 1)] {
        let world = World::new(&format!("flight-{status}")).await;
        world.turn(GREEN).await;
        world.issue().await;
        // The first answer of blue is the one that is ruled on.
        world.bidden.lock().expect("nobody panicked").at = BACK;
        world.bid("/oauth2/token", status, json!({"error": error}));
        actions::refresh(&world.prober).await.expect("the only chain");
        assert_eq!(world.seen().failed, failed, "a refresh answered {status}");

        let world = World::new(&format!("code-{status}")).await;
        world.turn(GREEN).await;
        world.bid("/consents", 201, json!({"code": "code"}));
        world.bid("/oauth2/token", status, json!({"error": error}));
        world.bidden.lock().expect("nobody panicked").at = BACK;
        actions::grant(&world.prober).await.expect("an app");
        assert_eq!(world.seen().failed, failed, "a code of green answered {status}");
    }
}

#[tokio::test]
async fn clients_made_renamed_or_deleted_on_green_must_be_so_on_blue() {
    let world = World::new("clients").await;
    world.turn(GREEN).await;
    world.bid("/clients", 201, json!({"client_id": "made", "client_secret": "secret"}));
    actions::create_app(&world.prober, false).await.expect("always");
    let made = world.prober.history.lock().ledger.apps[1].name.clone();
    world.turn(BACK).await;
    world.bid("/clients/app", 200, json!({"name": "app"}));
    for (status, answer, lost) in [
        (404, Value::Null, vec![format!("client {made:?}")]),
        (200, json!({"name": "as it was on blue"}), vec![format!("the name {made:?} of a client")]),
        (200, json!({"name": &made}), vec![]),
    ] {
        world.bid("/clients/made", status, answer);
        assert_eq!(world.lost_apps().await, lost);
    }
    let now = world.prober.client.now_us();
    world.prober.history.lock().ledger.app_deleted(0, now);
    assert_eq!(world.lost_apps().await, ["the deletion of \"app\""]);
    assert_eq!(world.seen().given_up, 0);
}

#[tokio::test]
async fn a_code_of_blue_must_be_known_on_green() {
    let world = World::new("code-forward").await;
    world.turn(BLUE).await;
    world.bid("/consents", 201, json!({"code": "code"}));
    world.bid("/oauth2/token", 400, json!({"error": "invalid_grant"}));
    world.bidden.lock().expect("nobody panicked").at = GREEN;
    actions::grant(&world.prober).await.expect("an app");
    assert_eq!(world.seen().failed, 1);
}

#[tokio::test]
async fn a_report_after_the_way_back_describes_the_way_back() {
    let world = World::new("switches").await;
    let mut state = world.prober.history.lock();
    let writes = [(Side::Green, 0, Met::Fenced), (Side::Blue, 0, Met::Accepted), (Side::Green, 100, Met::Accepted)];
    for (side, at_ms, met) in writes.into_iter().chain([(Side::Blue, 130, Met::Accepted)]) {
        // A side that was fenced in between: the other's turn ends its run.
        state.writers.of(side).push(at_ms * 1000, at_ms * 1000, Met::Fenced);
        state.writers.of(side).push(at_ms * 1000, at_ms * 1000, met);
    }
    let report = state.report();
    assert_eq!((report.flips, report.flip.write_gap_ms), (2, Some(30.0)));
    let gaps: Vec<_> = report.switches.iter().map(|switch| (switch.to, switch.felt.write_gap_ms)).collect();
    assert_eq!(gaps, [(Side::Green, Some(100.0)), (Side::Blue, Some(30.0))]);
}

#[test]
fn a_refresh_keeps_what_it_replaced() {
    let mut ledger = super::ledger::Ledger::default();
    let tokens = |nth: u8| Tokens {
        access: format!("access.{nth}"),
        refresh: Some(format!("refresh.{nth}")),
        expires_us: 1_000,
        born: Some(BLUE),
    };
    let app = ledger.add_app("app".into(), "secret".into(), "app".into(), true);
    ledger.add_chain(app, None, tokens(1));
    ledger.chains[0].rotate(tokens(2));
    ledger.chains[0].rotate(tokens(3));
    let all: BTreeSet<&str> = ledger.chains[0].tokens().map(String::as_str).collect();
    assert_eq!(all.len(), 6);
    assert_eq!((ledger.chains[0].access.as_str(), ledger.chains[0].used.len()), ("access.3", 2));
}

#[tokio::test]
async fn a_theft_ends_the_chain_and_one_that_is_not_noticed_is_told() {
    let world = World::new("theft").await;
    world.issue().await;
    world.refresh().await;
    let noticed = json!({"error": "invalid_grant", "error_description": "the token has been used before; all is over"});
    world.bid("/oauth2/token", 400, noticed);
    doors::reuse(&world.prober).await.expect("a token that was used");
    assert_eq!((world.seen().revoked, world.seen().failed, world.uses(Door::Reuse)), (1, 0, 1));
    world.introspected(0, Asked::UnderLoad).await;
    let seen = world.seen();
    assert_eq!((seen.revoked_accepted, seen.ended_accepted), (0, 1), "the engine says active after the theft");

    world.issue().await;
    world.refresh().await;
    world.bid("/oauth2/token", 200, json!({"access_token": "access.2", "refresh_token": "refresh.2"}));
    doors::reuse(&world.prober).await.expect("a token that was used");
    assert_eq!((world.seen().ended_accepted, world.seen().revoked), (1, 1), "told what the owner was told");

    for (said, status, failed, accepted) in
        [(json!({"error": "invalid_grant"}), 400, 1, 1), (json!({"access_token": "a"}), 200, 1, 2)]
    {
        world.issue().await;
        world.refresh().await;
        world.bid("/oauth2/token", status, said);
        doors::reuse(&world.prober).await.expect("a token that was used");
        let seen = world.seen();
        assert_eq!((seen.failed, seen.ended_accepted, seen.revoked), (failed, accepted, 1), "answered {status}");
    }
    assert_eq!(world.uses(Door::Reuse), 1, "those that were not noticed ended nothing");
}

#[tokio::test]
async fn a_chain_that_a_theft_has_ended_must_not_be_refreshed() {
    let world = World::new("after-theft").await;
    world.issue().await;
    world.refresh().await;
    let noticed = json!({"error": "invalid_grant", "error_description": "the token has been used before; all is over"});
    world.bid("/oauth2/token", 400, noticed);
    doors::reuse(&world.prober).await.expect("a token that was used");
    actions::refresh_revoked(&world.prober).await.expect("the only chain");
    assert_eq!(world.seen().ended_accepted, 0);
    world.bid("/oauth2/token", 200, json!({"access_token": "access.2", "refresh_token": "refresh.2"}));
    actions::refresh_revoked(&world.prober).await.expect("the only chain");
    assert_eq!(world.seen().ended_accepted, 0, "told once more what died with the chain");
    world.bid("/oauth2/token", 200, json!({"access_token": "access.3", "refresh_token": "refresh.3"}));
    actions::refresh_revoked(&world.prober).await.expect("the only chain");
    let seen = world.seen();
    assert_eq!((seen.ended_accepted, seen.revoked_accepted, seen.failed), (1, 0, 0));
}

#[tokio::test]
async fn a_code_that_was_exchanged_ends_its_chain_and_is_refused_wherever_traffic_is() {
    let world = World::new("code").await;
    world.turn(BLUE).await;
    world.grant().await;
    world.turn(GREEN).await;
    let noticed = json!({"error": "invalid_grant", "error_description": "the token has been used before; all is over"});
    world.bid("/oauth2/token", 400, noticed);
    doors::replay_code(&world.prober).await.expect("a code that was exchanged");
    assert_eq!((world.uses(Door::CodeReplay), world.seen().revoked, world.seen().failed), (1, 1, 0));
    world.turn(BACK).await;
    doors::try_any_code(&world.prober).await.expect("the code of a chain that is over");
    assert_eq!(world.seen().ended_accepted, 0);
    world.bid("/oauth2/token", 200, json!({"access_token": "new", "refresh_token": "new"}));
    doors::try_any_code(&world.prober).await.expect("the code of a chain that is over");
    world.revoke(0).await;
    doors::try_any_code(&world.prober).await.expect("the code of a chain that is over");
    let seen = world.seen();
    assert_eq!((seen.ended_accepted, seen.revoked_accepted), (1, 1), "a theft's end, then one that was promised");
}

#[tokio::test]
async fn a_code_of_blue_that_green_exchanged_is_used_up_on_blue_too() {
    let world = World::new("code-back").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.turn(BACK).await;
    assert!(doors::replay_code(&world.prober).await.is_none(), "the way back gave the chain up");
    world.bid("/oauth2/token", 200, json!({"access_token": "new", "refresh_token": "new"}));
    doors::try_any_code(&world.prober).await.expect("the code of a chain that is over");
    assert_eq!((world.seen().ended_accepted, world.seen().failed), (1, 0));
}

#[tokio::test]
async fn a_secret_that_was_changed_is_refused_for_ever() {
    let world = World::new("secret").await;
    assert!(secrets::change(&world.prober).await.is_none(), "the only app is used by everybody");
    world.prober.history.lock().ledger.apps[0].lasting = false;
    world.bid("/clients/app/secret", 200, json!({"client_secret": "another"}));
    secrets::change(&world.prober).await.expect("an app that nobody uses");
    assert_eq!((world.uses(Door::ClientSecret), world.seen().failed), (1, 0));
    assert_eq!(world.prober.history.lock().ledger.apps[0].secret, "another");
    for (status, failed, accepted) in [(401, 0, 0), (400, 1, 0), (200, 1, 1)] {
        world.bid("/oauth2/token", status, json!({"access_token": "a", "error": "invalid_client"}));
        secrets::try_any_old(&world.prober).await.expect("a secret of before");
        let seen = world.seen();
        assert_eq!((seen.failed, seen.ended_accepted), (failed, accepted), "answered {status}");
    }
    try_old_secrets(&world.prober).await;
    assert_eq!(world.seen().ended_accepted, 2, "the end check tries it as well");

    world.bid("/clients/app/secret", 503, Value::Null);
    secrets::change(&world.prober).await.expect("an app that nobody uses");
    assert!(world.prober.history.lock().ledger.use_app().is_none(), "which secret it has nobody knows");
}

/// Where the engine sends a browser whose login it remembers, and one that has to log in.
fn remembered() -> Value {
    json!({"redirect_to": "http://screens/login?login_challenge=c"})
}

fn login_required() -> Value {
    json!({"redirect_to": "http://app/callback?error=login_required&state=s"})
}

#[tokio::test]
async fn a_login_session_that_was_ended_lets_no_browser_in_and_ends_nothing_else() {
    let world = World::new("sessions").await;
    world.grant().await;
    world.bid("/oauth2/auth", 302, remembered());
    sessions::ask_any(&world.prober).await.expect("a browser");
    world.bid("/oauth2/auth/sessions/login", 204, Value::Null);
    sessions::end_all(&world.prober).await.expect("a session");
    assert_eq!((world.uses(Door::LoginSessions), world.seen().failed, world.seen().revoked_accepted), (1, 0, 0));
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!(world.seen().revoked_accepted, 1, "let in after its session had ended");
    world.bid("/oauth2/auth", 302, login_required());
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (1, 0));
    world.introspected(0, Asked::UnderLoad).await;
    assert_eq!((world.seen().revoked, world.seen().failed), (0, 0), "its tokens live on");
    assert!(sessions::end_all(&world.prober).await.is_none(), "it ends once");
}

#[tokio::test]
async fn a_login_that_stands_is_remembered_until_the_way_back_gives_it_up() {
    let world = World::new("remembered").await;
    world.turn(GREEN).await;
    world.grant().await;
    world.bid("/oauth2/auth", 302, login_required());
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!(world.seen().failed, 1);
    world.turn(BACK).await;
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!(world.seen().failed, 1);
    assert!(sessions::log_out(&world.prober).await.is_none(), "nobody knows it on blue");
}

#[tokio::test]
async fn a_logout_ends_the_session_of_its_browser_once_it_is_confirmed() {
    let world = World::new("logout").await;
    world.turn(BLUE).await;
    world.grant().await;
    let asked = json!({"redirect_to": "http://screens/logout?logout_challenge=c"});
    world.bid("/oauth2/sessions/logout", 302, asked);
    world.bid("/oauth2/auth/requests/logout/accept", 404, json!({"error": "not_found"}));
    sessions::log_out(&world.prober).await.expect("a browser");
    assert_eq!((world.uses(Door::Logout), world.seen().failed), (0, 1), "nobody said that it was done");
    world.bid("/oauth2/auth", 302, remembered());
    sessions::ask_any(&world.prober).await.expect("a browser");
    assert_eq!(world.seen().revoked_accepted, 0);

    world.grant().await;
    let accepted = json!({"redirect_to": "http://engine/oauth2/sessions/logout?logout_verifier=v"});
    world.bid("/oauth2/auth/requests/logout/accept", 200, accepted);
    sessions::log_out(&world.prober).await.expect("another browser");
    assert_eq!(world.uses(Door::Logout), 1);
    let out = world.prober.history.lock().ledger.consents.iter().position(|one| one.session.revoked_us.is_some());
    sessions::ask(&world.prober, out.expect("one of both")).await.expect("its browser");
    assert_eq!(world.seen().revoked_accepted, 1);
}

#[tokio::test]
async fn a_revocation_that_the_gateway_is_told_of_is_a_promise_like_any_other() {
    let world = World::new("added").await;
    world.grant().await;
    world.bid("/cutover/v1/revocations", 404, Value::Null);
    doors::add_revocation(&world.prober).await.expect("a consent");
    assert_eq!((world.seen().failed, world.uses(Door::Added)), (0, 0), "a plan without a token has no such place");
    world.grant().await;
    world.bid("/cutover/v1/revocations", 200, json!({"outcome": "executed"}));
    doors::add_revocation(&world.prober).await.expect("a consent");
    assert_eq!((world.seen().revoked, world.uses(Door::Added)), (1, 1));
    world.introspected(1, Asked::UnderLoad).await;
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (1, 0));
}

#[tokio::test]
async fn a_theft_from_a_chain_that_was_given_up_need_not_be_noticed_and_must_not_succeed() {
    for (said, status, accepted) in
        [(json!({"error": "invalid_grant"}), 400, 0), (json!({"access_token": "a"}), 200, 1)]
    {
        let world = World::new(&format!("theft-{status}")).await;
        world.turn(GREEN).await;
        world.issue().await;
        world.refresh().await;
        // The first answer of blue is the one that is ruled on.
        world.bidden.lock().expect("nobody panicked").at = BACK;
        world.bid("/oauth2/token", status, said);
        doors::reuse(&world.prober).await.expect("a token that was used");
        assert_eq!((world.seen().failed, world.seen().ended_accepted), (0, accepted), "answered {status}");
    }
}

#[tokio::test]
async fn access_tokens_that_were_ended_are_dead_until_the_next_refresh() {
    let world = World::new("cut").await;
    let chain = world.issue().await;
    world.prober.history.lock().ledger.apps[0].lasting = false;
    world.bid("/oauth2/tokens", 204, Value::Null);
    doors::revoke_access(&world.prober).await.expect("an app that nobody uses");
    assert_eq!(world.seen().failed, 0);
    world.introspected(chain, Asked::UnderLoad).await;
    assert_eq!(world.seen().revoked_accepted, 1, "active after its end");
    world.refresh().await;
    world.introspected(chain, Asked::UnderLoad).await;
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (1, 0), "what was refreshed lives");
}

#[tokio::test]
async fn a_consent_that_is_given_again_is_asked_for_alone() {
    let world = World::new("again").await;
    world.grant().await;
    world.bid("/oauth2/auth/sessions/consent", 204, Value::Null);
    doors::revoke_subject(&world.prober).await.expect("a consent");
    world.bid("/oauth2/token", 200, json!({"access_token": "b", "refresh_token": "c"}));
    doors::regrant(&world.prober).await.expect("a consent that was taken away");
    world.bid("/check", 200, json!({"allow": true}));
    ask_consents(&world.prober, &Mutex::default()).await;
    assert_eq!((world.seen().revoked_accepted, world.seen().failed), (0, 0));
    world.bid("/check", 200, json!({"allow": false}));
    ask_consents(&world.prober, &Mutex::default()).await;
    assert_eq!(world.seen().failed, 1, "the second consent stands");
    world.bid("/oauth2/introspect", 200, json!({"active": true}));
    world.introspected(0, Asked::UnderLoad).await;
    assert_eq!(world.seen().revoked_accepted, 1, "the chain of the first stays dead");
}

//! Logins and consents in progress when sides change.

use super::world::{Engine, World, to_green};
use crate::harness::Place;
use crate::sandbox_flows::world::{self as standin, CALLBACK};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cutover::plan::{Flows, Side, Upstream};
use cutover::sandbox::engine::{EngineVersion, migrate};
use cutover::traffic::protocol::Order;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;

const LONG: Duration = Duration::from_secs(30);
/// Where browsers see the engine.
const RESTART: &str = "https://auth.example/base";
/// What a client asks for; every byte of it must come again.
const BEGINNING: &str = "/oauth2/auth?client_id=app&state=a%20b%2B+c&code_challenge=x";
const REMEMBERED: &str = "cutover_flows_remembered";
const BROWSERS: &str = "cutover_flows_restarted_total{who=\"browser\"}";
const SCREENS: &str = "cutover_flows_restarted_total{who=\"screen\"}";

/// As an engine does: asks for a login, then for a consent, then gives a code, and sets a cookie of its own each time.
pub(super) fn authorize(engine: &Engine, request: &Request) -> Response {
    let cookies = request.headers().get_all("cookie").iter().map(|value| value.to_str().expect("text"));
    let cookies = cookies.collect::<Vec<_>>().join("|");
    let query = request.uri().query().unwrap_or_default().to_owned();
    let side = engine.side;
    let location = match &query {
        query if query.contains("consent_verifier=") => "https://app.example/callback?code=c".to_owned(),
        query if query.contains("login_verifier=") => {
            format!("https://screens.example/?consent_challenge={side}-consent")
        }
        _ => format!("https://screens.example/?lang=en&login_challenge={side}-login"),
    };
    engine.visits.lock().expect("no panic").push((query, cookies));
    (StatusCode::FOUND, [("location", location), ("set-cookie", format!("engine={side}; Path=/"))]).into_response()
}

/// What a browser is told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    location: String,
    cookies: Vec<String>,
}

async fn with_flows() -> World {
    World::with(|config| config.gateway.flows = Some(Flows { restart: RESTART.to_owned() })).await
}

fn told(response: &reqwest::Response) -> Told {
    let text = |value: &reqwest::header::HeaderValue| value.to_str().expect("text").to_owned();
    let headers = response.headers();
    Told {
        status: response.status().as_u16(),
        location: headers.get("location").map(text).unwrap_or_default(),
        cookies: headers.get_all("set-cookie").iter().map(text).collect(),
    }
}

async fn visit(world: &World, method: Method, target: &str, cookie: &str) -> Told {
    let request = world.http.request(method, format!("http://{}{target}", world.gateway.addresses.public));
    let request = if cookie.is_empty() { request } else { request.header("cookie", cookie) };
    told(&request.send().await.expect("the gateway answers"))
}

async fn browse(world: &World, target: &str, cookie: &str) -> Told {
    visit(world, Method::GET, target, cookie).await
}

/// What a screen is told: status and body.
async fn ask(world: &World, method: Method, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", world.gateway.addresses.admin);
    let request = world.http.request(method, url).json(&json!({ "subject": "ann" }));
    let response = request.send().await.expect("the gateway answers");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

async fn flip(world: &World, epoch: i64, side: Side) {
    let order = Order { side, ..to_green(epoch, LONG) };
    for verb in ["hold", "switch", "release"] {
        world.must(verb, &order).await;
    }
}

fn ours(side: &str, epoch: i64) -> String {
    format!("cutover_flow={side}.{epoch}; Path=/base/oauth2/auth; Max-Age=1800; HttpOnly; SameSite=Lax; Secure")
}

#[tokio::test]
async fn gateway_leaves_a_flow_alone_while_its_side_serves() {
    let world = with_flows().await;
    let began = browse(&world, BEGINNING, "").await;
    assert_eq!(
        (began.status, began.location.as_str()),
        (302, "https://screens.example/?lang=en&login_challenge=blue-login")
    );
    assert_eq!(began.cookies, ["engine=blue; Path=/".to_owned(), ours("blue", 1)], "the engine's cookie stays");
    for (method, path) in [
        (Method::GET, "/oauth2/auth/requests/login?login_challenge=blue-login"),
        (Method::PUT, "/oauth2/auth/requests/login/accept?login_challenge=blue-login"),
    ] {
        assert_eq!(ask(&world, method, path).await, (200, "blue".to_owned()));
    }
    let back = format!("{BEGINNING}&login_verifier=v");
    let went_on = browse(&world, &back, "engine=blue; cutover_flow=blue.1; other=1").await;
    assert_eq!(
        (went_on.status, went_on.location.as_str()),
        (302, "https://screens.example/?consent_challenge=blue-consent")
    );
    let ended = browse(&world, &format!("{BEGINNING}&consent_verifier=v"), "cutover_flow=blue.1").await;
    assert_eq!((ended.location.as_str(), ended.cookies.len()), ("https://app.example/callback?code=c", 1));
    let seen: Vec<String> =
        world.blue.visits.lock().expect("no panic").iter().map(|(_, cookies)| cookies.clone()).collect();
    assert_eq!(seen, ["", "engine=blue; other=1", ""], "the engine sees no cookie of ours");
    assert_eq!((world.metric(REMEMBERED).await, world.metric(BROWSERS).await, world.metric(SCREENS).await), (2, 0, 0));
}

#[tokio::test]
async fn gateway_sends_screens_of_the_other_side_back_to_the_beginning() {
    let world = with_flows().await;
    browse(&world, BEGINNING, "").await;
    browse(&world, &format!("{BEGINNING}&login_verifier=v"), "cutover_flow=blue.1").await;
    flip(&world, 2, Side::Green).await;
    let beginning = json!({ "redirect_to": format!("{RESTART}{BEGINNING}") });
    for (method, path, status) in [
        (Method::GET, "/oauth2/auth/requests/login?login_challenge=blue-login", 410),
        (Method::PUT, "/oauth2/auth/requests/login/accept?login_challenge=blue-login", 200),
        (Method::PUT, "/admin/oauth2/auth/requests/login/reject?login_challenge=blue-login", 200),
        (Method::GET, "/admin/oauth2/auth/requests/consent?consent_challenge=blue-consent", 410),
        (Method::PUT, "/admin/oauth2/auth/requests/consent/accept?challenge=blue-consent", 200),
        (Method::PUT, "/oauth2/auth/requests/consent/blue-consent/reject", 200),
    ] {
        let (told, body) = ask(&world, method, path).await;
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        assert_eq!((told, &body), (status, &beginning), "{path}");
    }
    let heard = world.green.seen.lock().expect("no panic").iter().filter(|line| line.contains("/requests/")).count();
    assert_eq!((heard, world.metric(SCREENS).await), (0, 6), "the engine hears nothing of it");
    let over = "/oauth2/auth/requests/login?login_challenge=blue-login";
    let over = world.http.get(format!("http://{}{over}", world.gateway.addresses.admin)).send().await.expect("told");
    assert_eq!(over.headers()["cache-control"], "no-store", "after a way back the challenge is good again");
    let unknown = ask(&world, Method::PUT, "/oauth2/auth/requests/login/accept?login_challenge=another").await;
    assert_eq!(unknown, (200, "green".to_owned()), "what nobody remembers is the engine's to know");
}

#[tokio::test]
async fn gateway_sends_browsers_of_the_other_side_back_to_the_beginning() {
    let world = with_flows().await;
    browse(&world, BEGINNING, "").await;
    flip(&world, 2, Side::Green).await;
    let forgotten = "cutover_flow=; Path=/base/oauth2/auth; Max-Age=0; HttpOnly; SameSite=Lax; Secure";
    for verifier in ["login_verifier=v", "consent_verifier=w"] {
        let back = BEGINNING.replace("&state", &format!("&{verifier}&state"));
        let sent = browse(&world, &back, "cutover_flow=blue.1").await;
        let location = format!("{RESTART}{BEGINNING}");
        assert_eq!(sent, Told { status: 303, location, cookies: vec![forgotten.to_owned()] });
        assert!(world.green.visits.lock().expect("no panic").is_empty(), "the engine hears nothing of it");
    }
    assert_eq!(world.metric(BROWSERS).await, 2);

    let anew = browse(&world, BEGINNING, "cutover_flow=blue.1").await;
    assert_eq!(
        anew.location, "https://screens.example/?lang=en&login_challenge=green-login",
        "no answer, so no way back"
    );
    assert_eq!(anew.cookies.last(), Some(&ours("green", 2)));
    for cookie in ["cutover_flow=green.2", "", "engine=blue"] {
        let on = browse(&world, &format!("{BEGINNING}&login_verifier=v"), cookie).await;
        assert_eq!(on.location, "https://screens.example/?consent_challenge=green-consent", "{cookie:?}");
    }
    assert_eq!(world.metric(BROWSERS).await, 2);
}

#[tokio::test]
async fn gateway_has_a_flow_at_home_again_after_a_way_back() {
    let world = with_flows().await;
    browse(&world, BEGINNING, "").await;
    flip(&world, 2, Side::Green).await;
    browse(&world, BEGINNING, "").await;
    flip(&world, 3, Side::Blue).await;
    let accept = |challenge| format!("/oauth2/auth/requests/login/accept?login_challenge={challenge}-login");
    assert_eq!(ask(&world, Method::PUT, &accept("blue")).await, (200, "blue".to_owned()), "blue has kept its rows");
    let back = format!("{BEGINNING}&login_verifier=v");
    assert_eq!(browse(&world, &back, "cutover_flow=blue.1").await.status, 302);
    let (status, body) = ask(&world, Method::PUT, &accept("green")).await;
    assert!(status == 200 && body.contains("redirect_to"), "a flow of green is broken by a way back: {body}");
    assert_eq!(browse(&world, &back, "cutover_flow=green.2").await.status, 303);
}

#[tokio::test]
async fn gateway_knows_a_flow_that_a_form_began_by_its_cookie_alone() {
    let world = with_flows().await;
    let began = visit(&world, Method::POST, "/oauth2/auth", "").await;
    assert_eq!((began.cookies.last(), world.metric(REMEMBERED).await), (Some(&ours("blue", 1)), 0));
    let plain = World::new().await;
    let began = browse(&plain, BEGINNING, "").await;
    assert_eq!(began.cookies, ["engine=blue; Path=/"], "without `flows` nothing is done");
}

/// Path and query of where a redirect points to, as the gateway sees them.
fn here(address: &str) -> String {
    let url = Url::parse(address).expect("an address");
    format!("{}?{}", url.path().trim_start_matches("/base"), url.query().unwrap_or_default())
}

fn value(address: &str, name: &str) -> String {
    let url = Url::parse(address).expect("an address");
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// Has the screen of a challenge say yes; gives the way that the browser is sent.
async fn accept(world: &World, prefix: &str, screen: &str, challenge: &str) -> String {
    let path = format!("{prefix}/oauth2/auth/requests/{screen}/accept?{screen}_challenge={challenge}");
    let url = format!("http://{}{path}", world.gateway.addresses.admin);
    let yes = json!({ "subject": "ann", "grant_scope": ["read"] });
    let yes = if screen == "login" { json!({ "subject": "ann" }) } else { yes };
    let answer: Value = world.http.put(url).json(&yes).send().await.expect("asked").json().await.expect("JSON");
    answer["redirect_to"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn gateway_has_a_login_end_at_the_other_engine_as_if_it_had_begun_there() {
    let (one, other) = (Place::shared("blue-engine").await, Place::shared("green-engine").await);
    migrate(&one.application_url(), EngineVersion::V1).await.expect("it migrates");
    migrate(&other.application_url(), EngineVersion::V2).await.expect("it migrates");
    let blue = standin::World::serving(&one, EngineVersion::V1).await;
    let green = standin::World::serving(&other, EngineVersion::V2).await;
    let client = json!({ "client_id": "app", "redirect_uris": [CALLBACK], "scope": "read", "grant_types": ["authorization_code"] });
    for engine in [&blue, &green] {
        let (status, said) = engine.administer(Method::POST, "/clients", Some(client.clone())).await;
        assert_eq!(status, StatusCode::CREATED, "{said}");
    }
    let upstream = |engine: &standin::World| Upstream {
        public: engine.public.clone(),
        admin: engine.admin.trim_end_matches("/admin").to_owned(),
    };
    let world = World::with(|config| {
        config.gateway.flows = Some(Flows { restart: RESTART.to_owned() });
        (config.gateway.blue, config.gateway.green) = (upstream(&blue), upstream(&green));
    })
    .await;
    let beginning =
        format!("/oauth2/auth?client_id=app&response_type=code&scope=read&state=mine&redirect_uri={CALLBACK}");
    let one = browse(&world, &beginning, "").await;
    let two = browse(&world, &beginning, "").await;
    let answered = accept(&world, "", "login", &value(&one.location, "login_challenge")).await;
    flip(&world, 2, Side::Green).await;

    let sent = browse(&world, &here(&answered), "cutover_flow=blue.1").await;
    assert_eq!((sent.status, here(&sent.location)), (303, beginning.clone()), "answered on blue, back on green");
    let sent = accept(&world, "/admin", "login", &value(&two.location, "login_challenge")).await;
    assert_eq!(here(&sent), beginning, "begun on blue, answered on green");
    let anew = browse(&world, &here(&sent), "").await;
    let answered = accept(&world, "/admin", "login", &value(&anew.location, "login_challenge")).await;
    let asked = browse(&world, &here(&answered), "cutover_flow=green.2").await;
    let agreed = accept(&world, "/admin", "consent", &value(&asked.location, "consent_challenge")).await;
    let ended = browse(&world, &here(&agreed), "cutover_flow=green.2").await;
    assert!(ended.location.starts_with(CALLBACK), "{ended:?}");
    assert_eq!(value(&ended.location, "state"), "mine");
    assert!(!value(&ended.location, "code").is_empty(), "{ended:?}");
}

//! Probes against the stand-in engine in both versions, sound and with a fault: what fails is named exactly, and nothing is left behind.

mod canaries;
mod tampering;
mod withdrawn;

use crate::harness::Place;
use crate::sandbox_flows::world::World;
use cutover::database::preflight::Severity;
use cutover::gates::probes::{HttpProbe, OauthProbe};
use cutover::gates::{Finding, Probe, Reading, engine_grace};
use cutover::plan::{self, Accepts, Flow, Secret, Upstream, When};
use cutover::sandbox::engine::{EngineVersion, migrate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use tampering::{Answered, tampering};
use tokio::time::Instant;

const ALL: [Flow; 8] = [
    Flow::Discovery,
    Flow::Keys,
    Flow::Introspect,
    Flow::ClientCredentials,
    Flow::CodePkce,
    Flow::Refresh,
    Flow::Reuse,
    Flow::Revoke,
];

/// An engine of `version` on tables of its own, and its addresses as a plan names them.
pub(crate) async fn engine(version: EngineVersion) -> (Place, World, Upstream) {
    let place = Place::shared("probed").await;
    migrate(&place.application_url(), version).await.expect("it migrates");
    let world = World::serving(&place, version).await;
    let admin = world.admin.trim_end_matches("/admin").to_owned();
    let at = Upstream { public: world.public.clone(), admin };
    (place, world, at)
}

/// A probe of these flows, with both sides at one engine.
pub(crate) fn probe(at: &Upstream, flows: &[Flow]) -> OauthProbe {
    let plan = plan::OauthProbe {
        name: "engine".into(),
        blue: at.clone(),
        green: at.clone(),
        flows: flows.to_vec(),
        scope: "openid offline_access".into(),
        client: None,
        grace_blue: None,
        grace_green: None,
        timeout: Duration::from_secs(20),
        every: Duration::from_secs(30),
        accepts: Accepts { blue_tokens_on_green: true, green_tokens_on_blue: true },
        may_differ: Vec::new(),
        canaries: Some(Secret::new("a secret of more than thirty-two characters")),
    };
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    OauthProbe { plan, plan_name: "test".into(), http: http.build().expect("a client") }
}

/// Questions that did not hold, with what was said.
pub(crate) fn broken(readings: &[Reading]) -> BTreeMap<String, String> {
    let said = |finding: &Finding| match finding {
        Finding::Held => String::new(),
        Finding::Broken(why) => why.clone(),
        Finding::Silent(why) => format!("silent: {why}"),
    };
    readings.iter().filter(|one| !one.is_held()).map(|one| (one.question.clone(), said(&one.finding))).collect()
}

/// Rows in everything that a flow touches.
async fn rows(place: &Place, version: EngineVersion) -> i64 {
    let mut tables = vec!["hydra_client", "hydra_oauth2_access", "hydra_oauth2_refresh", "hydra_oauth2_code"];
    tables.extend(["hydra_oauth2_pkce", "hydra_oauth2_oidc", "hydra_oauth2_authentication_session"]);
    match version {
        EngineVersion::V1 => tables.extend(["hydra_oauth2_authentication_request", "hydra_oauth2_consent_request"]),
        EngineVersion::V2 => tables.push("hydra_oauth2_flow"),
    }
    let counts: Vec<String> = tables.iter().map(|table| format!("(select count(*) from {table})")).collect();
    place.ask(&format!("select {}", counts.join(" + "))).await
}

#[tokio::test]
async fn a_sound_engine_holds_and_nothing_is_left_behind() {
    for version in [EngineVersion::V1, EngineVersion::V2] {
        let (place, _world, at) = engine(version).await;
        let probe = probe(&at, &ALL);
        for (when, questions) in [(When::Start, 8), (When::Before, 2), (When::Soak, 9)] {
            let readings = probe.ask(when).await;
            assert_eq!((broken(&readings), readings.len()), (BTreeMap::new(), questions), "{version:?} {when:?}");
            assert_eq!(rows(&place, version).await, 0, "{version:?} {when:?}");
        }
    }
}

#[tokio::test]
async fn a_client_of_the_users_own_is_used_and_stays() {
    let (place, world, at) = engine(EngineVersion::V2).await;
    let client = world.register().await;
    let mut probe = probe(&at, &[Flow::ClientCredentials, Flow::CodePkce, Flow::Refresh, Flow::Revoke]);
    let given = plan::ProbeClient {
        id: client.id.clone(),
        secret: Secret::new(client.secret.as_str()),
        redirect_uri: Some(crate::sandbox_flows::world::CALLBACK.into()),
    };
    probe.plan.client = Some(given.clone());
    assert_eq!(broken(&probe.ask(When::Soak).await), BTreeMap::new());
    let live: i64 = place.ask("select count(*) from hydra_oauth2_refresh where active").await;
    let consents: i64 = place.ask("select count(*) from hydra_oauth2_flow where state in (5, 6)").await;
    let clients: i64 = place.ask("select count(*) from hydra_client").await;
    assert_eq!((live, consents, clients), (0, 0, 1), "no grant lives on, and the client is the user's");
    probe.plan.client = Some(plan::ProbeClient { secret: Secret::new("another"), ..given });
    assert!(broken(&probe.ask(When::Soak).await)["client_credentials"].contains("answered 401"));
}

/// What fails with a fault, by question; whatever fails, nothing is left behind.
async fn with_fault(
    flows: &[Flow],
    tamper: impl Fn(&mut Answered) + Send + Sync + Clone + 'static,
) -> BTreeMap<String, String> {
    let (place, _world, at) = engine(EngineVersion::V2).await;
    let public = tampering(&at.public, tamper.clone()).await;
    let admin = tampering(&at.admin, tamper).await;
    let faulty = probe(&Upstream { public, admin }, flows);
    let broken = broken(&faulty.ask(When::Start).await);
    assert_eq!(rows(&place, EngineVersion::V2).await, 0, "{broken:?}");
    broken
}

fn names(broken: &BTreeMap<String, String>) -> Vec<&str> {
    broken.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn an_engine_that_never_forgets_a_token_is_found_by_every_flow_that_kills_one() {
    let found = with_fault(&ALL, |answered| {
        let is_known = answered.form.len() > 40;
        if answered.path.ends_with("/introspect") && is_known && answered.body["active"] == false {
            answered.body = json!({ "active": true });
        }
    })
    .await;
    assert_eq!(names(&found), ["code_pkce", "reuse", "revoke"], "{found:?}");
    assert_eq!(found["revoke"], "revoke: the refresh token is still active");
    assert_eq!(
        found["code_pkce"],
        "exchange a code again: the access token of a code that was used twice is still active"
    );
    assert_eq!(found["reuse"], "use a refresh token again: the access token of the chain is still active");
}

#[tokio::test]
async fn an_engine_that_takes_any_verifier_any_secret_or_an_old_token_is_found() {
    let found = with_fault(&ALL, |answered| {
        if answered.path == "/oauth2/token" && answered.status >= 400 {
            (answered.status, answered.body) = (200, json!({ "access_token": "made up" }));
        }
    })
    .await;
    assert_eq!(names(&found), ["client_credentials", "code_pkce", "reuse"], "{found:?}");
    assert_eq!(found["client_credentials"], "use a wrong secret: answered 200 ");
    assert_eq!(found["code_pkce"], "exchange a code with a wrong verifier: answered 200 ");
    assert_eq!(found["reuse"], "use a refresh token again: answered 200 ");
}

#[tokio::test]
async fn an_engine_that_loses_whom_a_token_is_of_is_found() {
    let found = with_fault(&[Flow::ClientCredentials, Flow::CodePkce, Flow::Introspect], |answered| {
        if answered.path.ends_with("/introspect") && answered.body["sub"].is_string() {
            answered.body["sub"] = Value::from("");
        }
    })
    .await;
    assert_eq!(names(&found), ["client_credentials", "code_pkce", "introspect"], "{found:?}");
    assert!(found.values().all(|why| why.ends_with("introspection says another sub")), "{found:?}");
    let found = with_fault(&[Flow::Refresh, Flow::Introspect], |answered| {
        if answered.path.ends_with("/introspect") && answered.body["scope"].is_string() {
            answered.body["scope"] = Value::from("openid");
        }
    })
    .await;
    assert_eq!(names(&found), ["introspect"], "{found:?}");
}

#[tokio::test]
async fn an_engine_that_refuses_refreshes_says_so_in_its_own_words() {
    let found = with_fault(&[Flow::CodePkce, Flow::Refresh, Flow::Reuse], |answered| {
        if answered.form.contains("grant_type=refresh_token") {
            (answered.status, answered.body) =
                (400, json!({ "error": "invalid_grant", "error_description": "too old" }));
        }
    })
    .await;
    assert_eq!(names(&found), ["refresh", "reuse"], "{found:?}");
    assert_eq!(found["refresh"], "refresh: answered 400 invalid_grant too old");
}

#[tokio::test]
async fn a_redirect_of_the_admin_api_is_not_followed() {
    let found = with_fault(&ALL, |answered| {
        if answered.path.starts_with("/admin/") {
            answered.status = 307;
            answered.location = Some("http://elsewhere.example/admin?token=secret".into());
        }
    })
    .await;
    assert_eq!(names(&found), ["discovery", "engine", "keys"]);
    let said = "introspect: answered by a redirect to elsewhere.example, which is not followed, since credentials would go along";
    assert!(found.values().all(|why| why == said), "{found:?}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_silent_and_not_wrong() {
    let found = with_fault(&[Flow::Refresh], |answered| answered.status = 503).await;
    assert_eq!(found["engine"], "silent: introspect: answered 503 ");
    let nowhere = Upstream { public: "http://127.0.0.1:9".into(), admin: "http://127.0.0.1:9".into() };
    let found = broken(&probe(&nowhere, &[Flow::Refresh]).ask(When::Soak).await);
    assert!(found["engine"].starts_with("silent: introspect: no answer"), "{found:?}");
}

#[tokio::test]
async fn what_green_does_not_publish_is_named_before_the_flip() {
    let (_place, world, at) = engine(EngineVersion::V2).await;
    let key = json!({ "kid": "public:one", "kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "sig" });
    let put = world.administer(reqwest::Method::PUT, "/keys/hydra.openid.id-token/public:one", Some(key)).await;
    assert!(put.0.is_success(), "{put:?}");
    let changed = tampering(&at.public, |answered| {
        if answered.path.ends_with("openid-configuration") {
            answered.body["issuer"] = Value::from("http://issuer.example/");
        }
        if answered.path.ends_with("jwks.json") {
            answered.body = json!({ "keys": [] });
        }
    })
    .await;
    let mut probe = probe(&at, &[Flow::Discovery, Flow::Keys]);
    assert_eq!(broken(&probe.ask(When::Before).await), BTreeMap::new());
    probe.plan.green.public = changed;
    let found = broken(&probe.ask(When::Before).await);
    assert!(found["discovery"].contains("the issuer is \"http://issuer.example/\" on green"), "{found:?}");
    assert!(found["keys"].contains("not on green: the keys public:one"), "{found:?}");
}

#[tokio::test]
async fn green_s_tokens_on_blue_are_as_the_plan_says_and_a_blue_that_is_gone_is_no_fault() {
    let (_place, _world, at) = engine(EngineVersion::V2).await;
    let (_blue_place, _blue_world, blue) = engine(EngineVersion::V1).await;
    let mut probe = probe(&at, &[Flow::ClientCredentials]);
    probe.plan.blue = blue;
    let found = broken(&probe.ask(When::Soak).await);
    assert!(found["green's tokens on blue"].contains("it is not active, and the plan says that it is"), "{found:?}");
    probe.plan.accepts.green_tokens_on_blue = false;
    assert_eq!(broken(&probe.ask(When::Soak).await), BTreeMap::new());
    probe.plan.blue = Upstream { public: "http://127.0.0.1:9".into(), admin: "http://127.0.0.1:9".into() };
    let readings = probe.ask(When::Soak).await;
    assert_eq!((broken(&readings), readings.len()), (BTreeMap::new(), 1));
}

/// A refresh that is repeated within `grace` gets the answer of the first one, as a gentle engine gives.
fn gentle(grace: Duration) -> impl Fn(&mut Answered) + Send + Sync + Clone + 'static {
    let given = std::sync::Arc::new(Mutex::new(BTreeMap::<String, (Instant, Value)>::new()));
    move |answered| {
        if !answered.form.contains("grant_type=refresh_token") {
            return;
        }
        let mut given = given.lock().expect("nobody panics with it");
        match given.get(&answered.form) {
            Some((at, body)) if at.elapsed() < grace => (answered.status, answered.body) = (200, body.clone()),
            Some(_) => {}
            None => drop(given.insert(answered.form.clone(), (Instant::now(), answered.body.clone()))),
        }
    }
}

#[tokio::test]
async fn a_grace_period_is_tried_inside_and_outside() {
    let (place, _world, at) = engine(EngineVersion::V2).await;
    let mut strict = probe(&at, &[Flow::Reuse]);
    strict.plan.grace_green = Some(Duration::from_secs(1));
    let found = broken(&strict.ask(When::Soak).await);
    assert!(found["reuse"].starts_with("use a refresh token again inside the grace period: answered 400"), "{found:?}");
    let public = tampering(&at.public, gentle(Duration::from_secs(2))).await;
    let mut gentle = probe(&Upstream { public, admin: at.admin.clone() }, &[Flow::Reuse]);
    let found = broken(&gentle.ask(When::Soak).await);
    assert_eq!(found["reuse"], "use a refresh token again: answered 200 ", "a grace that the plan does not know of");
    gentle.plan.grace_green = Some(Duration::from_secs(2));
    assert_eq!(rows(&place, EngineVersion::V2).await, 0);
    // The stand-in kills the chain at the repetition that the proxy hid, and the one after the grace finds it dead: as it must be.
    assert_eq!(broken(&gentle.ask(When::Soak).await), BTreeMap::new());
}

#[tokio::test]
async fn what_a_probe_that_was_cut_off_has_left_is_swept_and_nobody_else_s() {
    let (place, world, at) = engine(EngineVersion::V2).await;
    let other = world.register().await;
    let owner = "cutover-probe-test-engine";
    for owner in [owner, "cutover-probe-another-engine"] {
        let body = json!({ "client_name": "left", "owner": owner });
        world.administer(reqwest::Method::POST, "/clients", Some(body)).await;
    }
    // An engine that does not know the filter lists everybody's.
    let everybody = tampering(&at.admin, |_| {}).await;
    let probe = probe(&Upstream { public: at.public, admin: everybody }, &[Flow::ClientCredentials]);
    assert_eq!(probe.left(plan::Side::Blue).await.expect("it answers"), 1);
    assert_eq!(probe.sweep_flows(plan::Side::Blue).await.expect("it answers"), 1);
    let left: i64 = place.ask("select count(*) from hydra_client").await;
    assert_eq!(left, 2, "another plan's, and {}", other.id);
}

#[tokio::test]
async fn a_grace_period_is_relied_on_only_where_both_engines_have_one() {
    let (_place, _world, old) = engine(EngineVersion::V1).await;
    let (_other_place, _other_world, new) = engine(EngineVersion::V2).await;
    let newest = tampering(&new.admin, |answered| {
        assert_eq!(answered.path, "/version", "nothing else is asked");
        answered.body = json!({ "version": "v2.3.0" });
    })
    .await;
    let http = cutover::traffic::http_client().expect("a client");
    let relying = crate::plan::whole().replace("doors: hydra", "doors: hydra\n  refresh: { engine_grace: 60s }");
    let parsed = |text: &str| plan::parse(text, Path::new("."), &crate::plan::anything).expect("a plan");
    let told = async |blue: &str, green: &str| {
        let mut plan = parsed(&relying);
        let gateway = plan.gateway.as_mut().expect("a gateway");
        (gateway.blue.admin, gateway.green.admin) = (blue.to_owned(), green.to_owned());
        let found = engine_grace(&http, &plan).await;
        found.into_iter().map(|finding| (finding.severity, finding.what)).collect::<Vec<_>>()
    };
    assert_eq!(told(&newest, &newest).await, []);
    let error = |what: &str| (Severity::Error, what.to_owned());
    let both = [error("blue's engine is of version 1.11.10"), error("green's engine is of version 2.2.0")];
    assert_eq!(told(&old.admin, &new.admin).await, both);
    let silent = told(&newest, "http://127.0.0.1:9").await;
    let [(Severity::Warning, what)] = silent.as_slice() else { panic!("{silent:?}") };
    assert!(what.starts_with("green's engine does not tell its version: "), "{what}");
    assert_eq!(engine_grace(&http, &parsed(crate::plan::whole())).await, [], "nobody is asked");
}

#[tokio::test]
async fn an_http_probe_wants_its_status_and_its_text() {
    let (_place, _world, at) = engine(EngineVersion::V2).await;
    let ask = async |path: &str, status: u16, text: Option<&str>| {
        let plan = plan::HttpProbe {
            name: "version".into(),
            url: format!("{}{path}", at.public),
            method: "GET",
            headers: BTreeMap::from([("x-asked-by".to_owned(), Secret::new("a test"))]),
            status,
            body_contains: text.map(str::to_owned),
            when: vec![When::Soak],
            timeout: Duration::from_secs(5),
        };
        let probe = HttpProbe { plan, http: reqwest::Client::new() };
        assert_eq!(probe.ask(When::Before).await, [], "not asked then");
        broken(&probe.ask(When::Soak).await).remove("http").unwrap_or_default()
    };
    assert_eq!(ask("/version", 200, Some("2.2.0")).await, "");
    assert_eq!(ask("/version", 200, Some("1.11")).await, "the answer does not hold `1.11`");
    assert_eq!(ask("/nowhere", 200, None).await, "answered 404, not 200");
    assert_eq!(ask("/nowhere", 404, None).await, "");
}

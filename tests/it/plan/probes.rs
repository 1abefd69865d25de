//! What a plan says about probes: whom they ask, what they try, and secrets that never stand in the plan.

use super::{SENTINEL, anything, whole};
use cutover::plan::{self, Flow, Plan, Probe, When};
use std::path::Path;
use std::time::Duration;

fn parse(text: &str) -> Result<Plan, Vec<String>> {
    let told = |problems: Vec<plan::Problem>| problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
    plan::parse(text, Path::new("."), &anything).map_err(told)
}

/// The whole plan with one probe besides.
fn with(probe: &str) -> Result<Plan, Vec<String>> {
    parse(&format!("{}  - {probe}\n", whole()))
}

#[track_caller]
fn refused(probe: &str, problems: &[&str]) {
    assert_eq!(with(probe).expect_err(probe), problems, "{probe}");
}

const ENGINE: &str = "public: \"${GREEN_PUBLIC}\", admin: \"${GREEN_ADMIN}\"";

#[test]
fn a_plan_without_probes_has_none_and_one_with_them_says_whom_they_ask() {
    let bare = whole().split("probes:").next().expect("a plan").to_owned();
    assert!(parse(&bare).expect("a plan").probes.is_empty());
    let plan = parse(whole()).expect("a plan");
    let [Probe::Oauth(oauth), Probe::Http(http)] = plan.probes.as_slice() else { panic!("two probes") };
    assert_eq!(oauth.blue.admin, "http://blue-admin.test:4444", "that of the gateway");
    assert_eq!(oauth.green.admin, "http://green-admin.test:4444");
    assert_eq!(oauth.flows, [Flow::Discovery, Flow::CodePkce, Flow::Refresh]);
    assert_eq!((oauth.timeout, oauth.every), (Duration::from_secs(5), Duration::from_secs(30)));
    assert!(oauth.accepts.blue_tokens_on_green && !oauth.accepts.green_tokens_on_blue);
    assert_eq!((http.status, http.when.as_slice()), (200, [When::Start, When::Soak].as_slice()));
    assert_ne!(parse(&bare).expect("a plan").digest, plan.digest, "probes are part of what was approved");
}

#[test]
fn probes_that_cannot_be_asked_are_refused_with_their_place() {
    let at = "probes[2].oauth";
    refused(
        &format!("oauth: {{ name: engine, {ENGINE}, flows: [] }}"),
        &[
            &format!("{at}.name two probes are named `engine`: the first is `probes[0].oauth`"),
            &format!("{at}.flows `{at}.flows` is empty"),
        ],
    );
    refused(
        &format!("oauth: {{ name: b, {ENGINE}, flows: [sing] }}"),
        &[&format!(
            "{at}.flows[0] `{at}.flows[0]` must be `discovery` or `keys` or `introspect` or `client_credentials` or `code_pkce` or `refresh` or `reuse` or `revoke`, not `sing`"
        )],
    );
    refused(
        &format!("oauth: {{ name: b, {ENGINE}, flows: [refresh], scope: openid }}"),
        &[&format!("{at}.scope `{at}.scope` asks for no refresh token")],
    );
    refused(
        &format!("oauth: {{ name: b, {ENGINE}, flows: [keys], timeout: 2m, grace: {{ green: 10m }} }}"),
        &[
            &format!("{at}.timeout `{at}.timeout` is longer than a minute"),
            &format!("{at}.grace.green `{at}.grace.green` is longer than 5 minutes"),
        ],
    );
    refused(
        "oauth: { name: b, public: \"postgres://x\", admin: \"http://a\", flows: [keys] }",
        &[&format!("{at}.public `{at}.public` is not the base URL of an HTTP service")],
    );
    let client = "client: { id: a, secret: \"${SECRET}\" }";
    refused(
        &format!("oauth: {{ name: b, {ENGINE}, flows: [refresh], {client} }}"),
        &[&format!("{at}.client `{at}.client` has no `redirect_uri`")],
    );
    refused(
        "http: { name: b, url: \"ftp://x\" }",
        &["probes[2].http.url `probes[2].http.url` is not the address of an HTTP service"],
    );
    refused(
        "http: { name: b, url: \"http://x\", method: POST }",
        &["probes[2].http.method `probes[2].http.method` must be `GET` or `HEAD`, not `POST`"],
    );
    refused("http: { name: b, url: \"http://x\", when: [] }", &["probes[2].http.when `probes[2].http.when` is empty"]);
}

#[test]
fn a_probe_needs_blue_and_a_soak() {
    let alone = "version: 1\nname: alone\ncontrol: \"${CONTROL_URL}\"\ndatabases:\n  blue: { url: \"${BLUE_URL}\", role: r }\n  green: { url: \"${GREEN_URL}\", role: r }\n";
    let problems =
        parse(&format!("{alone}probes:\n  - oauth: {{ name: b, {ENGINE}, flows: [keys] }}\n")).expect_err("alone");
    assert_eq!(
        problems,
        [
            "probes there are `probes` but no `systems`",
            "probes[0].oauth `probes[0].oauth` does not say where blue's engine is",
        ]
    );
}

#[test]
fn secrets_of_probes_come_from_the_environment_alone() {
    let at = "probes[2].oauth";
    let stands = |place: &str| format!("{place} `{place}` is a secret and stands in the plan");
    refused(
        &format!("oauth: {{ name: b, {ENGINE}, flows: [keys], canaries: {{ key: hunter2 }} }}"),
        &[&stands(&format!("{at}.canaries.key"))],
    );
    refused(
        &format!("oauth: {{ name: b, {ENGINE}, flows: [keys], client: {{ id: a, secret: \"x${{SECRET}}\" }} }}"),
        &[&stands(&format!("{at}.client.secret"))],
    );
    refused(
        "http: { name: b, url: \"http://x\", headers: { Authorization: Bearer x } }",
        &[&stands("probes[2].http.headers.Authorization")],
    );
    refused(
        "http: { name: b, url: \"http://me:x@y\" }",
        &["probes[2].http.url `probes[2].http.url` holds credentials"],
    );
    refused(
        &format!("oauth: {{ name: b, {ENGINE}, flows: [keys], canaries: {{ key: \"${{K}}\" }} }}"),
        &[&format!("{at}.canaries.key `{at}.canaries.key` becomes a secret of less than 32 characters")],
    );
    let secret =
        |name: &str| if name == "KEY" { Some(format!("{SENTINEL}{}", "x".repeat(32))) } else { anything(name) };
    let text = whole().replace("${PROBE_CANARY_KEY}", "${KEY}");
    let plan = plan::parse(&text, Path::new("."), &secret).expect("a plan");
    assert!(!format!("{plan:?}").contains(SENTINEL), "a secret is shown");
}

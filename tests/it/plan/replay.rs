//! What a plan says about revocations beyond their doors: who may add one, and in which words an engine is told.

use super::{anything, tempdir, whole};
use cutover::plan::{self, Door, Plan, ReplayPiece};
use std::path::Path;

fn parse(text: &str) -> Result<Plan, Vec<String>> {
    let told = |problems: Vec<plan::Problem>| problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
    plan::parse(text, Path::new("."), &anything).map_err(told)
}

fn with_http(http: &str) -> Result<Plan, Vec<String>> {
    parse(&whole().replace("replay: { hydra: {} }", &format!("replay: {{ hydra: {{}}, http: {http} }}")))
}

#[test]
fn replay_requests_say_whom_they_mean() {
    let plan = with_http(
        "{ blue: \"http://b.test/api\", green: \"http://g.test\", headers: { Authorization: \"${APP_DSN}\" }, consents: { method: POST, path: \"/users/{subject}\", body: { app: \"{client}\" } } }",
    );
    let http = plan.expect("a plan").revocations.expect("revocations").replay.http.expect("http");
    let consents = http.consents.expect("consents");
    assert_eq!(consents.path, [ReplayPiece::Text("/users/".into()), ReplayPiece::Subject]);
    assert_eq!((consents.method, &consents.body["app"]), ("POST", &vec![ReplayPiece::Client]));
    assert!(http.headers["authorization"].expose().contains("login:"));

    let at = "revocations.replay.http.consents";
    for (request, said) in [
        ("path: \"/users/{subject}\"", format!("{at} `{at}` does not name {{client}}")),
        ("path: \"/{subject}/{client}/{token}\"", format!("{at}.path `{at}.path` holds `{{token}}`")),
        ("path: \"/{subject}/{client\"", format!("{at}.path `{at}.path` holds a brace without its other")),
        ("path: \"{subject}/{client}\"", format!("{at}.path `{at}.path` is no path after a base URL")),
    ] {
        let http =
            format!("{{ blue: \"http://b.test\", green: \"http://g.test\", consents: {{ method: POST, {request} }} }}");
        let problems = with_http(&http).expect_err(request);
        assert!(problems.contains(&said), "{request}: {problems:?}");
    }
    let stands = "{ blue: \"http://b.test\", green: \"http://g.test\", headers: { Authorization: Bearer x } }";
    let problems = with_http(stands).expect_err("a secret in the plan");
    assert!(problems[0].contains("is a secret and stands in the plan"), "{problems:?}");
}

fn with_sql(sql: &str) -> Result<Plan, Vec<String>> {
    parse(&whole().replace("replay: { hydra: {} }", &format!("replay: {{ hydra: {{}}, sql: {sql} }}")))
}

#[test]
fn statements_that_revoke_say_which_revocations_and_nothing_else() {
    let folder = tempdir();
    std::fs::write(folder.join("revoke.sql"), "delete from s using unnest($2::text[]) as r (id) where s.id = r.id;\n")
        .expect("a file");
    let named = "[{ name: sessions, doors: [token, logout], green: { revoke: revoke.sql } }]";
    let text = whole().replace("replay: { hydra: {} }", &format!("replay: {{ hydra: {{}}, sql: {named} }}"));
    let plan = plan::parse(&text, &folder, &anything).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let sql = plan.revocations.expect("revocations").replay.sql;
    assert_eq!(sql[0].doors.iter().copied().collect::<Vec<_>>(), [Door::Token, Door::Logout]);
    let on = sql[0].green.as_ref().expect("green");
    assert!(sql[0].blue.is_none() && on.names.contains("s") && on.calls.contains("unnest"));
    std::fs::write(folder.join("revoke.sql"), "delete from s using unnest($3::text[]) as r (id) where s.id = r.id")
        .expect("a file");
    let other = plan::parse(&text, &folder, &anything).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_ne!(plan.digest, other.digest, "what the file holds is part of the plan");

    let every = with_sql("[{ name: all, blue: { revoke: \"delete from s where id = any($2)\" } }]").expect("a plan");
    let doors = &every.revocations.expect("revocations").replay.sql[0].doors;
    assert!(doors.len() == 6 && !doors.contains(&Door::ClientUpdate), "a changed client kills nothing: {doors:?}");

    for (revoke, said) in [
        ("missing.sql", "cannot read `missing.sql`"),
        ("delete from s where id = any($2); delete from t", "holds more than one statement"),
        ("select 1 from s where id = any($2)", "is not one update, insert or delete"),
        ("delete from s where id = any($9)", "has the parameter $9, which is not given"),
        ("delete from s", "names no revocation"),
        ("delete from s where at < (select max(b) from unnest($8::timestamptz[]) b)", "names no revocation"),
        ("delete from s where id = any($2) and nid = $network", "uses `$network`"),
    ] {
        let problems = with_sql(&format!("[{{ name: a, green: {{ revoke: \"{revoke}\" }} }}]")).expect_err(revoke);
        assert!(problems.len() == 1 && problems[0].contains(said), "{revoke}: {problems:?}");
    }
    for (alive, said) in [
        ("select id from s where id = any($2)", "names no revocation"),
        ("with d as (delete from s returning id) select e from unnest($1::uuid[]) e", "writes or locks"),
        ("delete from s where id = any($1)", "is not a select"),
    ] {
        let revoke = "delete from s where id = any($2)";
        let problems = with_sql(&format!("[{{ name: a, green: {{ revoke: \"{revoke}\", alive: \"{alive}\" }} }}]"))
            .expect_err(alive);
        assert!(problems.iter().any(|problem| problem.contains(said)), "{alive}: {problems:?}");
    }
    let problems = with_sql("[{ name: a }]").expect_err("no side");
    assert!(problems[0].contains("is run on no side"), "{problems:?}");
    let twice = "{ name: a, green: { revoke: \"delete from s where id = any($2)\" } }";
    let problems = with_sql(&format!("[{twice}, {twice}]")).expect_err("twice");
    assert!(problems[0].contains("is the name of another one"), "{problems:?}");
}

#[test]
fn a_token_for_revocations_from_outside_comes_from_the_environment_and_cannot_be_guessed() {
    let with = |token: &str| {
        parse(&whole().replace("doors: hydra", &format!("doors: hydra\n  revocations: {{ token: \"{token}\" }}")))
    };
    let plan = with("${SOME_TOKEN}").expect("a plan");
    assert!(plan.gateway.expect("a gateway").revocations_token.is_some());
    let at = "gateway.revocations.token";
    assert_eq!(with("stands-in-the-plan-itself").expect_err("it stands there"), [format!("{at} `{at}` holds a token")]);
    assert!(parse(whole()).expect("a plan").gateway.expect("a gateway").revocations_token.is_none());
}

fn with_patterns(doors: &str, patterns: &str) -> Result<Plan, Vec<String>> {
    parse(&whole().replace("doors: hydra", &format!("doors: {doors}\n  patterns: [{patterns}]")))
}

#[test]
fn patterns_of_another_engine_are_told_apart_and_say_whom_they_mean() {
    let by_path = r#"{ door: consent, listener: public, methods: [DELETE], path: "/users/{subject}/apps/{client}" }"#;
    let by_form = "{ door: token, listener: public, methods: [POST], path: /session/end, form: { token: rt } }";
    let doors = |doors| {
        let plan = with_patterns(doors, &format!("{by_path}, {by_form}")).unwrap_or_else(|told| panic!("{told:#?}"));
        plan.gateway.expect("a gateway").doors.patterns
    };
    assert_eq!(doors("hydra").len(), plan::Doors::hydra().patterns.len() + 2);
    assert_eq!(doors("patterns").len(), 2);
    assert!(with_patterns("patterns", "").expect_err("none")[0].contains("and there are none"));

    let said = by_path.replace(" }", ", done: [303, 404] }");
    let plan = with_patterns("patterns", &said).unwrap_or_else(|told| panic!("{told:#?}"));
    assert_eq!(plan.gateway.expect("a gateway").doors.patterns[0].done, [303, 404]);

    let one = |rest: &str| format!("{{ listener: admin, methods: [DELETE], {rest} }}");
    for (pattern, said) in [
        (by_path.replace("{client}", "{token}"), "names a token, which the door consent does not look at"),
        (by_path.replace("{subject}", "{user}"), "holds {user}, which no door looks at"),
        (by_path.replace("{subject}", "x{subject}"), "holds the segment `x{subject}`"),
        (by_path.replace("/users", "users"), "does not begin with a slash"),
        (by_path.replace("{subject}", "all"), "does not say whom it means: the door consent needs subject or consent"),
        (by_path.replace("[DELETE]", "[]"), "has no method"),
        (
            by_path.replace("consent,", "token,").replace("{subject}/apps/{client}", "{token}"),
            "has a token in an address",
        ),
        (by_form.replace("POST", "GET"), "is a GET with a form"),
        (by_path.replace(" }", ", done: [401] }"), "takes status 401 for done"),
        (by_path.replace(" }", ", done: [303, 502] }"), "takes status 502 for done"),
        (one(r#"door: login_session, path: "/s/{session}", query: { session: id }"#), "names the session twice"),
        (
            one(r#"door: client_delete, path: "/clients/{client}""#),
            "cannot be told apart from Hydra's own client_delete",
        ),
        (
            one(r#"door: client_delete, path: "/oauth2/{client}""#).replace("DELETE", "POST"),
            "apart from /oauth2/introspect, which",
        ),
        (
            format!("{by_path}, {}", by_path.replace("/apps/", "/{client}/").replace("/{client}\"", "/apps\"")),
            "gateway.patterns[0]",
        ),
    ] {
        let problems = with_patterns("hydra", &pattern).expect_err(&pattern);
        assert!(problems.len() == 1 && problems[0].contains(said), "{pattern}: {problems:?}");
    }
}

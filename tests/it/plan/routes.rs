//! What a plan says of single routes of the gateway.

use super::{anything, whole};
use cutover::plan::{self, Plan, Route};
use std::path::Path;

fn parse(routes: &str) -> Result<Plan, Vec<String>> {
    let text = whole().replace("doors: hydra", &format!("doors: hydra\n  routes:\n    - {routes}"));
    plan::parse(&text, Path::new("."), &anything)
        .map_err(|problems| problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect())
}

#[test]
fn a_route_is_held_in_the_usual_order_unless_the_plan_says_more() {
    let plan = parse(
        "{ listener: public, path: \"/.well-known/*\", policy: pass }\n    \
         - { listener: admin, path: /clients, priority: 1 }\n    - { listener: admin, path: /keys }",
    )
    .unwrap_or_else(|told| panic!("{told:#?}"));
    let said = |route: &Route| (route.path.text.clone(), route.path.is_below, route.passes, route.priority);
    let said: Vec<_> = plan.gateway.expect("a gateway").routes.iter().map(said).collect();
    let path = |text: &str| text.to_owned();
    assert_eq!(
        said,
        [
            (path("/.well-known"), true, true, None),
            (path("/clients"), false, false, Some(1)),
            (path("/keys"), false, false, None)
        ]
    );
}

#[test]
fn a_route_that_cannot_be_is_told_with_its_place() {
    let public = |rest: &str| format!("{{ listener: public, {rest} }}");
    let pass = |path: &str| public(&format!("path: \"{path}\", policy: pass"));
    let at = |key: &str| format!("gateway.routes[0].{key}: ");
    for (routes, place, said) in [
        ("{ listener: inside, path: /x }".to_owned(), at("listener"), "must be `public` or `admin`, not `inside`"),
        (public("path: x"), at("path"), "does not begin with a slash"),
        (public("path: \"/a/*/b\""), at("path"), "holds a `*` that is not its whole last segment"),
        (public("path: \"/a?b=c\""), at("path"), "holds `?`"),
        (public("path: /x, policy: drop"), at("policy"), "must be `hold` or `pass`, not `drop`"),
        (public("path: /x, priority: 0"), at("priority"), "must be at least 1"),
        (public("path: /x, priority: 10"), at("priority"), "must be at most 9"),
        (public("path: /x, methods: [POST]"), at("methods"), "has no key `methods`"),
        (pass("/oauth2/auth"), at("policy"), "would pass GET /oauth2/auth, which writes down a login"),
        (pass("/*"), at("policy"), "would pass GET /oauth2/auth"),
        (pass("/oauth2/sessions/*"), at("policy"), "would pass GET /oauth2/sessions/logout, which ends a session"),
        (pass("/userinfo"), at("policy"), "would pass GET /userinfo, which presents a token"),
        (pass("/connect/register/mine"), at("policy"), "would pass GET /connect/register/{client}"),
        (
            format!("{}\n    - {}", public("path: \"/x/*\""), public("path: \"/x/*\", priority: 1")),
            "gateway.routes[1].path: ".to_owned(),
            "has the path of `gateway.routes[0]`",
        ),
    ] {
        let told = parse(&routes).expect_err(&routes);
        assert!(told.len() == 1 && told[0].starts_with(&place) && told[0].contains(said), "{routes}: {told:#?}");
    }
}

#[test]
fn a_route_never_passes_a_revocation_of_the_plans_own() {
    let with = |route: &str| {
        let door = r#"{ door: consent, listener: public, methods: [GET], path: "/users/{subject}/end" }"#;
        parse(&format!("{route}\n  patterns: [{door}]"))
    };
    let told = with(r#"{ listener: public, path: "/users/*", policy: pass }"#).expect_err("it would revoke");
    assert!(told.len() == 1 && told[0].contains("would pass a GET that is a revocation (consent)"), "{told:?}");
    with(r#"{ listener: admin, path: "/users/*", policy: pass }"#).expect("it is the other listener");
    with(r#"{ listener: public, path: /users/all, policy: pass }"#).expect("it is another path");
}

#[test]
fn flows_begin_anew_at_a_plain_address() {
    let with = |restart: &str| {
        let text = whole().replace("doors: hydra", &format!("doors: hydra\n  flows: {{ restart: \"{restart}\" }}"));
        plan::parse(&text, Path::new("."), &anything)
            .map(|plan| plan.gateway.and_then(|gateway| gateway.flows).expect("flows").restart)
            .map_err(|problems| problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>())
    };
    assert_eq!(with("https://auth.example.com/").as_deref(), Ok("https://auth.example.com"));
    assert_eq!(with("https://example.com/auth").as_deref(), Ok("https://example.com/auth"));
    assert_eq!(with("${ENGINE}").as_deref(), Ok("http://engine.test:4444"));
    for (restart, said) in [
        ("auth.example.com", "is not the base URL of an HTTP service"),
        ("https://auth.example.com/?a=b", "is not the base URL of an HTTP service"),
        ("https://me:secret@auth.example.com", "holds credentials"),
        ("https://auth.example.com/a;b", "is not a plain address"),
        ("https://auth.example.com/a b", "is not a plain address"),
    ] {
        let told = with(restart).expect_err(restart);
        assert!(told.len() == 1 && told[0].contains(said), "{restart}: {told:?}");
        assert!(told[0].starts_with("gateway.flows.restart: "), "{told:?}");
    }
    assert!(plan::parse(whole(), Path::new("."), &anything).expect("a plan").gateway.expect("one").flows.is_none());
}

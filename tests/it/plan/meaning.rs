//! What a plan means: its digest, its resolved values, what `--set` and `--env-file` change, and that nothing secret is shown.

use super::{SENTINEL, anything, tempdir, whole};
use cutover::plan::{self, Coalesce, Plan, Probe, Refresh, Reverse, SetError, Side, Sql, env_file};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

fn parsed(text: &str) -> Plan {
    parsed_in(text, Path::new("."))
}

fn parsed_in(text: &str, folder: &Path) -> Plan {
    plan::parse(text, folder, &anything).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    })
}

#[test]
fn comments_layout_and_environment_do_not_change_the_digest() {
    let plain = parsed(whole()).digest;
    let commented = format!("# a comment\n{}", whole().replace("hold: 2s", "hold:   2000ms # long"));
    assert_eq!(parsed(&commented).digest, plain);
    let elsewhere =
        |name: &str| anything(name).map(|value| value.replace("127.0.0.1", "staging").replace("test", "staging"));
    let staging = plan::parse(whole(), Path::new("."), &elsewhere).unwrap();
    assert_eq!(staging.digest, plain);
    assert_eq!(plain.len(), 64);
}

#[test]
fn every_meaning_changes_the_digest() {
    let plain = parsed(whole()).digest;
    for (from, to) in [
        ("hold: 2s", "hold: 3s"),
        ("${BLUE_URL}", "${BLUE2_DSN}"),
        ("rows: 500", "rows: 501"),
        ("h.state", "h.status"),
        ("access: revocations", "access: carry"),
        ("own: [networks]", "own: [networks, tracking]"),
    ] {
        let changed = whole().replacen(from, to, 1);
        assert_ne!(changed, whole());
        assert_ne!(parsed(&changed).digest, plain, "{from} -> {to}");
    }
}

#[test]
fn bytes_of_named_files_change_the_digest() {
    let folder = tempdir();
    std::fs::create_dir_all(folder.join("m")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("m/V1__first.sql", "create table t (id int)");
    write("network.sql", "select 1");
    let text =
        whole().replace("select id from networks", "network.sql").replace("own:", "  - refinery: { folder: m }\nown:");
    let first = parsed_in(&text, &folder).digest;
    let files = parsed_in(&text, &folder).files;
    assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), ["m/V1__first.sql", "network.sql"]);
    assert_eq!(parsed_in(&text, &folder).digest, first);
    write("network.sql", "select 1 -- with a word");
    let second = parsed_in(&text, &folder).digest;
    assert_ne!(second, first);
    write("m/V1__first.sql", "create table t (id bigint)");
    let third = parsed_in(&text, &folder).digest;
    assert_ne!(third, second);
    write("m/V2__second.sql", "select 1");
    assert_ne!(parsed_in(&text, &folder).digest, third);
    write("m/V3_one_underscore.sql", "select 1");
    let problems = plan::parse(&text, &folder, &anything).unwrap_err();
    assert!(problems[0].message.contains("V3_one_underscore.sql"), "{problems:#?}");
}

#[test]
fn defaults_are_filled_in() {
    let plan = parsed(&whole().replace("  write_gap: 1s\n", "").replace("hold: 2s", "hold: 3s"));
    assert_eq!(plan.window.write_gap, Duration::from_millis(1500));
    assert_eq!(plan.window.wal_keep_bytes, 10 << 30);
    assert_eq!(plan.migrate[0].name, "migrate-sql");
    let gateway = plan.gateway.unwrap();
    assert_eq!((gateway.held_requests, gateway.held_bytes), (10_000, 64 << 20));
    assert_eq!((gateway.overlay_entries, gateway.refresh), (200_000, None));
    let sharing = parsed(&whole().replace("doors: hydra", "doors: hydra\n  refresh: { coalesce: {} }"));
    let coalesce = Coalesce { ttl: Duration::from_secs(10), public: false };
    assert_eq!(sharing.gateway.and_then(|gateway| gateway.refresh), Some(Refresh::Coalesce(coalesce)));
    let table = plan.carry.keys().next().unwrap();
    assert_eq!((table.schema.as_str(), table.name.as_str()), ("public", "access"));
}

#[test]
fn a_grace_period_that_is_relied_on_is_what_probes_expect_of_both_sides() {
    let relying = whole().replace("doors: hydra", "doors: hydra\n  refresh: { engine_grace: 60s }");
    let graces = |text: &str| {
        let plan = parsed(text);
        let Probe::Oauth(oauth) = &plan.probes[0] else { panic!("it asks an engine") };
        [Side::Blue, Side::Green].map(|side| oauth.grace(side))
    };
    let minute = Some(Duration::from_secs(60));
    assert_eq!(graces(whole()), [None, None]);
    assert_eq!(graces(&relying), [minute, minute]);
    let own = relying.replace("      name: engine\n", "      name: engine\n      grace: { green: 1s }\n");
    assert_eq!(graces(&own), [minute, Some(Duration::from_secs(1))], "what a probe says itself counts");
    let plan = parsed(&relying);
    assert_eq!(plan.gateway.and_then(|gateway| gateway.refresh), Some(Refresh::EngineGrace(Duration::from_secs(60))));
    assert_eq!(parsed(&relying.replace("60s", "1m")).digest, plan.digest);
    assert_ne!(parsed(&relying.replace("60s", "61s")).digest, plan.digest);
}

#[test]
fn the_way_back_has_a_mapping_of_its_own_and_a_cap() {
    let plan = parsed(whole());
    let cap = plan.window.unexplained;
    assert_eq!((cap.rows, cap.percent), (1000, 5.0));
    assert!(cap.allows(5, 100) && !cap.allows(6, 100) && cap.allows(1000, 1 << 20) && !cap.allows(1001, 1 << 20));
    let mapped =
        parsed(&whole().replace("access: revocations", "access: { carry: { set: { pk: old_pk }, key: [id] } }"));
    assert_ne!(mapped.digest, plan.digest);
    let back: Vec<_> = mapped.reverse.values().collect();
    let Reverse::Carry(carry) = back[0] else { panic!("{back:?}") };
    assert_eq!((carry.set["pk"].text.as_str(), carry.key.as_slice()), ("old_pk", ["id".to_owned()].as_slice()));
    assert_eq!(*back[1], Reverse::Lose);
}

#[test]
fn the_soak_compares_with_blue_and_a_person_decides_unless_said_otherwise() {
    let plan = parsed(whole());
    let soak = plan.soak;
    assert_eq!((soak.failed, soak.refused_refreshes, soak.slower, soak.least), (1.0, 2.0, 3.0, 50));
    assert_eq!((soak.over, soak.returns), (Duration::from_secs(60), false));
    assert!(plan.isolate_green.is_none());
    let more =
        "soak: { failed: 0.5, when_worse: return }\nisolate_green: { run: [cut, green], env: { KEY: \"${KEY}\" } }\n";
    let other = parsed(&format!("{}{more}", whole()));
    assert_eq!((other.soak.failed, other.soak.returns), (0.5, true));
    assert_eq!(other.isolate_green.unwrap().run, ["cut", "green"]);
    assert_ne!(other.digest, plan.digest, "what happens by itself is part of what was approved");
}

#[test]
fn nothing_secret_is_shown() {
    let plan = parsed(whole());
    assert!(plan.control.expose().contains(SENTINEL));
    assert!(!format!("{plan:?}").contains(SENTINEL), "Debug of a plan");
    // Every variable holds the sentinel, in a form that fits nowhere.
    let broken = |_: &str| Some(format!("{SENTINEL} ://{SENTINEL}:{SENTINEL}@ host=x"));
    let problems = plan::parse(whole(), Path::new("."), &broken).unwrap_err();
    assert!(problems.len() > 5);
    for problem in problems {
        let shown = format!("{problem}{problem:?}{}", problem.to_json());
        assert!(!shown.contains(SENTINEL), "{shown}");
    }
}

#[test]
fn a_typed_password_is_refused_and_blotted_out() {
    let text = whole().replace("${CONTROL_URL}", &format!("postgres://me:{SENTINEL}@host/db"));
    let problems = plan::parse(&text, Path::new("."), &anything).unwrap_err();
    assert_eq!(problems.len(), 1);
    let shown = problems[0].to_string();
    assert!(shown.contains("postgres://me:********@host/db") && !shown.contains(SENTINEL), "{shown}");
    let composed = whole().replace("${CONTROL_URL}", "postgres://me:${UNUSED_PASSWORD}@host/db");
    assert!(parsed(&composed).control.expose().starts_with("postgres://me:http"));
}

#[test]
fn the_mapping_is_told_in_words() {
    let told = plan::explain(&parsed(whole()));
    let of = |table: &str| {
        let name = |explained: &&plan::Explanation| explained.table.as_ref().is_some_and(|found| found.name == table);
        told.iter().find(name).map(|explained| explained.words.join("\n")).expect("the table is explained")
    };
    let (access, flow) = (of("access"), of("flow"));
    for words in
        ["from blue's public.access", "nid = $network", "left behind by expired: expires < '2020-01-01'", "stricter"]
    {
        assert!(access.contains(words), "{words} in {access}");
    }
    for words in
        ["from: select r.login, h.state from request r", "key: login", "touched by public.handled: key login, held"]
    {
        assert!(flow.contains(words), "{words} in {flow}");
    }
    let others: Vec<&str> = told.iter().filter(|one| one.table.is_none()).map(|one| one.words[0].as_str()).collect();
    assert!(others[0].starts_with("public.networks: green's own") && others[1].starts_with("public.login_request"));
    assert!(others[2].starts_with("every other table"), "{others:?}");
}

#[test]
fn budgets_can_be_set_for_one_call_and_nothing_else() {
    let mut plan = parsed(whole());
    let digest = plan.digest.clone();
    plan.apply_sets([("window.hold", "3s")]).unwrap();
    plan.apply_sets([("copy.workers", "2"), ("copy.throttle.rate", "50MB")]).unwrap();
    plan.apply_sets([("copy.throttle.snapshot", "20m"), ("copy.throttle.replica_lag", "5s")]).unwrap();
    let throttle = plan.copy.throttle;
    assert_eq!((throttle.rate_bytes, throttle.snapshot.as_secs()), (Some(50 << 20), 1200));
    assert_eq!(throttle.replica_lag, Some(Duration::from_secs(5)));
    assert_eq!((plan.window.hold, plan.copy.workers), (Duration::from_secs(3), 2));
    assert_eq!(plan.digest, digest);
    let refused = plan.apply_sets([("carry.access.set.nid", "null")]).unwrap_err();
    assert!(matches!(refused, SetError::NotOverridable { .. }), "{refused}");
    let refused = plan.apply_sets([("window.hold", "soon")]).unwrap_err();
    assert_eq!(refused.to_string(), "window.hold must be a length of time above zero, such as 250ms, 2s or 30m");
    let refused = plan.apply_sets([("window.hold", "500ms")]).unwrap_err();
    assert!(matches!(refused, SetError::Conflict { .. }), "{refused}");
    assert_eq!(plan.window.hold, Duration::from_secs(3), "a refused value changes nothing");
    plan.apply_sets([("window.hold", "500ms"), ("window.write_gap", "200ms")]).unwrap();
}

#[test]
fn an_environment_file_is_read_and_its_mistakes_are_told_without_values() {
    let text = "# servers\nexport A=1 # one\nB='two # $x'\n\nC=\"a\\nb\\\"\"\nD=\n";
    let variables = env_file::parse(text).unwrap();
    let pairs: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("A", "1"), ("B", "two # $x"), ("C", "a\nb\""), ("D", "")]);
    let text = format!(
        "A=1\n{SENTINEL}\nA B={SENTINEL}\nC='{SENTINEL}\nD='{SENTINEL}' {SENTINEL}\nE=\"\\{SENTINEL}\"\nA={SENTINEL}"
    );
    let problems = env_file::parse(&text).unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
    assert!(!format!("{problems:?}").contains(SENTINEL));
}

#[test]
fn values_are_filled_in_where_they_are_meant() {
    let sql = Sql { text: "select $nid, '$nid', \"$nid\", $$ $nid $$, $nidx -- $nid".to_owned(), file: None };
    let filled = sql.with_values(|name| (name == "nid").then(|| "'7'".to_owned()));
    assert_eq!(filled, "select '7', '$nid', \"$nid\", $$ $nid $$, $nidx -- $nid");
}

#[test]
fn tables_of_a_select_are_found_and_what_only_looks_like_one_is_not() {
    let select = "with own as (select * from request), more (a) as materialized (select 1) \
        select extract(epoch from h.at), substring(h.x from 2), s.a, h.b is distinct from s.b \
        from own, more m, lateral unnest(h.list) u (x), (select 1 from handled) q left join only handled as h on true \
        join generate_series(1, 2) g on true where exists (select 1 from public.request where x = 'from nowhere')";
    let written = "select r.login, h.state\n      from request r\n      join handled h on h.login = r.login\n";
    assert!(whole().contains(written));
    parsed(&whole().replace(written, &format!("{select}\n")));
    let more = select.replace("public.request", "audit.\"Log\" l, public.request");
    let problems = plan::parse(&whole().replace(written, &format!("{more}\n")), Path::new("."), &anything).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "`carry.flow.from` reads audit.Log, which is not in `touched_by`");
}

#[test]
fn an_expression_may_compute_and_may_not_look_around() {
    for (sql, is_steady) in [
        ("(select jsonb_agg(part) from unnest(string_to_array(uris, '|')) part)", true),
        ("coalesce(at, timestamp '2020-01-01'), 'now'::text", true),
        ("age(closed, opened)", true),
        ("age(opened)", false),
        ("at + 'now'::timestamptz", false),
        ("date 'yesterday'", false),
        ("(select max(at) from audit)", false),
    ] {
        let text = whole().replace("\"$network\"", &serde_json::Value::from(sql).to_string());
        assert_eq!(plan::parse(&text, Path::new("."), &anything).is_ok(), is_steady, "{sql}");
    }
}

#[test]
fn the_schema_documents_every_key() {
    fn walk(schema: &serde_json::Value, path: &str, undocumented: &mut Vec<String>) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            if inner.get("description").is_none() && inner.get("$ref").is_none() {
                undocumented.push(path.clone());
            }
            walk(inner, &path, undocumented);
        }
    }
    let schema = plan::schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let mut undocumented = Vec::new();
    walk(&schema, "", &mut undocumented);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        assert!(definition.get("description").is_some(), "{name} is documented");
        walk(definition, name, &mut undocumented);
    }
    assert!(undocumented.is_empty(), "{undocumented:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let path = std::env::temp_dir().join(format!("cutover-plan-{}.yaml", uuid::Uuid::new_v4()));
        std::fs::write(&path, &bytes).unwrap();
        let _ = plan::load(&path, &anything);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn no_damage_to_a_plan_makes_the_loader_panic(
        at in 0..whole().len(), length in 0..40_usize, text in "[ -~\n\t'\"$${}:\\[\\]äß]{0,12}",
    ) {
        let end = (at + length).min(whole().len());
        let damaged = format!("{}{text}{}", &whole()[..at], &whole()[end..]);
        if let Err(problems) = plan::parse(&damaged, Path::new("."), &anything) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(problem.line >= 1 && problem.column >= 1, "{problem:?}");
                prop_assert!(!problem.message.is_empty());
            }
        }
    }

    #[test]
    fn no_nesting_makes_the_loader_overflow(depth in 1..20_000_usize, letter in "[\\[{]") {
        let nested = format!("version: {}", letter.repeat(depth));
        prop_assert!(plan::parse(&nested, Path::new("."), &anything).is_err());
        let block: String = (0..depth % 500).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        prop_assert!(plan::parse(&block, Path::new("."), &anything).is_err());
    }

    #[test]
    fn no_text_makes_the_environment_file_panic(text in "(?s).{0,200}") {
        let _ = env_file::parse(&text);
    }

    #[test]
    fn no_sql_makes_the_rules_panic(sql in "[a-z0-9_ '\"$(),.;:*/=\n-]{0,80}") {
        let quoted = serde_json::Value::from(sql.as_str()).to_string();
        let text = whole().replace("\"$network\"", &quoted);
        let _ = plan::parse(&text, Path::new("."), &anything);
        let _ = Sql { text: sql, file: None }.with_values(|_| Some("x".to_owned()));
    }
}

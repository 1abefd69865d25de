//! What a plan says about invariants, repairs and frozen jobs: questions that only ask, statements that only mend, words that go together.

use super::{SENTINEL, anything, tempdir, whole};
use cutover::plan::{self, Expect, FreezeBy, Plan};
use std::path::Path;

fn parse(more: &str) -> Result<Plan, Vec<String>> {
    let told = |problems: Vec<plan::Problem>| problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
    plan::parse(&format!("{}{more}", whole()), Path::new("."), &anything).map_err(told)
}

fn logical(more: &str) -> Result<Plan, Vec<String>> {
    let text = "version: 1\nname: stage\ncontrol: ${CONTROL_URL}\ndatabases:\n  blue: { url: \"${BLUE_URL}\", role: hydra }\n  green: { url: \"${GREEN_URL}\", role: hydra }\ncopy: { method: logical }\n";
    let told = |problems: Vec<plan::Problem>| problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
    plan::parse(&format!("{text}{more}"), Path::new("."), &anything).map_err(told)
}

const ONE: &str = "invariants: [ { name: one, blue: select 1, green: select 1, expect: equal } ]\n";

#[track_caller]
fn refused(invariant: &str, message: &str) {
    let problems = parse(&format!("invariants: [ {{ name: one, {invariant} }} ]\n")).expect_err(invariant);
    assert_eq!(problems, [format!("invariants[0]{message}")], "{invariant}");
}

#[test]
fn invariants_are_questions_with_one_answer_on_each_side() {
    let plan = parse("").expect("a plan");
    assert!(plan.invariants.is_empty() && plan.window.invariants.as_secs() == 600);
    let invariants = "invariants:
  - { name: one, blue: select count(*) from t, green: select count(*) from u where not deleted, expect: equal }
  - { name: two, blue: select 1, green: select 2, expect: at_least, because: more is made }
  - { name: three, blue: select 1, green: select 2, expect: { within: { rows: 5, percent: 0.5 } } }
  - { name: four, blue: \"select a, b from t;\", green: \"with x as (select 1) select a, b from u\", expect: set_equal, key: [a] }
  - { name: five, green: select a from u where b is null, expect: empty, key: [a] }
";
    let with = parse(invariants).expect("a plan");
    let expects: Vec<Expect> = with.invariants.iter().map(|one| one.expect).collect();
    let within = Expect::Within { rows: 5, percent: 0.5 };
    assert_eq!(expects, [Expect::Equal, Expect::AtLeast, within, Expect::SetEqual, Expect::Empty]);
    assert_eq!(with.invariants[3].blue.as_ref().expect("blue").text, "select a, b from t");
    assert_ne!(with.digest, plan.digest, "they are part of what is approved");
    let folder = tempdir();
    std::fs::write(folder.join("one.sql"), "-- all\nselect a from t\n").expect("a file");
    let text = format!(
        "{}invariants: [ {{ name: one, blue: one.sql, green: one.sql, expect: set_equal, key: [a] }} ]\n",
        whole()
    );
    assert!(plan::parse(&text, &folder, &anything).expect("a plan").files.contains_key("one.sql"));
}

#[test]
fn invariants_that_write_change_by_themselves_or_compare_nothing_are_refused() {
    let equal = |green: &str| format!("blue: select 1, green: \"{green}\", expect: equal");
    let green = ".green `invariants[0].green`";
    for (question, said) in [
        ("delete from t", "is not a select"),
        ("update t set a = 1", "is not a select"),
        ("with gone as (delete from t returning a) select count(*) from gone", "writes or locks (`delete`)"),
        ("with a as (select 1), b as (insert into t values (1)) select 1", "writes or locks (`insert`)"),
        ("select a from t for update", "writes or locks (`update`)"),
        ("select a into u from t", "writes or locks (`into`)"),
        ("select count(*) from t where at > now()", "calls now(), whose answer changes without a change of the row"),
        (
            "select count(*) from t where at > current_date",
            "uses current_date, whose answer changes without a change of the row",
        ),
        ("select nextval('numbers')", "calls nextval(), whose answer changes without a change of the row"),
        ("select 1; select 2", "holds more than one statement"),
        ("select $1::int", "holds a parameter"),
        ("select count(*) from t where n = $network", "uses `$network`"),
    ] {
        refused(&equal(question), &format!("{green} {said}"));
    }
    parse("invariants: [ { name: one, blue: select 1, green: \"select count(update) from t where deleted = 'delete'\", expect: equal } ]\n")
        .unwrap_or_else(|told| panic!("names and texts are no statements: {told:?}"));
    refused("green: select 1, expect: equal", " `invariants[0]` has no `blue` to compare with");
    refused(
        "blue: select 1, green: select 1, expect: empty, key: [a]",
        ".blue `invariants[0]` has `blue`, and `expect` is `empty`",
    );
    refused("blue: select 1, green: select 1, expect: set_equal", " `invariants[0]` compares rows and has no `key`");
    refused("green: select 1, expect: empty", " `invariants[0]` compares rows and has no `key`");
    refused(
        "blue: select 1, green: select 1, expect: equal, key: [a]",
        ".key `invariants[0]` has a `key` and compares no rows",
    );
    refused(
        "blue: select 1, green: select 1, expect: set_equal, key: [a, a]",
        ".key[1] `invariants[0].key` names `a` twice",
    );
    refused(
        "blue: select 1, green: select 1, expect: { within: { rows: 1, percent: 101 } }",
        ".expect.within.percent `invariants[0].expect.within.percent` is no bound",
    );
    let twice = parse(&ONE.replace(" ]", ", { name: one, blue: select 1, green: select 1, expect: equal } ]"));
    assert_eq!(
        twice.expect_err("twice"),
        ["invariants[1].name two invariants are named `one`: the first is `invariants[0]`"]
    );
}

#[test]
fn repairs_are_one_capped_statement_for_one_invariant_and_belong_to_logical_plans() {
    let repair = |sql: &str, more: &str| {
        format!(
            "{ONE}repairs: [ {{ name: mend, invariant: one, sql: \"{sql}\", cap: {{ rows: 5, percent: 1 }}, because: why{more} }} ]\n"
        )
    };
    for (sql, table) in [
        ("update t set a = 1 where a = 2", "public.t"),
        ("update only app.t set a = 1", "app.t"),
        ("insert into t select * from u", "public.t"),
        ("delete from t using u where t.a = u.a;", "public.t"),
    ] {
        let plan = logical(&repair(sql, "")).unwrap_or_else(|told| panic!("{sql}: {told:?}"));
        assert_eq!(plan.repairs[0].table.to_string(), table, "{sql}");
    }
    for sql in ["select 1", "truncate t", "with x as (select 1) update t set a = 1", "drop table t", "call p()"] {
        let told = logical(&repair(sql, "")).expect_err(sql);
        assert_eq!(told, ["repairs[0].sql `repairs[0].sql` is not one update, insert or delete on a table"], "{sql}");
    }
    let two = logical(&repair("update t set a = 1; delete from t", "")).expect_err("two");
    assert_eq!(two, ["repairs[0].sql `repairs[0].sql` holds more than one statement"]);
    let carried = parse(&repair("update t set a = 1", "")).expect_err("carried");
    assert_eq!(carried, ["repairs[0] `mend` is a repair, and `copy.method` is `carry`"]);
    let other =
        logical(&repair("update t set a = 1", "").replace("invariant: one", "invariant: on")).expect_err("none");
    assert_eq!(other, ["repairs[0].invariant `on` is none of `invariants`"]);
    let uncapped =
        logical(&repair("update t set a = 1", "").replace(", cap: { rows: 5, percent: 1 }", "")).expect_err("no cap");
    assert_eq!(uncapped, ["repairs[0].cap `repairs[0].cap` is missing"]);
    let wide = logical(&repair("update t set a = 1", "").replace("percent: 1 ", "percent: 101 ")).expect_err("a cap");
    assert_eq!(wide, ["repairs[0].cap.percent `repairs[0].cap.percent` is no cap"]);
}

#[test]
fn frozen_jobs_are_told_by_commands_or_over_http_and_show_no_secret() {
    let plan = parse(
        "freeze:
  - { name: janitor, command: { freeze: [stop, it], thaw: [start, it], verify: [is, stopped], env: { TOKEN: \"${JANITOR_TOKEN}\" } } }
  - { name: reconciler, within: 5s, http: { freeze: { method: POST, url: \"${RECONCILER}/pause?why=move\" }, thaw: { method: DELETE, url: \"${RECONCILER}/pause\" }, bearer: \"${RECONCILER_DSN}\" } }
",
    )
    .expect("a plan");
    assert!(matches!(&plan.freeze[0].by, FreezeBy::Command { verify: Some(verify), .. } if verify.len() == 2));
    let FreezeBy::Http { thaw, verify: None, bearer: Some(bearer), .. } = &plan.freeze[1].by else { panic!("HTTP") };
    assert_eq!((thaw.method, thaw.url.as_str()), ("DELETE", "http://reconciler.test:4444/pause"));
    assert!(bearer.expose().contains(SENTINEL) && !format!("{plan:?}").contains(SENTINEL));
    let http = |freeze: &str| {
        format!(
            "freeze: [ {{ name: one, http: {{ freeze: {freeze}, thaw: {{ method: POST, url: \"http://a/b\" }}, bearer: secret }} }} ]\n"
        )
    };
    let told = parse(&http("{ method: POST, url: \"http://me:secret@a/b\" }")).expect_err("credentials");
    assert_eq!(
        told,
        [
            "freeze[0].http.freeze.url `freeze[0].http.freeze.url` holds credentials",
            "freeze[0].http.bearer `freeze[0].http.bearer` holds a token"
        ]
    );
    let both = parse("freeze: [ { name: one } ]\n").expect_err("nothing");
    assert_eq!(both, ["freeze[0] `freeze[0]` must have exactly one of `command` and `http`"]);
    let empty = parse("freeze: [ { name: one, command: { freeze: [], thaw: [go] } } ]\n").expect_err("no program");
    assert_eq!(empty, ["freeze[0].command.freeze `freeze[0].command.freeze` is empty"]);
    let no_flip = logical("freeze: [ { name: one, command: { freeze: [stop], thaw: [go] } } ]\n").expect_err("no flip");
    assert_eq!(no_flip, ["freeze there is `freeze` but there are no `systems`"]);
}

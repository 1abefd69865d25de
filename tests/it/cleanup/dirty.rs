//! Questions for dirty rows: what they find and name, that they only read, and which of them no plan may have.

use super::plan_of;
use crate::harness::Pair;
use cutover::database::dirty::ask;
use cutover::database::preflight::{self, Severity};
use cutover::plan;
use std::path::Path;
use std::time::Duration;

const SCHEMA: &str = "create table consent (challenge text primary key, login_challenge text, subject text);
insert into consent select md5(n::text), case when n > 3 then 'l' || n end, 'someone' from generate_series(1, 40) n;";

fn question(find: &str, rest: &str) -> String {
    format!("dirty:\n  - {{ name: one, find: \"{find}\", {rest}, because: it would be dropped }}\n")
}

#[tokio::test]
async fn rows_are_counted_named_and_masked() {
    let pair = Pair::shared().await;
    pair.blue.execute(SCHEMA).await;
    let mut blue = pair.blue.client().await;
    let bound = Duration::from_secs(10);
    let plan = plan_of(
        &pair,
        &question("select challenge, subject from consent where login_challenge is null order by 1", "expect: none"),
    );
    let found = ask(&mut blue, &plan.dirty[0], bound).await.expect("an answer");
    assert_eq!((found.rows, found.is_refused()), (3, true));
    assert_eq!(found.keys[0], "challenge=c4ca42…, subject=someone");
    assert!(found.words().starts_with("one: 3 rows, nothing deals with them (challenge="), "{}", found.words());
    let plan = plan_of(&pair, &question("select challenge from consent", "handled_by: \"true\""));
    let found = ask(&mut blue, &plan.dirty[0], bound).await.expect("an answer");
    assert_eq!((found.rows, found.keys.len(), found.is_refused()), (40, 20, false), "the list is bounded");
    let plan = plan_of(&pair, &question("select challenge from consent where false", "expect: none"));
    let found = ask(&mut blue, &plan.dirty[0], bound).await.expect("an answer");
    assert_eq!((found.rows, found.is_refused(), found.words().as_str()), (0, false, "one: no row"));
}

#[tokio::test]
async fn a_question_can_neither_write_nor_take_for_ever() {
    let pair = Pair::shared().await;
    pair.blue.execute(SCHEMA).await;
    pair.blue
        .execute("create function gone() returns setof text language sql as 'delete from consent returning challenge'")
        .await;
    let mut blue = pair.blue.client().await;
    let plan = plan_of(&pair, &question("select * from gone() as g(challenge)", "expect: none"));
    let refused = ask(&mut blue, &plan.dirty[0], Duration::from_secs(10)).await.expect_err("it writes");
    assert_eq!(refused.source.code(), Some(&tokio_postgres::error::SqlState::READ_ONLY_SQL_TRANSACTION));
    let plan = plan_of(&pair, &question("select pg_sleep(30)::text as slept", "expect: none"));
    let late = ask(&mut blue, &plan.dirty[0], Duration::from_millis(100)).await.expect_err("it takes too long");
    assert_eq!(late.source.code(), Some(&tokio_postgres::error::SqlState::QUERY_CANCELED));
    assert_eq!(pair.blue.ask::<i64>("select count(*) from consent").await, 40);
}

#[tokio::test]
async fn check_tells_what_is_found_and_stops_only_for_what_nothing_deals_with() {
    let pair = Pair::shared().await;
    pair.blue.execute(SCHEMA).await;
    let rest = "dirty:
  - { name: bad, find: select challenge from consent where login_challenge is null, expect: none, because: it breaks }
  - { name: known, find: select challenge from consent where subject = 'someone', handled_by: \"true\", because: it changes }
  - { name: fine, find: select challenge from consent where subject = '', expect: none, because: it breaks }
  - { name: wrong, find: select nothing from consent, expect: none, because: it breaks }
";
    let findings = preflight::dirty(&plan_of(&pair, rest)).await;
    let told: Vec<(Severity, &str)> =
        findings.iter().map(|finding| (finding.severity, finding.what.split(':').next().unwrap_or_default())).collect();
    let wrong = "the question wrong could not be asked";
    assert_eq!(told, [(Severity::Error, "bad"), (Severity::Warning, "known"), (Severity::Error, wrong)]);
}

#[test]
fn what_no_plan_may_have_is_told_with_its_place() {
    let whole = include_str!("../plan/whole.yaml");
    let told = |rest: &str| -> Vec<String> {
        let lookup = |name: &str| {
            let url = name.ends_with("_URL") || name.ends_with("_DSN");
            Some(if name.ends_with("_KEY") {
                "0123456789abcdef".repeat(4)
            } else if url {
                format!("postgres://login@127.0.0.1/{name}")
            } else {
                format!("http://{}.test", name.to_lowercase().replace('_', "-"))
            })
        };
        let problems = plan::parse(&format!("{whole}{rest}"), Path::new("."), &lookup).err().unwrap_or_default();
        problems.iter().map(|problem| format!("{} {}", problem.path, problem.message)).collect()
    };
    assert_eq!(told(""), Vec::<String>::new());
    let one = |find: &str, rest: &str| question(find, rest);
    for handled in ["expired", "access", "public.access"] {
        assert_eq!(told(&one("select 1", &format!("handled_by: {handled}"))), Vec::<String>::new(), "{handled}");
    }
    let either = "dirty[0] `dirty[0]` must have either `handled_by` or `expect: none`";
    for (find, rest, message) in [
        (
            "select 1",
            "handled_by: nobody",
            "dirty[0].handled_by `dirty[0].handled_by` names `nobody`, which the plan does not have",
        ),
        ("select 1", "handled_by: expired, expect: none", either),
        (
            "with gone as (delete from t returning a) select a from gone",
            "expect: none",
            "dirty[0].find `dirty[0].find` writes: it holds delete",
        ),
        ("select 1; select 2", "expect: none", "dirty[0].find `dirty[0].find` holds more than one statement"),
        ("update t set a = 1", "expect: none", "dirty[0].find `dirty[0].find` is not a select"),
        ("select a from t where b = $network", "expect: none", "dirty[0].find `dirty[0].find` uses `$network`"),
    ] {
        let problems = told(&one(find, rest));
        assert!(problems.iter().any(|problem| problem.starts_with(message)), "{find} {rest}: {problems:?}");
    }
    assert_eq!(told("dirty:\n  - { name: one, find: select 1, because: so }\n"), [either]);
}

#[test]
fn a_rule_says_which_rows_in_one_way_and_in_no_circle() {
    let text = |rules: &str| {
        format!(
            "version: 1\nname: rules\ncontrol: postgres://l@h/c\ndatabases:\n  blue: {{ url: \"postgres://l@h/b\", role: hydra }}\n  green: {{ url: \"postgres://l@h/g\", role: hydra }}\ncleanup:\n{rules}"
        )
    };
    let told = |rules: &str| -> Vec<String> {
        let problems = plan::parse(&text(rules), Path::new("."), &|_| None).err().unwrap_or_default();
        problems.iter().map(|problem| format!("{} {}", problem.path, problem.message)).collect()
    };
    let rule = |name: &str, which: &str| {
        format!("  - {{ name: {name}, {which}, cap: {{ rows: 1, percent: 1 }}, because: a test }}\n")
    };
    let either = "cleanup[0] `cleanup[0]` must have either `where` or `orphan_of`";
    assert_eq!(told(&rule("a", "table: t")), [either]);
    assert_eq!(told(&rule("a", "table: t, where: b, orphan_of: { table: p }")), [either]);
    assert_eq!(told(&rule("a", "table: t, orphan_of: { table: p }, park: false")), Vec::<String>::new());
    assert_eq!(told(&rule("a", "table: t, where: (update is null) or delete = 1")), Vec::<String>::new(), "columns");
    let writes = told(&rule("a", "table: t, where: \"exists (delete from t returning a)\""));
    assert!(writes.contains(&"cleanup[0].where `cleanup[0].where` writes: it holds delete".to_owned()), "{writes:?}");
    let itself = told(&rule("a", "table: t, orphan_of: { table: t }"));
    assert_eq!(itself, ["cleanup[0].orphan_of.table orphan rules lead in a circle: public.t → public.t"]);
    let three = ["t, orphan_of: { table: u }", "u, orphan_of: { table: v }", "v, orphan_of: { table: t }"];
    let three: Vec<String> =
        three.iter().zip(["a", "b", "c"]).map(|(which, name)| rule(name, &format!("table: {which}"))).collect();
    let circle = told(&three.concat());
    assert_eq!(circle.len(), 3, "{circle:?}");
    assert!(circle[0].ends_with("public.t → public.u → public.v → public.t"), "{circle:?}");
    let uneven = told(&rule("a", "table: t, orphan_of: { table: p, columns: [a, b], references: [c] }"));
    assert_eq!(uneven, ["cleanup[0].orphan_of.columns `cleanup[0].orphan_of` has 2 columns for 1"]);
}

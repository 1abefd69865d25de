//! What a plan says about hot queries: one text or two, parameters and no values, selects and writes and nothing else.

use super::{anything, tempdir, whole};
use cutover::plan::{self, HotQueries, Plan, Side};
use std::path::Path;

fn parse(more: &str) -> Result<Plan, Vec<String>> {
    let told = |problems: Vec<plan::Problem>| problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect();
    plan::parse(&format!("{}{more}", whole()), Path::new("."), &anything).map_err(told)
}

fn with(queries: &str) -> Result<HotQueries, Vec<String>> {
    parse(&format!("hot_queries:\n  queries:\n{queries}")).map(|plan| plan.hot_queries.expect("hot queries"))
}

#[track_caller]
fn refused(query: &str, message: &str) {
    let problems = with(&format!("    - {{ name: one, sql: \"{query}\" }}\n")).expect_err(query);
    assert_eq!(problems, [format!("hot_queries.queries[0].sql `hot_queries.queries[0].sql` {message}")], "{query}");
}

#[test]
fn a_hot_query_is_one_text_or_one_for_each_side() {
    assert_eq!(parse("").expect("a plan").hot_queries, None);
    let same = "    - { name: one, sql: select a from t where b = $1 }\n";
    let hot = with(same).expect("a plan");
    assert_eq!((hot.cost_ratio, hot.small_table_bytes), (10.0, 8 << 20));
    assert_eq!(hot.queries[0].of(Side::Blue), hot.queries[0].of(Side::Green));
    let two = "    - { name: one, blue: delete from t where a = $1;, green: delete from u where a = $1 and n = $2, accept: rare }\n";
    let hot = with(two).expect("a plan");
    assert_eq!(hot.queries[0].of(Side::Blue).text, "delete from t where a = $1");
    assert_eq!(hot.queries[0].of(Side::Green).text, "delete from u where a = $1 and n = $2");
    assert_eq!(hot.queries[0].accept.as_deref(), Some("rare"));
    let limits = parse(&format!("hot_queries:\n  cost_ratio: 3\n  small_table: 1MB\n  queries:\n{same}"));
    let written = parse(&format!("hot_queries:\n  cost_ratio: 3.0\n  small_table: 1024kB\n  queries:\n{same}"));
    let (limits, written) = (limits.expect("a plan"), written.expect("a plan"));
    assert_eq!(limits.digest, written.digest, "written otherwise");
    assert_ne!(limits.digest, parse("").expect("a plan").digest);
    assert_eq!(limits.hot_queries.expect("hot queries").small_table_bytes, 1 << 20);
}

#[test]
fn a_hot_query_may_use_the_clock_and_lie_in_a_file() {
    for query in [
        "update t set a = now() where b = $1",
        "insert into t (a) values ($1) on conflict do nothing",
        "with gone as (delete from t where a = $1 returning b) insert into u select b from gone",
        "(select a from t where b = $1) union all select random()",
    ] {
        with(&format!("    - {{ name: one, sql: \"{query}\" }}\n")).unwrap_or_else(|told| panic!("{query}: {told:?}"));
    }
    let folder = tempdir();
    std::fs::write(folder.join("one.sql"), "-- all\nselect a from t where b = $1;\n").expect("a file");
    let text = format!("{}hot_queries: {{ queries: [ {{ name: one, sql: one.sql }} ] }}\n", whole());
    let plan = plan::parse(&text, &folder, &anything).expect("a plan");
    assert!(plan.files.contains_key("one.sql"), "it is part of the digest");
}

#[test]
fn what_is_no_hot_query_is_refused() {
    refused("select 1; select 2", "holds more than one statement");
    for other in [
        "merge into t using u on true when matched then delete",
        "with u as (select 1) merge into t using u on true when matched then delete",
        "truncate t",
        "call p()",
        "values (1)",
        "execute other",
    ] {
        refused(other, "is not a select, insert, update or delete");
    }
    refused("select a from t where n = $network", "uses `$network`");
    refused("select 'a", "holds a quote that never ends");
    let problems = with("    - { name: one, sql: select 1, green: select 2 }\n    - { name: one, blue: select 1 }\n");
    let either = "must have either `sql`, or `blue` and `green`";
    let expected = [
        format!("hot_queries.queries[0] `hot_queries.queries[0]` {either}"),
        format!("hot_queries.queries[1] `hot_queries.queries[1]` {either}"),
        "hot_queries.queries[1].name two hot queries are named `one`: the first is `hot_queries.queries[0]`".to_owned(),
    ];
    assert_eq!(problems.expect_err("no query"), expected);
    let problems = parse("hot_queries: { cost_ratio: 0.5, small_table: none, queries: [] }\n").expect_err("limits");
    let expected = [
        "hot_queries.cost_ratio `hot_queries.cost_ratio` is less than 1",
        "hot_queries.small_table `hot_queries.small_table` is not a size",
        "hot_queries.queries `hot_queries.queries` is empty",
    ];
    assert_eq!(problems, expected);
    let problems = with("    - { name: one, sql: select 1, accept: \" \" }\n").expect_err("no reason");
    assert_eq!(problems, ["hot_queries.queries[0].accept `hot_queries.queries[0].accept` is empty"]);
}

#[test]
fn memory_is_loaded_only_when_the_plan_says_so() {
    let prewarm = |value: &str| {
        let text = whole().replace("workers: 4,", &format!("workers: 4, prewarm: {value},"));
        plan::parse(&text, Path::new("."), &anything)
    };
    let without = parse("").expect("a plan");
    assert!(!without.copy.prewarm);
    let plan = prewarm("true").expect("a plan");
    assert!(plan.copy.prewarm && plan.digest != without.digest);
    assert_eq!(prewarm("false").expect("a plan").digest, without.digest, "the default, said aloud");
    let problems = prewarm("sometimes").expect_err("no");
    assert_eq!(problems[0].message, "`copy.prewarm` must be true or false, not `sometimes`");
}

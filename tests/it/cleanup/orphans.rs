//! Orphan rules: exact under concurrent writes of parents and children, chains of rules, and what hangs in the air is told before a row moves.

use super::{BLUE, GREEN, RULES, Stage, problems, texts};
use crate::level::for_both;
use cutover::database::cleanup::{cascades, dangling, hanging, preview, samples};
use cutover::database::{catalog, level, mapping};
use cutover::plan::CaptureMethod;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio_postgres::Client;

for_both!(
    green_and_its_archive_equal_blue_after_random_writes_of_parents_and_children,
    a_parent_that_comes_or_goes_changes_the_verdict_of_rows_that_were_not_touched,
);

/// One random transaction of an application that holds nothing together.
async fn write_something(client: &Client) -> bool {
    let (c, g, t, action) = {
        let mut random = rand::rng();
        (
            random.random_range(0..35),
            random.random_range(0..110),
            random.random_range(0..450),
            random.random_range(0..14),
        )
    };
    let statement = match action {
        0 => format!("delete from client where id = 'c{c}'"),
        1 => format!("insert into client values ('c{c}', {}, 'again') on conflict (id) do nothing", t % 4 == 0),
        2 => format!("update client set dead = not dead where id = 'c{c}'"),
        3 => format!("update client set id = 'c{}' where id = 'c{c}'", (c + t) % 35),
        4 => format!("delete from grant_row where id = 'g{g}'"),
        5 => format!("insert into grant_row values ('g{g}', 'c{c}', 'again') on conflict (id) do nothing"),
        6 => format!("update grant_row set client_id = 'c{c}' where id = 'g{g}'"),
        7 => format!("update grant_row set client_id = null where id = 'g{g}'"),
        8 => format!("update grant_row set id = 'g{}' where id = 'g{g}'", (g + t) % 110),
        9 => format!("delete from token where signature = 't{t}'"),
        10 | 11 => {
            format!("insert into token values ('t{t}', 'g{g}', 'again {c}', {c}.0) on conflict (signature) do nothing")
        }
        12 => format!("update token set grant_id = 'g{g}' where signature = 't{t}'"),
        _ => format!(
            "delete from client where id = 'c{c}'; delete from grant_row where client_id = 'c{c}'; insert into client values ('c{c}')"
        ),
    };
    let durability = if t % 3 == 0 { "set local synchronous_commit = off; " } else { "" };
    let written = client.batch_execute(&format!("begin; {durability}{statement}; commit")).await.is_ok();
    if !written {
        let _ = client.batch_execute("rollback").await;
    }
    written
}

async fn green_and_its_archive_equal_blue_after_random_writes_of_parents_and_children(method: CaptureMethod) {
    let stage = Stage::by(method, BLUE, GREEN, RULES).await;
    let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (client, stop, commits) = (stage.pair.blue.client().await, stop.clone(), commits.clone());
        writers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                commits.fetch_add(u64::from(write_something(&client).await), Ordering::Relaxed);
            }
        });
    }
    let mut worker = stage.fill().await;
    let begun = tokio::time::Instant::now();
    let (mut batches, mut seen) = (0, 0);
    while begun.elapsed() < Duration::from_secs(5) || (batches < 3 && begun.elapsed() < Duration::from_secs(60)) {
        seen += worker.batch(&()).await.expect("a batch").commits;
        batches += 1;
    }
    stop.store(true, Ordering::Relaxed);
    while writers.join_next().await.is_some() {}
    worker.until_level(&(), Duration::from_secs(20), Duration::from_secs(5)).await.expect("green gets level");
    assert!(batches > 1 && seen > 50, "{batches} batches with {seen} commits of {commits:?}");
    stage.assert_level().await;
    let parked: i64 = stage.pair.green.ask("select count(*) from cutover.parked_token").await;
    assert!(parked > 0, "tokens are parked");
    let green = stage.pair.green.client().await;
    let pointing = mapping::pointing(&stage.plan, &stage.on_blue, &stage.on_green);
    assert_eq!(pointing.len(), 2, "{pointing:?}");
    assert_eq!(dangling(&green, &pointing).await.expect("green answers"), []);
}

async fn a_parent_that_comes_or_goes_changes_the_verdict_of_rows_that_were_not_touched(method: CaptureMethod) {
    let stage = Stage::by(method, BLUE, GREEN, RULES).await;
    let mut worker = stage.fill().await;
    worker.batch(&()).await.expect("a batch");
    stage.assert_level().await;
    let rules = async |client: &str| {
        let green = stage.pair.green.client().await;
        let grants = "select cutover_rule || ' ' || count(*) from cutover.parked_grant_row where client_id = 'CLIENT' group by cutover_rule";
        texts(&green, &grants.replace("CLIENT", client)).await.into_iter().collect::<Vec<_>>().join(", ")
    };
    assert_eq!((rules("c1").await, rules("c30").await), (String::new(), "lost-grants 2".to_owned()));
    for (statement, c1, c30) in [
        ("delete from client where id = 'c1'", "lost-grants 3", "lost-grants 2"),
        ("insert into client values ('c30')", "lost-grants 3", ""),
        ("update client set dead = true where id = 'c30'", "lost-grants 3", "lost-grants 2"),
        ("update client set dead = false where id = 'c30'; insert into client values ('c1')", "", ""),
        ("update client set id = 'moved' where id = 'c1'", "lost-grants 3", ""),
        ("truncate client", "lost-grants 3", "lost-grants 2"),
    ] {
        stage.blue(statement).await;
        worker.batch(&()).await.expect("a batch");
        stage.assert_level().await;
        assert_eq!((rules("c1").await.as_str(), rules("c30").await.as_str()), (c1, c30), "{statement}");
    }
    let kept: i64 = stage.pair.green.ask("select count(*) from token").await;
    assert_eq!(kept, 1, "with the clients went their grants and tokens; who points to nothing stays");
}

#[tokio::test]
async fn what_hangs_on_rows_that_are_left_behind_is_counted_by_rule() {
    let stage = Stage::new(RULES).await;
    let mut blue = stage.pair.blue.client().await;
    let told = preview(&mut blue, &stage.mapping).await.expect("a preview");
    let told: Vec<(&str, u64)> = told.iter().map(|one| (one.rule.as_str(), one.rows)).collect();
    // 3 of 30 clients; grants of those 3 (3 each, c0 to c29 are met by 100 grants) and of 5 clients that there are not.
    let grants: i64 = stage
        .pair
        .blue
        .ask("select count(*) from grant_row where client_id not in (select id from client where not dead)")
        .await;
    let tokens: i64 = stage
        .pair
        .blue
        .ask("select count(*) from token where grant_id is not null and not exists (select from grant_row g where g.id = grant_id and g.client_id in (select id from client where not dead))")
        .await;
    assert_eq!(
        told,
        [("dead-clients", 3), ("lost-grants", grants.cast_unsigned()), ("lost-tokens", tokens.cast_unsigned())]
    );
    assert!(grants > 15 && tokens > grants, "{grants} {tokens}");
    let hangs = hanging(&blue, &stage.mapping, &stage.left, &stage.on_green).await.expect("blue answers");
    assert_eq!(hangs, [], "every one of them has a rule");
    let named = samples(&blue, &stage.left[0], "dead-clients").await.expect("blue answers");
    assert_eq!(named.len(), 3);
    assert!(named.contains(&"id=c10".to_owned()), "{named:?}");
    let left = stage.left.iter().find(|left| left.table.name == "token").expect("tokens");
    let named = samples(&blue, left, "lost-tokens").await.expect("blue answers");
    assert_eq!((named.len(), named[0].as_str()), (5, "signature=***"), "keys of token tables are masked");
}

#[tokio::test]
async fn rows_without_a_rule_of_their_own_are_told_before_a_row_moves() {
    let only_clients = RULES.lines().take(2).collect::<Vec<_>>().join("\n") + "\n";
    let stage = Stage::new(&only_clients).await;
    let blue = stage.pair.blue.client().await;
    let hangs = hanging(&blue, &stage.mapping, &stage.left, &stage.on_green).await.expect("blue answers");
    let words: Vec<String> = hangs.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "9 rows of public.grant_row point to rows of public.client that dead-clients leaves behind (grant_row_client_id_fkey, such as client_id=c0)"
        ]
    );
    // Grants have a rule, tokens have none: what the rule makes of grants hangs on it in turn.
    let no_tokens = RULES.lines().take(3).collect::<Vec<_>>().join("\n") + "\n";
    let stage = Stage::new(&no_tokens).await;
    let blue = stage.pair.blue.client().await;
    let hangs = hanging(&blue, &stage.mapping, &stage.left, &stage.on_green).await.expect("blue answers");
    assert_eq!(hangs.len(), 1, "{hangs:?}");
    assert_eq!((hangs[0].rule.as_str(), hangs[0].child.name.as_str()), ("lost-grants", "token"));
}

#[tokio::test]
async fn what_falls_on_blue_is_followed_by_its_foreign_keys() {
    let keys = "delete from token where grant_id not in (select id from grant_row); delete from grant_row where client_id not in (select id from client);
        delete from token where grant_id not in (select id from grant_row);
        alter table grant_row add foreign key (client_id) references client (id) on delete cascade;
        alter table token add foreign key (grant_id) references grant_row (id) on delete set null;";
    let stage = Stage::by(CaptureMethod::Slot, &format!("{BLUE}{keys}"), GREEN, RULES).await;
    let blue = stage.pair.blue.client().await;
    let found = cascades(&blue, &stage.left[0], &stage.on_blue).await.expect("blue answers");
    let told: Vec<(&str, u64, usize)> =
        found.iter().map(|one| (one.table.name.as_str(), one.rows, one.through.len())).collect();
    let tokens: i64 = stage.pair.blue.ask("select count(*) from token t join grant_row g on g.id = t.grant_id join client c on c.id = g.client_id where c.dead").await;
    assert_eq!(told, [("grant_row", 9, 1), ("token", tokens.cast_unsigned(), 2)]);
    assert!(tokens > 9);
}

#[tokio::test]
async fn an_orphan_rule_that_cannot_be_kept_is_refused_with_the_reason() {
    let rule = |orphan: &str| {
        format!(
            "cleanup:\n  - {{ name: lost, table: grant_row, orphan_of: {orphan}, cap: {{ rows: 9, percent: 9 }}, because: a test }}\n"
        )
    };
    for (orphan, reason) in [
        ("{ table: nobody }", "blue has no table public.nobody"),
        ("{ table: client }", "blue has no single foreign key to public.client"),
        (
            "{ table: client, columns: [client_id], references: [name] }",
            "client_id does not lead to the primary key (id) of public.client",
        ),
        ("{ table: client, columns: [nothing] }", "blue has no column nothing there"),
    ] {
        let told = problems(BLUE, GREEN, &rule(orphan)).await;
        let words: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert!(words.iter().any(|word| word.contains(reason)), "{orphan}: {words:?}");
    }
    let unique = "create unique index on client (name);";
    let by_name = rule("{ table: client, columns: [client_id], references: [name] }");
    assert_eq!(problems(&format!("{BLUE}{unique}"), GREEN, &by_name).await.len(), 1, "a key that changes may not tell");
}

#[tokio::test]
async fn a_parent_whose_children_are_found_by_no_index_is_refused() {
    let large =
        "insert into token select 'x' || n, 'g1' from generate_series(1, 20000) n; drop index token_grant; analyze;";
    let stage = Stage::by(CaptureMethod::Slot, &format!("{BLUE}{large}"), GREEN, RULES).await;
    let (mut blue, mut green) = (stage.pair.blue.client().await, stage.pair.green.client().await);
    let on_blue = catalog::read(&blue).await.expect("blue's catalog");
    let told = level::judge_lookups(&mut blue, &on_blue, &mut green, &stage.on_green, &stage.mapping, 100_000).await;
    let words: Vec<String> = told.expect("blue answers").iter().map(ToString::to_string).collect();
    let expected = "public.token: each batch would read all of blue's public.token to find the keys of touched rows of public.grant_row";
    assert!(words.iter().any(|word| word.starts_with(expected) && word.contains("orphan_of:")), "{words:?}");
    stage.blue("create index on token (grant_id)").await;
    let told = level::judge_lookups(&mut blue, &on_blue, &mut green, &stage.on_green, &stage.mapping, 100_000).await;
    assert_eq!(told.expect("blue answers"), []);
}

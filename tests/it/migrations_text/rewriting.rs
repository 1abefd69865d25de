//! The safe form: the catalog stays, nothing blocks but what was said, the order stays, and batches do what one statement did.

use super::{corpus, history};
use crate::harness::{Place, fresh_folder};
use cutover::database::migrations::batch::Batch;
use cutover::database::migrations::compare;
use cutover::database::migrations::lint::{Known, Linter, Phase, is_in_the_way};
use cutover::database::migrations::rewrite::{RewriteError, Rewritten, rewrite, write};
use cutover::database::migrations::{Batching, Directive, Folder, directives, live};
use std::path::{Path, PathBuf};

/// A folder that goes with the test.
pub(super) struct Made(pub(super) PathBuf);

impl Made {
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let folder = fresh_folder("rewriting");
        std::fs::create_dir_all(&folder).expect("a folder");
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).expect("a file"));
        Self(folder)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn rewritten(folder: &Folder) -> (Rewritten, Made, Folder) {
    let written = rewrite(folder, Known::default(), None).expect("it is rewritten");
    let made = Made(fresh_folder("rewritten"));
    write(&written, &made.0).expect("it is written");
    let again = Folder::read(&made.0).expect("what was written is a folder of migrations");
    (written, made, again)
}

#[tokio::test]
async fn migrations_rewritten_history_makes_the_same_catalog() {
    let (first, (_, _made, second)) = (history(), rewritten(&history()));
    let mut catalogs = Vec::new();
    for (name, folder) in [("stock", &first), ("rewritten", &second)] {
        let mut client = Place::shared(name).await.client().await;
        compare::run(&mut client, folder).await.expect("the folder runs on an empty database");
        catalogs.push(compare::catalog(&client, true).await.expect("a catalog"));
    }
    let differences = compare::differences(&catalogs[0], &catalogs[1]);
    assert!(differences.is_empty() && catalogs[0].len() > 100, "{differences:#?}");
}

const SEED: &str = "
insert into shop_network values ('0f0e0d0c-0b0a-4908-8706-050403020100', '2020-01-01', '2020-01-01');
insert into shop_client (id, client_name, redirect_uris, scope, owner)
select 'app ' || n, 'name', case when n % 3 = 0 then '' else 'a|b' || n end, 'openid', '' from generate_series(1, 90) n;
insert into shop_session (id, subject, authenticated_at) select 's' || n, 'user ' || n % 9, '2020-01-01' from generate_series(1, 300) n;
insert into shop_login select 'l' || n, 'user ' || n % 9, n % 2 = 0 from generate_series(1, 300) n;
insert into shop_consent (challenge, verifier, client_id, subject, handled)
select 'c' || n, 'v' || n, 'app 1', 'user 1', n % 4 = 0 from generate_series(1, 300) n;
insert into shop_access (signature, request_id, requested_at, client_id, scope, session_data)
select 'x' || n, 'r' || n, '2020-01-01', 'app ' || n % 100, 'openid', '{}' from generate_series(1, 700) n;
insert into shop_refresh (signature, request_id, requested_at, client_id, scope, session_data)
select 'y' || n, 'r' || n, '2020-01-01', 'app ' || n % 100, 'openid', '{}' from generate_series(1, 700) n;";
/// Every row without what is drawn by chance or told by the clock.
const ROWS: &str = "
select table_name::text,
       (xpath('/row/sum/text()', query_to_xml(format($$select md5(string_agg(r::text, ',' order by r::text)) as sum
          from (select to_jsonb(t) - array['pk', 'nonce', 'seen_at', 'updated_at', 'requested_at'] as r from %I t) x$$, table_name), false, true, '')))[1]::text
  from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' order by 1";

#[tokio::test]
async fn migrations_rewritten_history_leaves_the_same_rows() {
    let (first, (_, _made, second)) = (history(), rewritten(&history()));
    let mut rows = Vec::new();
    let mut batches = 0;
    for (name, folder) in [("stock_rows", &first), ("rewritten_rows", &second)] {
        let mut client = Place::shared(name).await.client().await;
        let mut is_seeded = false;
        for file in folder.files() {
            if file.version.as_str() > "2021" && !is_seeded {
                client.batch_execute(SEED).await.expect("rows as the first release wrote them");
                is_seeded = true;
            }
            let said =
                file.statements.first().map(|one| directives(&file.text, one).expect("directives")).unwrap_or_default();
            let batching =
                said.into_iter().find_map(|(_, one)| if let Directive::Batch(it) = one { Some(it) } else { None });
            match batching {
                Some(batching) => {
                    let batching = Batching { rows: 64, ..batching };
                    batches +=
                        in_batches(&client, &Batch::of(&file.statements[0].text, &batching).expect("a batch")).await;
                }
                None => compare::run_file(&mut client, file)
                    .await
                    .unwrap_or_else(|error| panic!("{}: {error:?}", file.name)),
            }
        }
        let found = client.query(ROWS, &[]).await.expect("every row");
        rows.push(found.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(String, Option<String>)>>());
        let empty: i64 = client
            .query_one("select count(*) from shop_client where pk is null or nid is null", &[])
            .await
            .expect("a count")
            .get(0);
        assert_eq!(empty, 0, "{name}");
    }
    assert!(batches > 30, "{batches}");
    assert_eq!(rows[0], rows[1]);
}

#[test]
fn migrations_rewritten_history_blocks_only_where_a_person_must_decide() {
    let (written, _made, again) = rewritten(&history());
    let mut linter = Linter::new(Known::default(), Phase::Live);
    let mut blocking = Vec::new();
    for file in again.files() {
        let found = linter.file(file).expect("it is understood");
        blocking.extend(found.into_iter().filter(|one| is_in_the_way(one, Phase::Live)).map(|one| one.file));
    }
    blocking.dedup();
    let decided: Vec<&String> = written.decisions.iter().map(|one| &one.file).collect();
    assert!(blocking.iter().all(|file| decided.contains(&file)), "{blocking:?} {decided:?}");
    // Every version of the folder is there, and the parts of one stand right before it.
    let stock: Vec<String> = history().files().map(|file| file.version.clone()).collect();
    let kept: Vec<&String> =
        again.files().map(|file| &file.version).filter(|version| stock.contains(version)).collect();
    assert_eq!(kept, stock.iter().collect::<Vec<_>>());
}

#[test]
fn migrations_rewriting_of_an_engine_s_history() {
    let (written, _, _) = rewritten(&history());
    let mut told = String::new();
    for one in &written.changes {
        told.push_str(&format!("changed {}:{} {}: {}\n", one.file, one.line, one.rule, one.what));
    }
    for one in &written.decisions {
        told.push_str(&format!("decide {}:{} {}: {}\n", one.file, one.line, one.rule, one.what));
    }
    for (name, text) in &written.files {
        let stock = std::fs::read_to_string(corpus("history").join(name)).ok();
        if stock.as_ref() != Some(text) {
            told.push_str(&format!("--- {name}\n{text}"));
        }
    }
    insta::assert_snapshot!("rewritten", told);
}

#[test]
fn migrations_rewriting_keeps_what_does_not_block_byte_for_byte() {
    let (written, _, _) = rewritten(&history());
    for name in [
        "20150101000001000000_networks.up.sql",
        "20190100000010_blank_with_words.up.sql",
        "20210233000053000000_widen.up.sql",
    ] {
        let stock = std::fs::read_to_string(corpus("history").join(name)).expect("a file");
        assert!(written.files.iter().any(|(file, text)| file == name && *text == stock), "{name}");
    }
}

#[test]
fn migrations_rewriting_of_refinery_files_keeps_the_order() {
    let made = Made::of(&[
        ("V1__table.sql", "create table t (id int primary key, a text, b text);\n"),
        (
            "V2__indexes.sql",
            "-- why\ncreate index t_a on t (a); -- by a\ncreate index on t (b);\nalter table t add column c text;\n",
        ),
        ("V3__fill.sql", "update t set c = a;\n"),
        ("V9__late.sql", "drop index t_a;\n"),
    ]);
    let folder = Folder::read(&made.0).expect("a folder");
    let (written, _made, again) = rewritten(&folder);
    let names: Vec<&str> = again.files().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "V1__table.sql",
            "V2__indexes.sql",
            "V3__indexes_part_2.sql",
            "V4__indexes_part_3.sql",
            "V5__fill.sql",
            "V9__late.sql"
        ]
    );
    assert_eq!(written.files[1].1, "-- why\ncreate index concurrently t_a on t (a); -- by a\n");
    assert!(written.files[2].1.contains("create index concurrently t_b_idx on t (b);"), "{}", written.files[2].1);
    assert!(again.files().skip(1).all(|file| file.is_alone || file.name.contains("part_3")), "{again:#?}");
    let kept = rewrite(&folder, Known::default(), Some("3")).expect("rewritten");
    assert_eq!(kept.files[1].1, folder.versions[1].up.text, "what is applied already stays as it is");
}

#[test]
fn migrations_rewriting_leaves_a_file_whole_whose_statements_share_a_session() {
    let made = Made::of(&[
        ("V1__t.sql", "create table t (id int primary key, a text);"),
        ("V2__s.sql", "set local work_mem = '1GB';\ncreate index t_a on t (a);\n"),
        ("V3__e.sql", "alter table if exists t alter column a set not null;\n"),
    ]);
    let folder = Folder::read(&made.0).expect("a folder");
    let (written, _made, _) = rewritten(&folder);
    assert_eq!(written.files[1].1, folder.versions[1].up.text);
    assert_eq!(written.decisions.iter().map(|one| (one.rule, one.line)).collect::<Vec<_>>(), [("one-session", 1)]);
    assert_eq!(written.changes.len(), 1);
    assert!(written.files[3].1.contains("alter table if exists t validate constraint"), "{:?}", written.files);
}

const PARTITIONED: &str = "create table log (id bigint not null, at date not null, kind int) partition by range (at);
create table log_1 partition of log for values from ('2026-01-01') to ('2026-02-01');
create table log_2 partition of log for values from ('2026-02-01') to ('2026-03-01') partition by hash (id);
create table log_2_a partition of log_2 for values with (modulus 1, remainder 0);
create table log_rest partition of log default;
create table \"Odd\" (a int, b int);
";

#[tokio::test]
async fn migrations_rewriting_builds_an_index_of_a_partitioned_table_partition_by_partition() {
    let made = Made::of(&[
        ("V1__log.sql", PARTITIONED),
        (
            "V2__by_kind.sql",
            "create index log_by_kind on log (kind) where kind > 0; -- for reports\ncreate index on log (kind, at) include (id);\n\
             create index on \"Odd\" (a) include (b);\ncreate index log_only on only log (id);\n",
        ),
        ("V3__computed.sql", "create index log_computed on log ((kind + 1));\n"),
        (
            "V4__key.sql",
            "alter table log add primary key (id, at);\nalter table log add constraint log_once unique (at, id);\n",
        ),
    ]);
    let folder = Folder::read(&made.0).expect("a folder");
    let (written, _made, again) = rewritten(&folder);
    let mut catalogs = Vec::new();
    for (name, folder) in [("whole", &folder), ("in_parts", &again)] {
        let mut client = Place::shared(name).await.client().await;
        compare::run(&mut client, folder).await.unwrap_or_else(|error| panic!("{name}: {error:?} {written:#?}"));
        let invalid = "select string_agg(indexrelid::regclass::text, ', ') from pg_index where not indisvalid and indexrelid <> 'log_only'::regclass";
        let invalid: Option<String> = client.query_one(invalid, &[]).await.expect("indexes").get(0);
        assert_eq!(invalid, None, "{name}");
        catalogs.push(compare::catalog(&client, true).await.expect("a catalog"));
    }
    let differences = compare::differences(&catalogs[0], &catalogs[1]);
    assert!(differences.is_empty(), "{differences:#?}\n{written:#?}");
    // Nothing blocks but what a person must decide: names that are computed.
    let mut linter = Linter::new(Known::default(), Phase::Live);
    for file in again.files() {
        let found = linter.file(file).expect("it is understood");
        let blocking: Vec<_> = found.iter().filter(|one| is_in_the_way(one, Phase::Live)).collect();
        assert!(blocking.is_empty() || file.name.contains("computed"), "{blocking:#?}");
    }
    let told: Vec<&str> = written.decisions.iter().map(|one| one.what.as_str()).collect();
    for words in ["log_1, log_2, log_rest, log_2_a", "cannot be foreseen", "equal make the unique indexes fail"] {
        assert!(told.iter().any(|one| one.contains(words)), "{words}: {told:#?}");
    }
}

const BY_HAND: &str = "create table t (id bigint primary key, a int not null default 0, b text);
insert into t (id, a) select n, n from generate_series(1, 50) n";

#[tokio::test]
async fn migrations_steps_that_are_left_to_a_person_are_sql_that_does_what_the_statement_would_have_done() {
    let made = Made::of(&[
        ("V1__t.sql", "create table t (id bigint primary key, a int not null default 0, b text);"),
        ("V2__identity.sql", "alter table t add column n bigint generated by default as identity;"),
        ("V3__serial.sql", "alter table t add column s serial;"),
        ("V4__computed.sql", "alter table t add column d bigint generated always as (id * 2) stored;"),
        ("V5__unique.sql", "alter table t add column u int unique check (u > 0);"),
        ("V6__type.sql", "alter table t alter column a type bigint;"),
    ]);
    let folder = Folder::read(&made.0).expect("a folder");
    let (written, _made, _) = rewritten(&folder);
    assert!(written.changes.is_empty(), "{written:#?}");
    let mut rows = Vec::new();
    for is_by_hand in [false, true] {
        let client = Place::shared("by_hand").await.client().await;
        client.batch_execute(BY_HAND).await.expect("a table");
        for (at, file) in folder.files().enumerate().skip(1) {
            let told = written.decisions.iter().find(|one| one.file == file.name).expect("a decision");
            assert!(told.steps.len() >= 2, "{at}: {told:#?}");
            let steps = if is_by_hand { told.steps.clone() } else { vec![file.text.clone()] };
            for sql in steps {
                client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{}: {sql}: {error:?}", file.name));
            }
        }
        client
            .batch_execute("insert into t (id, a, u) values (51, 51, 1); update t set a = 7 where id = 3")
            .await
            .expect("clients go on");
        let columns = "select string_agg(format('%s %s %s %s', attname, format_type(atttypid, atttypmod), attidentity, attnotnull), ', ' order by attname)
                         from pg_attribute where attrelid = 't'::regclass and attnum > 0 and not attisdropped";
        let values = "select md5(string_agg(format('%s %s %s %s %s %s', id, a, n, s, d, u), ',' order by id)) from t";
        let names =
            "select string_agg(conname, ', ' order by conname) from pg_constraint where conrelid = 't'::regclass";
        let mut found = Vec::new();
        for query in [columns, values, names] {
            found.push(client.query_one(query, &[]).await.expect("an answer").get::<_, String>(0));
        }
        rows.push(found);
    }
    assert_eq!(rows[0], rows[1]);
}

#[tokio::test]
async fn migrations_the_example_s_own_set_and_the_rewritten_one_end_in_the_schema_of_the_stock_set() {
    let path = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let engine = Folder::read(&path("migrations/engine")).expect("the stand-in's chain");
    let sets = ["stock", "rewritten"].map(|set| Folder::read(&path("plans/hydra-0x-to-1x").join(set)).expect("a set"));
    let mut catalogs = Vec::new();
    let mut made = None;
    for at in 0..3 {
        let mut client = Place::shared("example").await.client().await;
        for file in engine.files().filter(|file| file.version.as_str() < "2019") {
            compare::run_file(&mut client, file).await.expect("the engine's first schema");
        }
        let own = (at == 2).then_some(());
        if own.is_some() {
            let known = live::read(&client).await.expect("the database is read");
            let written = rewrite(&sets[0], Known { is_live: false, ..known }, None).expect("it is rewritten");
            let folder = Made(fresh_folder("example"));
            write(&written, &folder.0).expect("it is written");
            made = Some((Folder::read(&folder.0).expect("a folder"), folder, written));
        }
        let set = made.as_ref().map_or(sets.get(at), |(set, _, _)| Some(set)).expect("a set");
        compare::run(&mut client, set).await.expect("the set runs");
        catalogs.push(compare::catalog(&client, true).await.expect("a catalog"));
    }
    for other in &catalogs[1..] {
        let differences = compare::differences(&catalogs[0], other);
        assert!(differences.is_empty() && other.len() > 100, "{differences:#?}");
    }
    let (set, _, written) = made.expect("rewritten");
    assert!(written.decisions.is_empty() && written.changes.len() >= 6, "{written:#?}");
    for set in [&set, &sets[1]] {
        let mut linter = Linter::new(Known::default(), Phase::Live);
        let found = set.files().flat_map(|file| linter.file(file).expect("it is understood"));
        let blocking: Vec<_> = found.filter(|one| is_in_the_way(one, Phase::Live)).collect();
        assert!(blocking.is_empty(), "{blocking:#?}");
    }
}

#[test]
fn migrations_rewriting_keeps_the_ends_of_lines() {
    let made = Made::of(&[
        ("V1__t.sql", "create table t (id int primary key, a text);\r\n"),
        (
            "V2__i.sql",
            "-- why\r\ncreate index t_a on t (a); -- tail\r\nalter table t add column z int;\r\nupdate t set z = 1;\r\n",
        ),
    ]);
    let (written, _made, _) = rewritten(&Folder::read(&made.0).expect("a folder"));
    assert_eq!(written.changes.len(), 2, "{written:#?}");
    for (name, text) in &written.files {
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{name}: {text:?}");
    }
}

#[test]
fn migrations_rewriting_never_writes_over_anything() {
    let made = Made::of(&[("V1__a.sql", "select 1;")]);
    let written = rewrite(&Folder::read(&made.0).expect("a folder"), Known::default(), None).expect("rewritten");
    assert!(matches!(write(&written, &made.0), Err(RewriteError::InUse { .. })));
}

/// Runs a batched statement as a runner does.
async fn in_batches(client: &tokio_postgres::Client, batch: &Batch) -> usize {
    let (mut from, mut pieces): (Option<Vec<String>>, usize) = (None, 0);
    while let Some(row) = client.query_opt(&batch.next(from.as_deref()), &[]).await.expect("the next range") {
        let to: Vec<String> = (0..row.len()).map(|at| row.get(at)).collect();
        client.batch_execute(&batch.bounded(from.as_deref(), &to)).await.expect("a batch runs");
        (from, pieces) = (Some(to), pieces + 1);
    }
    pieces
}

#[tokio::test]
async fn migrations_batches_do_what_the_one_statement_does() {
    let client = Place::shared("batches").await.client().await;
    let table = "create table t (a int, b text, n int, primary key (a, b));
        insert into t select i % 7, 'k''' || i, i from generate_series(1, 500) i; create table o as select a, b, n * 2 as n from t where n % 3 = 0;";
    for (sql, key) in [
        ("update t set n = -n where n % 2 = 0 or n = 3 -- why", vec!["a", "b"]),
        ("update t as x set n = o.n from o where o.b = x.b", vec!["a", "b"]),
        ("delete from t using o where o.b = t.b and o.n > 100", vec!["a", "b"]),
        ("update t set n = n + 1", vec!["a", "b"]),
    ] {
        let mut answers = Vec::new();
        for is_batched in [false, true] {
            client.batch_execute(&format!("drop table if exists t, o; {table}")).await.expect("tables");
            if is_batched {
                let batching = Batching { key: key.iter().map(|one| (*one).to_owned()).collect(), rows: 37 };
                let pieces = in_batches(&client, &Batch::of(sql, &batching).expect("a batch")).await;
                assert!(pieces >= 9, "{sql}: {pieces}");
            } else {
                client.batch_execute(sql).await.expect("the statement runs as a whole");
            }
            let sum: String = client
                .query_one("select md5(string_agg(t::text, ',' order by a, b)) from t", &[])
                .await
                .expect("a sum")
                .get(0);
            answers.push(sum);
        }
        assert_eq!(answers[0], answers[1], "{sql}");
    }
}

#[test]
fn migrations_rewritten_batches_are_understood() {
    let (_, _made, again) = rewritten(&history());
    let mut batches = 0;
    for file in again.files() {
        for statement in &file.statements {
            for (_, directive) in directives(&file.text, statement).expect("directives") {
                if let Directive::Batch(batching) = directive {
                    Batch::of(&statement.text, &batching).expect("it can run in batches");
                    assert!(file.is_alone && file.statements.len() == 1, "{}", file.name);
                    batches += 1;
                }
            }
        }
    }
    assert!(batches >= 10, "{batches}");
}

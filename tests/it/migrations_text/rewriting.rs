//! The safe form: the catalog stays, nothing blocks but what was said, the order stays, and batches do what one statement did.

use super::{corpus, history};
use crate::harness::{Place, fresh_folder};
use cutover::database::migrations::batch::Batch;
use cutover::database::migrations::compare;
use cutover::database::migrations::lint::{Known, Linter, Phase, is_in_the_way};
use cutover::database::migrations::rewrite::{RewriteError, Rewritten, rewrite, write};
use cutover::database::migrations::{Batching, Directive, Folder, directives};
use std::path::PathBuf;

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

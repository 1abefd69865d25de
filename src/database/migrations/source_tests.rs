//! Tests of reading folders.

use super::*;
use std::fs;

/// A folder that is removed with the test.
struct Made(PathBuf);

impl Made {
    fn of(test: &str, files: &[(&str, &[u8])]) -> Self {
        let folder = std::env::temp_dir().join(format!("cutover-source-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("a file");
        }
        Self(folder)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refused(test: &str, files: &[(&str, &[u8])]) -> String {
    Folder::read(&Made::of(test, files).0).expect_err(test).to_string()
}

#[test]
fn reads_the_engine_s_files_in_its_order_and_its_dialect() {
    let folder = Made::of(
        "engine",
        &[
            ("20190100000001_old.up.sql", b"select 1;"),
            ("20150101000001000000_networks.up.sql", b"select 2;\n-- why\nselect 3;"),
            ("20220101000000000000_a.up.sql", b"select 'any';"),
            ("20220101000000000000_a.postgres.up.sql", b"select 'ours';"),
            ("20220101000000000000_a.mysql.up.sql", b"not even sql '"),
            ("20220101000000000000_a.down.sql", b""),
            ("20220102000000000000_b.autocommit.up.sql", b"  \n"),
            ("20220103000000000000_c.cockroach.up.sql", b"select 4;"),
            ("20220103000000000000_c.down.sql", b"select 5;"),
            (".gitkeep", b""),
            ("README.md", b"notes"),
        ],
    );
    let read = Folder::read(&folder.0).expect("a folder");
    assert_eq!(read.kind, Kind::Engine);
    let names: Vec<&str> = read.files().map(|file| file.title.as_str()).collect();
    assert_eq!(names, ["networks", "old", "a", "b"], "in the order of the digits as text");
    assert_eq!(read.versions[2].up.text, "select 'ours';");
    assert_eq!(read.versions[2].down.as_ref().map(|down| down.text.as_str()), Some(""));
    assert_eq!((read.versions[0].up.statements.len(), read.versions[0].up.statements[1].line), (2, 3));
    assert!(read.versions[3].up.is_alone && read.versions[3].up.statements.is_empty());
}

#[test]
fn reads_refinery_s_files_by_number() {
    let files: [(&str, &[u8]); 3] = [
        ("V10__ten.sql", b"drop index concurrently i;"),
        ("V9__nine.sql", b"-- cutover: no-transaction\nselect 1"),
        ("V1__one.sql", b"do $$ begin end $$;"),
    ];
    let read = Folder::read(&Made::of("refinery", &files).0).expect("a folder");
    assert_eq!(read.kind, Kind::Refinery);
    let found: Vec<(&str, bool)> = read.files().map(|file| (file.version.as_str(), file.is_alone)).collect();
    assert_eq!(found, [("1", false), ("9", true), ("10", true)]);
}

#[test]
fn refuses_what_would_be_skipped_or_guessed() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a [u8])], &'a str);
    let cases: [Case<'_>; 8] = [
        ("stray", &[("1_a.up.sql", b""), ("1_a.sql", b"")], "1_a.sql: it does not say `.up` or `.down`"),
        ("ending", &[("1_a.up.sql", b""), ("2_b.up.sql.bak", b"")], "does not end in `.sql`"),
        ("twice", &[("1_a.up.sql", b""), ("1_b.up.sql", b"")], "1_b.up.sql: has the version of 1_a.up.sql"),
        ("autocommit", &[("1_a.up.sql", b""), ("1_a.autocommit.up.sql", b"")], "has the version of"),
        ("number", &[("1_a.up.sql", b""), ("01_b.up.sql", b"")], "has the number of"),
        ("letters", &[("V1__a.sql", b""), ("U1__b.sql", b"")], "has the version of"),
        ("down", &[("1_a.up.sql", b""), ("2_b.down.sql", b"")], "takes back a version that no file applies"),
        ("both", &[("V1__a.sql", b""), ("V2__b.sql", b""), ("3_c.up.sql", b"")], "3_c.up.sql: it would be skipped"),
    ];
    for (test, files, why) in cases {
        let said = refused(test, files);
        assert!(said.contains(why) && said.contains("nothing was changed"), "{test}: {said}");
    }
}

#[test]
fn refuses_texts_that_cannot_run_and_names_every_place() {
    let files: [(&str, &[u8]); 8] = [
        ("1_a.up.sql", b"\xef\xbb\xbfselect 1"),
        ("2_b.up.sql", b"select 1;\r\n\\d t"),
        ("3_c.up.sql", b"copy t from stdin;\n1\n\\.\n"),
        ("4_d.up.sql", b"select 1;\ncommit;"),
        ("5_e.up.sql", b"-- M\xfcller"),
        ("6_f.up.sql", b"-- cutover: ignore x\nselect 1;"),
        ("7_g.up.sql", b"create index concurrently on t (a);"),
        ("8_h.up.sql", b"select 'open;\n"),
    ];
    let said = refused("texts", &files);
    for place in [
        "1_a.up.sql:1:1: holds a byte order mark",
        "2_b.up.sql:2:1: `\\d` is a command of psql",
        "3_c.up.sql:1:13: `copy … from stdin`",
        "4_d.up.sql:2:1: a migration may not begin or end a transaction",
        "5_e.up.sql:1:5: holds the byte 0xfc",
        "6_f.up.sql:1:1: `-- cutover: ignore x`: needs a reason",
        "7_g.up.sql:1:1: an index that is built concurrently needs a name",
        "8_h.up.sql:1:8: begins a string that never ends",
    ] {
        assert!(said.contains(place), "{place}: {said}");
    }
}

//! The house holds itself: arrows between rooms, a sentence at the top of every file, no file outside the list of tests, no hazard with a test that is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may name; design of the house, see ARCHITECTURE.md. `database::client` and `database::term` are a floor.
const ARROWS: &[(&str, &[&str])] = &[
    ("plan", &[]),
    ("journal", &["plan", "database::client", "database::term", "database::sql"]),
    ("engine", &["journal"]),
    ("database", &["plan"]),
    ("revocations", &["plan", "database::client", "database::term", "database::sql"]),
    ("traffic", &["plan", "database::client", "database::term", "database::sql"]),
    (
        "gateway",
        &[
            "plan",
            "revocations",
            "traffic::register",
            "traffic::protocol",
            "traffic::stand",
            "traffic::figures",
            "database::client",
            "database::sql",
        ],
    ),
    ("gates", &["plan", "database", "traffic::figures"]),
    ("steps", &["plan", "engine", "journal", "database", "revocations", "traffic", "gates"]),
    ("prober", &[]),
    ("report", &["plan", "journal", "engine"]),
    (
        "sandbox",
        &["plan", "database::client", "database::sql", "traffic::protocol", "traffic::stand", "traffic::figures"],
    ),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `crate::room::…` path in a source text, as `room::next`, or `room` when nothing follows.
fn arrows_of(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut arrows = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let path: String =
            code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
        arrows.push(path.split("::").take(2).collect::<Vec<_>>().join("::"));
    }
    arrows
}

fn allowed(arrow: &str, own: &str, allowed: &[&str]) -> bool {
    let room = arrow.split("::").next().unwrap_or(arrow);
    room == own || allowed.iter().any(|to| *to == room || *to == arrow)
}

#[test]
fn tidy_arrows_between_rooms_go_one_way() {
    let mut wrong = Vec::new();
    for (room, to) in ARROWS {
        for file in sources(&root().join("src").join(room)) {
            let text = fs::read_to_string(&file).expect("a source file");
            for arrow in arrows_of(&text).into_iter().filter(|arrow| !allowed(arrow, room, to)) {
                wrong.push(format!("{}: {room} may not name {arrow}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tidy_every_room_has_its_arrows() {
    for entry in fs::read_dir(root().join("src")).expect("src") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let known = name == "cli" || ARROWS.iter().any(|(room, _)| *room == name);
        assert!(!path.is_dir() || known, "src/{name} is a room without arrows in this test");
    }
}

#[test]
fn tidy_every_file_says_what_it_owns() {
    for file in sources(&root().join("src")) {
        let text = fs::read_to_string(&file).expect("a source file");
        assert!(text.starts_with("//! "), "{} does not begin with a //! sentence", file.display());
    }
}

#[test]
fn tidy_only_the_terminal_reads_the_environment_and_prints() {
    for file in sources(&root().join("src")) {
        let inside = file.strip_prefix(root().join("src")).expect("below src").to_owned();
        if inside.starts_with("cli") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file");
        for word in ["env::var", "env::args", "println!(", "eprintln!("] {
            assert!(!text.contains(word), "{} uses {word}: only cli does", inside.display());
        }
    }
}

#[test]
fn tidy_every_test_file_is_listed() {
    let folder = root().join("tests/it");
    let main = fs::read_to_string(folder.join("main.rs")).expect("the list of tests");
    for entry in fs::read_dir(folder).expect("tests/it") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "tests/it/{name} is not listed in main.rs");
    }
}

/// What a text has between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What a document names as tests: all of the last cell of a row, and elsewhere whatever is a path.
fn named_tests(text: &str) -> BTreeSet<&str> {
    let last_cells = text.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    last_cells.flat_map(quoted).chain(text.lines().flat_map(quoted).filter(|name| name.contains("::"))).collect()
}

/// The files below a folder: the way to each without its ending, and its text.
fn texts(folder: &Path) -> Vec<(PathBuf, String)> {
    let inside = |file: &Path| file.strip_prefix(folder).expect("below the folder").with_extension("");
    sources(folder).iter().map(|file| (inside(file), fs::read_to_string(file).expect("a source file"))).collect()
}

/// Whether there is such a file or folder, or such a function in one: `module::test`, `test`, `module::module`, `room/file.rs`.
fn is_there(name: &str, folder: &Path, texts: &[(PathBuf, String)]) -> bool {
    let path = name.replace("::", "/");
    let (module, test) = path.rsplit_once('/').unwrap_or(("", &path));
    let function = format!("fn {test}(");
    let is_file = folder.join(&path).exists() || folder.join(format!("{path}.rs")).exists();
    is_file || texts.iter().any(|(file, text)| file.starts_with(module) && text.contains(&function))
}

#[test]
fn tidy_every_test_that_the_hazards_name_is_there() {
    let hazards = fs::read_to_string(root().join("docs/hazards.md")).expect("the hazards");
    let folders = ["tests/it", "src"].map(|folder| root().join(folder));
    let texts = folders.each_ref().map(|folder| texts(folder));
    let is_there = |name: &str| folders.iter().zip(&texts).any(|(folder, texts)| is_there(name, folder, texts));
    let named = named_tests(&hazards);
    assert!(
        named.contains("level_back") && named.contains("steps_log::no_batch_is_begun_before_the_last_chunk_stands")
    );
    assert!(
        !is_there("steps_log::what_nobody_has_written")
            && !is_there("level_back::no_batch_is_begun_before_the_last_chunk_stands")
    );
    let missing: Vec<&str> = named.into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "docs/hazards.md names what is not there: {missing:#?}");
}

/// The first sentence of a file's `//!`.
fn sentence(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a source file");
    let head: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let head = head.split(|line| line.is_empty()).next().unwrap_or_default().join(" ");
    let end =
        head.match_indices('.').map(|(at, _)| at + 1).find(|at| head[*at..].is_empty() || head[*at..].starts_with(' '));
    head[..end.unwrap_or(head.len())].to_owned()
}

/// One line for each file of a folder: its name from there and its sentence; `mod.rs` gives the folder's own.
fn lines_of(folder: &Path) -> Vec<String> {
    let inside = |file: &Path| file.strip_prefix(folder).expect("below the folder").display().to_string();
    let files = sources(folder).into_iter().filter(|file| inside(file) != "mod.rs");
    files.map(|file| format!("- `{}` {}", inside(&file), sentence(&file))).collect()
}

/// The files of the house, as ARCHITECTURE.md lists them.
fn map() -> String {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("the map of the rooms");
    let rooms = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut lines = vec![format!("- `src/main.rs` {}", sentence(&root().join("src/main.rs")))];
    for room in rooms {
        let folder = root().join("src").join(room);
        lines.push(format!("\n**`{room}/`** {}\n", sentence(&folder.join("mod.rs"))));
        lines.extend(lines_of(&folder));
    }
    lines.push(format!("\n**`tests/it/`** {}\n", sentence(&root().join("tests/it/main.rs"))));
    lines.extend(lines_of(&root().join("tests/it")));
    lines.join("\n")
}

/// Written anew by `CUTOVER_WRITE_MAP=1 scripts/test tidy_the_map`.
#[test]
fn tidy_the_map_lists_every_file_by_its_own_sentence() {
    let (begin, end) = ("<!-- files -->\n", "\n<!-- end of files -->");
    let file = root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&file).expect("the map");
    let (before, rest) = text.split_once(begin).expect("where the files begin");
    let (listed, after) = rest.split_once(end).expect("where the files end");
    if std::env::var_os("CUTOVER_WRITE_MAP").is_some() {
        fs::write(&file, format!("{before}{begin}{}{end}{after}", map())).expect("the map is written");
        return;
    }
    let (map, listed): (Vec<String>, Vec<String>) =
        (map().lines().map(str::to_owned).collect(), listed.lines().map(str::to_owned).collect());
    let missing: Vec<&String> = map.iter().filter(|line| !listed.contains(line)).collect();
    let stale: Vec<&String> = listed.iter().filter(|line| !map.contains(line)).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "missing {missing:#?}, stale {stale:#?}; CUTOVER_WRITE_MAP=1 scripts/test tidy_the_map writes it"
    );
}

//! From the document to the plan that the rest of the house reads. Owns the reading of single values: references, lengths, sizes, names,
//! named files. May read the files that a plan names and nothing else; what the environment holds comes from the caller's lookup.

use super::document::{Length, Size, Time};
use super::model::{Secret, Sql, TableName};
use super::place::Place;
use super::problem::Problems;
use super::references::{self, Piece};
use super::sql_rules::{self, Kind};
use super::tokens::{self, Token};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Gives the value of a variable; the library itself never reads the environment.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Largest file that a plan may name; a mapping is text written by people.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Longest name of our own: with what is put before it, still a name in PostgreSQL (63 bytes).
pub(super) const LONGEST_NAME: usize = 45;

/// Reads values of the document, gathering problems on the way.
pub(super) struct Resolver<'a, 'p> {
    pub(super) problems: &'p mut Problems<'a>,
    pub(super) lookup: Lookup<'a>,
    pub(super) folder: &'a Path,
    /// Text of every named file, by its name in the plan; part of the digest.
    pub(super) files: BTreeMap<String, String>,
    /// Names that `$name` may have in the mapping.
    pub(super) value_names: Vec<&'a str>,
}

impl Resolver<'_, '_> {
    /// A text with its references filled in; nothing when one of them has no value.
    pub(super) fn text(&mut self, place: &Place, typed: &str) -> Option<String> {
        let mut resolved = Some(String::new());
        for piece in references::pieces(typed) {
            let part = match piece {
                Piece::Plain(plain) => Some(plain.to_owned()),
                Piece::Name { name, typed } => self.variable(place, name, typed),
                Piece::Broken(typed) => {
                    let hint =
                        "a reference is `${NAME}`, of letters, digits and underscores; `$${` stands for a plain `${`";
                    self.problems.piece(place, (typed, 0), format!("`{typed}` is no reference"), hint);
                    None
                }
            };
            resolved = resolved.zip(part).map(|(before, part)| before + &part);
        }
        if resolved.is_none() {
            self.problems.spoil(place.clone());
        }
        resolved
    }

    fn variable(&mut self, place: &Place, name: &str, typed: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_none() {
            let hint = format!("set {name} in the environment or in the file given with --env-file");
            self.problems.piece(place, (typed, 0), format!("the variable {name} is not set"), hint);
        }
        value
    }

    /// A text that must not hold references, since the approved digest does not cover their values.
    pub(super) fn fixed(&mut self, place: &Place, typed: &str) {
        if references::has_reference(typed) {
            let hint =
                "write the value itself: what a plan means may not depend on the environment (`values:` asks green)";
            self.problems.value(place, format!("`{place}` cannot hold a reference"), hint);
            self.problems.spoil(place.clone());
        }
    }

    /// A text that says something.
    pub(super) fn nonempty(&mut self, place: &Place, typed: &str) {
        if typed.trim().is_empty() {
            self.problems.value(place, format!("`{place}` is empty"), "");
            self.problems.spoil(place.clone());
        }
    }

    /// A name of our own: of a plan, a rule, a system.
    pub(super) fn name(&mut self, place: &Place, typed: &str) -> String {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if typed.is_empty() {
            self.problems.value(
                place,
                format!("`{place}` is empty"),
                "give it a name of lower-case letters, digits and dashes",
            );
            self.problems.spoil(place.clone());
        } else if typed.len() > LONGEST_NAME || !typed.chars().all(fits) || typed.starts_with('-') {
            let hint = format!("lower-case letters, digits and dashes, at most {LONGEST_NAME}, not a dash first");
            self.problems.value(place, format!("`{place}` is not a name"), hint);
            self.problems.spoil(place.clone());
        }
        typed.to_owned()
    }

    /// A length of time above zero.
    pub(super) fn length(&mut self, place: &Place, typed: &Length) -> Option<Duration> {
        let text = self.text(place, &typed.0)?;
        let length = parse_length(&text);
        if length.is_none() {
            let hint = "a number and a unit above zero, such as `250ms`, `2s` or `30m`";
            self.problems.value(place, format!("`{place}` is not a length of time"), hint);
            self.problems.spoil(place.clone());
        }
        length
    }

    /// A number of bytes above zero.
    pub(super) fn size(&mut self, place: &Place, typed: &Size) -> Option<u64> {
        let text = self.text(place, &typed.0)?;
        let size = parse_size(&text);
        if size.is_none() {
            let hint = "a whole number above zero and one of B, kB, MB, GB, TB, such as `10GB`";
            self.problems.value(place, format!("`{place}` is not a size"), hint);
            self.problems.spoil(place.clone());
        }
        size
    }

    /// A point in time with its zone.
    pub(super) fn time(&mut self, place: &Place, typed: &Time) -> Option<jiff::Timestamp> {
        let text = self.text(place, &typed.0)?;
        let time = text.parse().ok();
        if time.is_none() {
            let hint = "a date, a time and a zone, such as `2026-12-02T02:00:00Z`";
            self.problems.value(place, format!("`{place}` is not a point in time"), hint);
            self.problems.spoil(place.clone());
        }
        time
    }

    /// A table: `name` or `schema.name`, names as the catalog has them.
    pub(super) fn table(&mut self, place: &Place, typed: &str, is_key: bool) -> TableName {
        let table = parse_table(typed);
        let Some(table) = table else {
            let hint = "write `name` or `schema.name`, with the letters that the catalog has";
            let message = format!("{typed:?} is not the name of a table");
            if is_key {
                self.problems.key(place, message, hint)
            } else {
                self.problems.value(place, message, hint)
            }
            self.problems.spoil(place.clone());
            return TableName { schema: "public".to_owned(), name: typed.to_owned() };
        };
        table
    }

    /// SQL as typed, or from the file that is named instead.
    pub(super) fn sql(&mut self, place: &Place, typed: &str, kind: Kind) -> Option<Sql> {
        self.fixed(place, typed);
        self.nonempty(place, typed);
        if self.problems.is_spoiled(place) {
            return None;
        }
        let file = is_file_name(typed).then_some(typed);
        let text = match file {
            Some(file) => self.file(place, file)?,
            None => typed.to_owned(),
        };
        let text = sql_rules::bare(&text).to_owned();
        sql_rules::check(self.problems, place, kind, &text, file, &self.value_names);
        Some(Sql { text, file: file.map(PathBuf::from) })
    }

    /// The text of a named file, kept for the digest.
    pub(super) fn file(&mut self, place: &Place, typed: &str) -> Option<String> {
        let path = self.folder.join(typed);
        match read_bounded(&path) {
            Ok(text) => {
                self.files.insert(typed.to_owned(), text.clone());
                Some(text)
            }
            Err(reason) => self.unreadable(place, typed, &reason, "files are looked for in the folder of the plan"),
        }
    }

    fn unreadable<T>(&mut self, place: &Place, typed: &str, reason: &str, hint: &str) -> Option<T> {
        self.problems.value(place, format!("cannot read `{typed}`: {reason}"), hint);
        self.problems.spoil(place.clone());
        None
    }

    /// A folder of refinery files; all of them are part of the digest.
    pub(super) fn refinery_folder(&mut self, place: &Place, typed: &str) -> Option<PathBuf> {
        let hint = "refinery would skip it silently; name it `V<number>__<words>.sql`, with two underscores";
        self.migrations_folder(place, typed, is_refinery_name, hint)
    }

    /// A folder of an engine's own files; all of them are part of the digest.
    pub(super) fn engine_folder(&mut self, place: &Place, typed: &str) -> Option<PathBuf> {
        let hint = "an engine's files are named `<digits>_<name>[.dialect][.autocommit].up.sql` or `.down.sql`";
        self.migrations_folder(place, typed, is_engine_name, hint)
    }

    fn migrations_folder(
        &mut self,
        place: &Place,
        typed: &str,
        is_name: fn(&str) -> bool,
        hint: &str,
    ) -> Option<PathBuf> {
        let resolved = self.text(place, typed)?;
        let folder = self.folder.join(&resolved);
        let Ok(listing) = std::fs::read_dir(&folder) else {
            let hint = "folders are looked for in the folder of the plan";
            return self.unreadable(place, typed, "there is no such folder", hint);
        };
        let mut names: Vec<String> = listing
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|n| n.ends_with(".sql"))
            .collect();
        names.sort();
        if names.is_empty() {
            return self.unreadable(place, typed, "it holds no `.sql` file", hint);
        }
        for name in names {
            if !is_name(&name) {
                let message = format!("`{typed}` holds `{name}`, which is not the name of a migration");
                self.problems.value(place, message, hint);
            }
            match read_bounded(&folder.join(&name)) {
                Ok(text) => drop(self.files.insert(format!("{typed}/{name}"), text)),
                Err(reason) => self.problems.value(place, format!("cannot read `{typed}/{name}`: {reason}"), ""),
            }
        }
        Some(folder)
    }

    /// A PostgreSQL URL, whose password comes from a reference.
    pub(super) fn database_url(&mut self, place: &Place, typed: &str) -> Option<Secret> {
        if holds_typed_password(typed) {
            let hint =
                "put the URL, or the password, into a variable and write `${NAME}`: the plan is kept in the journal";
            self.problems.value(place, format!("`{place}` holds a password"), hint);
        }
        let url = self.text(place, typed)?;
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) && !url.contains("host=") {
            let hint = "such as `postgres://login@host:5432/name`";
            self.problems.value(place, format!("`{place}` is not the URL of a PostgreSQL database"), hint);
            self.problems.spoil(place.clone());
        }
        Some(Secret::new(url))
    }

    /// The base URL of an HTTP service, without a slash at its end and without credentials.
    pub(super) fn http_url(&mut self, place: &Place, typed: &str) -> Option<String> {
        let text = self.text(place, typed)?;
        let hint = "such as `http://127.0.0.1:4444`, without credentials";
        match url::Url::parse(&text) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                self.problems.value(place, format!("`{place}` holds credentials"), hint);
            }
            Ok(url)
                if matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none() =>
            {
                return Some(text.trim_end_matches('/').to_owned());
            }
            _ => self.problems.value(place, format!("`{place}` is not the base URL of an HTTP service"), hint),
        }
        self.problems.spoil(place.clone());
        None
    }
}

/// True for a value that names a file instead of being SQL.
pub(super) fn is_file_name(typed: &str) -> bool {
    typed.ends_with(".sql") && !typed.contains(char::is_whitespace)
}

/// A length of time above zero, such as `2s`.
pub(super) fn parse_length(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|length| !length.is_zero())
}

/// A number of bytes above zero, such as `10GB`; powers of 1024 as PostgreSQL counts.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim().bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.trim().split_at(digits);
    let power = match unit.trim() {
        "B" => 0,
        "kB" | "KB" | "KiB" => 1,
        "MB" | "MiB" => 2,
        "GB" | "GiB" => 3,
        "TB" | "TiB" => 4,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1024_u64.pow(power)).filter(|bytes| *bytes > 0)
}

/// `name` or `schema.name`, each plain or in double quotes.
pub(super) fn parse_table(typed: &str) -> Option<TableName> {
    let part = |token: &tokens::At| match &token.token {
        Token::Word(_) => Some(typed[token.start..token.end].to_owned()),
        Token::Quoted(name) if !name.is_empty() => Some(name.clone()),
        _ => None,
    };
    let tokens = tokens::tokens(typed);
    match tokens.as_slice() {
        [name] => Some(TableName { schema: "public".to_owned(), name: part(name)? }),
        [schema, tokens::At { token: Token::Sign('.'), .. }, name] => {
            Some(TableName { schema: part(schema)?, name: part(name)? })
        }
        _ => None,
    }
}

/// The name that refinery takes for a migration, whole numbers only.
fn is_refinery_name(file: &str) -> bool {
    let Some((version, name)) = file.strip_suffix(".sql").and_then(|stem| stem.split_once("__")) else { return false };
    let number = version.strip_prefix(['V', 'U']).unwrap_or_default();
    number.parse::<i64>().is_ok()
        && number.bytes().all(|b| b.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether an engine would take the file for a migration; what its marks mean is seen when the folder is read.
fn is_engine_name(file: &str) -> bool {
    let Some((version, rest)) = file.split_once('_') else { return false };
    let is_marked = rest.ends_with(".up.sql") || rest.ends_with(".down.sql");
    !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) && is_marked && !rest.starts_with('.')
}

/// The text of a regular file of at most `MAX_FILE_BYTES`.
fn read_bounded(path: &Path) -> Result<String, String> {
    let about = std::fs::metadata(path).map_err(|error| why(&error))?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(format!("it is larger than {MAX_FILE_BYTES} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| why(&error))
}

/// Why a file could not be read, in plain words.
pub(super) fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        other => other.to_string(),
    }
}

/// True when a password is written out instead of referred to.
fn holds_typed_password(typed: &str) -> bool {
    let in_url = typed.split_once("://").and_then(|(_, rest)| {
        let login = rest.rsplit_once('@')?.0;
        Some(login.split_once(':')?.1)
    });
    let in_pairs = typed.split_once("password=").map(|(_, rest)| rest.split(['&', ' ']).next().unwrap_or_default());
    [in_url, in_pairs].into_iter().flatten().any(|password| !password.is_empty() && !password.starts_with("${"))
}

//! A folder of migrations read in order: every file is understood or the whole folder is refused, none is skipped.
//!
//! Knows two kinds of folders: refinery's and the engine's own. Reads files, never a server.

use super::directive::{self, Directive};
use super::name::Name;
use super::place::{Place, Problem, decode, unusable};
use super::split::{Manner, Statement, split};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Whose form a folder's names have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `V<number>__<words>.sql`, in order of number.
    Refinery,
    /// `<digits>_<name>[.dialect][.autocommit].{up,down}.sql`, in order of the digits as text, as the engine orders them.
    Engine,
}

/// What a file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationFile {
    /// The file.
    pub path: PathBuf,
    /// Its name, for a person.
    pub name: String,
    /// Its version, as written, without refinery's letter.
    pub version: String,
    /// The words of its name.
    pub title: String,
    /// Whether its name (`.autocommit`) or its text (`-- cutover: no-transaction`, a statement that must stand alone) wants it outside a
    /// transaction.
    pub is_alone: bool,
    /// The whole text.
    pub text: String,
    /// Its statements; none for a blank file.
    pub statements: Vec<Statement>,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// One version: the way forward, and the way back where there is a file for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// What is applied.
    pub up: MigrationFile,
    /// What would take it back.
    pub down: Option<MigrationFile>,
}

/// A folder, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where.
    pub path: PathBuf,
    /// Whose form its names have.
    pub kind: Kind,
    /// The versions for PostgreSQL, in the order in which they are applied.
    pub versions: Vec<Version>,
}

/// Why a folder cannot be taken. Nothing was changed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The folder or a file in it cannot be read.
    #[error("read migrations from {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Files are not what they must be; every one is told.
    #[error("read migrations from {folder}: {}; nothing was changed", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Problems {
        /// The folder, or the one file.
        folder: PathBuf,
        /// What is wrong.
        problems: Vec<Problem>,
    },
}

impl Folder {
    /// Reads a folder whose kind its names tell.
    ///
    /// # Errors
    /// As [`Self::read_as`], and when the names are of both kinds.
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let names = names(path)?;
        let is_refinery = |name: &String| Name::refinery(name).is_ok();
        let count = names.iter().filter(|(name, _)| is_refinery(name)).count();
        let others = names.iter().filter(|(name, _)| Name::engine(name).is_ok()).count();
        Self::of(path, if count > others { Kind::Refinery } else { Kind::Engine }, names)
    }

    /// Reads a folder of this kind.
    ///
    /// # Errors
    /// When it or a file cannot be read, a name does not parse, two files have one version, or a text cannot run.
    pub fn read_as(path: &Path, kind: Kind) -> Result<Self, SourceError> {
        Self::of(path, kind, names(path)?)
    }

    fn of(path: &Path, kind: Kind, names: Vec<(String, PathBuf)>) -> Result<Self, SourceError> {
        let mut problems = Vec::new();
        let mut found = Found::default();
        for (file, path) in names {
            let parsed = match kind {
                Kind::Refinery => Name::refinery(&file),
                Kind::Engine => Name::engine(&file),
            };
            match parsed {
                Ok(name) => found.add(name, path, &mut problems),
                Err(why) => problems.push(Problem { path, place: None, why }),
            }
        }
        let versions = found.versions(kind, &mut problems)?;
        if problems.is_empty() {
            return Ok(Self { path: path.to_owned(), kind, versions });
        }
        problems.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
        Err(SourceError::Problems { folder: path.to_owned(), problems })
    }

    /// The files that are applied, in order.
    pub fn files(&self) -> impl Iterator<Item = &MigrationFile> {
        self.versions.iter().map(|version| &version.up)
    }
}

impl MigrationFile {
    /// Reads one file by itself, whatever its name.
    ///
    /// # Errors
    /// When it cannot be read, or its text cannot run.
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = Name { version: String::new(), title, dialect: None, is_autocommit: false, is_down: false };
        let folder = path.to_owned();
        read(path, &name)?.map_err(|problem| SourceError::Problems { folder, problems: vec![problem] })
    }
}

/// Every entry that must be a migration: hidden files and notes (`*.md`) are none.
fn names(folder: &Path) -> Result<Vec<(String, PathBuf)>, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: folder.to_owned(), source };
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let problem = |why: &str| Problem { path: path.clone(), place: None, why: why.to_owned() };
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            problems.push(problem("its name is no text"));
            continue;
        };
        if name.starts_with('.') || name.to_lowercase().ends_with(".md") {
            continue;
        }
        if path.is_dir() {
            problems.push(problem("folders inside are not looked into"));
        } else {
            found.push((name, path));
        }
    }
    found.sort();
    if problems.is_empty() { Ok(found) } else { Err(SourceError::Problems { folder: folder.to_owned(), problems }) }
}

/// Files by version and direction: for PostgreSQL by name, for every dialect, and those of other dialects.
#[derive(Default)]
struct Found {
    ours: BTreeMap<(String, bool), (Name, PathBuf)>,
    generic: BTreeMap<(String, bool), (Name, PathBuf)>,
    others: BTreeMap<(String, bool), PathBuf>,
}

impl Found {
    fn add(&mut self, name: Name, path: PathBuf, problems: &mut Vec<Problem>) {
        let key = (name.version.clone(), name.is_down);
        if !name.is_ours() {
            self.others.entry(key).or_insert(path);
            return;
        }
        let map = if name.dialect.is_some() { &mut self.ours } else { &mut self.generic };
        if let Some((_, other)) = map.get(&key) {
            let other = other.file_name().unwrap_or_default().to_string_lossy();
            let why = format!("has the version of {other}; of two files with one version neither is taken");
            problems.push(Problem { path, place: None, why });
        } else {
            map.insert(key, (name, path));
        }
    }

    fn versions(self, kind: Kind, problems: &mut Vec<Problem>) -> Result<Vec<Version>, SourceError> {
        let mut files = self.generic;
        files.extend(self.ours);
        same_number(&files, problems);
        let (downs, ups): (Vec<_>, Vec<_>) = files.into_iter().partition(|((_, is_down), _)| *is_down);
        let mut downs: BTreeMap<String, (Name, PathBuf)> = downs.into_iter().map(|((v, _), file)| (v, file)).collect();
        let mut versions = Vec::new();
        let mut take = |file: &(Name, PathBuf)| -> Result<Option<MigrationFile>, SourceError> {
            Ok(read(&file.1, &file.0)?.map_err(|problem| problems.push(problem)).ok())
        };
        for ((version, _), up) in &ups {
            let down = downs.remove(version).map(|down| take(&down)).transpose()?.flatten();
            versions.extend(take(up)?.map(|up| Version { up, down }));
        }
        for (version, (_, path)) in downs {
            if !self.others.contains_key(&(version, false)) {
                problems.push(Problem {
                    path,
                    place: None,
                    why: "takes back a version that no file applies".to_owned(),
                });
            }
        }
        if kind == Kind::Refinery {
            versions.sort_by_key(|version| version.up.version.parse::<i64>().unwrap_or(i64::MAX));
        }
        Ok(versions)
    }
}

/// `1` and `01` are two texts and one number: which of them a table of versions holds is a guess.
fn same_number(files: &BTreeMap<(String, bool), (Name, PathBuf)>, problems: &mut Vec<Problem>) {
    let mut numbers: BTreeMap<(&str, bool), &PathBuf> = BTreeMap::new();
    for ((version, is_down), (_, path)) in files {
        let number = version.trim_start_matches('0');
        if let Some(other) = numbers.insert((number, *is_down), path) {
            let other = other.file_name().unwrap_or_default().to_string_lossy();
            let why = format!("has the number of {other}; of two files with one version neither is taken");
            problems.push(Problem { path: path.clone(), place: None, why });
        }
    }
}

fn read(path: &Path, name: &Name) -> Result<Result<MigrationFile, Problem>, SourceError> {
    let bytes = std::fs::read(path).map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?;
    Ok(take(path, name, &bytes).map_err(|(place, why)| Problem { path: path.to_owned(), place, why }))
}

fn take(path: &Path, name: &Name, bytes: &[u8]) -> Result<MigrationFile, (Option<Place>, String)> {
    let text = decode(bytes)?;
    if let Some((byte, why)) = unusable(text) {
        return Err((Some(Place::of(text, byte)), why));
    }
    let statements = split(text);
    let said = directive::read_all(text, &statements).map_err(|(place, why)| (Some(place), why))?;
    let mut is_alone = name.is_autocommit || said.iter().any(|(_, one)| *one == Directive::NoTransaction);
    for statement in &statements {
        match statement.manner() {
            Manner::Refused(why) => {
                return Err((Some(Place::of(text, statement.start)), format!("{why}: {}", statement.summary())));
            }
            Manner::Index(_) => is_alone = true,
            Manner::Alone => is_alone |= !(statement.begins(&["do"]) || statement.begins(&["call"])),
            Manner::Transaction => {}
        }
    }
    Ok(MigrationFile {
        path: path.to_owned(),
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        version: name.version.clone(),
        title: name.title.clone(),
        is_alone,
        text: text.to_owned(),
        statements,
        sha256: hex::encode(Sha256::digest(bytes)),
    })
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;

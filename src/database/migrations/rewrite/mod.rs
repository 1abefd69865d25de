//! A folder of migrations in the form that hurts nobody: text edits, comments and layout kept, what nobody may decide alone told.
//!
//! Pure. A file in which nothing blocks is copied byte for byte. What must stand alone gets a file of its own, and numbering keeps the order.

mod alter;
mod number;
mod partitioned;
mod statement;
mod steps;

use super::lint::{Known, effects, parse};
use super::place::{Place, Problem};
use super::source::{Folder, Kind, MigrationFile};
use super::split::{self, Statement};
use serde::Serialize;
use std::path::PathBuf;
use thiserror::Error;

/// Something that was written otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file it stood in.
    pub file: String,
    /// Its line there.
    pub line: usize,
    /// The rule that was broken.
    pub rule: &'static str,
    /// What became of it.
    pub what: String,
}

/// Something that a person has to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The file it stands in.
    pub file: String,
    /// Its line there.
    pub line: usize,
    /// The rule.
    pub rule: &'static str,
    /// What is to be decided.
    pub what: String,
    /// How it can be done: SQL, each step for a file of its own; empty where there is nothing to write.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
}

/// A folder, written anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewritten {
    /// Names and texts, in order.
    pub files: Vec<(String, String)>,
    /// What was changed.
    pub changes: Vec<Change>,
    /// What was left.
    pub decisions: Vec<Decision>,
}

/// Why a folder cannot be written anew.
#[derive(Debug, Error)]
pub enum RewriteError {
    /// A statement is not understood.
    #[error("rewrite migrations: {0}; nothing was written")]
    Broken(Problem),
    /// The files' numbers leave no room.
    #[error(
        "rewrite migrations: {file} becomes {pieces} files, and its numbers leave no room for them: {why}; nothing was written"
    )]
    Numbers {
        /// The file.
        file: String,
        /// How many files it becomes.
        pieces: usize,
        /// Why not.
        why: String,
    },
    /// The target is in use.
    #[error("rewrite migrations: {path} is not an empty folder; nothing was written")]
    InUse {
        /// The target.
        path: PathBuf,
    },
    /// The target cannot be written.
    #[error("write {path}")]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// How a piece of a file runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// With its neighbours.
    Joined,
    /// In a transaction of its own.
    Own,
    /// Outside a transaction.
    Alone,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) manner: Manner,
}

/// Writes a folder anew; files up to version `after` are what they were.
///
/// # Errors
/// When a statement is not understood, or the numbers leave no room.
pub fn rewrite(folder: &Folder, known: Known, after: Option<&str>) -> Result<Rewritten, RewriteError> {
    let mut known = known;
    let mut written = Rewritten::default();
    let mut groups: Vec<(&MigrationFile, Vec<Piece>)> = Vec::new();
    let mut is_kept = after.is_some();
    for file in folder.files() {
        known.next_file();
        let pieces = pieces(file, &mut known, &mut written, is_kept)?;
        is_kept &= after != Some(&file.version);
        groups.push((file, pieces));
    }
    let names = number::names(folder, &groups)?;
    for ((file, pieces), names) in groups.into_iter().zip(names) {
        for (piece, name) in pieces.into_iter().zip(names) {
            let is_marked = folder.kind == Kind::Engine || says_how(&piece.text);
            let mark = if piece.manner == Manner::Alone && !is_marked { "-- cutover: no-transaction\n" } else { "" };
            let text = format!("{mark}{}", piece.text);
            written.files.push((name, ended(&file.text, text)));
        }
    }
    for down in folder.versions.iter().filter_map(|version| version.down.as_ref()) {
        written.files.push((down.name.clone(), down.text.clone()));
    }
    Ok(written)
}

/// A text whose lines end as those of the file that it comes from; what we add ends in a line feed alone.
fn ended(file: &str, text: String) -> String {
    let ends = file.matches('\n').count();
    if ends == 0 || ends != file.matches("\r\n").count() {
        return text;
    }
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// Whether a runner sees by the text alone that it runs outside a transaction.
fn says_how(text: &str) -> bool {
    let is_index = |one: &Statement| matches!(one.manner(), split::Manner::Index(_));
    text.contains("-- cutover: no-transaction") || split::split(text).iter().any(is_index)
}

/// Writes the files of a rewritten folder into an empty or absent folder.
///
/// # Errors
/// When it is not empty, or cannot be written.
pub fn write(written: &Rewritten, folder: &std::path::Path) -> Result<(), RewriteError> {
    let unwritable = |path: &std::path::Path| {
        let path = path.to_owned();
        move |source| RewriteError::Unwritable { path, source }
    };
    if folder.exists() && std::fs::read_dir(folder).map_err(unwritable(folder))?.next().is_some() {
        return Err(RewriteError::InUse { path: folder.to_owned() });
    }
    std::fs::create_dir_all(folder).map_err(unwritable(folder))?;
    for (name, text) in &written.files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(unwritable(&path))?;
    }
    Ok(())
}

/// The pieces that a file becomes; one when nothing in it is changed.
fn pieces(
    file: &MigrationFile,
    known: &mut Known,
    written: &mut Rewritten,
    is_kept: bool,
) -> Result<Vec<Piece>, RewriteError> {
    let (before, known_before) = ((written.changes.len(), written.decisions.len()), known.clone());
    let mut found: Vec<Piece> = Vec::new();
    let mut is_changed = false;
    for one in &file.statements {
        let parsed = parse(&one.text).map_err(|(byte, why)| {
            let place = Some(Place::of(&file.text, one.start + byte));
            RewriteError::Broken(Problem { path: file.path.clone(), place, why: format!("{why}: {}", one.summary()) })
        })?;
        let mut told = statement::Told { file, line: one.line, changes: Vec::new(), decisions: Vec::new() };
        let effects = effects(&parsed, known);
        let is_ours = !is_kept && !statement::is_marked(file, one);
        let instead = if is_ours { statement::instead(&parsed, &effects, known, &mut told) } else { None };
        written.changes.append(&mut told.changes);
        written.decisions.append(&mut told.decisions);
        known.learn(&parsed);
        let lead = finish_line(&mut found, &file.text[one.lead..one.start]);
        match instead {
            Some(mut pieces) => {
                is_changed = true;
                if let Some(first) = pieces.first_mut() {
                    first.text = format!("{}{}", lead.trim_start_matches(['\r', '\n']), first.text);
                }
                found.extend(pieces);
            }
            None => {
                let text = format!("{lead}{}", &file.text[one.start..one.next]);
                found.push(Piece { text, manner: Manner::Joined });
            }
        }
    }
    if let Some(one) = file.statements.iter().find(|one| is_for_session(one)).filter(|_| is_changed) {
        written.changes.truncate(before.0);
        written.decisions.truncate(before.1);
        let what = format!(
            "what it sets or makes holds for its session or transaction alone, so the file is left whole: {}",
            one.summary()
        );
        written.decisions.push(Decision {
            file: file.name.clone(),
            line: one.line,
            rule: "one-session",
            what,
            steps: Vec::new(),
        });
        *known = known_before;
        return pieces(file, known, written, true);
    }
    if !is_changed {
        // It runs as it did: its own name and text say how.
        return Ok(vec![Piece { text: file.text.clone(), manner: Manner::Joined }]);
    }
    let end = file.statements.last().map_or(0, |last| last.next);
    let rest = finish_line(&mut found, &file.text[end..]);
    Ok(joined(found, rest, file.is_alone))
}

/// Whether what a statement does is gone with its session or its transaction, so that its file cannot become several.
fn is_for_session(statement: &Statement) -> bool {
    const WORDS: [&[&str]; 8] = [
        &["set"],
        &["lock"],
        &["create", "temp"],
        &["create", "temporary"],
        &["prepare"],
        &["declare"],
        &["discard"],
        &["reset"],
    ];
    WORDS.iter().any(|words| statement.begins(words)) || statement.has("set_config")
}

/// Gives a comment on the rest of a statement's line to that statement; what is left belongs to the next.
fn finish_line<'a>(found: &mut [Piece], lead: &'a str) -> &'a str {
    let end = lead.find(['\r', '\n']).map_or(lead.len(), |at| at + 1);
    let (comment, rest) = lead.split_at(end);
    match found.last_mut() {
        Some(last) if comment.trim_start().starts_with("--") => {
            last.text = format!("{} {}\n", last.text.trim_end(), comment.trim());
            rest.strip_prefix('\n').filter(|_| comment.ends_with('\r')).unwrap_or(rest)
        }
        _ => lead,
    }
}

/// Neighbours that may run together become one piece; the rest of the text goes with the last.
fn joined(pieces: Vec<Piece>, rest: &str, is_alone: bool) -> Vec<Piece> {
    let mut files: Vec<Piece> = Vec::new();
    for piece in pieces {
        match files.last_mut() {
            Some(last) if last.manner == Manner::Joined && piece.manner == Manner::Joined => {
                last.text.push_str(&piece.text)
            }
            _ => files.push(piece),
        }
    }
    if let Some(last) = files.last_mut() {
        last.text.push_str(rest);
    }
    for file in &mut files {
        file.text = format!("{}\n", file.text.trim_start_matches(['\r', '\n']).trim_end());
        if is_alone && file.manner == Manner::Joined {
            file.manner = Manner::Alone;
        }
    }
    files
}

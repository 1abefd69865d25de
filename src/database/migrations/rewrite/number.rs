//! Names for the files that a file becomes, so that the order stays.

use super::super::source::{Folder, Kind, MigrationFile};
use super::{Manner, Piece, RewriteError};
use std::collections::BTreeSet;

/// The most files that one becomes.
const MOST: usize = 99;

/// The names of every file's pieces.
pub(super) fn names(
    folder: &Folder,
    groups: &[(&MigrationFile, Vec<Piece>)],
) -> Result<Vec<Vec<String>>, RewriteError> {
    match folder.kind {
        Kind::Engine => engine(groups),
        Kind::Refinery => refinery(groups),
    }
}

/// The last piece keeps the version: a table of versions then names it only when all of it is done. The pieces before it get the number
/// before, prolonged, which sorts behind every earlier version and before this one.
fn engine(groups: &[(&MigrationFile, Vec<Piece>)]) -> Result<Vec<Vec<String>>, RewriteError> {
    let versions: BTreeSet<&str> = groups.iter().map(|(file, _)| file.version.as_str()).collect();
    let mut all = Vec::new();
    let mut before: Option<&str> = None;
    for (file, pieces) in groups {
        let full =
            |why: &str| RewriteError::Numbers { file: file.name.clone(), pieces: pieces.len(), why: why.to_owned() };
        if let [piece] = pieces.as_slice() {
            let is_alone = piece.manner == Manner::Alone;
            let alone = || format!("{}_{}.autocommit.up.sql", file.version, file.title);
            all.push(vec![if is_alone { alone() } else { file.name.clone() }]);
        } else {
            if pieces.len() > MOST {
                return Err(full("more than 99"));
            }
            let base = before_it(&file.version).ok_or_else(|| full("there is no number before it"))?;
            let mut names = Vec::new();
            for (at, piece) in pieces.iter().enumerate() {
                let is_last = at + 1 == pieces.len();
                let version = if is_last { file.version.clone() } else { format!("{base}{:02}", at + 1) };
                let fits = before.is_none_or(|before| before < version.as_str()) && version <= file.version;
                if !fits || (!is_last && versions.contains(version.as_str())) {
                    return Err(full(&format!(
                        "{version} would not stand between {} and {}",
                        before.unwrap_or("the start"),
                        file.version
                    )));
                }
                names.push(format!("{version}_{}{}.up.sql", words(file, at, is_last), mark(piece)));
            }
            all.push(names);
        }
        before = Some(&file.version);
    }
    Ok(all)
}

fn words(file: &MigrationFile, at: usize, is_last: bool) -> String {
    if is_last { file.title.clone() } else { format!("{}_part_{}", file.title, at + 1) }
}

fn mark(piece: &Piece) -> &'static str {
    if piece.manner == Manner::Alone { ".autocommit" } else { "" }
}

/// The number before, with as many digits.
fn before_it(version: &str) -> Option<String> {
    let mut digits: Vec<u8> = version.bytes().collect();
    for digit in digits.iter_mut().rev() {
        if *digit > b'0' {
            *digit -= 1;
            return String::from_utf8(digits).ok();
        }
        *digit = b'9';
    }
    None
}

/// The first piece keeps the version, the others get the numbers behind it; later files move up where there is no room.
fn refinery(groups: &[(&MigrationFile, Vec<Piece>)]) -> Result<Vec<Vec<String>>, RewriteError> {
    let mut all = Vec::new();
    let mut free = i64::MIN;
    for (file, pieces) in groups {
        let own = file.version.parse::<i64>().unwrap_or(free).max(free);
        let letter = file.name.chars().next().unwrap_or('V');
        let mut names = Vec::new();
        for at in 0..pieces.len() {
            let full = || RewriteError::Numbers {
                file: file.name.clone(),
                pieces: pieces.len(),
                why: "numbers end".to_owned(),
            };
            let version = own.checked_add(i64::try_from(at).map_err(|_| full())?).ok_or_else(full)?;
            free = version.checked_add(1).ok_or_else(full)?;
            let is_itself = at == 0 && Ok(own) == file.version.parse();
            names.push(if is_itself {
                file.name.clone()
            } else {
                format!("{letter}{version}__{}.sql", words(file, at, at == 0))
            });
        }
        all.push(names);
    }
    Ok(all)
}

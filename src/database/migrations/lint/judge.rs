//! How bad an effect is: by the phase, by the table's size, and by what its transaction goes on to do.

use super::effects::effects;
use super::known::{Known, Size};
use super::lock::{Effect, Lock, Work};
use crate::database::migrations::directive::{Directive, directives};
use crate::database::migrations::place::{Place, Problem};
use crate::database::migrations::source::MigrationFile;
use crate::database::migrations::split::Statement;
use serde::Serialize;
use squawk_syntax::SourceFile;
use squawk_syntax::ast::Stmt;
use std::path::PathBuf;

/// What is at the database while the migrations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Users are on it.
    Live,
    /// Nobody is: an empty green.
    Empty,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nobody waits.
    Harmless,
    /// Everyone waits for a moment: with `lock_timeout` and a repetition it passes.
    Brief,
    /// Nobody can tell.
    Unknown,
    /// Users wait as long as the work takes.
    Blocks,
}

impl Severity {
    /// For a person.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Brief => "brief",
            Self::Unknown => "unknown",
            Self::Blocks => "blocks",
        }
    }
}

/// One effect of one statement, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// Where it lies.
    #[serde(skip)]
    pub path: PathBuf,
    /// The statement's first line.
    pub line: usize,
    /// The statement's bytes in the file.
    #[serde(skip)]
    pub bytes: (usize, usize),
    /// Its first words.
    pub statement: String,
    /// The rule.
    pub rule: &'static str,
    /// The lock.
    pub lock: Option<Lock>,
    /// The table.
    pub table: Option<String>,
    /// What is done under the lock.
    pub work: Work,
    /// What others cannot do meanwhile.
    pub blocks: &'static [&'static str],
    /// How bad it is.
    pub severity: Severity,
    /// The table's size, when it is known.
    pub size: Option<Size>,
    /// How long it may take at that size.
    pub estimate_ms: Option<u64>,
    /// Why.
    pub why: String,
    /// The form that hurts nobody.
    pub safe: Option<String>,
    /// Why somebody accepts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
    #[serde(skip_serializing)]
    is_new: bool,
    #[serde(skip_serializing)]
    is_for_nobody: bool,
}

/// The rule about a brief lock that is held for long.
const HELD: &str = "held-by-transaction";
/// Shorter than this a wait is called brief.
const BRIEF_MS: u64 = 200;

/// Megabytes that a second of this work gets through, on modest hardware.
fn megabytes_a_second(work: Work) -> u64 {
    match work {
        Work::Scan => 200,
        Work::Build => 40,
        Work::Rewrite => 40,
        Work::Rows => 10,
        _ => u64::MAX,
    }
}

/// Whether something would block users, or nobody can tell, and nobody has accepted it.
#[must_use]
pub fn is_in_the_way(finding: &Finding, phase: Phase) -> bool {
    phase == Phase::Live && finding.severity >= Severity::Unknown && finding.ignored.is_none()
}

/// One statement as squawk sees it.
///
/// # Errors
/// The byte in the text and what is wrong there.
pub fn parse(text: &str) -> Result<Stmt, (usize, String)> {
    let parsed = SourceFile::parse(text);
    if let Some(error) = parsed.errors().first() {
        return Err((usize::from(error.range().start()), error.message().to_owned()));
    }
    parsed.tree().stmts().next().ok_or_else(|| (0, "is no statement".to_owned()))
}

/// Judges files one after the other.
#[derive(Debug, Clone)]
pub struct Linter {
    known: Known,
    phase: Phase,
}

impl Linter {
    /// Begins with what is known.
    #[must_use]
    pub fn new(known: Known, phase: Phase) -> Self {
        Self { known, phase }
    }

    /// What is known after the files so far.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Judges a file.
    ///
    /// # Errors
    /// Where its SQL is broken.
    pub fn file(&mut self, file: &MigrationFile) -> Result<Vec<Finding>, Problem> {
        self.known.next_file();
        let mut found = Vec::new();
        for statement in &file.statements {
            let broken = |byte: usize, why: &str| Problem {
                path: file.path.clone(),
                place: Some(Place::of(&file.text, statement.start + byte)),
                why: format!("is no SQL that is understood: {why}: {}", statement.summary()),
            };
            let parsed = parse(&statement.text).map_err(|(byte, why)| broken(byte, &why))?;
            let ignored = ignores(file, statement);
            let effects = effects(&parsed, &self.known);
            let is_batched = batched(file, statement);
            found.extend(effects.into_iter().map(|effect| self.finding(file, statement, effect, &ignored, is_batched)));
            self.known.learn(&parsed);
        }
        if !file.is_alone {
            held(file, &mut found);
        }
        for finding in &mut found {
            if finding.severity <= Severity::Brief {
                finding.ignored = None;
            }
        }
        Ok(found)
    }

    fn finding(
        &self,
        file: &MigrationFile,
        statement: &Statement,
        effect: Effect,
        ignored: &[(String, String)],
        is_batched: bool,
    ) -> Finding {
        let table = effect.table.as_deref().and_then(|table| self.known.tables.get(table));
        let size = table.and_then(|table| table.size);
        let is_new = table.is_some_and(|table| table.is_new);
        let estimate_ms =
            size.filter(|_| effect.work.grows()).map(|size| size.bytes / 1_000 / megabytes_a_second(effect.work));
        let work = if is_batched && effect.work == Work::Rows { Work::None } else { effect.work };
        let severity = self.severity(&Effect { work, ..effect.clone() }, is_new, estimate_ms);
        let because = ignored.iter().find(|(rule, _)| rule == effect.rule).map(|(_, because)| because.clone());
        Finding {
            file: file.name.clone(),
            path: file.path.clone(),
            line: statement.line,
            bytes: (statement.start, statement.end),
            statement: statement.summary(),
            rule: effect.rule,
            lock: effect.lock,
            table: effect.table,
            work: effect.work,
            blocks: effect.lock.map(Lock::blocks).unwrap_or_default(),
            severity,
            size,
            estimate_ms,
            why: if is_batched && effect.work == Work::Rows { "runs in batches".to_owned() } else { effect.why },
            safe: effect.safe.filter(|_| severity > Severity::Harmless),
            ignored: because,
            is_new,
            is_for_nobody: self.phase == Phase::Empty,
        }
    }

    fn severity(&self, effect: &Effect, is_new: bool, estimate_ms: Option<u64>) -> Severity {
        if effect.work == Work::Unknown {
            return Severity::Unknown;
        }
        let Some(lock) = effect.lock else { return Severity::Harmless };
        if is_new || self.phase == Phase::Empty {
            return Severity::Harmless;
        }
        let stops = lock.stops_writers() || effect.work == Work::Rows;
        match (stops, effect.work.grows()) {
            (false, _) => Severity::Harmless,
            (true, false) => Severity::Brief,
            (true, true) if estimate_ms.is_some_and(|estimate| estimate < BRIEF_MS) && effect.work != Work::Held => {
                Severity::Brief
            }
            (true, true) => Severity::Blocks,
        }
    }
}

/// A lock is held until the transaction ends: what follows in the file prolongs it.
fn held(file: &MigrationFile, found: &mut [Finding]) {
    for at in 0..found.len() {
        let is_lock = found[at].lock.is_some_and(Lock::stops_writers) && !found[at].is_new && !found[at].is_for_nobody;
        if found[at].severity != Severity::Brief || !is_lock {
            continue;
        }
        let later = found[at + 1..].iter().find(|later| {
            let takes_long = later.estimate_ms.is_none_or(|estimate| estimate >= BRIEF_MS);
            later.bytes != found[at].bytes && !later.is_new && later.work.grows() && takes_long
        });
        if let Some(later) = later {
            let (line, summary) = (later.line, later.statement.clone());
            let finding = &mut found[at];
            let statement = file.statements.iter().find(|one| one.start == finding.bytes.0);
            let said = statement.map(|one| ignores(file, one)).unwrap_or_default();
            // It is another matter now, and whoever accepted a moment has not accepted this.
            finding.ignored = said.into_iter().find(|(rule, _)| rule == HELD).map(|(_, because)| because);
            finding.severity = Severity::Blocks;
            finding.rule = HELD;
            finding.why =
                format!("its lock is held until the file's transaction ends, while line {line} works: {summary}");
            finding.safe = Some("a file of its own for each".to_owned());
        }
    }
}

pub(super) fn ignores(file: &MigrationFile, statement: &Statement) -> Vec<(String, String)> {
    // The file was refused when a directive was not understood.
    let said = directives(&file.text, statement).unwrap_or_default();
    said.into_iter()
        .filter_map(|(_, one)| match one {
            Directive::Ignore { rule, because } => Some((rule, because)),
            _ => None,
        })
        .collect()
}

fn batched(file: &MigrationFile, statement: &Statement) -> bool {
    directives(&file.text, statement).unwrap_or_default().iter().any(|(_, one)| matches!(one, Directive::Batch(_)))
}

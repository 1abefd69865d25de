//! What squawk's linter adds: changes that cost no lock and still break whoever uses the old schema.

use super::judge::ignores;
use crate::database::migrations::source::MigrationFile;
use serde::Serialize;
use squawk_linter::{Linter, Rule};
use squawk_syntax::SourceFile;

/// Those of its rules that say more than locks do; the others say what lint says itself, or are matters of taste.
const RULES: [Rule; 12] = [
    Rule::RenamingColumn,
    Rule::RenamingTable,
    Rule::RenamingObject,
    Rule::BanDropColumn,
    Rule::BanDropTable,
    Rule::BanDropView,
    Rule::BanDropFunction,
    Rule::BanSetSchema,
    Rule::AddingRequiredField,
    Rule::BanDuplicateColumnAssignments,
    Rule::IdentifierTooLong,
    Rule::RequireEnumValueOrdering,
];

/// One remark; it never stops anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The file.
    pub file: String,
    /// The statement's line.
    pub line: usize,
    /// Squawk's rule.
    pub rule: String,
    /// What it says.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Squawk's remarks on a file, without those that a comment accepts.
#[must_use]
pub fn advice(file: &MigrationFile) -> Vec<Advice> {
    let parsed = SourceFile::parse(&file.text);
    let mut found = Vec::new();
    for violation in Linter::from(RULES).lint(&parsed, &file.text) {
        let at = usize::from(violation.text_range.start());
        let Some(statement) = file.statements.iter().find(|one| one.lead <= at && at < one.next) else { continue };
        let rule = violation.code.to_string();
        if ignores(file, statement).iter().any(|(ignored, _)| *ignored == rule) {
            continue;
        }
        let (message, help) = (violation.message, violation.help);
        found.push(Advice { file: file.name.clone(), line: statement.line, rule, message, help });
    }
    found
}

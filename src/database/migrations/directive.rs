//! What a file's author tells this tool in comments: `-- cutover: …`, on a line of its own above a statement.
//!
//! A word that is not understood is an error: a directive that does nothing would be believed.

use super::place::Place;
use super::split::Statement;

/// The line that begins one.
const MARK: &str = "-- cutover:";
/// Rows of a batch without `rows=`.
pub(super) const BATCH_ROWS: u64 = 5_000;
const MOST_ROWS: u64 = 1_000_000;

/// How a statement over a whole table runs in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    /// The columns of a unique key, in its order, unquoted.
    pub key: Vec<String>,
    /// Rows of the table that one piece looks at, at most.
    pub rows: u64,
}

/// One comment to this tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// `no-transaction`: the file's statements run one by one.
    NoTransaction,
    /// `batch key=COLUMN[,COLUMN…] [rows=N]`: the update or delete below runs in pieces.
    Batch(Batching),
    /// `ignore RULE because REASON`: what lint says of the statement below by this rule is accepted.
    Ignore {
        /// The rule.
        rule: String,
        /// Why.
        because: String,
    },
}

/// The directives above a statement of `text`, with their lines.
///
/// # Errors
/// Where and why one is not understood.
pub fn directives(text: &str, statement: &Statement) -> Result<Vec<(usize, Directive)>, (Place, String)> {
    read(text, statement.lead, statement.start)
}

/// Every directive of a text; what looks like one inside a statement is part of the statement.
pub(super) fn read_all(text: &str, statements: &[Statement]) -> Result<Vec<(usize, Directive)>, (Place, String)> {
    let mut found = Vec::new();
    for statement in statements {
        found.extend(directives(text, statement)?);
    }
    found.extend(read(text, statements.last().map_or(0, |last| last.next), text.len())?);
    Ok(found)
}

/// The directives in the comments of `text` from byte `from` to byte `to`.
pub(super) fn read(text: &str, from: usize, to: usize) -> Result<Vec<(usize, Directive)>, (Place, String)> {
    let mut found = Vec::new();
    let mut at = from;
    for line in text[from..to].split_inclusive(['\n', '\r']) {
        let said = line.trim();
        if let Some(words) = said.strip_prefix(MARK) {
            let place = Place::of(text, at + line.find(MARK).unwrap_or(0));
            let directive = parse(words.trim()).map_err(|why| (place, format!("`{said}`: {why}")))?;
            found.push((place.line, directive));
        }
        at += line.len();
    }
    Ok(found)
}

fn parse(words: &str) -> Result<Directive, String> {
    let (verb, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    match verb {
        "no-transaction" if rest.is_empty() => Ok(Directive::NoTransaction),
        "batch" => batch(rest).map(Directive::Batch),
        "ignore" => ignore(rest),
        _ => Err("is not understood; write `no-transaction`, `batch key=… rows=…` or `ignore RULE because REASON`"
            .to_owned()),
    }
}

fn batch(words: &str) -> Result<Batching, String> {
    let (mut key, mut rows) = (None, BATCH_ROWS);
    for word in words.split_whitespace() {
        match word.split_once('=') {
            Some(("key", columns)) => key = Some(columns.split(',').map(str::to_owned).collect::<Vec<_>>()),
            Some(("rows", number)) => {
                let number = number.replace('_', "").parse().ok();
                rows = number
                    .filter(|rows| (1..=MOST_ROWS).contains(rows))
                    .ok_or_else(|| format!("rows is a number from 1 to {MOST_ROWS}"))?;
            }
            _ => return Err(format!("`{word}` is not understood; write `batch key=COLUMN[,COLUMN…] [rows=N]`")),
        }
    }
    let key = key.filter(|columns| columns.iter().all(|column| !column.is_empty()));
    Ok(Batching { key: key.ok_or("names no key; write `batch key=COLUMN[,COLUMN…] [rows=N]`")?, rows })
}

fn ignore(words: &str) -> Result<Directive, String> {
    let (rule, reason) = words.split_once(" because ").ok_or("needs a reason; write `ignore RULE because REASON`")?;
    let (rule, because) = (rule.trim(), reason.trim());
    if because.is_empty() || rule.is_empty() || rule.contains(char::is_whitespace) {
        return Err("names one rule and a reason: `ignore RULE because REASON`".to_owned());
    }
    Ok(Directive::Ignore { rule: rule.to_owned(), because: because.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::split::split;
    use super::*;

    #[test]
    fn reads_what_stands_above_a_statement() {
        let text = "select 1;\n-- cutover: batch key=a,b rows=10_000\n  -- cutover: ignore update-all because the table is small\nupdate t set c = 1;";
        let statements = split(text);
        assert_eq!(directives(text, &statements[0]), Ok(vec![]));
        let found = directives(text, &statements[1]).expect("directives");
        assert_eq!(found[0], (2, Directive::Batch(Batching { key: vec!["a".into(), "b".into()], rows: 10_000 })));
        assert!(
            matches!(&found[1], (3, Directive::Ignore { rule, because }) if rule == "update-all" && because == "the table is small")
        );
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for (words, why) in [
            ("ignore update-all", "reason"),
            ("ignore because", "reason"),
            ("ignore a b because c", "one rule"),
            ("batch", "names no key"),
            ("batch key=a rows=0", "rows is a number"),
            ("batch key=a size=4", "`size=4`"),
            ("ingore x because y", "not understood"),
            ("no-transaction please", "not understood"),
        ] {
            let text = format!("select 1;\n -- cutover: {words}\nselect 2");
            let (place, said) = read(&text, 9, text.len()).expect_err(words);
            assert_eq!((place, said.contains(why)), (Place { line: 2, column: 2 }, true), "{words}: {said}");
        }
    }
}

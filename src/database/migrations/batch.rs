//! One statement over a whole table, cut into statements over ranges of its key. Pure.
//!
//! The statement stays what `psql` can run as a whole; the comment above it says by which key and how many rows. A runner asks [`Batch::next`]
//! for the end of the next range, runs [`Batch::bounded`] and commits it together with a note of that end, until no range is left.

use super::directive::Batching;
use super::lint::parse;
use crate::database::sql::{ident, literal};
use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode, Stmt};

/// A statement that runs in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its table, as SQL names it.
    pub table: String,
    /// The columns of the key, quoted.
    key: Vec<String>,
    rows: u64,
    /// What columns of the target are called in the statement.
    target: String,
    before: String,
    condition: Option<String>,
    after: String,
}

impl Batch {
    /// Takes a statement apart.
    ///
    /// # Errors
    /// Why it cannot run in pieces.
    pub fn of(statement: &str, batching: &Batching) -> Result<Self, String> {
        let parsed = parse(statement).map_err(|(_, why)| why)?;
        let (relation, alias, condition, returning, with) = match &parsed {
            Stmt::Update(it) => (
                it.relation_name(),
                it.alias(),
                it.where_clause_or_current_of(),
                it.returning_clause(),
                it.with_clause(),
            ),
            Stmt::Delete(it) => (
                it.relation_name(),
                it.alias(),
                it.where_clause_or_current_of(),
                it.returning_clause(),
                it.with_clause(),
            ),
            _ => return Err("is neither an update nor a delete, and nothing else runs in batches".to_owned()),
        };
        if with.is_some() {
            return Err(
                "begins with `with`, which would run anew for every batch; write it into the statement".to_owned()
            );
        }
        let relation = relation.ok_or("names no table")?;
        let table = relation.relation_name_ref().ok_or("names no table")?.syntax().text().to_string();
        let offset = parsed.syntax().text_range().start();
        let bytes = |node: &SyntaxNode| {
            (usize::from(node.text_range().start() - offset), usize::from(node.text_range().end() - offset))
        };
        let text = parsed.syntax().text().to_string();
        let text = text.trim_end().trim_end_matches(';');
        let (before, condition, after) = match &condition {
            Some(ast::WhereClauseOrCurrentOf::WhereClause(clause)) => {
                let (from, to) = bytes(clause.syntax());
                let expression = clause.expr().ok_or("has an empty condition")?;
                (&text[..from], Some(expression.syntax().text().to_string()), &text[to..])
            }
            Some(_) => return Err("works at a cursor".to_owned()),
            None => {
                let at = returning.map_or(text.len(), |clause| bytes(clause.syntax()).0);
                (&text[..at], None, &text[at..])
            }
        };
        let alias = alias.map(|alias| alias.syntax().text().to_string());
        let alias = alias.and_then(|alias| alias.split_whitespace().last().map(str::to_owned));
        Ok(Self {
            target: alias.unwrap_or_else(|| table.clone()),
            table,
            key: batching.key.iter().map(|column| ident(column)).collect(),
            rows: batching.rows,
            before: before.trim_end().to_owned(),
            condition,
            after: after.trim().to_owned(),
        })
    }

    /// The query for the end of the range behind `from`, as text, one column for each of the key; no row when the table ends there.
    #[must_use]
    pub fn next(&self, from: Option<&[String]>) -> String {
        let columns = self.key.join(", ");
        let behind = from.map(|from| format!(" where ({columns}) > ({})", values(from))).unwrap_or_default();
        // By the column itself: unqualified, it would be the text of the same name that is selected.
        let back = self.key.iter().map(|column| format!("piece.{column} desc")).collect::<Vec<_>>().join(", ");
        let texts = self.key.iter().map(|column| format!("{column}::text")).collect::<Vec<_>>().join(", ");
        format!(
            "select {texts} from (select {columns} from {}{behind} order by {columns} limit {}) piece order by {back} limit 1",
            self.table, self.rows
        )
    }

    /// The statement over the keys behind `from` up to and with `to`.
    #[must_use]
    pub fn bounded(&self, from: Option<&[String]>, to: &[String]) -> String {
        let columns = self.key.iter().map(|column| format!("{}.{column}", self.target)).collect::<Vec<_>>().join(", ");
        let mut conditions: Vec<String> = self.condition.iter().map(|condition| format!("({condition}\n)")).collect();
        conditions.extend(from.map(|from| format!("({columns}) > ({})", values(from))));
        conditions.push(format!("({columns}) <= ({})", values(to)));
        let sql = format!("{}\nwhere {} {}", self.before, conditions.join(" and "), self.after);
        sql.trim_end().to_owned()
    }
}

fn values(key: &[String]) -> String {
    key.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sql: &str, key: &[&str]) -> Result<Batch, String> {
        Batch::of(sql, &Batching { key: key.iter().map(|one| (*one).to_owned()).collect(), rows: 100 })
    }

    #[test]
    fn bounds_a_statement_by_its_key() {
        let one =
            batch("update only \"T\" set c = 1 where a = 1 or b = 2 -- why\n returning id;", &["id"]).expect("a batch");
        let to = ["7".to_owned()];
        assert_eq!(
            one.bounded(None, &to),
            "update only \"T\" set c = 1\nwhere (a = 1 or b = 2\n) and (\"T\".\"id\") <= ('7') -- why\n returning id"
        );
        assert_eq!(
            one.next(Some(&to)),
            "select \"id\"::text from (select \"id\" from \"T\" where (\"id\") > ('7') order by \"id\" limit 100) piece order by piece.\"id\" desc limit 1"
        );
        let two = batch("delete from s.t as x using other o where o.id = x.id", &["a", "b"]).expect("a batch");
        let said = two.bounded(Some(&["1".into(), "it's".into()]), &["2".into(), "z".into()]);
        assert!(said.ends_with("(x.\"a\", x.\"b\") > ('1', 'it''s') and (x.\"a\", x.\"b\") <= ('2', 'z')"), "{said}");
        let all = batch("update t set c = random()", &["id"]).expect("a batch");
        assert_eq!(all.bounded(None, &to), "update t set c = random()\nwhere (t.\"id\") <= ('7')");
    }

    #[test]
    fn refuses_what_cannot_be_cut() {
        assert!(batch("insert into t select 1", &["id"]).is_err());
        assert!(batch("with x as (select 1) update t set c = 1 from x", &["id"]).is_err());
    }
}

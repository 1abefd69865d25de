//! A statement with its columns written out, as a text edit.

use super::super::lint::written;
use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode, Stmt};

/// Writes out the one `*` of a statement, or the columns of an insert; nothing when that cannot be told from the text.
pub(super) fn explicit(sql: &str, parsed: &Stmt, columns: &[String]) -> Option<String> {
    let offset = usize::from(parsed.syntax().text_range().start());
    let at = |node: &SyntaxNode| {
        (usize::from(node.text_range().start()) - offset, usize::from(node.text_range().end()) - offset)
    };
    let start = sql.find(&parsed.syntax().text().to_string())?;
    let text = &sql[start..];
    if let Stmt::Insert(insert) = parsed
        && insert.column_target_list().is_none()
    {
        let (_, end) = at(insert
            .alias()
            .map_or_else(
                || insert.relation_name_ref().map(|table| table.syntax().clone()),
                |alias| Some(alias.syntax().clone()),
            )
            .as_ref()?);
        let given = values(insert).unwrap_or(columns.len()).min(columns.len());
        let list = columns[..given].iter().map(|column| written(column)).collect::<Vec<_>>().join(", ");
        return Some(format!("{} ({list}){}", &text[..end], &text[end..]));
    }
    let mut stars = parsed.syntax().descendants().filter_map(ast::Target::cast).filter(is_star);
    let (star, None) = (stars.next()?, stars.next()) else { return None };
    let targets = star.syntax().parent()?;
    if targets.children().filter(|child| ast::Target::can_cast(child.kind())).count() != 1 {
        return None;
    }
    let mut names = columns.to_vec();
    names.sort();
    names.dedup();
    if names.len() != columns.len() {
        return None;
    }
    let whole = star.syntax().text().to_string();
    let qualifier = whole.strip_suffix('*').unwrap_or_default();
    let list = columns.iter().map(|column| format!("{qualifier}{}", written(column))).collect::<Vec<_>>().join(", ");
    let (from, to) = at(star.syntax());
    Some(format!("{}{list}{}", &text[..from], &text[to..]))
}

/// Whether a target is `*` or `name.*`.
pub(super) fn is_star(target: &ast::Target) -> bool {
    let text = super::super::lint::plain(target.syntax());
    text == "*" || text.ends_with(". *")
}

/// How many values the first row of an insert has.
fn values(insert: &ast::Insert) -> Option<usize> {
    let values = insert.syntax().descendants().find_map(ast::Values::cast)?;
    let row = values.syntax().descendants().find_map(ast::Row::cast)?;
    Some(row.syntax().children().filter(|child| ast::Expr::can_cast(child.kind())).count()).filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::super::super::lint::parse;
    use super::*;

    fn form(sql: &str, columns: &[&str]) -> Option<String> {
        explicit(sql, &parse(sql).expect("it parses"), &columns.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn writes_columns_out() {
        assert_eq!(
            form("select * from t where a = $1", &["a", "order"]).as_deref(),
            Some("select a, \"order\" from t where a = $1")
        );
        assert_eq!(form("SELECT t.* FROM t", &["a", "b"]).as_deref(), Some("SELECT t.a, t.b FROM t"));
        assert_eq!(
            form("insert into s.t values ($1, $2)", &["a", "b", "c"]).as_deref(),
            Some("insert into s.t (a, b) values ($1, $2)")
        );
        assert_eq!(
            form("insert into t select * from o", &["a", "b"]).as_deref(),
            Some("insert into t (a, b) select * from o")
        );
        assert_eq!(form("delete from t returning *", &["a"]).as_deref(), Some("delete from t returning a"));
    }

    #[test]
    fn leaves_what_it_cannot_tell() {
        assert_eq!(form("select *, 1 from t", &["a", "b"]), None);
        assert_eq!(form("select * from a join b using (id)", &["id", "x", "x"]), None);
        assert_eq!(form("select a from t", &["a"]), None);
    }
}

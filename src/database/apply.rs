//! Making the target's rows equal to derived ones: the statements for one carried table.
//!
//! Owns the temporary tables of a level worker (touched keys, derived rows, rows taken away) and the SQL over them: delete what is
//! absent or different, insert what is missing, look for foreign keys left hanging. Only builds text; `level` runs it, in one
//! transaction with `session_replication_role = replica`, so that no cascade and no trigger of the target fires.

mod equal;
mod fall;
mod stricter;

pub(super) use equal::is_exact;
pub(super) use fall::{Fall, Falls};
pub(super) use stricter::StricterSql;

use self::equal::{EqualSql, Temporary, found_columns};
use super::catalog::{Catalog, ForeignKey};
use super::changes::{CapturedTable, Key};
use super::copy::format::{Form, TEXT, form};
use super::mapping::{KeyColumn, TableMapping, Touch};
use super::repair;
use super::sql::{ident, literal, qualified};
use crate::plan::TableName;
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

/// All statements for one carried table.
#[derive(Debug)]
pub(super) struct TableSql {
    pub(super) target: TableName,
    /// Creates the temporary tables.
    pub(super) create: String,
    /// `copy … from stdin` of touched keys.
    pub(super) keys_in: String,
    /// `copy … from stdin` of derived rows.
    pub(super) rows_in: String,
    /// The touched keys, each once, as text.
    pub(super) keys_out: String,
    pub(super) analyze: String,
    /// Makes the target's rows equal.
    pub(super) equal: EqualSql,
    /// Touches every key that the target holds.
    pub(super) all_on_target: String,
    /// Touches the keys that wait to be derived anew.
    pub(super) repaired: String,
    /// `copy … to stdout` on the source of every key the select gives.
    pub(super) all_on_source: String,
    /// What follows `from` to read the target's rows under touched keys, as `t`.
    pub(super) touched_rows: String,
    /// For each touch: the captured table, the query on the source, the statement on the target.
    pub(super) touches: Vec<TouchSql>,
    /// The derived rows, whole.
    pub(super) select: String,
    columns: Vec<KeyColumn>,
    /// The target's key.
    pub(super) key: Vec<KeyColumn>,
    /// In which derived rows travel.
    form: Form,
    rows: String,
    keys: String,
    found: String,
    gone: String,
}

/// From touched rows of one captured table to keys of the target.
#[derive(Debug)]
pub(super) struct TouchSql {
    /// Its name: another for every other way and every other mapping.
    pub(super) name: String,
    /// The captured table, and its key.
    pub(super) source: TableName,
    pub(super) source_key: Vec<KeyColumn>,
    /// Place of the captured table.
    pub(super) captured: usize,
    /// Query on the source: keys derived from the rows as they are.
    pub(super) on_source: String,
    /// Statement on the target: keys that it records as derived from those rows; none where the source's own rows say it.
    pub(super) on_target: Option<String>,
}

/// The temporary table of touched keys of captured table `place`, and how to create and fill it.
#[derive(Debug)]
pub(super) struct TouchedSql {
    pub(super) name: String,
    pub(super) create: String,
    pub(super) keys_in: String,
}

impl TouchedSql {
    pub(super) fn new(place: usize, table: &CapturedTable) -> Self {
        let columns: Vec<String> = (1..=table.key.len()).map(|at| format!("c{at} text")).collect();
        let name = touched_name(place);
        Self {
            create: format!("create temporary table {name} ({}); analyze {name}", columns.join(", ")),
            keys_in: format!("copy pg_temp.{name} from stdin"),
            name,
        }
    }
}

fn touched_name(place: usize) -> String {
    format!("cutover_touched_{place}")
}

impl TableSql {
    pub(super) fn new(place: usize, table: &TableMapping, captured: &[CapturedTable], catalog: &Catalog) -> Self {
        let [keys, rows, found, gone] = ["keys", "rows", "found", "gone"].map(|word| format!("cutover_{word}_{place}"));
        let temporary = Temporary { keys: &keys, rows: &rows, found: &found, gone: &gone };
        let target = qualified(&table.target.schema, &table.target.name);
        let (key_list, column_list) = (list("", &table.key), list("", &table.columns));
        let found_list = found_columns(&key_list);
        Self {
            create: [(&keys, key_list.as_str()), (&rows, &column_list), (&found, &found_list), (&gone, "*")]
                .map(|(name, columns)| {
                    format!(
                        "create temporary table {name} as select {columns} from {target} with no data; analyze {name}"
                    )
                })
                .join("; "),
            keys_in: format!("copy pg_temp.{keys} from stdin"),
            rows_in: format!("copy pg_temp.{rows} from stdin"),
            keys_out: format!(
                "select {} from (select distinct {key_list} from pg_temp.{keys}) k",
                texts("k.", &table.key)
            ),
            analyze: format!("analyze pg_temp.{keys}; analyze pg_temp.{rows}"),
            equal: EqualSql::of(table, &target, catalog, &temporary),
            all_on_target: format!(
                "insert into pg_temp.{keys} select {key_list} from {target} as {}{}",
                ident(&table.target.name),
                spare(&table.spared)
            ),
            repaired: format!("insert into pg_temp.{keys} {}", repair::keys_of(&table.target, &table.key)),
            all_on_source: format!("copy (select {} from ({}) q) to stdout", list("q.", &table.key), table.select),
            touched_rows: format!(
                "(select distinct {key_list} from pg_temp.{keys}) k join {target} t on {}",
                equal_keys("t", "k", &table.key)
            ),
            touches: touches_sql(table, &target, &keys, captured, catalog),
            target: table.target.clone(),
            select: table.select.clone(),
            form: TEXT,
            columns: table.columns.clone(),
            key: table.key.clone(),
            rows,
            keys,
            found,
            gone,
        }
    }

    /// Finds out in which form derived rows can travel.
    pub(super) async fn settle_form(&mut self, source: &Client, target: &Client) -> Result<(), tokio_postgres::Error> {
        let into =
            format!("select {} from {}", list("", &self.columns), qualified(&self.target.schema, &self.target.name));
        self.form = form(source, &self.select, target, &into).await?;
        self.rows_in.push_str(self.form);
        Ok(())
    }

    /// `copy … to stdout` on the source of the rows that the select gives for these keys.
    pub(super) fn rows_out(&self, page: &[Key]) -> String {
        let page: Vec<Vec<Option<&str>>> =
            page.iter().map(|key| key.iter().map(|value| Some(value.as_str())).collect()).collect();
        format!("copy ({}) to stdout{}", self.rows_of(&page), self.form)
    }

    /// The rows that the select gives for these keys.
    pub(super) fn rows_of(&self, page: &[Vec<Option<&str>>]) -> String {
        let columns = list("q.", &self.columns);
        let array = |at: usize, column: &KeyColumn| {
            format!("{}::{}[]", array_literal(page.iter().map(|key| key[at])), column.type_sql)
        };
        if let [only] = self.key.as_slice() {
            let condition = format!("q.{} = any({})", ident(&only.name), array(0, only));
            return format!("select {columns} from ({}) q where {condition}", self.select);
        }
        let arrays: Vec<String> = self.key.iter().enumerate().map(|(at, column)| array(at, column)).collect();
        format!(
            "select {columns} from unnest({}) as cutover_key({}) join ({}) q on {}",
            arrays.join(", "),
            list("", &self.key),
            self.select,
            equal_keys("q", "cutover_key", &self.key)
        )
    }

    /// A query for one touched row of this table whose foreign key points to nothing.
    pub(super) fn child_check(&self, key: &ForeignKey) -> String {
        let child = qualified(&self.target.schema, &self.target.name);
        let values: Vec<String> = key.columns.iter().map(|column| format!("g.{}::text", ident(column))).collect();
        let given: Vec<String> = key.columns.iter().map(|column| format!("g.{} is not null", ident(column))).collect();
        format!(
            "select concat_ws(', ', {}) from {child} g join pg_temp.{} k on {} where {} and not exists (select from {} p where {}) limit 1",
            values.join(", "),
            self.keys,
            equal_keys("g", "k", &self.key),
            given.join(" and "),
            qualified(&key.parent.schema, &key.parent.name),
            pairs("p", &key.parent_columns, "g", &key.columns)
        )
    }

    /// A query for one row of `child` that points to a row which was taken away from this table.
    pub(super) fn parent_check(&self, child: &TableName, key: &ForeignKey) -> String {
        parent_check(&self.gone, child, key)
    }

    /// Keeps the target's rows under touched keys as they are now, as text, until the transaction ends.
    pub(super) fn remember(&self, place: usize) -> String {
        format!("create temporary table cutover_before_{place} on commit drop as {}", self.as_text())
    }

    /// A query for the keys whose rows are not as they were remembered.
    pub(super) fn changed(&self, place: usize) -> String {
        format!(
            "select distinct key from ({}) n full join pg_temp.cutover_before_{place} b using (key) where n.whole is distinct from b.whole",
            self.as_text()
        )
    }

    fn as_text(&self) -> String {
        format!(
            "select array[{}]::text[] as key, row({})::text collate \"C\" as whole from {}",
            texts("t.", &self.key),
            list("t.", &self.columns),
            self.touched_rows
        )
    }

    /// The names of its temporary tables.
    pub(super) fn temporary(&self) -> [String; 4] {
        [&self.keys, &self.rows, &self.found, &self.gone].map(Clone::clone)
    }

    /// The temporary table of rows that were taken away, those replaced included.
    pub(super) fn gone(&self) -> &str {
        &self.gone
    }

    /// Whether two derived rows share a key: the mapping is wrong. One row with a key, or none.
    pub(super) fn twice(&self) -> String {
        let keys = list("", &self.key);
        format!(
            "select concat_ws(', ', {}) from pg_temp.{} r group by {keys} having count(*) > 1 limit 1",
            texts("", &self.key),
            self.rows
        )
    }
}

/// A query for one row of `child` that points to a row in the temporary table `gone` which its parent no longer holds.
fn parent_check(gone: &str, child: &TableName, key: &ForeignKey) -> String {
    let values: Vec<String> = key.parent_columns.iter().map(|column| format!("p.{}::text", ident(column))).collect();
    format!(
        "select concat_ws(', ', {}) from {} join {} c on {} limit 1",
        values.join(", "),
        lost_rows(gone, key),
        qualified(&child.schema, &child.name),
        pairs("c", &key.columns, "p", &key.parent_columns)
    )
}

/// The rows `p` of the temporary table `gone` whose key the parent no longer holds. Asked first, since most rows were only replaced; without
/// the offset the planner joins all of them with their children, and reads whole tables of these.
fn lost_rows(gone: &str, key: &ForeignKey) -> String {
    format!(
        "(select * from pg_temp.{gone} p where not exists (select from {} n where {}) offset 0) p",
        qualified(&key.parent.schema, &key.parent.name),
        pairs("n", &key.parent_columns, "p", &key.parent_columns)
    )
}

fn spare(spared: &[String]) -> String {
    let rules: Vec<String> = spared.iter().map(|rule| format!("({rule}) is not true")).collect();
    if rules.is_empty() { String::new() } else { format!(" where {}", rules.join(" and ")) }
}

fn touches_sql(
    table: &TableMapping,
    target: &str,
    keys: &str,
    captured: &[CapturedTable],
    catalog: &Catalog,
) -> Vec<TouchSql> {
    let mut touches = Vec::new();
    for touch in &table.touched_by {
        let Some(place) = captured.iter().position(|captured| captured.name == touch.source) else { continue };
        let column_type = |name: &str| {
            let column = catalog.table(&table.target).and_then(|table| table.column(name));
            let carried = || table.columns.iter().find(|column| column.name == name).map(|column| &column.type_sql);
            column.map(|column| &column.type_sql).or_else(carried).map_or("text", String::as_str)
        };
        let joined: Vec<String> = touch
            .back
            .iter()
            .enumerate()
            .map(|(at, back)| format!("g.{} = t.c{}::{}", ident(back), at + 1, column_type(back)))
            .collect();
        touches.push(TouchSql {
            name: touch_name(table, touch),
            source: touch.source.clone(),
            source_key: touch.source_key.clone(),
            captured: place,
            on_source: touch.keys_sql.clone(),
            on_target: (!joined.is_empty()).then(|| {
                format!(
                    "insert into pg_temp.{keys} select {} from {target} g join pg_temp.{} t on {}",
                    list("g.", &table.key),
                    touched_name(place),
                    joined.join(" and ")
                )
            }),
        });
    }
    touches
}

fn touch_name(table: &TableMapping, touch: &Touch) -> String {
    let way = Sha256::digest(format!("{}\0{}", table.select, touch.keys_sql));
    format!("{} from {} {}", table.target, touch.source, hex::encode(&way[..8]))
}

fn list(prefix: &str, columns: &[KeyColumn]) -> String {
    columns.iter().map(|column| format!("{prefix}{}", ident(&column.name))).collect::<Vec<_>>().join(", ")
}

fn texts(prefix: &str, columns: &[KeyColumn]) -> String {
    columns.iter().map(|column| format!("{prefix}{}::text", ident(&column.name))).collect::<Vec<_>>().join(", ")
}

fn equal_keys(left: &str, right: &str, key: &[KeyColumn]) -> String {
    let equal = key.iter().map(|column| format!("{left}.{0} = {right}.{0}", ident(&column.name)));
    equal.collect::<Vec<_>>().join(" and ")
}

fn pairs(left: &str, left_columns: &[String], right: &str, right_columns: &[String]) -> String {
    let pairs = left_columns.iter().zip(right_columns);
    pairs.map(|(l, r)| format!("{left}.{} = {right}.{}", ident(l), ident(r))).collect::<Vec<_>>().join(" and ")
}

/// An SQL literal of an array of texts.
fn array_literal<'a>(values: impl Iterator<Item = Option<&'a str>>) -> String {
    let quote = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    let quoted: Vec<String> = values.map(|value| value.map_or_else(|| "NULL".to_owned(), quote)).collect();
    literal(&format!("{{{}}}", quoted.join(",")))
}

/// One line of `copy` text format.
pub(super) fn copy_line(out: &mut Vec<u8>, values: &[String]) {
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        for byte in value.bytes() {
            match byte {
                b'\\' => out.extend(b"\\\\"),
                b'\t' => out.extend(b"\\t"),
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                other => out.push(other),
            }
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_stands_in_arrays_and_copies() {
        assert_eq!(array_literal(["a", "b\"c"].into_iter().map(Some)), " E'{\"a\",\"b\\\\\"c\"}'");
        assert_eq!(array_literal([Some("it's"), None].into_iter()), "'{\"it''s\",NULL}'");
        let mut line = Vec::new();
        copy_line(&mut line, &["a\tb".into(), "c\\d\n".into()]);
        assert_eq!(line, b"a\\tb\tc\\\\d\\n\n");
    }
}

//! What a person has to do where no text edit is right for every engine: the steps as SQL, each for a file of its own.

use super::super::directive::BATCH_ROWS;
use super::super::lint::written;
use super::statement::{bare, cut};

/// A column of a table, as steps name it.
pub(super) struct Column<'a> {
    /// The table, as lint knows it.
    pub(super) table: &'a str,
    /// The table in SQL.
    pub(super) sql: &'a str,
    /// The column.
    pub(super) name: &'a str,
    /// Its type, the one to come.
    pub(super) ty: &'a str,
    /// The key by which batches go, as a comment to this tool names it.
    pub(super) key: String,
}

impl Column<'_> {
    fn named(&self, before: &str, after: &str) -> String {
        written(&cut(format!("{before}{}_{}{after}", bare(self.table), self.name)))
    }

    fn batch(&self, column: &str, expression: &str, is_filled: bool) -> String {
        let (sql, key) = (self.sql, &self.key);
        let condition = if is_filled { format!("is distinct from ({expression})") } else { "is null".to_owned() };
        format!(
            "-- cutover: batch key={key} rows={BATCH_ROWS}\nupdate {sql} set {column} = {expression} where {column} {condition};"
        )
    }

    /// Not null by a check that is validated first and dropped afterwards.
    fn not_null(&self, column: &str) -> [String; 3] {
        let (sql, check) = (self.sql, self.named("cutover_not_null_", ""));
        [
            format!("alter table {sql} add constraint {check} check ({column} is not null) not valid;"),
            format!("alter table {sql} validate constraint {check};"),
            format!(
                "alter table {sql} alter column {column} set not null;\nalter table {sql} drop constraint {check};"
            ),
        ]
    }

    /// A trigger that keeps `column` as `expression` says, whoever writes the row.
    fn kept(&self, column: &str, expression: &str) -> String {
        let (sql, trigger) = (self.sql, self.named("cutover_fill_", ""));
        format!(
            "create function {trigger}() returns trigger language plpgsql as $$\nbegin\n  new.{column} := (select {expression} from (select new.*) as written);\n  \
             return new;\nend $$;\ncreate trigger {trigger} before insert or update on {sql} for each row execute function {trigger}();"
        )
    }

    /// A number for every row: `serial`, or an identity (`always` or `by default`).
    pub(super) fn numbered(&self, identity: Option<&str>) -> Vec<String> {
        let (sql, ty, name) = (self.sql, self.ty, written(self.name));
        let before = if identity.is_some() { "cutover_" } else { "" };
        let sequence = self.named(before, "_seq");
        let mut steps = vec![
            format!(
                "create sequence {sequence} as {ty};\nalter table {sql} add column {name} {ty};\nalter table {sql} alter column {name} set default nextval('{sequence}');"
            ),
            self.batch(&name, &format!("nextval('{sequence}')"), false),
        ];
        steps.extend(self.not_null(&name));
        steps.push(match identity {
            None => format!("alter sequence {sequence} owned by {sql}.{name};"),
            Some(kind) => format!(
                "alter table {sql} alter column {name} drop default;\nalter table {sql} alter column {name} add generated {kind} as identity;\n\
                 select setval(pg_get_serial_sequence('{sql}', '{column}'), nextval('{sequence}'), false);\ndrop sequence {sequence};",
                column = self.name
            ),
        });
        steps
    }

    /// A value that is computed from the row: a plain column that a trigger keeps.
    pub(super) fn computed(&self, expression: &str) -> Vec<String> {
        let (sql, ty, name) = (self.sql, self.ty, written(self.name));
        vec![
            format!("alter table {sql} add column {name} {ty};\n{}", self.kept(&name, expression)),
            self.batch(&name, expression, true),
        ]
    }

    /// Another type: a column beside it, kept equal by a trigger, filled, and put in its place.
    pub(super) fn retyped(&self, using: &str, is_not_null: bool) -> Vec<String> {
        let (sql, ty, name) = (self.sql, self.ty, written(self.name));
        let (new, old) = (written(&cut(format!("{}_new", self.name))), written(&cut(format!("{}_old", self.name))));
        let trigger = self.named("cutover_fill_", "");
        let mut steps = vec![
            format!("alter table {sql} add column {new} {ty};\n{}", self.kept(&new, using)),
            self.batch(&new, using, true),
        ];
        steps.extend(self.not_null(&new).into_iter().filter(|_| is_not_null));
        steps.push(format!(
            "-- each index of {name} once more on {new}, concurrently and in a file of its own; each check and foreign key not valid, then validated"
        ));
        steps.push(format!(
            "drop trigger {trigger} on {sql};\ndrop function {trigger}();\nalter table {sql} alter column {name} drop not null;\n\
             alter table {sql} rename column {name} to {old};\nalter table {sql} rename column {new} to {name};\n\
             -- with its default, and its sequence if it has one: alter table {sql} alter column {name} set default …"
        ));
        steps.push(format!("-- when no version of the engine uses it any more\nalter table {sql} drop column {old};"));
        steps
    }

    /// Constraints that would be checked or indexed while the column is added: `check (…)`, `unique`, `primary key`, `references …`, as written.
    pub(super) fn constrained(&self, default: Option<&str>, constraints: &[String]) -> Vec<String> {
        let (sql, ty, name) = (self.sql, self.ty, written(self.name));
        let default = default.map(|default| format!(" default {default}")).unwrap_or_default();
        let mut steps = vec![format!("alter table {sql} add column {name} {ty}{default};")];
        for one in constraints {
            let kind = one.to_lowercase();
            let word = if kind.starts_with("primary") { "primary key" } else { "unique" };
            let (suffix, is_index) = match kind.split([' ', '(']).next().unwrap_or_default() {
                "check" => ("_check", false),
                "references" => ("_fkey", false),
                "primary" => ("_pkey", true),
                _ => ("_key", true),
            };
            let rule = self.named("", suffix);
            if is_index {
                steps.push(format!("create unique index concurrently {rule} on {sql} ({name});"));
                steps.push(format!("alter table {sql} add constraint {rule} {word} using index {rule};"));
            } else {
                let head = if suffix == "_fkey" { format!("foreign key ({name}) ") } else { String::new() };
                steps.push(format!("alter table {sql} add constraint {rule} {head}{one} not valid;"));
                steps.push(format!("alter table {sql} validate constraint {rule};"));
            }
        }
        steps
    }
}

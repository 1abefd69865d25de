//! Blue's own schema on an empty green: read by `pg_dump`, applied and closed in one transaction under our term, noted in it, and taken away
//! again.
//!
//! Owns the note `copy-schema` on green: the run, what was made, and a digest of how it stood then. Rows come only with tables that are
//! green's own, such as the list of migrations, which says what the schema is. May call `claim`, `inventory`, `catalog`,
//! `statements`, `refusal` and `term`.

mod error;
mod pg_dump;
mod rights;

pub use error::SchemaError;
pub use pg_dump::PgDump;

use self::rights::Roles;
use super::catalog::{self, Table};
use super::claim;
use super::inventory::{self, Object};
use super::migrations::split::{self as statements, Statement};
use super::refusal;
use super::sql::{ident, qualified};
use super::term::{Term, hold};
use crate::plan::TableName;
use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::pin::pin;
use tokio_postgres::{Client, GenericClient, Transaction};
use uuid::Uuid;

/// The name of the note on green.
const NOTE: &str = "copy-schema";
/// What the schema is applied with: names are written out, bodies are taken as they are, nobody's trigger fires, and what is committed stays.
const SESSION: &str =
    "set local search_path = ''; set local check_function_bodies = off; set local xmloption = content;
set local client_min_messages = warning; set local lock_timeout = '10s'; set local synchronous_commit = on;
set local session_replication_role = replica";
/// Statements of a dump that set up a session; ours is set up already, and an older server may not know them.
const SETTINGS: &[&[&str]] = &[&["set"], &["select", "pg_catalog"], &["comment", "on", "extension"]];
/// What is the server's rather than the application's, or would not be found again when it is to be dropped.
const NOT_COPIED: &[&[&str]] = &[
    &["create", "event", "trigger"],
    &["create", "server"],
    &["create", "foreign"],
    &["create", "user", "mapping"],
    &["create", "cast"],
    &["create", "operator"],
    &["create", "text", "search"],
    &["create", "conversion"],
    &["create", "transform"],
    &["create", "access", "method"],
    &["create", "language"],
    &["create", "trusted"],
    &["create", "procedural"],
];
/// How many of what is in the way are named.
const NAMED: usize = 3;

/// What the copy made, as noted on green.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Digest of green's tables as they stood afterwards.
    pub digest: String,
    /// Everything that was made, so that just this is dropped again.
    pub made: Vec<Object>,
    /// Rows that came with tables which are green's own.
    pub own_rows: u64,
}

/// How far the copy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaStanding {
    /// Nothing of it; green has no tables.
    Absent,
    /// All of it, as it was made.
    Present(Noted),
    /// It was made, and green's tables are others by now.
    Changed(Noted),
    /// Green has tables that this run did not make.
    Foreign(Vec<String>),
}

/// What a copy is made from.
#[derive(Debug, Clone, Copy)]
pub struct SchemaCopy<'a> {
    /// The run.
    pub run: Uuid,
    /// The term to act in.
    pub term: Term,
    /// The application's role on blue and on green.
    pub roles: (&'a str, &'a str),
    /// Tables whose rows come along, once.
    pub own: &'a [TableName],
}

/// Looks how far the copy stands; read-only.
///
/// # Errors
/// When green does not answer.
pub async fn verify(green: &impl GenericClient, run: Uuid) -> Result<SchemaStanding, SchemaError> {
    if let Some(noted) = noted(green, run).await? {
        let is_same = noted.digest == digest(green).await?;
        return Ok(if is_same { SchemaStanding::Present(noted) } else { SchemaStanding::Changed(noted) });
    }
    let there = in_the_way(&inventory::read(green).await?);
    Ok(if there.is_empty() { SchemaStanding::Absent } else { SchemaStanding::Foreign(there) })
}

/// What this run has noted of its copy, if it has made one.
///
/// # Errors
/// When green does not answer or the note cannot be read.
async fn noted(green: &impl GenericClient, run: Uuid) -> Result<Option<Noted>, SchemaError> {
    let noted = claim::noted(green, run, NOTE).await?;
    Ok(noted.and_then(|body| serde_json::from_value(body).ok()))
}

async fn digest(client: &impl GenericClient) -> Result<String, SchemaError> {
    let catalog = catalog::read(client).await.map_err(SchemaError::server("read green's catalog"))?;
    Ok(catalog::fingerprint(&catalog))
}

fn in_the_way(objects: &[Object]) -> Vec<String> {
    objects.iter().filter(|object| object.holds_rows()).take(NAMED).map(Object::words).collect()
}

impl SchemaCopy<'_> {
    /// Applies `dump` to green, with owners, grants and the rows of own tables as on blue; made again, it changes nothing.
    ///
    /// # Errors
    /// When green is not empty, the dump holds what is not copied, another process took over, or a server refuses: green is as it was.
    pub async fn apply(&self, blue: &Client, green: &mut Client, dump: &str) -> Result<Noted, SchemaError> {
        let statements = wanted(dump)?;
        let roles = Roles::of(self.roles, blue, green).await?;
        let rights = rights::statements(blue, &roles).await?;
        let failed = || SchemaError::server("apply blue's schema to green");
        let transaction = green.transaction().await.map_err(failed())?;
        hold(&transaction, &self.term).await?;
        if let Some(noted) = noted(&transaction, self.run).await? {
            return Ok(noted);
        }
        transaction.batch_execute(SESSION).await.map_err(failed())?;
        let before = inventory::read(&transaction).await?;
        let in_the_way = in_the_way(&before);
        if !in_the_way.is_empty() {
            return Err(SchemaError::NotEmpty { what: in_the_way });
        }
        for statement in &statements {
            let failed = SchemaError::server(format!("apply to green: {}", statement.summary()));
            transaction.batch_execute(&statement.text).await.map_err(failed)?;
        }
        let made = inventory::made(&before, &inventory::read(&transaction).await?);
        // Before anybody but us gets a right, so that there is no moment at which the application could write.
        refusal::close_within(&transaction, self.run).await?;
        for right in &rights {
            let failed = SchemaError::server(format!("say on green who may do what: {right}"));
            transaction.batch_execute(right).await.map_err(failed)?;
        }
        let own_rows = self.own_rows(blue, &transaction).await?;
        // Types are named as every other session of ours will name them.
        transaction.batch_execute("set local search_path = public").await.map_err(failed())?;
        let noted = Noted { digest: digest(&transaction).await?, made, own_rows };
        let body = serde_json::to_value(&noted).expect("names are JSON");
        claim::note_within(&transaction, self.run, NOTE, &body).await?;
        transaction.commit().await.map_err(failed())?;
        Ok(noted)
    }

    /// Drops what [`apply`](Self::apply) made, with what hangs on it and what was noted of rows in it; nothing else.
    ///
    /// # Errors
    /// When another process took over or the server refuses: nothing was dropped.
    pub async fn remove(&self, green: &mut Client) -> Result<(), SchemaError> {
        let Some(noted) = noted(green, self.run).await? else { return Ok(()) };
        let failed = || SchemaError::server("drop the copied schema");
        let transaction = green.transaction().await.map_err(failed())?;
        hold(&transaction, &self.term).await?;
        inventory::remove_within(&transaction, &noted.made).await?;
        transaction.batch_execute("drop table if exists cutover.copied").await.map_err(failed())?;
        claim::forget_within(&transaction, NOTE).await?;
        transaction.commit().await.map_err(failed())
    }

    async fn own_rows(&self, blue: &Client, green: &Transaction<'_>) -> Result<u64, SchemaError> {
        let catalog = catalog::read(blue).await.map_err(SchemaError::server("read blue's catalog"))?;
        let mut rows = 0;
        for table in self.own.iter().filter_map(|own| catalog.table(own)) {
            rows += bring(blue, green, table).await?;
        }
        Ok(rows)
    }
}

/// The rows of one table, one to one.
async fn bring(blue: &Client, green: &Transaction<'_>, table: &Table) -> Result<u64, SchemaError> {
    let failed = || SchemaError::server(format!("bring the rows of {} to green", table.name));
    let columns = table.columns.iter().filter(|column| !column.is_generated).map(|column| ident(&column.name));
    let (name, columns) = (qualified(&table.name.schema, &table.name.name), columns.collect::<Vec<_>>().join(", "));
    let read = blue.copy_out(&format!("copy (select {columns} from {name}) to stdout")).await.map_err(failed())?;
    let write = green.copy_in::<_, Bytes>(&format!("copy {name} ({columns}) from stdin")).await.map_err(failed())?;
    let (mut read, mut write) = (pin!(read), pin!(write));
    while let Some(row) = read.try_next().await.map_err(failed())? {
        write.send(row).await.map_err(failed())?;
    }
    write.finish().await.map_err(failed())
}

/// Whether all of a dump can be copied.
///
/// # Errors
/// `NotCopied` with what cannot.
pub fn judge(dump: &str) -> Result<(), SchemaError> {
    wanted(dump).map(drop)
}

/// The statements of a dump that make something.
fn wanted(dump: &str) -> Result<Vec<Statement>, SchemaError> {
    let all = statements::split(&without_restrictions(dump));
    let begins = |statement: &Statement, lists: &[&[&str]]| lists.iter().any(|words| statement.begins(words));
    let not_copied: Vec<String> = all.iter().filter(|statement| begins(statement, NOT_COPIED)).map(short).collect();
    if !not_copied.is_empty() {
        return Err(SchemaError::NotCopied { what: not_copied });
    }
    Ok(all.into_iter().filter(|statement| !begins(statement, SETTINGS) && !names_by_index(statement)).collect())
}

/// By which index the log of blue names rows. Green's index is dropped before the rows come, and what is built anew afterwards would not be it:
/// updates would be refused then. Rows of green are named by their primary key.
fn names_by_index(statement: &Statement) -> bool {
    statement.begins(&["alter", "table"]) && ["replica", "identity", "using"].iter().all(|word| statement.has(word))
}

/// The first words alone: what follows may hold what is secret, such as the password of a server elsewhere.
fn short(statement: &Statement) -> String {
    statement.text.split_whitespace().take(5).collect::<Vec<_>>().join(" ").to_lowercase()
}

/// A dump without the two lines that are meant for psql alone; they carry one random word.
fn without_restrictions(dump: &str) -> String {
    let Some(word) = dump.lines().find_map(|line| line.strip_prefix("\\restrict ")) else { return dump.to_owned() };
    let (first, last) = (format!("\\restrict {word}"), format!("\\unrestrict {word}"));
    let lines = dump.lines().filter(|line| *line != first && *line != last);
    lines.fold(String::with_capacity(dump.len()), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
SET default_table_access_method = heap;
--
-- Name: f(); Type: FUNCTION
--
CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS $$
\\restrict other
select 1; select 2$$;
COMMENT ON EXTENSION x IS 'y';
ALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX i;
COMMENT ON FUNCTION public.f() IS 'set; it';\n\\unrestrict abc\n";

    #[test]
    fn of_a_dump_only_what_makes_something_is_applied() {
        let texts: Vec<String> = wanted(DUMP).expect("a dump").into_iter().map(|statement| statement.text).collect();
        assert_eq!(texts.len(), 2, "{texts:#?}");
        assert!(texts[0].contains("\\restrict other\nselect 1; select 2"), "{texts:#?}");
        assert_eq!(texts[1], "COMMENT ON FUNCTION public.f() IS 'set; it'");
    }

    #[test]
    fn what_is_the_server_s_is_named_without_its_secrets() {
        let dump = "CREATE USER MAPPING FOR app SERVER far OPTIONS (password 'hunter2');";
        let error = wanted(dump).expect_err("it is not copied").to_string();
        assert!(error.contains("create user mapping for app") && !error.contains("hunter2"), "{error}");
    }
}

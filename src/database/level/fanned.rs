//! Touched rows that lead to many keys, and whether they need to be followed again: only when a column that the mapping reads has changed.
//!
//! A list of changes says that a row of a client was touched, not that only the time of its last login was; and that client may have a
//! million tokens. So the target keeps, beside its rows and in the same transaction, a digest of those columns of each row that was followed
//! to many keys. Which columns these are the source's own catalog says. Where it cannot say, a row is followed each time: this saves work,
//! and decides nothing.

use super::LevelError;
use super::batch::Batch;
use crate::database::apply::{TableSql, TouchSql};
use crate::database::changes::Key;
use crate::database::sql::{ident, literal, qualified};
use crate::plan::TableName;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient};

/// Keys of one page of touched rows from which on the rows are remembered, if there are so many for each of them.
const MANY: u64 = 1000;
const MANY_EACH: u64 = 100;

pub(super) const CREATE: &str = "create table if not exists cutover.fanned (
  touch text not null, key text[] not null, digest bytea not null, at timestamptz not null, primary key (touch, key))";
/// What was followed before counts for one target filled from one source.
pub(super) const FORGET: &str = "delete from cutover.fanned";
const FORGET_TOUCH: &str = "delete from cutover.fanned where touch = $1";
const KNOWN: &str = "select distinct touch from cutover.fanned";

/// The columns of `$1` that two views read. Unknown, and so none at all, where one of them reads a row as a whole, a system's column or
/// anything but tables.
const USED: &str = "with views as (
  select oid, ev_class, ev_action::text as tree from pg_rewrite where ev_class in ('pg_temp.cutover_rows'::regclass, 'pg_temp.cutover_keys'::regclass)),
reads as (
  select d.refobjid, d.refobjsubid from pg_depend d join views v on d.classid = 'pg_rewrite'::regclass and d.objid = v.oid
  where d.refclassid = 'pg_class'::regclass and d.deptype = 'n' and d.refobjid <> v.ev_class)
select case when bool_and(c.relkind in ('r', 'p')) and bool_and(r.refobjsubid >= 0) and bool_or(c.oid = $1::text::regclass)
    and not exists (select from views where tree ~ ':varattno (0|-[0-9]+) ')
  then coalesce(array_agg(a.attname::text order by a.attnum) filter (where c.oid = $1::text::regclass and a.attnum > 0), '{}') end
from (select distinct * from reads) r join pg_class c on c.oid = r.refobjid
left join pg_attribute a on a.attrelid = r.refobjid and a.attnum = r.refobjsubid";

/// What is remembered of touches, by their names.
#[derive(Debug, Default)]
pub(super) struct Fanned {
    /// Those of which the target may remember rows.
    known: BTreeSet<String>,
    /// The columns that count, once they were asked for; none where nobody can tell.
    used: BTreeMap<String, Option<Vec<String>>>,
}

impl Fanned {
    /// What the target remembers.
    pub(super) async fn read(target: &Client) -> Result<Self, tokio_postgres::Error> {
        let rows = target.query(KNOWN, &[]).await?;
        Ok(Self { known: rows.iter().map(|row| row.get(0)).collect(), used: BTreeMap::new() })
    }

    /// Whether rows of the touch may be remembered.
    pub(super) fn knows(&self, touch: &TouchSql) -> bool {
        self.known.contains(&touch.name)
    }

    async fn used(&mut self, beside: &Client, table: &TableSql, touch: &TouchSql) -> Option<Vec<String>> {
        if let Some(used) = self.used.get(&touch.name) {
            return used.clone();
        }
        let asked = used_columns(beside, &table.select, &touch.on_source, &touch.source, table.key.len()).await;
        if let Err(error) = &asked {
            tracing::warn!(%error, table = %touch.source, "which of its columns count cannot be told; each touch of its rows is followed");
        }
        let used = asked.unwrap_or_default();
        self.used.insert(touch.name.clone(), used.clone());
        used
    }
}

/// The views are never committed, and nobody else sees them.
async fn used_columns(
    beside: &Client,
    select: &str,
    keys_sql: &str,
    source: &TableName,
    columns: usize,
) -> Result<Option<Vec<String>>, tokio_postgres::Error> {
    let names: Vec<String> = (1..=columns).map(|at| format!("c{at}")).collect();
    let views = format!(
        "begin; create temporary view cutover_rows as {select}; create temporary view cutover_keys ({}) as {}",
        names.join(", "),
        without_parameters(keys_sql)
    );
    let asked = async {
        beside.batch_execute(&views).await?;
        beside.query_one(USED, &[&qualified(&source.schema, &source.name)]).await
    };
    let asked = asked.await;
    beside.batch_execute("rollback").await?;
    Ok(asked?.get(0))
}

/// A view has none: each is an array of texts.
fn without_parameters(sql: &str) -> String {
    let mut parts = sql.split("::text[]");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = text.len() - text.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
        let place = text.len() - digits;
        if digits > 0 && text[..place].ends_with('$') {
            text.truncate(place - 1);
            text.push_str("null");
        }
        text.push_str("::text[]");
        text.push_str(part);
    }
    text
}

impl TouchSql {
    /// Touched rows `t` that an earlier batch has followed, and this one has found unchanged.
    pub(super) fn left_alone(&self) -> String {
        format!(
            " and not exists (select from cutover.fanned f where f.touch = {} and f.key = array[{}] and f.at < now())",
            literal(&self.name),
            self.places("t.")
        )
    }

    fn places(&self, prefix: &str) -> String {
        (1..=self.source_key.len()).map(|at| format!("{prefix}c{at}")).collect::<Vec<_>>().join(", ")
    }

    /// The keys given as parameters from the `first` on, as rows `u`.
    fn given(&self, first: usize) -> String {
        let arrays: Vec<String> = (first..first + self.source_key.len()).map(|at| format!("${at}::text[]")).collect();
        format!("unnest({}) as u({})", arrays.join(", "), self.places(""))
    }

    /// On the source: those of the keys that have a row, with the digest of it.
    fn digests(&self, used: &[String]) -> String {
        let same = self
            .source_key
            .iter()
            .enumerate()
            .map(|(at, column)| format!("s.{} = u.c{}::{}", ident(&column.name), at + 1, column.type_sql));
        let used: Vec<String> = used.iter().map(|column| format!("s.{}", ident(column))).collect();
        format!(
            "select sha256(convert_to(row({})::text, 'UTF8')), {} from {} join {} s on {}",
            used.join(", "),
            self.places("u."),
            self.given(1),
            qualified(&self.source.schema, &self.source.name),
            same.collect::<Vec<_>>().join(" and ")
        )
    }

    fn remembered(&self) -> String {
        format!(
            "select f.digest, {} from {} join cutover.fanned f on f.touch = $1 and f.key = array[{}]",
            self.places("u."),
            self.given(2),
            self.places("u.")
        )
    }

    fn forget(&self) -> String {
        format!(
            "delete from cutover.fanned f using {} where f.touch = $1 and f.key = array[{}]",
            self.given(2),
            self.places("u.")
        )
    }

    fn remember(&self) -> String {
        let keys: Vec<String> = (3..3 + self.source_key.len()).map(|at| format!("${at}::text[]")).collect();
        format!(
            "insert into cutover.fanned (touch, key, digest, at)
select $1, array[{}], u.digest, now() from unnest($2::bytea[], {}) as u(digest, {})",
            self.places("u."),
            keys.join(", "),
            self.places("")
        )
    }
}

type Digests = BTreeMap<Key, Vec<u8>>;

impl Batch<'_> {
    /// Touches the keys to which touched rows of one captured table lead; those that led to many before, and are as they were, are left alone.
    pub(super) async fn follow(&mut self, table: usize, touch: &TouchSql, keys: &[Key]) -> Result<u64, LevelError> {
        let all = self.sql;
        let sql = &all[table];
        if !self.fanned.knows(touch) {
            let count = self.touch_keys(&touch.on_source, keys, &sql.keys_in).await?;
            return self.note(sql, touch, keys, None, count).await.map(|()| count);
        }
        let now = self.digests(sql, touch, keys).await?;
        let before = self.remembered(touch, keys).await?;
        let is_same = |key: &Key| now.get(key).is_some_and(|digest| before.get(key) == Some(digest));
        let followed: Vec<Key> = keys.iter().filter(|key| !is_same(key)).cloned().collect();
        let count = self.touch_keys(&touch.on_source, &followed, &sql.keys_in).await?;
        self.note(sql, touch, &followed, Some(now), count).await.map(|()| count)
    }

    /// Of a table that was emptied no row is what it was, and one that comes back as it was leads to keys that went with it.
    pub(super) async fn forget_all(&self, touch: &TouchSql) -> Result<(), LevelError> {
        if !self.fanned.knows(touch) {
            return Ok(());
        }
        let forgotten = self.target.execute(FORGET_TOUCH, &[&touch.name]).await;
        forgotten.map(drop).map_err(self.on_target("forget which touched rows were followed"))
    }

    /// What is remembered of rows that were followed is true of this batch, or is not there.
    async fn note(
        &mut self,
        sql: &TableSql,
        touch: &TouchSql,
        keys: &[Key],
        digests: Option<Digests>,
        count: u64,
    ) -> Result<(), LevelError> {
        if digests.is_some() && !keys.is_empty() {
            self.on_keys(&touch.forget(), &[&touch.name], keys).await?;
        }
        let is_many = count >= MANY && count >= MANY_EACH.saturating_mul(keys.len() as u64);
        if !is_many {
            return Ok(());
        }
        let digests = match digests {
            Some(digests) => digests,
            None => self.digests(sql, touch, keys).await?,
        };
        let (keys, digests): (Vec<Key>, Vec<Vec<u8>>) =
            keys.iter().filter_map(|key| Some((key.clone(), digests.get(key)?.clone()))).unzip();
        if !keys.is_empty() {
            self.fanned.known.insert(touch.name.clone());
            self.on_keys(&touch.remember(), &[&touch.name, &digests], &keys).await?;
        }
        Ok(())
    }

    /// Of those of the keys that have a row; of none where nobody can tell which columns count.
    async fn digests(&mut self, sql: &TableSql, touch: &TouchSql, keys: &[Key]) -> Result<Digests, LevelError> {
        let Some(used) = self.fanned.used(self.beside, sql, touch).await else { return Ok(Digests::new()) };
        let asked = ask(self.source, &touch.digests(&used), &[], keys).await;
        asked.map_err(self.on_source("see what of touched rows has changed"))
    }

    async fn remembered(&self, touch: &TouchSql, keys: &[Key]) -> Result<Digests, LevelError> {
        let asked = ask(self.target, &touch.remembered(), &[&touch.name], keys).await;
        asked.map_err(self.on_target("see which touched rows were followed"))
    }

    async fn on_keys(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
        keys: &[Key],
    ) -> Result<(), LevelError> {
        let arrays = columns(keys);
        let all: Vec<&(dyn ToSql + Sync)> =
            parameters.iter().copied().chain(arrays.iter().map(|array| array as &(dyn ToSql + Sync))).collect();
        let done = self.target.execute(statement, &all).await;
        done.map(drop).map_err(self.on_target("remember which touched rows were followed"))
    }
}

/// Answers to a query that gives a digest and then the key.
async fn ask(
    client: &impl GenericClient,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
    keys: &[Key],
) -> Result<Digests, tokio_postgres::Error> {
    let arrays = columns(keys);
    let all: Vec<&(dyn ToSql + Sync)> =
        parameters.iter().copied().chain(arrays.iter().map(|array| array as &(dyn ToSql + Sync))).collect();
    let rows = client.query(query, &all).await?;
    Ok(rows.iter().map(|row| ((1..row.len()).map(|at| row.get(at)).collect(), row.get(0))).collect())
}

/// Keys as one array a column.
pub(super) fn columns(keys: &[Key]) -> Vec<Vec<&str>> {
    let count = keys.first().map_or(0, Vec::len);
    (0..count).map(|at| keys.iter().map(|key| key[at].as_str()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::without_parameters;

    #[test]
    fn only_parameters_are_taken_out_of_a_query() {
        let query = "select a::text[] from unnest($1::text[], $12::text[]) as u(c1, c2) where '$1' <> '1'::text[]";
        let wanted = "select a::text[] from unnest(null::text[], null::text[]) as u(c1, c2) where '$1' <> '1'::text[]";
        assert_eq!(without_parameters(query), wanted);
    }
}

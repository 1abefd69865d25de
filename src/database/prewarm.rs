//! Green's shared buffers filled with its carried tables before clients come, by the extension `pg_prewarm`: indexes first, until they are full.
//!
//! Owns the order and where it ends. Reads only, holds nothing: what a superseded process loads harms nobody, and doing it again is
//! doing it again. May call `sql`.

use super::sql::qualified;
use crate::plan::TableName;
use serde::Serialize;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::Oid;

/// The extension.
pub const EXTENSION: &str = "pg_prewarm";
/// How a superuser makes the extension, which our login may not be.
pub const CREATE: &str = "create extension pg_prewarm";

const SCHEMA: &str =
    "select n.nspname::text from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = $1";
/// In blocks, as the server counts it, and the size of one.
const BUFFERS: &str = "select pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')), pg_catalog.current_setting('block_size')::bigint";
/// Ranks: every query goes through indexes; few read the long values that lie aside.
const RELATIONS: &str = "
with leaf as (
  select p.oid, p.reltoastrelid
    from unnest($1::text[], $2::text[]) as w(schema, name)
    join pg_catalog.pg_namespace n on n.nspname = w.schema
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name
    left join lateral pg_catalog.pg_partition_tree(c.oid) t on t.isleaf
    join pg_catalog.pg_class p on p.oid = coalesce(t.relid::oid, c.oid) and p.relkind = 'r'),
ranked (oid, rank) as (
  select x.indexrelid, 0 from leaf join pg_catalog.pg_index x on x.indrelid = leaf.oid where x.indisvalid
  union all select oid, 1 from leaf
  union all select x.indexrelid, 2 from leaf join pg_catalog.pg_index x on x.indrelid = leaf.reltoastrelid
    where pg_catalog.pg_relation_size(leaf.reltoastrelid) > 0
  union all select reltoastrelid, 2 from leaf where reltoastrelid <> 0),
measured as (
  select r.oid, r.rank, c.relname::text as name,
         pg_catalog.pg_relation_size(r.oid) / pg_catalog.current_setting('block_size')::bigint as blocks
    from ranked r join pg_catalog.pg_class c on c.oid = r.oid)
select oid, name, blocks from measured where blocks > 0 order by rank, blocks, name";
/// One statement loads so many blocks at most, so that the time is looked at between two.
const PIECE_BLOCKS: i64 = 2048;

/// Why green could not be prewarmed; nothing was changed.
#[derive(Debug, Error)]
pub enum PrewarmError {
    /// Green has no such extension.
    #[error("prewarm green: it has no extension {EXTENSION}")]
    Missing,
    /// The server refused.
    #[error("{act} {object} on green")]
    Server {
        /// What was tried.
        act: &'static str,
        /// On what.
        object: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// Why the loading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Everything is in.
    Whole,
    /// The shared buffers are full.
    Full,
    /// Its time was over.
    Late,
}

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prewarmed {
    /// Indexes and tables of which something was loaded.
    pub relations: u64,
    /// Their blocks.
    pub loaded_bytes: u64,
    /// All indexes and tables together.
    pub total_bytes: u64,
    /// What the server can hold.
    pub shared_buffers_bytes: u64,
    /// Why it ended.
    pub ended: Ended,
}

/// An index or a table on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relation {
    oid: Oid,
    name: String,
    /// The first of its blocks that is loaded.
    first: i64,
    blocks: i64,
}

/// Where the extension's function lives on this server; nothing without it.
///
/// # Errors
/// When the server refuses.
pub async fn schema(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    Ok(client.query_opt(SCHEMA, &[&EXTENSION]).await?.map(|row| row.get(0)))
}

/// Loads the carried `tables` and their indexes within `bound`, and tells of the bytes done, all bytes, and each relation begun.
///
/// # Errors
/// When the extension is missing or the server refuses; what was loaded stays loaded.
pub async fn prewarm(
    green: &Client,
    tables: &[TableName],
    bound: Duration,
    tell: &(dyn Fn(u64, u64, &str) + Sync),
) -> Result<Prewarmed, PrewarmError> {
    let end = Instant::now() + bound;
    let failed = |act, object: &str| {
        let object = object.to_owned();
        move |source| PrewarmError::Server { act, object, source }
    };
    let schema = schema(green).await.map_err(failed("look for", EXTENSION))?.ok_or(PrewarmError::Missing)?;
    let row = green.query_one(BUFFERS, &[]).await.map_err(failed("measure", "shared_buffers"))?;
    let (buffers_bytes, block_bytes): (i64, i64) = (row.get(0), row.get(1));
    let relations = relations(green, tables).await.map_err(failed("measure", "carried tables"))?;
    let wanted = fitting(&relations, buffers_bytes / block_bytes);
    let bytes = |blocks: i64| (blocks * block_bytes).cast_unsigned();
    let sum = |relations: &[Relation]| relations.iter().map(|relation| relation.blocks).sum::<i64>();
    let (aim, total_bytes) = (bytes(sum(&wanted)), bytes(sum(&relations)));
    let mut done = Prewarmed {
        relations: 0,
        loaded_bytes: 0,
        total_bytes,
        shared_buffers_bytes: buffers_bytes.cast_unsigned(),
        ended: if aim < total_bytes { Ended::Full } else { Ended::Whole },
    };
    let load = format!("select {}($1::oid::regclass, 'buffer', 'main', $2, $3)", qualified(&schema, EXTENSION));
    let load = green.prepare(&load).await.map_err(failed("ask for", EXTENSION))?;
    for relation in &wanted {
        tell(done.loaded_bytes, aim, &relation.name);
        done.relations += 1;
        for (first, last) in pieces(relation) {
            if Instant::now() >= end {
                return Ok(Prewarmed { ended: Ended::Late, ..done });
            }
            let row = green.query_one(&load, &[&relation.oid, &first, &last]).await;
            let blocks: i64 = row.map_err(failed("prewarm", &relation.name))?.get(0);
            done.loaded_bytes += bytes(blocks);
        }
    }
    tell(done.loaded_bytes, aim, "");
    Ok(done)
}

async fn relations(green: &Client, tables: &[TableName]) -> Result<Vec<Relation>, tokio_postgres::Error> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = green.query(RELATIONS, &[&schemas, &names]).await?;
    let one = |row: &tokio_postgres::Row| Relation { oid: row.get(0), name: row.get(1), first: 0, blocks: row.get(2) };
    Ok(rows.iter().map(one).collect())
}

/// As many of `relations`, in their order, as `room` blocks hold, and of the next one its end, where the youngest rows lie.
fn fitting(relations: &[Relation], room: i64) -> Vec<Relation> {
    let mut left = room;
    let mut fit = Vec::new();
    for relation in relations {
        let blocks = relation.blocks.min(left);
        if blocks <= 0 {
            break;
        }
        left -= blocks;
        fit.push(Relation { first: relation.blocks - blocks, blocks, ..relation.clone() });
    }
    fit
}

/// First and last block of each piece.
fn pieces(relation: &Relation) -> impl Iterator<Item = (i64, i64)> {
    let end = relation.first + relation.blocks;
    let starts = (relation.first..end).step_by(PIECE_BLOCKS as usize);
    starts.map(move |first| (first, (first + PIECE_BLOCKS).min(end) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(name: &str, blocks: i64) -> Relation {
        Relation { oid: 1, name: name.to_owned(), first: 0, blocks }
    }

    #[test]
    fn what_fits_is_taken_in_order_and_the_next_in_part() {
        let all = [relation("pkey", 10), relation("index", 20), relation("table", 100), relation("aside", 5)];
        let fit = |room| {
            let fit = fitting(&all, room);
            fit.iter().map(|fit| (fit.name.clone(), fit.first, fit.blocks)).collect::<Vec<_>>()
        };
        assert_eq!(fit(0), []);
        assert_eq!(fit(30), [("pkey".to_owned(), 0, 10), ("index".to_owned(), 0, 20)]);
        assert_eq!(fit(31).last(), Some(&("table".to_owned(), 99, 1)));
        assert_eq!(fit(1000).len(), 4);
    }

    #[test]
    fn pieces_cover_every_block_once() {
        let cut = |first, blocks| pieces(&Relation { first, ..relation("table", blocks) }).collect::<Vec<_>>();
        assert_eq!(cut(0, 1), [(0, 0)]);
        assert_eq!(cut(0, 2048), [(0, 2047)]);
        assert_eq!(cut(7, 2049), [(7, 2054), (2055, 2055)]);
    }
}

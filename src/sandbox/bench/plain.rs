//! The plain copy: `copy … to stdout` into `copy … from stdin`, two tables at a time, no mapping, no snapshot, no account of the rows.
//!
//! What any tool that goes through SQL has to do at least; keys and indexes are built afterwards.

use super::BenchError;
use super::peers::{Peer, Stages};
use super::place::connect;
use super::{WORKERS, program};
use crate::database::sql::qualified;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

/// Tables, the largest first.
const TABLES: &str =
    "select c.relname::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
order by pg_table_size(c.oid) desc";

/// Copies every table of blue.
pub(super) async fn copy(peer: &Peer<'_>) -> Result<Stages, BenchError> {
    let mut stages = Stages::new();
    let mut begun = Instant::now();
    let mut stage = |name: &str| {
        stages.push((name.to_owned(), begun.elapsed().as_secs_f64()));
        begun = Instant::now();
    };
    peer.schema("pre-data").await?;
    stage("schema");
    let blue = connect(&peer.place.blue).await?;
    let rows = blue.query(TABLES, &[]).await.map_err(BenchError::sql("list blue's tables"))?;
    let tables = rows.iter().map(|row| row.get::<_, String>(0));
    let copies = futures_util::stream::iter(tables.map(|table| copy_table(peer, table)));
    copies.buffer_unordered(WORKERS).try_collect::<Vec<()>>().await?;
    stage("rows");
    peer.schema("post-data").await?;
    stage("indexes and keys");
    Ok(stages)
}

async fn copy_table(peer: &Peer<'_>, table: String) -> Result<(), BenchError> {
    let name = qualified("public", &table);
    let mut out = peer.place.client("psql", &peer.place.blue);
    out.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &format!("copy {name} to stdout")]);
    let mut into = peer.place.client("psql", peer.green);
    into.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &format!("copy {name} from stdin")]);
    program::pipe(out, into, "psql", peer.place.until).await
}

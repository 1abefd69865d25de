//! Rows of the log that a snapshot saw go, piece by piece. State-based: what a crash leaves is read and let go again.

use crate::database::sql::literal;
use tokio_postgres::{Client, Error};

const BLOCKS: &str =
    "select coalesce(pg_relation_size(to_regclass('cutover.touched')), 0) / current_setting('block_size')::bigint";
const SIZE: &str = "select coalesce(pg_total_relation_size(to_regclass('cutover.touched')), 0)";
/// Blocks of one delete: 32 MB.
const PIECE: i64 = 4096;

/// Deletes what `seen`, a snapshot as the server prints it, sees of the log; gives the bytes of the log. By the snapshot and not by any number,
/// since rows do not become visible in the order in which they are written. Losing a delete is harmless, so nobody waits for its flush.
pub(in crate::database) async fn let_go(client: &Client, seen: &str) -> Result<u64, Error> {
    let blocks: i64 = client.query_one(BLOCKS, &[]).await?.get(0);
    let seen = literal(seen);
    let mut first = 0;
    while first < blocks {
        let end = first + PIECE;
        let delete = format!(
            "set local synchronous_commit = off; delete from cutover.touched where ctid >= '({first},0)' and ctid < '({end},0)'
  and relation <> 0 and pg_visible_in_snapshot(xid, {seen})"
        );
        client.batch_execute(&delete).await?;
        first = end;
    }
    let size: i64 = client.query_one(SIZE, &[]).await?.get(0);
    Ok(size.max(0).cast_unsigned())
}

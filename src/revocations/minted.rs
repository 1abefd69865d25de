//! What an engine has issued since a moment: for the cost of leaving it. Reads only.

use super::shape::Shape;
use tokio_postgres::GenericClient;
use tokio_postgres::types::{ToSql, Type};

/// Clients named.
const NAMED: usize = 10;

/// Tokens issued since a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Minted {
    /// Access and refresh tokens.
    pub tokens: i64,
    /// The clients with most of them, and how many.
    pub by_client: Vec<(String, i64)>,
    /// Chains begun before that moment whose refresh token was used after it.
    pub refreshed: i64,
}

/// Counts what was issued at or after `since`, a time without zone in UTC as the engine writes it.
///
/// # Errors
/// When the server does not answer.
pub async fn minted(client: &impl GenericClient, shape: &Shape, since: &str) -> Result<Minted, tokio_postgres::Error> {
    let (Some(access), Some(refresh)) = (shape.access(), shape.refresh()) else { return Ok(Minted::default()) };
    let parameters = [(&since as &(dyn ToSql + Sync), Type::TEXT)];
    let by_client = format!(
        "select client_id::text, count(*) from (
           select client_id from {access} where requested_at >= $1::timestamp
           union all select client_id from {refresh} where requested_at >= $1::timestamp) t
         group by 1 order by 2 desc, 1"
    );
    let refreshed = format!(
        "select count(distinct new.request_id) from {refresh} new where new.requested_at >= $1::timestamp
           and exists (select from {refresh} old where old.request_id = new.request_id and old.requested_at < $1::timestamp)"
    );
    let mut by_client: Vec<(String, i64)> =
        client.query_typed(&by_client, &parameters).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    let rows = client.query_typed(&refreshed, &parameters).await?;
    let tokens = by_client.iter().map(|(_, tokens)| tokens).sum();
    by_client.truncate(NAMED);
    Ok(Minted { tokens, by_client, refreshed: rows.first().map_or(0, |row| row.get(0)) })
}

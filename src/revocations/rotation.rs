//! Why a token may be gone where its chain was served: rotated, or used up. Reads only.
//!
//! An engine that refreshes removes the tokens it replaces and writes others of the same request, in one transaction; an engine that
//! revokes keeps the refresh token switched off. Either way the request is still known. Where it is not, nothing explains the loss.

use super::shape::{Shape, ask};
use std::collections::BTreeSet;
use tokio_postgres::GenericClient;

/// Tables whose rows mean that something may still be used once: without the row it cannot be.
const USED_MARKS: [&str; 3] = ["hydra_oauth2_code", "hydra_oauth2_oidc", "hydra_oauth2_pkce"];

/// Whether a row that is gone from the table only ever makes things stricter.
#[must_use]
pub fn holds_used_marks(table: &str) -> bool {
    USED_MARKS.contains(&table)
}

/// Those of `requests` of which the database still holds a token of any kind.
///
/// # Errors
/// When the server refuses.
pub async fn known_chains(
    client: &impl GenericClient,
    shape: &Shape,
    requests: &[String],
) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let parts: Vec<String> = shape
        .tokens()
        .map(|table| format!("select request_id::text from {table} where request_id = any($1)"))
        .collect();
    if parts.is_empty() || requests.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = ask(client, &parts.join(" union "), &[&requests.to_vec()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

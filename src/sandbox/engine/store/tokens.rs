//! The five token tables, which have one shape in both versions, and the chain that a request id names.
//!
//! Everything that changes a chain takes the chain's advisory lock first, so that a revocation sees what a refresh under way issues.

use super::super::EngineVersion;
use super::super::fault::Fault;
use deadpool_postgres::{GenericClient, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A token table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Table {
    Access,
    Refresh,
    Code,
    Oidc,
    Pkce,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Access => "hydra_oauth2_access",
            Self::Refresh => "hydra_oauth2_refresh",
            Self::Code => "hydra_oauth2_code",
            Self::Oidc => "hydra_oauth2_oidc",
            Self::Pkce => "hydra_oauth2_pkce",
        }
    }
}

/// What is kept beside a token, as JSON text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Session {
    /// The user, or the client itself.
    #[serde(default)]
    pub(in super::super) subject: String,
    /// Expiry by kind of token (`access_token`, `refresh_token`, `authorize_code`).
    #[serde(default)]
    pub(in super::super) expires_at: BTreeMap<String, jiff::Timestamp>,
    /// What consent added for introspection.
    #[serde(default)]
    pub(in super::super) extra: serde_json::Value,
}

/// One row of a token table.
#[derive(Debug, Clone)]
pub(in super::super) struct TokenRow {
    pub(in super::super) signature: String,
    pub(in super::super) request_id: String,
    pub(in super::super) issued_at_s: i64,
    pub(in super::super) client_id: String,
    pub(in super::super) scope: String,
    pub(in super::super) granted_scope: String,
    pub(in super::super) form_data: String,
    pub(in super::super) session: Session,
    pub(in super::super) subject: String,
    pub(in super::super) active: bool,
    pub(in super::super) requested_audience: String,
    pub(in super::super) granted_audience: String,
    pub(in super::super) challenge_id: Option<String>,
}

impl TokenRow {
    /// Whether it is active and `kind` has not expired.
    pub(in super::super) fn is_live(&self, kind: &str) -> bool {
        let expired = self.session.expires_at.get(kind).is_some_and(|at| *at <= jiff::Timestamp::now());
        self.active && !expired
    }
}

/// Serialises everything that changes the chain, until the transaction ends.
pub(in super::super) async fn lock_chain(tx: &Transaction<'_>, request_id: &str) -> Result<(), Fault> {
    let text = "select pg_advisory_xact_lock(hashtextextended($1, 0))";
    tx.query_one(&tx.prepare_cached(text).await?, &[&request_id]).await?;
    Ok(())
}

/// Stores a token.
pub(in super::super) async fn insert(
    tx: &Transaction<'_>,
    version: EngineVersion,
    table: Table,
    row: &TokenRow,
) -> Result<(), Fault> {
    let text = format!(
        "insert into {} (signature, request_id, requested_at, client_id, scope, granted_scope, form_data, session_data, subject,
            active, requested_audience, granted_audience, challenge_id{})
         values ($1, $2, now() at time zone 'utc', $3, $4, $5, $6, $7, $8, true, $9, $10, $11{})",
        table.name(),
        version.nid_column(),
        version.nid_value()
    );
    let session = serde_json::to_string(&row.session).map_err(|error| Fault::Internal(error.to_string()))?;
    let statement = tx.prepare_cached(&text).await?;
    tx.execute(
        &statement,
        &[
            &row.signature,
            &row.request_id,
            &row.client_id,
            &row.scope,
            &row.granted_scope,
            &row.form_data,
            &session,
            &row.subject,
            &row.requested_audience,
            &row.granted_audience,
            &row.challenge_id,
        ],
    )
    .await?;
    Ok(())
}

/// The row stored under one of `signatures`, the first of them first.
pub(in super::super) async fn find<C: GenericClient>(
    client: &C,
    version: EngineVersion,
    table: Table,
    signatures: &[String],
) -> Result<Option<TokenRow>, Fault> {
    let text = format!(
        "select signature, request_id, extract(epoch from requested_at)::bigint, client_id, scope, granted_scope, form_data,
            session_data, subject, active, coalesce(requested_audience, ''), coalesce(granted_audience, ''), challenge_id
           from {} where signature = any ($1::text[]){} order by array_position($1::text[], signature::text) limit 1",
        table.name(),
        version.nid_filter("")
    );
    let statement = client.prepare_cached(&text).await?;
    let Some(row) = client.query_opt(&statement, &[&signatures]).await? else { return Ok(None) };
    Ok(Some(TokenRow {
        signature: row.get(0),
        request_id: row.get(1),
        issued_at_s: row.get(2),
        client_id: row.get(3),
        scope: row.get(4),
        granted_scope: row.get(5),
        form_data: row.get(6),
        session: serde_json::from_str(row.get(7)).unwrap_or_default(),
        subject: row.get(8),
        active: row.get(9),
        requested_audience: row.get(10),
        granted_audience: row.get(11),
        challenge_id: row.get(12),
    }))
}

/// Kills a chain: access tokens go, refresh tokens become inactive. The caller holds the chain's lock.
pub(in super::super) async fn kill_chain(
    tx: &Transaction<'_>,
    version: EngineVersion,
    request_id: &str,
) -> Result<(), Fault> {
    delete_by_request(tx, version, Table::Access, request_id).await?;
    let text =
        format!("update hydra_oauth2_refresh set active = false where request_id = $1{}", version.nid_filter(""));
    tx.execute(&tx.prepare_cached(&text).await?, &[&request_id]).await?;
    Ok(())
}

/// Marks one row as used.
pub(in super::super) async fn deactivate(
    tx: &Transaction<'_>,
    version: EngineVersion,
    table: Table,
    signature: &str,
) -> Result<(), Fault> {
    let text = format!("update {} set active = false where signature = $1{}", table.name(), version.nid_filter(""));
    tx.execute(&tx.prepare_cached(&text).await?, &[&signature]).await?;
    Ok(())
}

/// Removes the rows of a chain from one table.
pub(in super::super) async fn delete_by_request(
    tx: &Transaction<'_>,
    version: EngineVersion,
    table: Table,
    request_id: &str,
) -> Result<(), Fault> {
    let text = format!("delete from {} where request_id = $1{}", table.name(), version.nid_filter(""));
    tx.execute(&tx.prepare_cached(&text).await?, &[&request_id]).await?;
    Ok(())
}

/// Removes a client's access tokens; its refresh tokens stay.
pub(in super::super) async fn delete_access_of_client<C: GenericClient>(
    client: &C,
    version: EngineVersion,
    client_id: &str,
) -> Result<u64, Fault> {
    let text = format!("delete from hydra_oauth2_access where client_id = $1{}", version.nid_filter(""));
    Ok(client.execute(&client.prepare_cached(&text).await?, &[&client_id]).await?)
}

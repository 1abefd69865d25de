//! Assertions that clients have used: each is kept by the digest of its `jti` until it ends, and is refused as long as it is kept.

use super::super::EngineVersion;
use super::super::fault::Fault;
use deadpool_postgres::GenericClient;

/// Marks an assertion as used; `false` when it had been used before. Those whose time is over go at every use, as nobody else removes them.
pub(in super::super) async fn use_once<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    stored: &str,
    expires_at_s: i64,
) -> Result<bool, Fault> {
    let over = format!(
        "delete from hydra_oauth2_jti_blacklist where expires_at < now() at time zone 'utc'{}",
        version.nid_filter("")
    );
    db.execute(&db.prepare_cached(&over).await?, &[]).await?;
    let text = format!(
        "insert into hydra_oauth2_jti_blacklist (signature, expires_at{})
         values ($1, to_timestamp($2::bigint) at time zone 'utc'{}) on conflict do nothing",
        version.nid_column(),
        version.nid_value()
    );
    Ok(db.execute(&db.prepare_cached(&text).await?, &[&stored, &expires_at_s]).await? == 1)
}

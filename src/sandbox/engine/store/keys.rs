//! JSON Web Keys as they were put.

use super::super::EngineVersion;
use super::super::fault::Fault;
use deadpool_postgres::GenericClient;
use serde_json::Value;

/// The keys of one set, or of all sets, newest first.
pub(in super::super) async fn list<C: GenericClient>(
    client: &C,
    version: EngineVersion,
    set: Option<&str>,
) -> Result<Vec<Value>, Fault> {
    let text = format!(
        "select keydata from hydra_jwk where ($1::text is null or sid = $1){} order by created_at desc, kid",
        version.nid_filter("")
    );
    let rows = client.query(&client.prepare_cached(&text).await?, &[&set]).await?;
    Ok(rows.iter().filter_map(|row| serde_json::from_str(row.get(0)).ok()).collect())
}

/// Puts a key, in place of one of the same id.
pub(in super::super) async fn put<C: GenericClient>(
    client: &C,
    version: EngineVersion,
    set: &str,
    kid: &str,
    key: &Value,
) -> Result<(), Fault> {
    let text = format!(
        "insert into hydra_jwk (sid, kid, keydata{}) values ($1, $2, $3{})
         on conflict (sid, kid{}) do update set keydata = excluded.keydata",
        version.nid_column(),
        version.nid_value(),
        version.nid_column()
    );
    client.execute(&client.prepare_cached(&text).await?, &[&set, &kid, &key.to_string()]).await?;
    Ok(())
}

/// Removes a key, or a whole set.
pub(in super::super) async fn delete<C: GenericClient>(
    client: &C,
    version: EngineVersion,
    set: &str,
    kid: Option<&str>,
) -> Result<u64, Fault> {
    let text =
        format!("delete from hydra_jwk where sid = $1 and ($2::text is null or kid = $2){}", version.nid_filter(""));
    Ok(client.execute(&client.prepare_cached(&text).await?, &[&set, &kid]).await?)
}

//! How long the tokens of one client live, where that was set; by grant and kind of token, in nanoseconds.

use super::super::EngineVersion;
use super::super::fault::Fault;
use deadpool_postgres::GenericClient;
use std::collections::BTreeMap;
use std::time::Duration;

/// The columns, which are also the names in the API.
pub(in super::super) const NAMES: [&str; 12] = [
    "authorization_code_grant_access_token_lifespan",
    "authorization_code_grant_id_token_lifespan",
    "authorization_code_grant_refresh_token_lifespan",
    "client_credentials_grant_access_token_lifespan",
    "implicit_grant_access_token_lifespan",
    "implicit_grant_id_token_lifespan",
    "jwt_bearer_grant_access_token_lifespan",
    "password_grant_access_token_lifespan",
    "password_grant_refresh_token_lifespan",
    "refresh_token_grant_access_token_lifespan",
    "refresh_token_grant_id_token_lifespan",
    "refresh_token_grant_refresh_token_lifespan",
];

/// Sets all of a client's; those that are not named go back to the engine's own. `false` when there is no such client.
pub(in super::super) async fn set<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    id: &str,
    lives: &BTreeMap<&str, Duration>,
) -> Result<bool, Fault> {
    let value = |name: &&str| {
        let nanoseconds = lives.get(*name).map(|life| i64::try_from(life.as_nanos()).unwrap_or(i64::MAX));
        format!("{name} = {}", nanoseconds.map_or("null".to_owned(), |nanoseconds| nanoseconds.to_string()))
    };
    let all = NAMES.iter().map(value).collect::<Vec<_>>().join(", ");
    let text = format!("update hydra_client set {all} where id = $1{}", version.nid_filter(""));
    Ok(db.execute(&text, &[&id]).await? == 1)
}

/// How long a token of this grant and kind lives for a client, when that was set.
pub(in super::super) async fn of<C: GenericClient>(
    db: &C,
    version: EngineVersion,
    id: &str,
    name: &'static str,
) -> Result<Option<Duration>, Fault> {
    let text = format!("select {name} from hydra_client where id = $1{}", version.nid_filter(""));
    let row = db.query_opt(&db.prepare_cached(&text).await?, &[&id]).await?;
    let nanoseconds = row.and_then(|row| row.get::<_, Option<i64>>(0));
    Ok(nanoseconds.and_then(|nanoseconds| u64::try_from(nanoseconds).ok()).map(Duration::from_nanos))
}

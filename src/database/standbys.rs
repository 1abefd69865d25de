//! How far a server's standbys are behind: one question, for the copy and for keeping level. Reads only.

use std::time::Duration;
use tokio_postgres::GenericClient;

/// Only a login that may read statistics is told; `check` asks for that when a plan wants to wait.
const BEHIND: &str = "select coalesce(nullif(application_name, ''), 'unnamed'), extract(epoch from replay_lag)::float8
from pg_catalog.pg_stat_replication where replay_lag > make_interval(secs => $1) order by replay_lag desc limit 1";

/// The standby that is furthest behind, when it is by more than `most`, in words.
pub(super) async fn behind(
    client: &impl GenericClient,
    most: Duration,
) -> Result<Option<String>, tokio_postgres::Error> {
    let row = client.query_opt(BEHIND, &[&most.as_secs_f64()]).await?;
    Ok(row.map(|row| {
        let (name, behind): (String, f64) = (row.get(0), row.get(1));
        format!("standby {name} is {behind:.1} s behind")
    }))
}

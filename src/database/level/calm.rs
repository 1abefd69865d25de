//! Whether the side that serves has ease enough for a batch: its standbys, and a question of the plan's own.

use super::LevelError;
use crate::database::standbys;
use crate::plan::{Level, Load, Side};
use tokio_postgres::Client;

/// The plan's question may only read, and not for long: it must not become the load for which it looks.
const ASK: &str = "begin read only; set local statement_timeout = '2s'";

/// Why the next batch had better wait; none when the side is at ease or the plan sets no limits.
///
/// # Errors
/// When the side does not answer, or the plan's question has no single number for an answer.
pub async fn unrest(client: &Client, side: Side, level: &Level) -> Result<Option<String>, LevelError> {
    if let Some(most) = level.replica_lag {
        let behind = standbys::behind(client, most).await;
        if let Some(behind) = behind.map_err(LevelError::on(side, "look how far standbys are behind"))? {
            return Ok(Some(format!("{behind} {side}")));
        }
    }
    let Some(load) = &level.load else { return Ok(None) };
    let found = ask(client, load).await.map_err(LevelError::on(side, "ask for the load, with level.load.query,"))?;
    Ok(found
        .filter(|found| *found > load.most)
        .map(|found| format!("the load on {side} is {found}, over {}", load.most)))
}

async fn ask(client: &Client, load: &Load) -> Result<Option<f64>, tokio_postgres::Error> {
    client.batch_execute(ASK).await?;
    let answer = client
        .query_one(&format!("select (select q.answer::float8 from ({}) as q(answer))", load.query.text), &[])
        .await;
    client.batch_execute("rollback").await?;
    answer.map(|row| row.get(0))
}

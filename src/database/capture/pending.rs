//! How much waits to be consumed, for a person to see before anything is done about it. Consumes nothing.

use super::{Capture, CaptureError};
use crate::plan::CaptureMethod;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

/// Inserts, updates and deletes; a message's first byte is its kind.
const PENDING: &str = "select count(*) from pg_logical_slot_peek_binary_changes($1::text::name, null, $2, 'proto_version', '1', 'publication_names', $1::text)
where pg_catalog.chr(pg_catalog.get_byte(data, 0)) in ('I', 'U', 'D')";
const LOGGED: &str = "select count(*) from (select from cutover.touched where relation <> 0 limit $1::int) waiting";

impl Capture {
    /// Changed rows that wait in a slot, or touched keys in a trigger log, counted up to about `most`.
    ///
    /// # Errors
    /// When the capture is gone or the server does not answer.
    pub async fn pending_changes(&self, client: &impl GenericClient, most: i32) -> Result<i64, CaptureError> {
        self.count(client, most).await.map_err(self.server("count what waits to be consumed"))
    }

    async fn count(&self, client: &impl GenericClient, most: i32) -> Result<i64, tokio_postgres::Error> {
        let row = match self.method {
            CaptureMethod::Slot => client.query_one(PENDING, &[&self.name(), &most]).await?,
            CaptureMethod::Triggers => client.query_one(LOGGED, &[&most]).await?,
        };
        Ok(row.get(0))
    }

    /// The same for a glance: none when it takes longer than `patience`, as behind a writer that has been open for long, or when a
    /// batch is reading the slot.
    ///
    /// # Errors
    /// When the capture is gone or the server does not answer.
    pub async fn glance_at_pending(
        &self,
        client: &Client,
        most: i32,
        patience: Duration,
    ) -> Result<Option<i64>, CaptureError> {
        let limit = format!("set statement_timeout = {}", patience.as_millis().max(1));
        client.batch_execute(&limit).await.map_err(self.server("set a time-out"))?;
        let counted = self.count(client, most).await;
        client.batch_execute("reset statement_timeout").await.map_err(self.server("reset a time-out"))?;
        match counted {
            Err(error) if matches!(error.code(), Some(&SqlState::QUERY_CANCELED | &SqlState::OBJECT_IN_USE)) => {
                Ok(None)
            }
            other => Ok(Some(other.map_err(self.server("count what waits to be consumed"))?)),
        }
    }
}

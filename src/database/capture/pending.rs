//! How much waits in a slot, for a person to see before anything is done about it. Consumes nothing.

use super::{Capture, CaptureError};
use tokio_postgres::GenericClient;

/// Inserts, updates and deletes; a message's first byte is its kind.
const PENDING: &str = "select count(*) from pg_logical_slot_peek_binary_changes($1::text::name, null, $2, 'proto_version', '1', 'publication_names', $1::text)
where pg_catalog.chr(pg_catalog.get_byte(data, 0)) in ('I', 'U', 'D')";

impl Capture {
    /// Changed rows that wait in the slot, counted up to about `most`.
    ///
    /// # Errors
    /// When the slot is gone or the server does not answer.
    pub async fn pending_changes(&self, client: &impl GenericClient, most: i32) -> Result<i64, CaptureError> {
        let row = client.query_one(PENDING, &[&self.name(), &most]).await;
        Ok(row.map_err(self.server("count what waits in the slot"))?.get(0))
    }
}

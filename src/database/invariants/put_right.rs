//! A repair of green's rows, in a transaction of the caller's: what it changes is counted and capped before anybody commits it.

use super::error::{InvariantError, on};
use super::prepared;
use crate::database::sql::qualified;
use crate::plan::{Repair, Side};
use serde::{Deserialize, Serialize};
use tokio_postgres::GenericClient;

/// What a repair has changed, or would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Rows changed.
    pub rows: u64,
    /// Rows of its table before.
    pub of: u64,
}

impl Changed {
    /// Why it must not be committed, if it is above its cap.
    #[must_use]
    pub fn above(&self, repair: &Repair) -> Option<String> {
        let percent = self.rows as f64 * 100.0 / self.of.max(1) as f64;
        let is_above = self.rows > repair.cap_rows || percent > repair.cap_percent;
        let (rows, most) = (repair.cap_rows, repair.cap_percent);
        is_above.then(|| format!("{}, and its cap is {rows} rows and {most} %", self.words(repair)))
    }

    /// In words, with the table.
    #[must_use]
    pub fn words(&self, repair: &Repair) -> String {
        format!("repair {} changes {} of {} rows of {}", repair.name, self.rows, self.of, repair.table)
    }
}

/// Runs a repair. Nothing of it stands until the caller commits.
///
/// # Errors
/// When green refuses it; the transaction is lost then.
pub async fn put_right(transaction: &impl GenericClient, repair: &Repair) -> Result<Changed, InvariantError> {
    let count = format!("select count(*) from {}", qualified(&repair.table.schema, &repair.table.name));
    let row = transaction.query_one(&count, &[]).await;
    let of: i64 = row.map_err(on("count the rows of a repair's table", Side::Green))?.get(0);
    let name = format!("{} (its repair {})", repair.invariant, repair.name);
    let statement = prepared(&name, Side::Green, &repair.sql.text, transaction).await?;
    let rows = transaction.execute(&statement, &[]).await;
    let rows = rows.map_err(|source| InvariantError::Asked { name, side: Side::Green, source })?;
    Ok(Changed { rows, of: of.unsigned_abs() })
}

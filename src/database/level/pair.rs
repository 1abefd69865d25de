//! Both sides as of one moment: green, and a snapshot of blue that others can look through.
//!
//! Owns how such a moment comes to be: exported first, and then a batch is made for it. While green is closed only the worker writes it, so until its
//! next batch or replay green is what the mapping gives of blue at that moment; whoever compares the two meanwhile needs no patience and
//! finds no false difference. What stands apart is only what [`Reapply`](super::Reapply) made stricter.

use super::{LevelError, Worker};
use crate::database::copy::ExportedSnapshot;
use crate::plan::TableName;

impl Worker {
    /// Exports a moment of the source, for [`Worker::batch_at`]; it lasts as long as the value. Meanwhile vacuum removes no row that it
    /// sees, and whoever alters a captured table waits: let it go soon.
    ///
    /// # Errors
    /// When the source does not answer, or somebody is altering a captured table; nothing was changed.
    pub async fn moment(&self) -> Result<ExportedSnapshot, LevelError> {
        let names: Vec<TableName> = self.tables.iter().map(|table| table.name.clone()).collect();
        Ok(ExportedSnapshot::export(&self.source_url, self.capture.side.as_str(), &names).await?)
    }
}

//! Letting fall what hung on deleted rows, table after table, as the target's own `on delete` rules say.

use super::LevelError;
use crate::database::apply::{Fall, Falls};
use crate::database::catalog::Catalog;
use crate::plan::{Side, TableName};
use tokio_postgres::Transaction;

/// Starts from rows taken away, by table and temporary table; ends when nothing more falls. Gives the number of rows that fell; those
/// that let go are not counted.
///
/// # Errors
/// `ForeignKey` when a row that refuses still references one that is gone.
pub(super) async fn let_fall(
    target: &Transaction<'_>,
    side: Side,
    falls: &Falls,
    catalog: &Catalog,
    mut gone: Vec<(TableName, String)>,
) -> Result<u64, LevelError> {
    let (mut count, mut refusing) = (0, Vec::new());
    while let Some((parent, rows)) = gone.pop() {
        for fall in falls.caused_by(catalog, &parent, &rows) {
            let Some(statement) = &fall.statement else {
                refusing.push(fall);
                continue;
            };
            let changed = target.execute(statement, &[]).await;
            let changed = changed.map_err(LevelError::on(side, "let fall what hung on deleted rows"))?;
            if let Some(fallen) = fall.fallen.filter(|_| changed > 0) {
                count += changed;
                gone.push((fall.child, fallen));
            }
        }
    }
    for fall in &refusing {
        require_none(target, side, fall).await?;
    }
    Ok(count)
}

async fn require_none(target: &Transaction<'_>, side: Side, fall: &Fall) -> Result<(), LevelError> {
    let row = target.query_opt(&fall.check, &[]).await.map_err(LevelError::on(side, "check a foreign key"))?;
    let Some(row) = row else { return Ok(()) };
    let (table, constraint) = (fall.child.clone(), fall.constraint.clone());
    Err(LevelError::ForeignKey { table, constraint, sample: row.get(0) })
}

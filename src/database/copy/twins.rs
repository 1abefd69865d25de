//! Rows of one key that were read at two moments of blue: all but one are taken away, and the key is derived anew by the first batch.
//!
//! Which of them stays does not matter: a row that was read twice had moved in between, so it was touched. The key is noted all the same,
//! so that a mapping which gives two rows for one key is found and named there and not hidden here.

use super::{CopyError, green_name, noted};
use crate::database::mapping::TableMapping;
use crate::database::repair;
use crate::database::sql::ident;
use crate::database::term::{Term, hold};
use tokio_postgres::Client;

/// Takes a table's twins away, in one transaction with the note of it.
pub(super) async fn take_away(green: &mut Client, term: &Term, table: &TableMapping) -> Result<(), CopyError> {
    let failed = CopyError::server("look for rows read twice in", &table.target);
    let transaction = green.transaction().await.map_err(&failed)?;
    hold(&transaction, term).await?;
    let taken: i64 = transaction.query_one(&sql(table), &[]).await.map_err(&failed)?.get(0);
    noted::taken(&transaction, &table.target, taken).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)
}

fn sql(table: &TableMapping) -> String {
    let key: Vec<String> = table.key.iter().map(|column| ident(&column.name)).collect();
    let target = green_name(table);
    format!(
        "with twin as (delete from {target} g using (
  select tableoid as leaf, ctid as place, row_number() over (partition by {} order by tableoid, ctid) as at from {target}) t
  where g.tableoid = t.leaf and g.ctid = t.place and t.at > 1 returning g.*),
repaired as ({}) select count(*) from twin",
        key.join(", "),
        repair::add_from("twin", &table.target, &table.key)
    )
}

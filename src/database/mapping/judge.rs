//! Has the source judge a resolved mapping by preparing every statement it will be asked. Reads only.

use super::{Mapping, MappingProblem};
use crate::plan::Side;
use tokio_postgres::Client;

/// What the source, which is `side`, refuses of the mapping: a column that does not exist, a type that does not fit, a predicate that is none.
///
/// # Errors
/// When the source does not answer.
pub async fn judge(
    mapping: &Mapping,
    side: Side,
    source: &Client,
) -> Result<Vec<MappingProblem>, tokio_postgres::Error> {
    let mut problems = Vec::new();
    for table in &mapping.tables {
        let mut statements = vec![("its select", &table.select), ("its cleanup rules", &table.count_sql)];
        statements
            .extend(table.touched_by.iter().map(|touch| ("the way from a touched row to its key", &touch.keys_sql)));
        for (what, statement) in statements {
            let Err(error) = source.prepare(statement).await else { continue };
            let Some(refused) = error.as_db_error() else { return Err(error) };
            problems.push(MappingProblem {
                table: table.target.clone(),
                what: format!("{side} refuses {what}: {}", refused.message()),
                hint: match side {
                    Side::Blue => "correct carry: or cleanup: for this table".to_owned(),
                    Side::Green => "correct reverse: for this table".to_owned(),
                },
            });
        }
    }
    Ok(problems)
}

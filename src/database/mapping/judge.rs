//! Has the source judge a resolved mapping by preparing every statement it will be asked. Leaves nothing.

use super::{Mapping, MappingProblem, TableMapping};
use crate::plan::Side;
use tokio_postgres::Client;

const UNSTEADY: &str = "select p.oid::regprocedure::text from pg_depend d
join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
join pg_proc p on d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid
where r.ev_class = 'pg_temp.cutover_judged'::regclass and p.provolatile <> 'i' order by 1 limit 1";

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
        problems.extend(unsteady(table, side, source).await?);
    }
    Ok(problems)
}

/// A function of the source's own that the mapping calls and that is not declared immutable: a batch would give another row than the
/// copy did. The server's own functions are told by name when the plan is read. A view that is never committed shows what is called.
async fn unsteady(
    table: &TableMapping,
    side: Side,
    source: &Client,
) -> Result<Option<MappingProblem>, tokio_postgres::Error> {
    let viewed = source.batch_execute(&format!("begin; create temp view cutover_judged as {}", table.select)).await;
    let called = match viewed {
        Ok(()) => source.query_opt(UNSTEADY, &[]).await,
        // What is wrong with the select has been told; who may make no view cannot be told more.
        Err(error) if error.as_db_error().is_some() => Ok(None),
        Err(error) => return Err(error),
    };
    source.batch_execute("rollback").await?;
    Ok(called?.map(|row| MappingProblem {
        table: table.target.clone(),
        what: format!("the mapping calls {}, which is not immutable on {side}", row.get::<_, &str>(0)),
        hint: "say it with the row's columns, or declare the function immutable if it is".to_owned(),
    }))
}

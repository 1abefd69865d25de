//! A row that was killed on green because of a revocation is no difference, whatever blue's engine has made of it; a lost one is.

use crate::level::Stage;
use cutover::database::level::{Answer, Reapply, TouchedTable};
use cutover::plan::{CaptureMethod, TableName};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Transaction;

/// Revokes the chain of one request, as an event of the queue would, and switches one token off.
struct Revoked;

impl Reapply for Revoked {
    fn reapply<'a>(&'a self, target: &'a Transaction<'a>, _touched: &'a [TouchedTable<'a>]) -> Answer<'a, u64> {
        Box::pin(async {
            let gone = target.execute("delete from token where request_id = 'r1'", &[]).await?;
            Ok(gone + target.execute("update token set active = false where signature = 't9' and active", &[]).await?)
        })
    }
}

#[tokio::test]
async fn a_batch_itself_says_which_rows_are_not_what_it_would_make_of_them() {
    let (stage, mut worker) = Stage::filled_by(CaptureMethod::Slot).await;
    let moment = worker.moment().await.expect("a moment of blue");
    worker.batch_at(Some(&moment), &Revoked).await.expect("a batch");
    let green = &stage.pair.green;
    let planted = "set session_replication_role = replica; delete from token where signature = 't20'; update token set amount = 1.00 where signature = 't21'; insert into client (id, name) values ('mine', 'x')";
    green.execute(planted).await;
    let rows = "select md5(string_agg(t::text, '|' order by signature)) || (select count(*) from client) from token t";
    let before: String = green.ask(rows).await;

    let name = |table: &str| TableName { schema: "public".into(), name: table.into() };
    let keys = |names: &[&str]| names.iter().map(|key| vec![(*key).to_owned()]).collect::<Vec<_>>();
    let asked = BTreeMap::from([
        (name("token"), keys(&["t3", "t4", "t9", "t20", "t21", "t22"])),
        (name("client"), keys(&["mine", "c1"])),
    ]);
    let apart = worker.apart(&moment, &asked, &Revoked).await.expect("a batch that is rolled back");
    let set = |names: &[&str]| keys(names).into_iter().collect::<BTreeSet<_>>();
    let wanted = BTreeMap::from([(name("token"), set(&["t20", "t21"])), (name("client"), set(&["mine"]))]);
    assert_eq!(apart, wanted, "t3, t4 and t9 were revoked, t22 and c1 are right");
    assert_eq!(green.ask::<String>(rows).await, before, "nothing was changed");

    // Without the revocations the same rows are lost ones.
    let apart = worker.apart(&moment, &asked, &()).await.expect("a batch that is rolled back");
    assert_eq!(apart[&name("token")], set(&["t3", "t4", "t9", "t20", "t21"]));
    worker.batch(&Revoked).await.expect("batches go on");
}

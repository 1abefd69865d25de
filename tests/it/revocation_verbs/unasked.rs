//! Chains that died though nobody revoked them through a door: found in touched rows, counted once.

use crate::harness::Pair;
use crate::revocations::{LIMIT, captured, install, tables};
use cutover::plan::Side;
use cutover::revocations::hydra::Knock;
use cutover::revocations::unasked::{Unasked, dead_chains};
use cutover::revocations::{Chain, Event, Known, Outcome, Shape, TouchedRows};
use uuid::Uuid;

#[tokio::test]
async fn revocation_verbs_count_chains_that_nobody_revoked_through_a_door() {
    let pair = Pair::shared().await;
    tables::create(&pair).await;
    let dead = "delete from hydra_oauth2_access where request_id in ('reused', 'explained');
update hydra_oauth2_refresh set active = false where request_id in ('reused', 'explained') or signature = 'rotated-refresh'";
    for name in ["alive", "rotated", "reused", "explained"] {
        pair.green.execute(&tables::grant(name, name, "app", "ann")).await;
    }
    pair.green.execute(&(tables::grant("rotated", "again", "app", "ann") + dead)).await;
    let green = pair.green.client().await;
    let shape = Shape::detect(&green).await.expect("the catalog answers");
    let rows = [TouchedRows {
        table: "\"public\".\"hydra_oauth2_refresh\"".to_owned(),
        name: "hydra_oauth2_refresh".to_owned(),
        from: "hydra_oauth2_refresh t".to_owned(),
    }];
    let chain = Chain { requests: ["explained".to_owned()].into(), ..Chain::default() };
    let what = captured(&Knock::Token { signatures: Vec::new() }, chain);
    let (id, captured_at) = (Uuid::new_v4(), jiff::Timestamp::now());
    let event = Event { id, incarnation: Uuid::nil(), seq: 1, captured_at, what, outcome: Outcome::Executed };
    let found = dead_chains(&green, &shape, &rows).await.expect("green answers");
    let mut known = Known::default();
    known.learn(&[event]);
    let found = known.unexplained(found);
    assert_eq!(found.iter().map(|chain| chain.request.as_str()).collect::<Vec<_>>(), ["reused"], "{found:?}");

    (install(&pair))().await.expect("our tables");
    let unasked = Unasked::new(&pair.control.url(), "plan", LIMIT);
    for _ in 0..2 {
        unasked.note(Side::Blue, &found).await.expect("control answers");
    }
    let (count, named) = unasked.told().await.expect("control answers");
    assert_eq!((count, named.as_slice()), (1, ["blue: request reused of client app".to_owned()].as_slice()));
}

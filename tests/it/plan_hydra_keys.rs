//! The example plan's way out, on the stand-in's own schemas: keys and a trusted issuer that are removed on blue while it is captured are gone on green.

use crate::harness::Pair;
use crate::level::{batch, for_both};
use crate::plan_hydra::carried;
use cutover::database::capture::Capture;
use cutover::database::level::{LevelSetup, Limits, Worker, begin_progress};
use cutover::database::mapping::Mapping;
use cutover::database::term::{self, Term};
use cutover::plan::{CaptureMethod, Side};
use std::time::Duration;
use uuid::Uuid;

for_both!(a_key_removed_on_blue_is_gone_on_green_with_whoever_was_trusted_by_it);

/// Every key of a side.
const KEYS: &str = "select coalesce(string_agg(concat_ws(' ', sid, kid, keydata), '; ' order by sid collate \"C\", kid collate \"C\"), '') from hydra_jwk";
const REMOVED: &str = "select count(*) from hydra_jwk where sid in ('hydra.jwt.access-token', 'partner')";
const TRUSTED: &str = "select count(*) from hydra_oauth2_trusted_jwt_bearer_issuer";
/// A set goes, another gets a key more, and the key of the one trusted issuer is removed: blue takes the issuer along, a batch fires no cascade.
const ON_BLUE: &str = "delete from hydra_jwk where sid = 'hydra.jwt.access-token';
insert into hydra_jwk (sid, kid, keydata) values ('hydra.openid.id-token', 'public:next', '{}');
delete from hydra_jwk where sid = 'partner'";

/// Captures blue and keeps green level with it.
async fn worker(pair: &Pair, mapping: Mapping, method: CaptureMethod) -> Worker {
    let term = Term { term: 2, nonce: Uuid::new_v4() };
    let (mut blue, mut green) = (pair.blue.client().await, pair.green.client().await);
    for side in [&blue, &green] {
        term::install(side, &term).await.expect("the term is installed");
    }
    let (capture, bound) = (Capture { run: Uuid::new_v4(), side: Side::Blue, method }, Duration::from_secs(30));
    let captured = capture.start(&mut blue, &term, &mapping.captured(), bound).await.expect("capture starts");
    begin_progress(&mut green, &term, &captured).await.expect("the position is stored");
    let limits = Limits { lock: bound, statement: bound, page_keys: 1000 };
    let setup = LevelSetup { source: pair.blue.url(), target: pair.green.url(), capture, mapping, term, limits };
    Worker::open(setup).await.expect("the worker opens")
}

async fn a_key_removed_on_blue_is_gone_on_green_with_whoever_was_trusted_by_it(method: CaptureMethod) {
    let (pair, mapping) = carried().await;
    let mut worker = worker(&pair, mapping, method).await;
    let keys = async || (pair.blue.ask::<String>(KEYS).await, pair.green.ask::<String>(KEYS).await);
    let before = keys().await;
    assert_eq!(before.0, before.1, "carried");
    let there = (pair.green.ask::<i64>(REMOVED).await, pair.green.ask::<i64>(TRUSTED).await);
    assert_eq!(there, (2, 1), "green has what is about to go");

    pair.blue.application().await.batch_execute(ON_BLUE).await.expect("blue's engine writes");
    assert_eq!(pair.blue.ask::<i64>(TRUSTED).await, 0, "the issuer has gone with its key");
    while batch(&mut worker).await.keys > 0 {}

    let gone = (pair.green.ask::<i64>(REMOVED).await, pair.green.ask::<i64>(TRUSTED).await);
    assert_eq!(gone, (0, 0), "green accepts nothing that they sign");
    let after = keys().await;
    assert_eq!(after.0, after.1);
    assert!(after.1.contains("public:next") && after.1 != before.1, "and has the new one: {}", after.1);
}

//! A gateway that was cut off: nobody waits for its barrier, what it queued counts, and what it would queue is refused.

use super::{LIMIT, captured, ledger, producer, token};
use crate::harness::Pair;
use cutover::revocations::{Chain, Drained, drained, end_producer};

#[tokio::test]
async fn nobody_waits_for_the_barrier_of_a_gateway_that_was_cut_off_and_what_it_queued_counts() {
    let pair = Pair::shared().await;
    let (east, west) = (producer(&pair, "east"), producer(&pair, "west"));
    let receipt = west.append(captured(&token("a.b"), Chain::default())).await.expect("it is queued");
    east.barrier(2).await.expect("east's barrier");
    let ask = async |gateways: &[&str]| {
        let gateways: Vec<String> = gateways.iter().map(|name| (*name).to_owned()).collect();
        match drained(&ledger(&pair), 2, &gateways).await.expect("control answers") {
            Drained::Yes => Vec::new(),
            Drained::No(reasons) => reasons,
        }
    };
    let before = ask(&["east", "west"]).await;
    assert!(before.iter().any(|reason| reason.contains("west") && reason.contains("barrier")), "{before:?}");
    end_producer(&pair.control.url(), "plan", "west", LIMIT).await.expect("it is ended");
    let after = ask(&["east"]).await;
    assert_eq!(after, ["1 revocations are not replayed", "1 revocations are not proved"], "what it queued counts");

    // Not dead after all: it is refused as the one it was, and whatever it begins anew is waited for.
    assert!(west.barrier(2).await.is_err(), "an ended incarnation may not declare anything");
    if let Ok(late) = west.append(captured(&token("c.d"), Chain::default())).await {
        assert_ne!(late.incarnation, receipt.incarnation);
        assert!(ask(&["east"]).await.iter().any(|reason| reason.contains("west") && reason.contains("barrier")));
    }
}

//! Whether the queue is drained: every producer's barrier seen, no number missing, nothing pending, dead or unproved. Reads only.

use super::arrivals::Standing;
use super::error::RevocationError;
use super::ledger::{Ledger, Unfinished};
use super::queue::Stillness;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Whether the queue is drained for an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// Every producer's barrier stands, nothing is missing, pending, dead or unproved.
    Yes,
    /// It is not, for these reasons.
    No(Vec<String>),
}

/// Between two looks while messages of an outside queue are on their way.
const PAUSE: Duration = Duration::from_millis(100);

/// Judges the queue under the hold of `epoch`, after all of it was taken into control; `gateways` are the names that must have written a
/// barrier.
///
/// # Errors
/// When control or the queue does not answer: then nothing is drained.
pub async fn drained(ledger: &Ledger, epoch: i64, gateways: &[String]) -> Result<Drained, RevocationError> {
    let stillness = ledger.collect().await?;
    let producers = ledger.producers(epoch).await?;
    let unfinished = ledger.unfinished().await?;
    Ok(judge(&producers, &unfinished, gateways, stillness))
}

/// Waits until every gateway's barrier for `epoch`, and everything numbered before it, has arrived in control; not longer than `limit`.
/// A queue that proves its emptiness is not waited for. What is missing at the end is for [`drained`] to say.
///
/// # Errors
/// When control or the queue does not answer.
pub async fn arrived(ledger: &Ledger, epoch: i64, gateways: &[String], limit: Duration) -> Result<(), RevocationError> {
    let end = Instant::now() + limit;
    loop {
        let stillness = ledger.collect().await?;
        let missing = missing(&ledger.producers(epoch).await?, gateways, stillness);
        if missing.is_empty() || stillness != Stillness::Unprovable || Instant::now() > end {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// What is known to be missing where no gateway can be asked for a barrier: numbers that are skipped, ends that nobody closed.
///
/// # Errors
/// When control or the queue does not answer.
pub async fn gaps(ledger: &Ledger) -> Result<Vec<String>, RevocationError> {
    let stillness = ledger.collect().await?;
    let producers = ledger.producers(0).await?;
    Ok(producers.iter().filter_map(|producer| incomplete(producer, stillness)).collect())
}

/// What may not have arrived under the hold of `epoch`, where nothing is replayed.
///
/// # Errors
/// When control or the queue does not answer: then anything may.
pub async fn on_their_way(ledger: &Ledger, epoch: i64, gateways: &[String]) -> Result<Vec<String>, RevocationError> {
    let stillness = ledger.collect().await?;
    Ok(not_here(&ledger.producers(epoch).await?, gateways, stillness))
}

fn not_here(producers: &[Standing], gateways: &[String], stillness: Stillness) -> Vec<String> {
    let mut reasons = missing(producers, gateways, stillness);
    if let Stillness::Waiting(messages) = stillness {
        reasons.push(format!("{messages} messages wait in the queue"));
    }
    reasons
}

fn judge(producers: &[Standing], unfinished: &Unfinished, gateways: &[String], stillness: Stillness) -> Drained {
    let mut reasons = not_here(producers, gateways, stillness);
    let Unfinished { not_replayed, not_proved, dead } = *unfinished;
    let waiting = [(not_replayed, "not replayed"), (dead, "dead"), (not_proved, "not proved")];
    reasons.extend(waiting.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} revocations are {word}")));
    if reasons.is_empty() { Drained::Yes } else { Drained::No(reasons) }
}

/// What may still be on its way, gateway by gateway.
fn missing(producers: &[Standing], gateways: &[String], stillness: Stillness) -> Vec<String> {
    let mut reasons: Vec<String> =
        producers.iter().filter_map(|producer| producer_objection(producer, stillness)).collect();
    for gateway in gateways {
        if !producers.iter().any(|producer| producer.gateway == *gateway && !producer.is_ended) {
            reasons.push(format!("gateway {gateway} has never registered as a producer"));
        }
    }
    reasons
}

fn producer_objection(producer: &Standing, stillness: Stillness) -> Option<String> {
    let Standing { gateway, incarnation, .. } = producer;
    if producer.is_ended || producer.closed.is_some() {
        return incomplete(producer, stillness);
    }
    incomplete(producer, stillness).or_else(|| match producer.barrier {
        None => Some(format!("gateway {gateway} ({incarnation}) has not written its barrier")),
        Some(barrier) if producer.last_event > barrier => {
            let event = producer.last_event;
            Some(format!("gateway {gateway} ({incarnation}): barrier at {barrier}, a revocation at {event}"))
        }
        Some(_) => None,
    })
}

/// Whether numbers are missing, or may be.
fn incomplete(producer: &Standing, stillness: Stillness) -> Option<String> {
    let Standing { gateway, incarnation, .. } = producer;
    if producer.is_ended && producer.is_waived {
        return None;
    }
    let last = producer.closed.unwrap_or(producer.last);
    if producer.count != last || (producer.count > 0 && producer.first != 1) {
        return Some(format!("gateway {gateway} ({incarnation}): {} messages up to number {last}", producer.count));
    }
    // Its last messages may be anywhere between there and here, unless the queue proves that nothing is.
    let is_open = producer.is_ended && producer.closed.is_none() && stillness == Stillness::Unprovable;
    is_open.then(|| {
        format!(
            "gateway {gateway} ({incarnation}) has ended without saying where, and its queue cannot prove that nothing of it is on its \
             way: start that gateway again with its spool file; without the file only a named waiver settles it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn producer(barrier: Option<i64>, count: i64, last: i64) -> Standing {
        let first = i64::from(count > 0);
        let incarnation = Uuid::nil();
        let last_event = if barrier == Some(last) { last - 1 } else { last };
        let gateway = "engine".into();
        Standing {
            gateway,
            incarnation,
            is_ended: false,
            barrier,
            closed: None,
            count,
            first,
            last,
            last_event,
            is_waived: false,
        }
    }

    fn ended(closed: Option<i64>, count: i64, last: i64) -> Standing {
        Standing { is_ended: true, closed, ..producer(None, count, last) }
    }

    fn reasons_of(producers: &[Standing], unfinished: Unfinished, stillness: Stillness) -> usize {
        match judge(producers, &unfinished, &["engine".to_owned()], stillness) {
            Drained::Yes => 0,
            Drained::No(reasons) => reasons.len(),
        }
    }

    fn reasons(producers: &[Standing], unfinished: Unfinished) -> usize {
        reasons_of(producers, unfinished, Stillness::Empty)
    }

    #[test]
    fn a_queue_is_drained_only_when_nothing_can_be_missing() {
        let quiet = Unfinished::default();
        assert_eq!(reasons(&[producer(Some(4), 4, 4)], quiet), 0);
        assert_eq!(reasons(&[producer(None, 3, 3)], quiet), 1, "no barrier");
        assert_eq!(reasons(&[producer(Some(4), 3, 4)], quiet), 1, "a gap");
        assert_eq!(reasons(&[producer(Some(2), 3, 3)], quiet), 1, "captured after the barrier");
        assert_eq!(reasons(&[Standing { last_event: 1, ..producer(Some(2), 3, 3) }], quiet), 0, "an outcome after it");
        assert_eq!(reasons(&[], quiet), 1, "nobody registered");
        assert_eq!(reasons(&[producer(Some(4), 4, 4)], Unfinished { dead: 1, ..quiet }), 1, "a dead letter");
        assert_eq!(reasons(&[producer(Some(4), 4, 4)], Unfinished { not_proved: 1, ..quiet }), 1, "unproved");
        assert_eq!(reasons(&[producer(Some(4), 4, 4)], Unfinished { not_replayed: 1, ..quiet }), 1, "not replayed");
        let still = Stillness::Waiting(1);
        assert_eq!(reasons_of(&[producer(Some(4), 4, 4)], quiet, still), 1, "somebody holds a message");
    }

    #[test]
    fn an_ended_incarnation_needs_no_barrier_but_no_gap_either() {
        let (quiet, live) = (Unfinished::default(), producer(Some(1), 1, 1));
        assert_eq!(reasons(&[ended(None, 2, 2), live.clone()], quiet), 0);
        assert_eq!(reasons(&[ended(None, 2, 3), live], quiet), 1);
    }

    #[test]
    fn where_emptiness_is_not_proved_an_ended_incarnation_must_be_closed() {
        let (quiet, live) = (Unfinished::default(), producer(Some(1), 1, 1));
        let judged = |ended: Standing| reasons_of(&[ended, live.clone()], quiet, Stillness::Unprovable);
        assert_eq!(judged(ended(None, 2, 2)), 1, "a third may be on its way");
        assert_eq!(judged(ended(Some(2), 2, 2)), 0);
        assert_eq!(judged(ended(Some(2), 2, 4)), 0, "what is void counts neither here nor there");
        assert_eq!(judged(ended(Some(3), 2, 2)), 1, "the third is missing");
        assert_eq!(judged(ended(Some(0), 0, 0)), 0, "it never published");
        assert_eq!(judged(Standing { is_waived: true, ..ended(None, 1, 2) }), 0, "a person answers for it");
        let alive = Standing { is_waived: true, ..producer(None, 1, 1) };
        assert_eq!(reasons_of(&[alive], quiet, Stillness::Empty), 1, "one that is alive must speak for itself");
    }
}

//! Whether the queue is drained: every producer's barrier seen, no number missing, nothing pending, dead or unproved. Reads only.

use super::error::RevocationError;
use super::ledger::{Counts, Ledger, Standing};

/// Whether the queue is drained for an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// Every producer's barrier stands, nothing is missing, pending, dead or unproved.
    Yes,
    /// It is not, for these reasons.
    No(Vec<String>),
}

/// Judges the queue under the hold of `epoch`; `gateways` are the names that must have written a barrier.
///
/// # Errors
/// When control does not answer: then nothing is drained.
pub async fn drained(ledger: &Ledger, epoch: i64, gateways: &[String]) -> Result<Drained, RevocationError> {
    let producers = ledger.producers(epoch).await?;
    let counts = ledger.counts().await?;
    Ok(judge(&producers, &counts, gateways))
}

fn judge(producers: &[Standing], counts: &Counts, gateways: &[String]) -> Drained {
    let mut reasons: Vec<String> = producers.iter().filter_map(producer_objection).collect();
    for gateway in gateways {
        if !producers.iter().any(|producer| producer.gateway == *gateway && !producer.is_ended) {
            reasons.push(format!("gateway {gateway} has never registered as a producer"));
        }
    }
    let waiting = [
        (counts.captured - counts.replayed, "not replayed"),
        (counts.dead, "dead"),
        (counts.captured - counts.proved, "not proved"),
    ];
    reasons.extend(waiting.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} revocations are {word}")));
    if reasons.is_empty() { Drained::Yes } else { Drained::No(reasons) }
}

fn producer_objection(producer: &Standing) -> Option<String> {
    let Standing { gateway, incarnation, .. } = producer;
    if producer.count != producer.last || (producer.count > 0 && producer.first != 1) {
        return Some(format!(
            "gateway {gateway} ({incarnation}): {} events up to number {}",
            producer.count, producer.last
        ));
    }
    if producer.is_ended {
        return None;
    }
    match producer.barrier {
        None => Some(format!("gateway {gateway} ({incarnation}) has not written its barrier")),
        Some(last) if last != producer.last => {
            Some(format!("gateway {gateway} ({incarnation}): barrier at {last}, events up to {}", producer.last))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn producer(barrier: Option<i64>, count: i64, last: i64) -> Standing {
        let first = i64::from(count > 0);
        let incarnation = Uuid::nil();
        Standing { gateway: "engine".into(), incarnation, is_ended: false, barrier, count, first, last }
    }

    fn reasons(producers: &[Standing], counts: Counts) -> usize {
        match judge(producers, &counts, &["engine".to_owned()]) {
            Drained::Yes => 0,
            Drained::No(reasons) => reasons.len(),
        }
    }

    #[test]
    fn a_queue_is_drained_only_when_nothing_can_be_missing() {
        let quiet = Counts { captured: 3, replayed: 3, proved: 3, ..Counts::default() };
        assert_eq!(reasons(&[producer(Some(3), 3, 3)], quiet), 0);
        assert_eq!(reasons(&[producer(None, 3, 3)], quiet), 1, "no barrier");
        assert_eq!(reasons(&[producer(Some(4), 3, 4)], quiet), 1, "a gap");
        assert_eq!(reasons(&[producer(Some(2), 3, 3)], quiet), 1, "captured after the barrier");
        assert_eq!(reasons(&[], quiet), 1, "nobody registered");
        assert_eq!(reasons(&[producer(Some(3), 3, 3)], Counts { dead: 1, ..quiet }), 1, "a dead letter");
        assert_eq!(reasons(&[producer(Some(3), 3, 3)], Counts { proved: 2, ..quiet }), 1, "unproved");
    }

    #[test]
    fn an_ended_incarnation_needs_no_barrier_but_no_gap_either() {
        let ended = Standing { is_ended: true, ..producer(None, 2, 2) };
        let quiet = Counts::default();
        assert_eq!(reasons(&[ended.clone(), producer(Some(0), 0, 0)], quiet), 0);
        assert_eq!(reasons(&[Standing { last: 3, ..ended }, producer(Some(0), 0, 0)], quiet), 1);
    }
}

//! Cloudflare Queues over its HTTP API: batches are published, pulled, acknowledged and given back; the consumer must have a dead-letter
//! queue, because at `max_retries` messages are deleted for good without one.
//!
//! Nothing about it proves emptiness: its counters are best effort. How it is spoken to is beside this, in `http`.

mod http;
mod wire;

use super::{Call, Delivery, Depth, Lane, Lease, Parcel, Queue, Stillness, Terms};
use crate::plan::CloudflareQueue as Settings;
use crate::revocations::error::RevocationError;
use http::Api;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use wire::{Depths, Described, Pulled};

pub(super) const NAME: &str = "Cloudflare Queues";
/// Messages in one call, and bytes of a batch: the service's limits.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 256 * 1000;
const MESSAGE_BYTES: usize = 128 * 1000;
/// What stands around a message in a batch.
const FRAME_BYTES: usize = 64;
/// The visibility that the check asks for, how long it looks for its message, and when that must be back.
const PROBE_VISIBILITY: Duration = Duration::from_secs(1);
const PROBE_FOUND: Duration = Duration::from_secs(5);
const PROBE_BACK: Duration = Duration::from_secs(4);
const PROBE_PAUSE: Duration = Duration::from_millis(200);
/// The key of the check's own message; consumers give such a message back, and never take it in.
const PROBE_KEY: &str = "cutover_probe";

/// A queue of a Cloudflare account.
pub struct CloudflareQueue {
    api: Api,
    settings: Settings,
    terms: Terms,
    /// Held by the check, so that this process does not pull its message away from it.
    probing: RwLock<()>,
}

impl CloudflareQueue {
    /// The queue that `settings` name; nothing is asked yet. The queue, its dead-letter queue and both consumers must be there.
    #[must_use]
    pub fn new(settings: &Settings, terms: Terms) -> Self {
        Self { api: Api::new(settings, terms.limit), settings: settings.clone(), terms, probing: RwLock::new(()) }
    }

    fn id(&self, lane: Lane) -> &str {
        match lane {
            Lane::Live => &self.settings.queue,
            Lane::Dead => &self.settings.dead_letter_queue,
        }
    }

    async fn put(&self, lane: Lane, parcels: &[Parcel]) -> Result<(), RevocationError> {
        const ACT: &str = "publish messages";
        let messages: Vec<Value> = parcels
            .iter()
            .map(|parcel| wire::message(&parcel.body))
            .collect::<Result<_, _>>()
            .map_err(|why| refused(ACT, why))?;
        let mut is_first = true;
        for batch in batches(messages).map_err(|why| refused(ACT, why))? {
            let sent =
                self.api.post::<Value>(ACT, self.id(lane), "messages/batch", &json!({ "messages": batch })).await;
            // Of a publication in several batches an earlier one may be stored.
            sent.map_err(|error| if is_first { error } else { doubtful(error) })?;
            is_first = false;
        }
        Ok(())
    }

    async fn take(&self, lane: Lane, most: usize) -> Result<Vec<Delivery>, RevocationError> {
        let pulled = self.pull_for(lane, most, self.terms.visibility).await?;
        let (probes, taken): (Vec<_>, Vec<_>) = pulled.into_iter().partition(|one| probe_of(&one.body).is_some());
        if !probes.is_empty() {
            let leases: Vec<Lease> = probes.into_iter().map(|one| one.lease).collect();
            match lane {
                Lane::Live => self.answer("give messages back", lane, &[], &leases, Duration::ZERO).await?,
                Lane::Dead => self.answer("acknowledge messages", lane, &leases, &[], Duration::ZERO).await?,
            }
        }
        Ok(taken)
    }

    async fn pull_for(&self, lane: Lane, most: usize, visibility: Duration) -> Result<Vec<Delivery>, RevocationError> {
        let visibility_ms = u64::try_from(visibility.as_millis()).unwrap_or(u64::MAX);
        let body = json!({ "batch_size": most.clamp(1, BATCH), "visibility_timeout_ms": visibility_ms });
        let pulled: Pulled = self.api.post("pull messages", self.id(lane), "messages/pull", &body).await?;
        Ok(pulled.messages.into_iter().map(wire::delivery).collect())
    }

    async fn answer(
        &self,
        act: &'static str,
        lane: Lane,
        acks: &[Lease],
        retries: &[Lease],
        delay: Duration,
    ) -> Result<(), RevocationError> {
        let seconds = delay.as_millis().div_ceil(1000);
        let acks: Vec<Value> = acks.iter().map(|Lease(id)| json!({ "lease_id": id })).collect();
        let retries: Vec<Value> =
            retries.iter().map(|Lease(id)| json!({ "lease_id": id, "delay_seconds": seconds })).collect();
        for chunk in acks.chunks(BATCH) {
            let body = json!({ "acks": chunk, "retries": [] });
            self.api.post::<Value>(act, self.id(lane), "messages/ack", &body).await?;
        }
        for chunk in retries.chunks(BATCH) {
            let body = json!({ "acks": [], "retries": chunk });
            self.api.post::<Value>(act, self.id(lane), "messages/ack", &body).await?;
        }
        Ok(())
    }

    async fn count(&self, lane: Lane) -> Result<u64, RevocationError> {
        let body = json!({ "batch_size": BATCH });
        let found: Depths = self.api.post("count messages", self.id(lane), "messages/peek", &body).await?;
        Ok(found.depth())
    }

    /// The consumer pulls, and has the plan's dead-letter queue, which has a consumer that pulls as well.
    async fn fit(&self) -> Result<(), RevocationError> {
        const ACT: &str = "look at the queue";
        let live: Described = self.api.get(ACT, self.id(Lane::Live)).await?;
        let dead: Described = self.api.get(ACT, self.id(Lane::Dead)).await?;
        for (queue, described) in [(self.id(Lane::Live), &live), (self.id(Lane::Dead), &dead)] {
            if !described.is_pulled() {
                let why = format!("the queue {queue} has no consumer of type http_pull: add one");
                return Err(refused(ACT, why));
            }
        }
        match live.dead_letter_queue() {
            Some(name) if name == dead.queue_name => Ok(()),
            Some(name) => Err(refused(
                ACT,
                format!(
                    "its consumer's dead-letter queue is {name:?}, and the plan's {} is named {:?}",
                    self.id(Lane::Dead),
                    dead.queue_name
                ),
            )),
            None => Err(refused(
                ACT,
                "its consumer has no dead-letter queue: at max_retries the service would delete messages for good"
                    .into(),
            )),
        }
    }

    /// Whether the visibility that a pull asks for is the one that it gets: neither none nor the default.
    async fn probe(&self) -> Result<(), RevocationError> {
        let _alone = self.probing.write().await;
        let id = Uuid::new_v4();
        let parcel = Parcel { id, body: json!({ PROBE_KEY: id }).to_string().into_bytes() };
        self.put(Lane::Live, &[parcel]).await?;
        if self.find(id, PROBE_FOUND).await?.is_none() {
            tracing::warn!("another consumer took the message that tests the visibility timeout; it stays untested");
            return Ok(());
        }
        let taken = Instant::now();
        let wrong = |why: &str| {
            let why = format!("visibility_timeout_ms = {} took no effect: {why}", PROBE_VISIBILITY.as_millis());
            Err(refused("look at the queue", why))
        };
        if self.find(id, Duration::ZERO).await?.is_some() && taken.elapsed() < PROBE_VISIBILITY {
            return wrong("the message was delivered again at once");
        }
        sleep(PROBE_VISIBILITY.saturating_sub(taken.elapsed())).await;
        match self.find(id, PROBE_BACK).await? {
            Some(lease) => self.answer("acknowledge messages", Lane::Live, &[lease], &[], Duration::ZERO).await,
            None => wrong("the message did not come back when it was over"),
        }
    }

    /// Pulls until the check's message is there; gives everything else back.
    async fn find(&self, id: Uuid, limit: Duration) -> Result<Option<Lease>, RevocationError> {
        let end = Instant::now() + limit;
        loop {
            let pulled = self.pull_for(Lane::Live, BATCH, PROBE_VISIBILITY).await?;
            let (own, others): (Vec<_>, Vec<_>) = pulled.into_iter().partition(|one| probe_of(&one.body) == Some(id));
            if !others.is_empty() {
                let leases: Vec<Lease> = others.into_iter().map(|one| one.lease).collect();
                // Not at once: each delivery counts towards a dead letter.
                self.answer("give messages back", Lane::Live, &[], &leases, PROBE_VISIBILITY).await?;
            }
            if let Some(found) = own.into_iter().next() {
                return Ok(Some(found.lease));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            sleep(PROBE_PAUSE).await;
        }
    }
}

fn probe_of(body: &[u8]) -> Option<Uuid> {
    let value: Value = serde_json::from_slice(body).ok()?;
    value.get(PROBE_KEY)?.as_str()?.parse().ok()
}

/// Cuts messages into batches that the service takes; one that is too large for it is refused.
fn batches(messages: Vec<Value>) -> Result<Vec<Vec<Value>>, String> {
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for message in messages {
        let size = message["body"].to_string().len();
        if size > MESSAGE_BYTES {
            return Err(format!(
                "a message of {size} bytes is larger than the {MESSAGE_BYTES} that a message may have"
            ));
        }
        if batch.len() == BATCH || bytes + size + FRAME_BYTES > BATCH_BYTES {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size + FRAME_BYTES;
        batch.push(message);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    Ok(batches)
}

fn refused(act: &'static str, why: String) -> RevocationError {
    RevocationError::Queue { queue: NAME, act, why, is_undone: true }
}

fn doubtful(error: RevocationError) -> RevocationError {
    match error {
        RevocationError::Queue { queue, act, why, .. } => RevocationError::Queue { queue, act, why, is_undone: false },
        other => other,
    }
}

impl Queue for CloudflareQueue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_outside(&self) -> bool {
        true
    }

    fn publish<'a>(&'a self, lane: Lane, parcels: &'a [Parcel], _fence: Option<Uuid>) -> Call<'a, ()> {
        Box::pin(self.put(lane, parcels))
    }

    fn pull(&self, lane: Lane, most: usize) -> Call<'_, Vec<Delivery>> {
        Box::pin(async move {
            let _nobody_probes = self.probing.read().await;
            self.take(lane, most).await
        })
    }

    fn ack<'a>(&'a self, lane: Lane, leases: &'a [Lease]) -> Call<'a, ()> {
        Box::pin(self.answer("acknowledge messages", lane, leases, &[], Duration::ZERO))
    }

    fn retry<'a>(&'a self, leases: &'a [Lease], delay: Duration) -> Call<'a, ()> {
        Box::pin(self.answer("give messages back", Lane::Live, &[], leases, delay))
    }

    fn depth(&self) -> Call<'_, Depth> {
        Box::pin(async move { Ok(Depth { live: self.count(Lane::Live).await?, dead: self.count(Lane::Dead).await? }) })
    }

    fn stillness(&self) -> Call<'_, Stillness> {
        Box::pin(async { Ok(Stillness::Unprovable) })
    }

    fn check(&self) -> Call<'_, ()> {
        Box::pin(async move {
            self.fit().await?;
            self.probe().await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_within_the_limits_of_the_service() {
        let small = vec![json!({ "body": { "n": 1 } }); 250];
        let sizes: Vec<usize> = batches(small).expect("small").iter().map(Vec::len).collect();
        assert_eq!(sizes, [100, 100, 50]);
        let large = vec![json!({ "body": "x".repeat(100_000) }); 5];
        let sizes: Vec<usize> = batches(large).expect("each fits").iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
        batches(vec![json!({ "body": "x".repeat(128_001) })]).expect_err("too large");
    }
}

//! The queue between gateways and control: one trait, three backends. Carries bytes; what they say is the envelope's.
//!
//! Every backend gives the same: what was published durably is delivered at least once, in no order; a delivery that is not acknowledged
//! in time comes again; what came too often without being acknowledged goes to the dead letters and is never dropped.

mod cloudflare;
mod nats;
mod postgres;

use super::error::RevocationError;
use crate::plan;
use crate::plan::Secret;
pub use cloudflare::CloudflareQueue;
use futures_util::future::BoxFuture;
pub use nats::NatsQueue;
pub use postgres::PostgresQueue;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// A call on a queue.
pub type Call<'a, T> = BoxFuture<'a, Result<T, RevocationError>>;

/// Which of a queue's two lists of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// What is to be delivered.
    Live,
    /// What came too often without being acknowledged.
    Dead,
}

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Parcel {
    /// Its identity, by which backends that can leave out what they already hold.
    pub id: Uuid,
    /// The message.
    #[serde(with = "text")]
    pub body: Vec<u8>,
}

/// A message as delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// By which it is acknowledged or retried.
    pub lease: Lease,
    /// The identity that it was published under, where the backend keeps it.
    pub id: Option<Uuid>,
    /// The message.
    pub body: Vec<u8>,
    /// How often it was delivered, this time included.
    pub attempts: u32,
}

/// The right to acknowledge one delivery; its text is the backend's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease(pub String);

/// How many messages stand where; from backends outside it is an estimate, and never evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// To be delivered or acknowledged.
    pub live: u64,
    /// Dead letters.
    pub dead: u64,
}

/// What a queue can prove about its emptiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stillness {
    /// Nothing that was published is undelivered or unacknowledged.
    Empty,
    /// So many are.
    Waiting(u64),
    /// This backend can prove nothing; barriers and numbers alone do.
    Unprovable,
}

/// By what a queue goes, whichever backend it is.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long a delivery belongs to whoever took it.
    pub visibility: Duration,
    /// A message that was delivered so often without being acknowledged is dead.
    pub most_deliveries: u32,
    /// Messages that may wait; more are refused, where the backend can count.
    pub room: u32,
    /// Bound of one call.
    pub limit: Duration,
}

impl Terms {
    /// What gateways and orchestrators use.
    #[must_use]
    pub fn standard(limit: Duration) -> Self {
        Self { visibility: Duration::from_secs(10), most_deliveries: 10, room: 100_000, limit }
    }
}

/// A queue of messages of one plan. Calls never take longer than its limit.
pub trait Queue: Send + Sync {
    /// What kind it is, for people.
    fn name(&self) -> &'static str;

    /// Whether it lives elsewhere than in the control database.
    fn is_outside(&self) -> bool;

    /// Publishes messages; when this returns they are durable. Where the backend can, `fence` names an incarnation that must not have been
    /// ended.
    ///
    /// An error says by [`RevocationError::is_certainly_undone`] whether none of them is or will be in the queue.
    fn publish<'a>(&'a self, lane: Lane, parcels: &'a [Parcel], fence: Option<Uuid>) -> Call<'a, ()>;

    /// Takes at most `most` messages that nobody else holds; none when there are none now.
    fn pull(&self, lane: Lane, most: usize) -> Call<'_, Vec<Delivery>>;

    /// Takes deliveries out of the queue for good. One that was delivered to somebody else meanwhile is no error.
    fn ack<'a>(&'a self, lane: Lane, leases: &'a [Lease]) -> Call<'a, ()>;

    /// Gives deliveries back, to be delivered again after `delay`.
    fn retry<'a>(&'a self, leases: &'a [Lease], delay: Duration) -> Call<'a, ()>;

    /// How many messages stand where.
    fn depth(&self) -> Call<'_, Depth>;

    /// What can be proved about the emptiness of the live lane.
    fn stillness(&self) -> Call<'_, Stillness>;

    /// Whether it is fit for use: reachable, and set up so that nothing can be lost. Makes what may be made.
    fn check(&self) -> Call<'_, ()>;
}

/// The queue that a plan names; nothing is asked of it yet.
#[must_use]
pub fn open(queue: &plan::Queue, control: &Secret, plan: &str, limit: Duration) -> Arc<dyn Queue> {
    let terms = Terms::standard(limit);
    match queue {
        plan::Queue::Postgres => Arc::new(PostgresQueue::new(control, plan, terms)),
        plan::Queue::Cloudflare(settings) => Arc::new(CloudflareQueue::new(settings, terms)),
        plan::Queue::Nats(settings) => Arc::new(NatsQueue::new(settings, terms)),
    }
}

/// Messages taken at once while moving.
const MOVED: usize = 100;
/// A queue that proves nothing is empty after so many pulls in a row that gave nothing, so far apart.
const EMPTY_PULLS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(200);

/// Moves all messages of `from` into `to`, dead letters too: published there, then acknowledged here, so that a crash in between leaves
/// them in both. Made again, it goes on. Gives how many were moved from each lane. Nobody may publish to `from` or take from it meanwhile.
///
/// # Errors
/// When a queue does not answer, or `from` is not empty after `limit`. What was not moved is where it was.
pub async fn move_all(from: &dyn Queue, to: &dyn Queue, limit: Duration) -> Result<Depth, RevocationError> {
    let end = Instant::now() + limit;
    let live = move_lane(from, to, Lane::Live, end).await?;
    let dead = move_lane(from, to, Lane::Dead, end).await?;
    Ok(Depth { live, dead })
}

async fn move_lane(from: &dyn Queue, to: &dyn Queue, lane: Lane, end: Instant) -> Result<u64, RevocationError> {
    let (mut moved, mut empty_pulls) = (0, 0);
    loop {
        let deliveries = from.pull(lane, MOVED).await?;
        if deliveries.is_empty() {
            empty_pulls += 1;
            let is_done = match (lane, from.stillness().await?) {
                (Lane::Live, Stillness::Empty) => true,
                (Lane::Live, Stillness::Waiting(_)) => false,
                _ => empty_pulls >= EMPTY_PULLS,
            };
            if is_done {
                return Ok(moved);
            }
            if Instant::now() > end {
                let why = format!("after {moved} moved messages others are still held by somebody else");
                return Err(RevocationError::Queue { queue: from.name(), act: "move messages", why, is_undone: false });
            }
            sleep(BETWEEN).await;
            continue;
        }
        empty_pulls = 0;
        let parcels = deliveries.iter().map(|delivery| {
            let id = delivery.id.unwrap_or_else(Uuid::new_v4);
            Parcel { id, body: delivery.body.clone() }
        });
        let parcels: Vec<Parcel> = parcels.collect();
        to.publish(lane, &parcels, None).await?;
        let leases: Vec<Lease> = deliveries.into_iter().map(|delivery| delivery.lease).collect();
        from.ack(lane, &leases).await?;
        moved += leases.len() as u64;
    }
}

/// Bodies are JSON text nearly always; what is no text stands as base64.
mod text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Body {
        Text(String),
        Base64(String),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let body = match std::str::from_utf8(bytes) {
            Ok(text) => Body::Text(text.to_owned()),
            Err(_) => Body::Base64(STANDARD.encode(bytes)),
        };
        body.serialize(serializer)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        match Body::deserialize(deserializer)? {
            Body::Text(text) => Ok(text.into_bytes()),
            Body::Base64(text) => STANDARD.decode(text).map_err(serde::de::Error::custom),
        }
    }
}

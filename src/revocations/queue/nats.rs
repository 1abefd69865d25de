//! NATS JetStream: a work-queue stream with one durable pull consumer, and a second stream of the same kind for dead letters.
//!
//! The server never gives a message up by itself (`max_deliver` is unlimited): one that came too often is published to the dead letters and
//! only then acknowledged. Deduplication by `Nats-Msg-Id` is for a producer's own messages alone; what is moved or buried gets an
//! identity of its own, because a message that was taken out a moment ago would count as a duplicate.

use super::{Call, Delivery, Depth, Lane, Lease, Parcel, Queue, Stillness, Terms};
use crate::plan::NatsQueue as Settings;
use crate::revocations::doors::percent_decoded;
use crate::revocations::error::RevocationError;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{Context, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{self, AckKind};
use async_nats::{Client, ConnectOptions, connection};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;
use uuid::Uuid;

const NAME: &str = "NATS JetStream";
const CONSUMER: &str = "cutover";
/// A server has nothing more when it is silent for this long after a message; not every version says so. What it had all the same comes
/// again.
const BETWEEN: Duration = Duration::from_millis(100);
/// Deliveries under way at once.
const IN_FLIGHT: i64 = 10_000;

/// A queue in a JetStream server.
pub struct NatsQueue {
    settings: Settings,
    terms: Terms,
    ready: Mutex<Option<Arc<Ready>>>,
}

/// A connection with everything made that must be there.
struct Ready {
    client: Client,
    context: Context,
    live: Side,
    dead: Side,
}

struct Side {
    subject: String,
    stream: Stream,
    consumer: PullConsumer,
}

impl Ready {
    fn side(&self, lane: Lane) -> &Side {
        match lane {
            Lane::Live => &self.live,
            Lane::Dead => &self.dead,
        }
    }
}

/// The library reads nothing but the address in a URL; who logs in there is handed over here. A name without a password is a token, as the
/// server's own clients read it.
fn with_login(options: ConnectOptions, url: &str) -> ConnectOptions {
    let Ok(url) = url::Url::parse(url) else { return options };
    let plain = |text: &str| percent_decoded(text).into_owned();
    match (url.username(), url.password()) {
        ("", _) => options,
        (token, None) => options.token(plain(token)),
        (name, Some(password)) => options.user_and_password(plain(name), plain(password)),
    }
}

impl NatsQueue {
    /// The queue that `settings` name; nothing is asked yet. Streams and consumers are made when they are missing.
    #[must_use]
    pub fn new(settings: &Settings, terms: Terms) -> Self {
        Self { settings: settings.clone(), terms, ready: Mutex::default() }
    }

    /// Within the bound; whatever fails, the next call looks at everything anew.
    async fn bounded<T>(
        &self,
        act: &'static str,
        work: impl Future<Output = Result<T, RevocationError>>,
    ) -> Result<T, RevocationError> {
        let result = timeout(self.terms.limit, work).await.unwrap_or_else(|_| {
            let why = format!("it did not answer within {} ms", self.terms.limit.as_millis());
            Err(RevocationError::Queue { queue: NAME, act, why, is_undone: false })
        });
        if result.is_err() {
            *self.ready.lock().await = None;
        }
        result
    }

    async fn ready(&self, act: &'static str) -> Result<Arc<Ready>, RevocationError> {
        let mut slot = self.ready.lock().await;
        let is_connected = |ready: &&Arc<Ready>| ready.client.connection_state() == connection::State::Connected;
        if let Some(ready) = slot.as_ref().filter(is_connected) {
            return Ok(Arc::clone(ready));
        }
        *slot = None;
        let ready = Arc::new(self.connect(act).await?);
        *slot = Some(Arc::clone(&ready));
        Ok(ready)
    }

    async fn connect(&self, act: &'static str) -> Result<Ready, RevocationError> {
        // TLS wants a provider of cryptography; a second installation of a process is refused, and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = ConnectOptions::new()
            .name("cutover")
            .connection_timeout(self.terms.limit)
            .request_timeout(Some(self.terms.limit))
            .max_reconnects(1);
        let url = self.settings.url.expose();
        let client = with_login(options, url).connect(url).await;
        let client = client.map_err(|error| undone(act, &format!("no connection: {error}")))?;
        let context = jetstream::new(client.clone());
        let name = &self.settings.stream;
        let live = self.side(act, &context, name.clone(), format!("{name}.live")).await?;
        let dead = self.side(act, &context, format!("{name}-dead"), format!("{name}.dead")).await?;
        Ok(Ready { client, context, live, dead })
    }

    async fn side(
        &self,
        act: &'static str,
        context: &Context,
        name: String,
        subject: String,
    ) -> Result<Side, RevocationError> {
        let config = Config {
            name: name.clone(),
            subjects: vec![subject.clone()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_messages: i64::from(self.terms.room),
            ..Config::default()
        };
        let refused = |what: &str, why: &dyn Display| undone(act, &format!("{what} {name}: {why}"));
        let stream = context.get_or_create_stream(config).await.map_err(|error| refused("make the stream", &error))?;
        if let Some(why) = objection(&stream.cached_info().config, &subject) {
            return Err(refused("the stream", &why));
        }
        let config = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.terms.visibility,
            max_deliver: -1,
            max_ack_pending: IN_FLIGHT,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| refused("make a consumer of", &error))?;
        Ok(Side { subject, stream, consumer })
    }

    async fn put(&self, lane: Lane, parcels: &[Parcel], fence: Option<Uuid>) -> Result<(), RevocationError> {
        const ACT: &str = "publish messages";
        let ready = self.ready(ACT).await?;
        let subject = &ready.side(lane).subject;
        let named = parcels.iter().map(|parcel| match fence {
            Some(_) => (parcel.id.to_string(), &parcel.body),
            None => (format!("{}.{}", parcel.id, Uuid::new_v4()), &parcel.body),
        });
        let sent = join_all(named.map(|(id, body)| send(&ready.context, subject, id, body))).await;
        judge(&sent)
            .map_or(Ok(()), |(why, is_undone)| Err(RevocationError::Queue { queue: NAME, act: ACT, why, is_undone }))
    }

    async fn take(&self, lane: Lane, most: usize) -> Result<Vec<Delivery>, RevocationError> {
        const ACT: &str = "pull messages";
        let ready = self.ready(ACT).await?;
        let failed = |error: &dyn Display| unknown(ACT, error);
        let batch = ready.side(lane).consumer.fetch().max_messages(most).messages().await;
        let mut batch = batch.map_err(|error| failed(&error))?;
        let (mut taken, mut over) = (Vec::new(), Vec::new());
        loop {
            let patience = if taken.is_empty() && over.is_empty() { self.terms.limit } else { BETWEEN };
            let Ok(Some(message)) = timeout(patience, batch.next()).await else { break };
            let message = message.map_err(|error| failed(&error))?;
            let info = message.info().map_err(|error| failed(&error))?;
            let attempts = u32::try_from(info.delivered).unwrap_or(u32::MAX);
            let lease = Lease(message.reply.as_ref().map(ToString::to_string).unwrap_or_default());
            let delivery = Delivery { lease, id: None, body: message.payload.to_vec(), attempts };
            if lane == Lane::Live && attempts > self.terms.most_deliveries {
                over.push(delivery);
            } else {
                taken.push(delivery);
            }
        }
        if !over.is_empty() {
            self.bury(&ready, &over).await?;
        }
        Ok(taken)
    }

    /// First into the dead letters, then out of the queue: a crash between the two leaves it in both, never in none.
    async fn bury(&self, ready: &Ready, over: &[Delivery]) -> Result<(), RevocationError> {
        let parcels: Vec<Parcel> =
            over.iter().map(|delivery| Parcel { id: Uuid::new_v4(), body: delivery.body.clone() }).collect();
        self.put(Lane::Dead, &parcels, None).await?;
        let leases: Vec<Lease> = over.iter().map(|delivery| delivery.lease.clone()).collect();
        answer(ready, "set dead letters apart", &leases, AckKind::Ack).await
    }

    async fn count(&self, lane: Lane) -> Result<(u64, Stillness), RevocationError> {
        const ACT: &str = "see whether messages wait";
        let ready = self.ready(ACT).await?;
        let side = ready.side(lane);
        // The stream first: what is published in between makes the consumer lag, never the other way round.
        let stream = side.stream.get_info().await.map_err(|error| unknown(ACT, &error))?.state;
        let consumer = side.consumer.get_info().await.map_err(|error| unknown(ACT, &error))?;
        let waiting = consumer.num_pending + consumer.num_ack_pending as u64;
        let is_through = consumer.ack_floor.stream_sequence >= stream.last_sequence || stream.messages == 0;
        match waiting {
            0 if is_through => Ok((0, Stillness::Empty)),
            _ => Ok((waiting, Stillness::Waiting(waiting.max(1)))),
        }
    }
}

/// What stands against a stream that somebody has made otherwise than we would.
fn objection(config: &Config, subject: &str) -> Option<String> {
    let checks = [
        (config.storage != StorageType::File, "it keeps messages in memory; it must be a file"),
        (!config.max_age.is_zero(), "it drops messages by age (max_age)"),
        (config.discard != DiscardPolicy::New, "it drops old messages when it is full; discard must be `new`"),
        (config.retention != RetentionPolicy::WorkQueue, "its retention must be `workqueue`"),
        (config.no_ack, "it confirms nothing (no_ack)"),
        (config.sealed, "it is sealed"),
        (config.max_messages_per_subject > 0, "it drops messages by subject (max_msgs_per_subject)"),
    ];
    let found = checks.iter().find(|(is_wrong, _)| *is_wrong).map(|(_, why)| (*why).to_owned());
    found.or_else(|| (config.subjects != [subject]).then(|| format!("its one subject must be {subject}")))
}

async fn send(context: &Context, subject: &str, id: String, body: &[u8]) -> Result<(), PublishError> {
    let message = PublishMessage::build().payload(Bytes::copy_from_slice(body)).message_id(id);
    context.send_publish(subject.to_owned(), message).await?.await.map(drop)
}

/// Why a batch is not durable, and whether none of it is; none when all of it is.
fn judge(sent: &[Result<(), PublishError>]) -> Option<(String, bool)> {
    let first = sent.iter().find_map(|one| one.as_ref().err())?;
    let why = first.source().map_or_else(|| first.to_string(), |source| format!("{first}: {source}"));
    Some((why, sent.iter().all(|one| one.as_ref().is_err_and(is_refusal))))
}

/// Whether the server said, or never heard: then it holds nothing.
fn is_refusal(error: &PublishError) -> bool {
    match error.kind() {
        PublishErrorKind::StreamNotFound | PublishErrorKind::MaxPayloadExceeded => true,
        PublishErrorKind::Other => error.source().is_some_and(|source| source.is::<jetstream::Error>()),
        _ => false,
    }
}

/// Answers deliveries and waits until the server has heard it.
async fn answer(ready: &Ready, act: &'static str, leases: &[Lease], kind: AckKind) -> Result<(), RevocationError> {
    let body = Bytes::from(kind);
    let heard = leases.iter().map(|Lease(subject)| ready.client.request(subject.clone(), body.clone()));
    let heard = join_all(heard).await;
    heard.into_iter().find_map(Result::err).map_or(Ok(()), |error| Err(unknown(act, &error)))
}

fn undone(act: &'static str, why: &str) -> RevocationError {
    RevocationError::Queue { queue: NAME, act, why: why.to_owned(), is_undone: true }
}

fn unknown(act: &'static str, why: &dyn Display) -> RevocationError {
    RevocationError::Queue { queue: NAME, act, why: why.to_string(), is_undone: false }
}

impl Queue for NatsQueue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_outside(&self) -> bool {
        true
    }

    fn publish<'a>(&'a self, lane: Lane, parcels: &'a [Parcel], fence: Option<Uuid>) -> Call<'a, ()> {
        Box::pin(self.bounded("publish messages", self.put(lane, parcels, fence)))
    }

    fn pull(&self, lane: Lane, most: usize) -> Call<'_, Vec<Delivery>> {
        Box::pin(self.bounded("pull messages", self.take(lane, most)))
    }

    fn ack<'a>(&'a self, _lane: Lane, leases: &'a [Lease]) -> Call<'a, ()> {
        const ACT: &str = "acknowledge messages";
        Box::pin(self.bounded(ACT, async move { answer(&*self.ready(ACT).await?, ACT, leases, AckKind::Ack).await }))
    }

    fn retry<'a>(&'a self, leases: &'a [Lease], delay: Duration) -> Call<'a, ()> {
        const ACT: &str = "give messages back";
        let kind = AckKind::Nak(Some(delay));
        Box::pin(self.bounded(ACT, async move { answer(&*self.ready(ACT).await?, ACT, leases, kind).await }))
    }

    fn depth(&self) -> Call<'_, Depth> {
        Box::pin(self.bounded("count messages", async move {
            Ok(Depth { live: self.count(Lane::Live).await?.0, dead: self.count(Lane::Dead).await?.0 })
        }))
    }

    fn stillness(&self) -> Call<'_, Stillness> {
        Box::pin(self.bounded("see whether messages wait", async move { Ok(self.count(Lane::Live).await?.1) }))
    }

    fn check(&self) -> Call<'_, ()> {
        const ACT: &str = "look at the queue";
        Box::pin(self.bounded(ACT, async move { self.ready(ACT).await.map(drop) }))
    }
}

//! One queue of a kind with a control database of its own, and what tests put into it.

use super::cloudflare_server::{Server, Traits};
use super::servers::Nats;
use crate::harness::Pair;
use crate::revocations::{LIMIT, install};
use cutover::plan::{NatsQueue as NatsSettings, Side};
use cutover::revocations::message::{Kind as Says, Message, Origin, fresh_id};
use cutover::revocations::queue::{
    Call, CloudflareQueue, Delivery, Depth, Lane, Lease, NatsQueue, Parcel, PostgresQueue, Queue, Stillness, Terms,
};
use cutover::revocations::{
    Captured, Chain, Collector, Door, Drained, Ledger, Outcome, Producer, RevocationError, Seen, Setup, drained,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

pub(super) const VISIBILITY: Duration = Duration::from_millis(600);
pub(super) const MOST: u32 = 3;
pub(super) const ROOM: u32 = 200;
pub(super) const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    Cloudflare,
    Nats,
}

/// A queue and its control database.
pub(super) struct Bench {
    pub(super) kind: Kind,
    pub(super) pair: Pair,
    pub(super) cloudflare: Server,
    nats: NatsSettings,
}

impl Bench {
    pub(super) async fn new(kind: Kind) -> Self {
        let pair = Pair::shared().await;
        install(&pair)().await.expect("the tables are made");
        let room = Some(ROOM as usize);
        let cloudflare = Server::start(Traits { max_retries: MOST, room, ..Traits::default() }).await;
        Self { kind, pair, cloudflare, nats: Nats::shared().await.settings() }
    }

    pub(super) fn terms() -> Terms {
        Terms { visibility: VISIBILITY, most_deliveries: MOST, room: ROOM, limit: LIMIT }
    }

    /// Another end of the same queue.
    pub(super) fn queue(&self) -> Arc<dyn Queue> {
        self.queue_of(self.kind)
    }

    pub(super) fn queue_of(&self, kind: Kind) -> Arc<dyn Queue> {
        match kind {
            Kind::Postgres => Arc::new(PostgresQueue::new(&self.pair.control.url(), "plan", Self::terms())),
            Kind::Cloudflare => Arc::new(CloudflareQueue::new(&self.cloudflare.settings(), Self::terms())),
            Kind::Nats => Arc::new(NatsQueue::new(&self.nats, Self::terms())),
        }
    }

    pub(super) fn collector(&self, queue: Arc<dyn Queue>) -> Collector {
        Collector::new(queue, &self.pair.control.url(), "plan", LIMIT)
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::over(self.queue(), &self.pair.control.url(), "plan", Side::Blue, LIMIT)
    }

    pub(super) fn producer(&self, gateway: &str, queue: Arc<dyn Queue>, spool: Option<std::path::PathBuf>) -> Producer {
        let control = self.pair.control.url();
        let (plan, gateway, limit) = ("plan".to_owned(), gateway.to_owned(), LIMIT);
        Producer::over(Setup { control, plan, gateway, limit, install: install(&self.pair), queue, spool })
    }

    /// An incarnation of a gateway that control knows.
    pub(super) async fn register(&self, gateway: &str) -> Uuid {
        let incarnation = Uuid::new_v4();
        let insert = format!(
            "insert into cutover.producer (incarnation, plan, gateway) values ('{incarnation}', 'plan', '{gateway}')"
        );
        self.pair.control.execute(&insert).await;
        incarnation
    }

    pub(super) async fn publish(&self, bodies: Vec<Vec<u8>>) {
        let parcels: Vec<Parcel> = bodies.into_iter().map(parcel).collect();
        self.queue().publish(Lane::Live, &parcels, None).await.expect("it is published");
    }

    /// Marks everything replayed and proved, and judges.
    pub(super) async fn reasons(&self, gateways: &[&str]) -> Vec<String> {
        let gateways: Vec<String> = gateways.iter().map(|name| (*name).to_owned()).collect();
        match drained(&self.ledger(), 2, &gateways).await.expect("control and the queue answer") {
            Drained::Yes => Vec::new(),
            Drained::No(reasons) => reasons,
        }
    }

    pub(super) async fn prove_all(&self) {
        let ledger = self.ledger();
        let events = ledger.effective(Duration::ZERO).await.expect("control answers");
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        ledger.replayed(&ids).await.expect("control answers");
        ledger.proved(&ids).await.expect("control answers");
    }

    pub(super) async fn count(&self, what: &str) -> i64 {
        self.pair.control.ask(&format!("select count(*) from {what}")).await
    }
}

pub(super) fn parcel(body: Vec<u8>) -> Parcel {
    Parcel { id: fresh_id(), body }
}

pub(super) fn captured() -> Captured {
    let chain = Chain { requests: ["r1".to_owned()].into(), ..Chain::default() };
    Captured { door: Door::Token, chain, live: Side::Blue, epoch: 1, blue: Seen::Found, green: Seen::Unknown }
}

pub(super) fn message(gateway: &str, incarnation: Uuid, seq: i64, kind: Says) -> Message {
    let from = Origin { gateway: gateway.to_owned(), incarnation, seq };
    Message { id: fresh_id(), plan: "plan".to_owned(), from, at: jiff::Timestamp::now(), kind }
}

pub(super) fn event(gateway: &str, incarnation: Uuid, seq: i64) -> Message {
    message(gateway, incarnation, seq, Says::Captured { what: Box::new(captured()), actor: None })
}

pub(super) fn outcome(of: Uuid, outcome: Outcome) -> Says {
    Says::Outcome { of, outcome, status: None }
}

/// Pulls until something is there.
pub(super) async fn pull_some(queue: &dyn Queue, lane: Lane) -> Vec<Delivery> {
    let end = Instant::now() + SOON;
    loop {
        let pulled = queue.pull(lane, 100).await.expect("the queue answers");
        if !pulled.is_empty() {
            return pulled;
        }
        assert!(Instant::now() < end, "nothing is delivered");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

pub(super) fn leases(deliveries: &[Delivery]) -> Vec<Lease> {
    deliveries.iter().map(|delivery| delivery.lease.clone()).collect()
}

/// A queue whose end is lost at a moment of the test's choice.
pub(super) struct Breaking {
    pub(super) queue: Arc<dyn Queue>,
    /// Nothing is acknowledged: whoever pulled is dead.
    pub(super) at_ack: AtomicBool,
    /// What is published is stored, and nobody learns of it.
    pub(super) after_publish: AtomicBool,
    /// What is published gets nowhere, and nobody learns of it.
    pub(super) before_publish: AtomicBool,
    /// What happens at the moment of that loss, once.
    pub(super) at_loss: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Breaking {
    pub(super) fn over(queue: Arc<dyn Queue>) -> Self {
        Self {
            queue,
            at_ack: AtomicBool::default(),
            after_publish: AtomicBool::default(),
            before_publish: AtomicBool::default(),
            at_loss: Mutex::default(),
        }
    }
}

fn lost<T>() -> Result<T, RevocationError> {
    let why = "the connection was lost".to_owned();
    Err(RevocationError::Queue { queue: "a breaking queue", act: "do as the test wants", why, is_undone: false })
}

impl Queue for Breaking {
    fn name(&self) -> &'static str {
        self.queue.name()
    }

    fn is_outside(&self) -> bool {
        self.queue.is_outside()
    }

    fn publish<'a>(&'a self, lane: Lane, parcels: &'a [Parcel], fence: Option<Uuid>) -> Call<'a, ()> {
        Box::pin(async move {
            if self.before_publish.load(Ordering::SeqCst) {
                if let Some(at_loss) = self.at_loss.lock().expect("no panic").take() {
                    at_loss();
                }
                return lost();
            }
            self.queue.publish(lane, parcels, fence).await?;
            if self.after_publish.load(Ordering::SeqCst) { lost() } else { Ok(()) }
        })
    }

    fn pull(&self, lane: Lane, most: usize) -> Call<'_, Vec<Delivery>> {
        self.queue.pull(lane, most)
    }

    fn ack<'a>(&'a self, lane: Lane, leases: &'a [Lease]) -> Call<'a, ()> {
        Box::pin(
            async move { if self.at_ack.load(Ordering::SeqCst) { lost() } else { self.queue.ack(lane, leases).await } },
        )
    }

    fn retry<'a>(&'a self, leases: &'a [Lease], delay: Duration) -> Call<'a, ()> {
        self.queue.retry(leases, delay)
    }

    fn depth(&self) -> Call<'_, Depth> {
        self.queue.depth()
    }

    fn stillness(&self) -> Call<'_, Stillness> {
        self.queue.stillness()
    }

    fn check(&self) -> Call<'_, ()> {
        self.queue.check()
    }
}

//! The consuming end of a queue: takes messages out of it and into control's tables. One transaction a pull, committed there and only
//! then acknowledged; idempotent by identity and by number, in whatever order messages come. What cannot be understood or believed is
//! kept beside them, with the reason.

use super::error::RevocationError;
use super::link::Link;
use super::message::Message;
use super::queue::{Lane, Lease, Queue, Stillness};
use super::taking::take;
use crate::plan::Secret;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

/// Messages taken in one pull.
const PULL: usize = 100;
/// Pause while somebody else holds what is left in the queue.
const PAUSE: Duration = Duration::from_millis(5);
/// The same for queues that are asked over a network.
const PAUSE_OUTSIDE: Duration = Duration::from_millis(100);
/// An outside queue that was empty is not asked again sooner, except under a hold.
const CALM: Duration = Duration::from_millis(500);
const ACT: &str = "take messages into control";
const READY: &str = "select to_regclass('cutover.message') is not null";

/// Takes messages of one plan from a queue into control.
pub struct Collector {
    queue: Arc<dyn Queue>,
    /// A connection of its own: its transactions are several statements long.
    link: Link,
    plan: String,
    turn: Mutex<Option<Instant>>,
}

impl Collector {
    /// From `queue` into `control`; nothing is asked yet. No statement or call takes longer than `limit`.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, control: &Secret, plan: &str, limit: Duration) -> Self {
        Self {
            queue,
            link: Link::new(control.clone(), "control", limit),
            plan: plan.to_owned(),
            turn: Mutex::default(),
        }
    }

    /// The queue that it takes from.
    #[must_use]
    pub fn queue(&self) -> &dyn Queue {
        &*self.queue
    }

    /// Takes what is there now, dead letters last, until a pull gives nothing. Gives how many messages were taken.
    ///
    /// # Errors
    /// When control or the queue does not answer; what was not acknowledged comes again.
    pub async fn collect(&self) -> Result<usize, RevocationError> {
        let mut turn = self.turn.lock().await;
        let taken = self.drain(Lane::Live).await? + self.drain(Lane::Dead).await?;
        *turn = Some(Instant::now());
        Ok(taken)
    }

    /// The same for one who asks often and not under a hold: an outside queue that was empty a moment ago is left alone.
    ///
    /// # Errors
    /// As [`Self::collect`].
    pub async fn glance(&self) -> Result<(), RevocationError> {
        let mut turn = self.turn.lock().await;
        if !self.queue.is_outside() {
            if self.queue.stillness().await? != Stillness::Empty {
                self.drain(Lane::Live).await?;
            }
            return Ok(());
        }
        if turn.is_none_or(|last| last.elapsed() >= CALM) {
            self.drain(Lane::Live).await?;
            *turn = Some(Instant::now());
        }
        Ok(())
    }

    /// Takes everything that was published before this call, also what others hold just now and give back or finish. Where the backend
    /// can prove that nothing is left, returns only when it does; elsewhere when a pull gives nothing.
    ///
    /// # Errors
    /// When control or the queue does not answer, or something is still held by somebody else when `limit` is over.
    pub async fn empty(&self, limit: Duration) -> Result<Stillness, RevocationError> {
        let end = Instant::now() + limit;
        let _turn = self.turn.lock().await;
        let mut found = self.queue.stillness().await?;
        while found != Stillness::Empty {
            if self.drain(Lane::Live).await? == 0 {
                match found {
                    Stillness::Waiting(waiting) if Instant::now() > end => return Err(self.held(waiting, limit)),
                    Stillness::Waiting(_) => sleep(if self.queue.is_outside() { PAUSE_OUTSIDE } else { PAUSE }).await,
                    Stillness::Empty | Stillness::Unprovable => break,
                }
            }
            found = self.queue.stillness().await?;
        }
        self.drain(Lane::Dead).await?;
        Ok(found)
    }

    fn held(&self, waiting: u64, limit: Duration) -> RevocationError {
        let why = format!("{waiting} messages are still held by another consumer after {} ms", limit.as_millis());
        RevocationError::Queue { queue: self.queue.name(), act: "empty the queue", why, is_undone: true }
    }

    async fn drain(&self, lane: Lane) -> Result<usize, RevocationError> {
        let mut taken = 0;
        loop {
            if self.queue.is_outside() && !self.is_ready().await? {
                return Ok(taken);
            }
            let deliveries = self.queue.pull(lane, PULL).await?;
            if deliveries.is_empty() {
                return Ok(taken);
            }
            if lane == Lane::Dead {
                tracing::warn!(count = deliveries.len(), "messages had become dead letters and are taken all the same");
            }
            let bodies: Vec<&[u8]> = deliveries.iter().map(|delivery| delivery.body.as_slice()).collect();
            let leases: Vec<Lease> = deliveries.iter().map(|delivery| delivery.lease.clone()).collect();
            if let Err(error) = self.keep(&bodies).await {
                // Others need not wait until the leases end; a hold would not last so long. Dead letters have none to give back.
                if lane == Lane::Live && self.queue.retry(&leases, Duration::ZERO).await.is_err() {
                    tracing::warn!("what could not be kept comes back when its lease ends");
                }
                return Err(error);
            }
            self.queue.ack(lane, &leases).await?;
            taken += deliveries.len();
        }
    }

    /// Nothing is taken out of an outside queue while control could not keep it: each vain delivery counts towards a dead letter.
    async fn is_ready(&self) -> Result<bool, RevocationError> {
        let row = self.link.run(ACT, |client| async move { client.query_one(READY, &[]).await }).await?;
        Ok(row.get(0))
    }

    /// Takes in one message that is in no queue any more.
    ///
    /// # Errors
    /// When control does not answer.
    pub(super) async fn take_in(&self, body: &[u8]) -> Result<(), RevocationError> {
        let _turn = self.turn.lock().await;
        self.keep(&[body]).await
    }

    async fn keep(&self, bodies: &[&[u8]]) -> Result<(), RevocationError> {
        let read: Vec<(&[u8], Result<Message, String>)> =
            bodies.iter().map(|body| (*body, Message::read(body, &self.plan))).collect();
        let client = self.link.client(ACT).await?;
        let taken = timeout(self.link.limit(), take(&client, &self.plan, self.queue.name(), &read)).await;
        match taken {
            Ok(Ok(())) => Ok(()),
            // The transaction ends with its connection, whatever state it is in.
            Ok(Err(source)) => {
                self.forget(client).await;
                Err(RevocationError::Query { what: "control".to_owned(), act: ACT, source })
            }
            Err(_) => {
                self.forget(client).await;
                Err(self.link.slow(ACT))
            }
        }
    }

    async fn forget(&self, client: Arc<Client>) {
        drop(client);
        self.link.drop_client().await;
    }
}

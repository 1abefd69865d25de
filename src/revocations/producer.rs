//! The producing end of the queue: one task per gateway that publishes what it captures, durably and in order.
//!
//! Numbers are contiguous within an incarnation, whatever a message says, because one task gives them. A batch of which it is not known
//! whether it was stored ends the incarnation: the next one closes it at the last number that was confirmed (what has a higher number was
//! never forwarded) and counts from one again. Never waits longer than its bound.

use super::collecting::Collecting;
use super::error::RevocationError;
use super::event::{Captured, Outcome};
use super::link::Link;
use super::message::{Kind, Message, Origin, fresh_id};
use super::queue::{Lane, Parcel, PostgresQueue, Queue, Terms};
use super::spool::{Spool, Unclosed};
use crate::plan::Secret;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_postgres::Client;
use uuid::Uuid;

/// Makes our tables in the control database; run before a producer first registers, and again until it succeeds.
pub type Install = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Requests waiting for the task; more are refused at once.
const ROOM: usize = 1024;
/// Most requests answered by one commit, and most outcomes written with them.
const BATCH: usize = 64;
/// Making the tables is done once, and no caller waits for it longer than for an append.
const INSTALL: Duration = Duration::from_secs(15);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Outcomes that wait for a queue that is away; of more the oldest are given up, and their events count as executed.
const MOST_OUTCOMES: usize = 100_000;
const ACT: &str = "append a revocation to the queue";

/// Waits for an append in flight of the incarnation it ends: that one holds the row's share lock until its commit.
/// Repeated under the same incarnation when its first answer was lost.
const REGISTER: &str = "with ended as (
  update cutover.producer set ended_at = clock_timestamp()
  where plan = $2 and gateway = $3 and ended_at is null and incarnation <> $1)
insert into cutover.producer (incarnation, plan, gateway) values ($1, $2, $3) on conflict (incarnation) do nothing";
const IS_ENDED: &str =
    "select coalesce(bool_or(ended_at is not null), false) from cutover.producer where incarnation = $1";

/// Where an event stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The event's identity, for [`Producer::settle`].
    pub id: Uuid,
    /// The incarnation that captured it.
    pub incarnation: Uuid,
    /// Its number there.
    pub seq: i64,
}

/// What a producer needs to know.
pub struct Setup {
    /// The control database, in which it registers.
    pub control: Secret,
    /// Name of the plan.
    pub plan: String,
    /// Name of the gateway.
    pub gateway: String,
    /// Bound of one call.
    pub limit: Duration,
    /// Makes our tables in control.
    pub install: Install,
    /// Where messages go.
    pub queue: Arc<dyn Queue>,
    /// The file that survives a crash of the gateway; used by queues outside control, which cannot prove that nothing is on its way.
    pub spool: Option<PathBuf>,
}

/// A gateway's end of the queue; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    sender: mpsc::Sender<Request>,
    limit: Duration,
}

enum Request {
    Append { captured: Box<Captured>, actor: Option<String>, reply: Reply<Receipt> },
    Settle(Settled),
    Barrier { epoch: i64, reply: Reply<i64> },
}

type Reply<T> = oneshot::Sender<Result<T, RevocationError>>;

#[derive(Clone, Copy)]
struct Settled {
    id: Uuid,
    outcome: Outcome,
    status: Option<i32>,
}

impl Producer {
    /// Starts the task over the default queue; it registers `gateway` for `plan` as soon as control lets it, and ends with the last clone of
    /// the handle.
    #[must_use]
    pub fn start(control: &Secret, plan: &str, gateway: &str, limit: Duration, install: Install) -> Self {
        let queue = Arc::new(PostgresQueue::new(control, plan, Terms::standard(limit)));
        let (control, plan, gateway) = (control.clone(), plan.to_owned(), gateway.to_owned());
        Self::over(Setup { control, plan, gateway, limit, install, queue, spool: None })
    }

    /// The same over any queue. What is published is taken into control by a task beside it.
    #[must_use]
    pub fn over(setup: Setup) -> Self {
        let (sender, receiver) = mpsc::channel(ROOM);
        let limit = setup.limit;
        tokio::spawn(Worker::new(setup).work(receiver));
        Self { sender, limit }
    }

    /// Appends one revocation; when this returns it is durable.
    ///
    /// # Errors
    /// When the queue is out of reach, full or too slow. The revocation must then not be forwarded, and will not be replayed.
    pub async fn append(&self, captured: Captured) -> Result<Receipt, RevocationError> {
        self.append_by(captured, None).await
    }

    /// The same, with who asked for it, as far as that is known.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn append_by(&self, captured: Captured, actor: Option<String>) -> Result<Receipt, RevocationError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Append { captured: Box::new(captured), actor, reply };
        self.sender.try_send(request).map_err(|_| RevocationError::Busy)?;
        self.await_answer(answer).await
    }

    /// Writes what became of a revocation, soon; an outcome that is lost leaves the event `captured`, which is replayed.
    pub async fn settle(&self, id: Uuid, outcome: Outcome, status: Option<i32>) {
        if self.sender.send(Request::Settle(Settled { id, outcome, status })).await.is_err() {
            tracing::warn!(%id, "the queue's task is gone; the outcome stays unknown");
        }
    }

    /// Declares that nothing more is captured before `epoch`, after every append and outcome before this call is published.
    /// Gives the barrier's number, the last of this incarnation.
    ///
    /// # Errors
    /// When the queue is out of reach or too slow, or another process took this gateway's name.
    pub async fn barrier(&self, epoch: i64) -> Result<i64, RevocationError> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(Request::Barrier { epoch, reply }).await.map_err(|_| RevocationError::Busy)?;
        self.await_answer(answer).await
    }

    async fn await_answer<T>(
        &self,
        answer: oneshot::Receiver<Result<T, RevocationError>>,
    ) -> Result<T, RevocationError> {
        match timeout(self.limit * 2, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(RevocationError::Busy),
            Err(_) => {
                let limit_ms = (self.limit * 2).as_millis();
                Err(RevocationError::Slow { what: "the queue".to_owned(), act: ACT, limit_ms })
            }
        }
    }
}

struct Registered {
    incarnation: Uuid,
    last_seq: i64,
}

struct Append {
    captured: Box<Captured>,
    actor: Option<String>,
    reply: Reply<Receipt>,
}

struct Worker {
    link: Link,
    queue: Arc<dyn Queue>,
    plan: String,
    gateway: String,
    install: Install,
    spool: Option<Spool>,
    registered: Option<Registered>,
    /// An outside queue was found fit for use since the start.
    is_checked: bool,
    /// The incarnation that is about to register: one identity for all its tries.
    next: Option<Uuid>,
    /// Earlier incarnations to be closed by the present one.
    unclosed: Vec<Unclosed>,
    unsettled: Vec<Settled>,
    collecting: Collecting,
}

impl Worker {
    fn new(setup: Setup) -> Self {
        let Setup { control, plan, gateway, limit, install, queue, spool } = setup;
        let spool = spool.filter(|_| queue.is_outside()).map(|path| Spool::new(path, &plan, &gateway));
        let collecting = Collecting::start(Arc::clone(&queue), &control, &plan, limit);
        Self {
            link: Link::new(control, "control", limit),
            queue,
            plan,
            gateway,
            install,
            spool,
            registered: None,
            is_checked: false,
            next: None,
            unclosed: Vec::new(),
            unsettled: Vec::new(),
            collecting,
        }
    }

    async fn work(mut self, mut receiver: mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        self.try_register().await;
        loop {
            let idle = self.registered.is_some() && self.unsettled.is_empty() && self.unclosed.is_empty();
            let pause = if idle { Duration::from_secs(3600) } else { RETRY_PAUSE };
            match timeout(pause, receiver.recv_many(&mut batch, BATCH)).await {
                Ok(0) => return,
                Ok(_) => self.handle(std::mem::take(&mut batch)).await,
                Err(_) => {
                    self.try_register().await;
                    self.try_settle().await;
                }
            }
        }
    }

    async fn try_register(&mut self) {
        if let Err(error) = self.ensure().await {
            tracing::warn!(%error, "not registered with the queue; revocations are refused until control is back");
        }
    }

    async fn try_settle(&mut self) {
        if let Err(error) = self.write_settled().await {
            tracing::warn!(%error, waiting = self.unsettled.len(), "outcomes wait for the queue");
        }
    }

    async fn handle(&mut self, batch: Vec<Request>) {
        let (mut appends, mut barriers) = (Vec::new(), Vec::new());
        for request in batch {
            match request {
                Request::Append { captured, actor, reply } => appends.push(Append { captured, actor, reply }),
                Request::Settle(settled) => self.unsettled.push(settled),
                Request::Barrier { epoch, reply } => barriers.push((epoch, reply)),
            }
        }
        let over = self.unsettled.len().saturating_sub(MOST_OUTCOMES);
        self.unsettled.drain(..over);
        if !appends.is_empty() {
            self.append(appends).await;
        }
        for (epoch, reply) in barriers {
            let _ = reply.send(self.barrier(epoch).await);
        }
        if !self.unsettled.is_empty() {
            self.try_settle().await;
        }
    }

    /// Tries twice: a connection that died since its last use costs nobody a revocation.
    async fn append(&mut self, appends: Vec<Append>) {
        let mut result = self.append_once(&appends).await;
        if matches!(&result, Err(error) if is_worth_another_try(error)) {
            result = self.append_once(&appends).await;
        }
        match result {
            Ok(receipts) => {
                for (append, receipt) in appends.into_iter().zip(receipts) {
                    // Its caller gave up and has answered 503: it was never forwarded.
                    if append.reply.send(Ok(receipt)).is_err() {
                        self.unsettled.push(Settled { id: receipt.id, outcome: Outcome::Refused, status: None });
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, count = appends.len(), "revocations could not be queued");
                let what = error.to_string();
                for append in appends {
                    let _ = append.reply.send(Err(RevocationError::NotQueued(what.clone())));
                }
            }
        }
    }

    async fn append_once(&mut self, appends: &[Append]) -> Result<Vec<Receipt>, RevocationError> {
        let kinds = appends
            .iter()
            .map(|append| Kind::Captured { what: append.captured.clone(), actor: append.actor.clone() })
            .collect();
        self.publish(kinds).await
    }

    async fn write_settled(&mut self) -> Result<(), RevocationError> {
        while !self.unsettled.is_empty() || !self.unclosed.is_empty() {
            self.publish(Vec::new()).await?;
        }
        Ok(())
    }

    /// After a connection that died since its last use there is a second try, as for an append.
    async fn barrier(&mut self, epoch: i64) -> Result<i64, RevocationError> {
        let mut result = self.barrier_once(epoch).await;
        if matches!(&result, Err(RevocationError::Query { .. })) {
            result = self.barrier_once(epoch).await;
        }
        result
    }

    async fn barrier_once(&mut self, epoch: i64) -> Result<i64, RevocationError> {
        self.write_settled().await?;
        let receipts = self.publish(vec![Kind::Barrier { epoch }]).await?;
        receipts.last().map(|receipt| receipt.seq).ok_or(RevocationError::Busy)
    }

    /// Publishes what is given, and with it what waits: closings first, outcomes last. Gives receipts of what was given.
    async fn publish(&mut self, kinds: Vec<Kind>) -> Result<Vec<Receipt>, RevocationError> {
        self.ensure().await?;
        let Some(Registered { incarnation, last_seq }) = self.registered else { return Err(RevocationError::Busy) };
        let closings: Vec<Kind> = self.unclosed.iter().map(Unclosed::closing).collect();
        let settled = self.unsettled.len().min(BATCH);
        let (given, first) = (kinds.len(), closings.len());
        let outcomes = self.unsettled[..settled].iter().map(|settled| {
            let Settled { id, outcome, status } = *settled;
            Kind::Outcome { of: id, outcome, status }
        });
        let kinds: Vec<Kind> = closings.into_iter().chain(kinds).chain(outcomes).collect();
        let (receipts, parcels) = self.number(kinds, incarnation, last_seq);
        let last = last_seq + i64::try_from(parcels.len()).expect("a batch is small");
        self.refuse_ended(incarnation).await?;
        if let Some(spool) = &mut self.spool {
            spool.before(incarnation, last, &parcels).await.map_err(RevocationError::NotQueued)?;
        }
        match self.queue.publish(Lane::Live, &parcels, Some(incarnation)).await {
            Ok(()) => {
                if let Some(registered) = &mut self.registered {
                    registered.last_seq = last;
                }
                self.unclosed.clear();
                self.unsettled.drain(..settled);
                if let Some(spool) = &mut self.spool {
                    spool.confirmed(incarnation);
                }
                self.collecting.wake();
                Ok(receipts[first..first + given].to_vec())
            }
            Err(error) => {
                self.failed(incarnation, last_seq, &error);
                Err(error)
            }
        }
    }

    /// A queue outside cannot refuse an ended incarnation; control can, whenever it answers. It is not needed to go on.
    async fn refuse_ended(&mut self, incarnation: Uuid) -> Result<(), RevocationError> {
        if !self.queue.is_outside() {
            return Ok(());
        }
        let ask = |client: Arc<Client>| async move { client.query_one(IS_ENDED, &[&incarnation]).await };
        match self.link.run("see whether another process has this gateway's name", ask).await {
            Ok(row) if row.get(0) => {
                let last_seq = self.registered.as_ref().map_or(0, |registered| registered.last_seq);
                self.failed(incarnation, last_seq, &RevocationError::Ended);
                Err(RevocationError::Ended)
            }
            _ => Ok(()),
        }
    }

    fn number(&self, kinds: Vec<Kind>, incarnation: Uuid, last_seq: i64) -> (Vec<Receipt>, Vec<Parcel>) {
        let at = jiff::Timestamp::now();
        let numbered = kinds.into_iter().zip(last_seq + 1..).map(|(kind, seq)| {
            let id = fresh_id();
            let from = Origin { gateway: self.gateway.clone(), incarnation, seq };
            let body = Message { id, plan: self.plan.clone(), from, at, kind }.to_bytes();
            (Receipt { id, incarnation, seq }, Parcel { id, body })
        });
        numbered.unzip()
    }

    /// Whether the messages are in the queue is unknown, or the incarnation was ended: nobody forwards them, and the next incarnation says
    /// so. What certainly was not stored leaves the numbers free.
    fn failed(&mut self, incarnation: Uuid, last_seq: i64, error: &RevocationError) {
        let is_ended = matches!(error, RevocationError::Ended);
        if error.is_certainly_undone() && !is_ended {
            return;
        }
        self.registered = None;
        let unclosed = Unclosed::at(incarnation, last_seq);
        if let Some(spool) = &mut self.spool {
            spool.failed(&unclosed);
        }
        self.unclosed.push(unclosed);
    }

    /// Registers a new incarnation when there is none; what an earlier process may have left on its way is published once more first.
    async fn ensure(&mut self) -> Result<(), RevocationError> {
        if self.registered.is_some() {
            return Ok(());
        }
        // Making the tables may take longer than a call: not before control answers.
        self.link.client(ACT).await?;
        match timeout(INSTALL, (self.install)()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(RevocationError::Install(error)),
            Err(_) => return Err(self.link.slow(ACT)),
        }
        if self.queue.is_outside() && !self.is_checked {
            self.queue.check().await?;
            self.is_checked = true;
        }
        let incarnation = match self.next {
            Some(incarnation) => incarnation,
            None => {
                let incarnation = Uuid::new_v4();
                self.recover(incarnation).await?;
                *self.next.insert(incarnation)
            }
        };
        let (plan, gateway) = (self.plan.clone(), self.gateway.clone());
        self.link
            .run("register a producer of revocations", |client| async move {
                client.execute(REGISTER, &[&incarnation, &plan, &gateway]).await
            })
            .await?;
        self.registered = Some(Registered { incarnation, last_seq: 0 });
        self.next = None;
        Ok(())
    }

    /// Messages of the spool are published again, under their own identities: they may have been confirmed and forwarded. Their
    /// incarnations are closed by the new one, which the file knows before control does.
    async fn recover(&mut self, incarnation: Uuid) -> Result<(), RevocationError> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let left = spool.left().await.map_err(RevocationError::NotQueued)?;
        for unclosed in &left {
            if !unclosed.parcels.is_empty() {
                self.queue.publish(Lane::Live, &unclosed.parcels, None).await?;
            }
        }
        spool.begin(incarnation).await.map_err(RevocationError::NotQueued)?;
        self.unclosed = left;
        Ok(())
    }
}

fn is_worth_another_try(error: &RevocationError) -> bool {
    !matches!(
        error,
        RevocationError::Slow { .. }
            | RevocationError::Unreachable { .. }
            | RevocationError::Queue { .. }
            | RevocationError::NotQueued(_)
    )
}

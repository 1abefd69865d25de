//! The producing end of the queue: one task per gateway that appends revocations to the control database, durably and in order.
//!
//! Numbers are contiguous within an incarnation because one task gives them and a whole batch commits or does not. A batch whose
//! outcome is unknown ends the incarnation: the next one waits for its commit, declares its events refused (their requests were
//! never forwarded), and counts from one again. Never waits longer than its bound.

use super::error::RevocationError;
use super::event::{Captured, Outcome};
use super::link::Link;
use crate::plan::Secret;
use futures_util::future::BoxFuture;
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
/// Most events in one commit.
const BATCH: usize = 64;
/// Making the tables is done once, and no caller waits for it longer than for an append.
const INSTALL: Duration = Duration::from_secs(15);
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const ACT: &str = "append a revocation to the queue";

const DURABLE: &str = "set synchronous_commit = on";
/// Waits for an append in flight of the incarnation it ends: that one holds the row's share lock until its commit.
const REGISTER: &str = "with ended as (
  update cutover.producer set ended_at = clock_timestamp() where plan = $2 and gateway = $3 and ended_at is null)
insert into cutover.producer (incarnation, plan, gateway) values ($1, $2, $3)";
const APPEND: &str = "with alive as (
  select 1 from cutover.producer where incarnation = $1 and ended_at is null for share)
insert into cutover.revocation (id, plan, incarnation, seq, live, epoch, door, chain, blue_seen, green_seen)
select e.id, $2, $1, e.seq, e.live, e.epoch, e.door, e.chain, e.blue_seen, e.green_seen
from alive, unnest($3::uuid[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::text[], $10::text[])
  as e (id, seq, live, epoch, door, chain, blue_seen, green_seen)";
const SETTLE: &str = "update cutover.revocation r set outcome = s.outcome, status = s.status
from unnest($1::uuid[], $2::text[], $3::int[]) as s (id, outcome, status)
where r.id = s.id and r.outcome = 'captured'";
const BARRIER: &str = "with alive as (
  select 1 from cutover.producer where incarnation = $1 and ended_at is null for share)
insert into cutover.barrier (plan, epoch, incarnation, last_seq) select $2, $3, $1, $4 from alive
on conflict (plan, epoch, incarnation) do update set last_seq = excluded.last_seq, at = clock_timestamp()";

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

/// A gateway's end of the queue; cheap to clone.
#[derive(Clone)]
pub struct Producer {
    sender: mpsc::Sender<Message>,
    limit: Duration,
}

enum Message {
    Append { captured: Box<Captured>, reply: oneshot::Sender<Result<Receipt, RevocationError>> },
    Settle { id: Uuid, outcome: Outcome, status: Option<i32> },
    Barrier { epoch: i64, reply: oneshot::Sender<Result<i64, RevocationError>> },
}

impl Producer {
    /// Starts the task; it registers `gateway` for `plan` as soon as control lets it, and ends with the last clone of the handle.
    #[must_use]
    pub fn start(control: &Secret, plan: &str, gateway: &str, limit: Duration, install: Install) -> Self {
        let (sender, receiver) = mpsc::channel(ROOM);
        let worker = Worker {
            link: Link::new(control.clone(), "control", limit),
            plan: plan.to_owned(),
            gateway: gateway.to_owned(),
            install,
            registered: None,
            unsettled: Vec::new(),
        };
        tokio::spawn(worker.work(receiver));
        Self { sender, limit }
    }

    /// Appends one revocation; when this returns it is durable.
    ///
    /// # Errors
    /// When control is out of reach or too slow. The revocation must then not be forwarded, and will not be replayed.
    pub async fn append(&self, captured: Captured) -> Result<Receipt, RevocationError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Append { captured: Box::new(captured), reply };
        self.sender.try_send(message).map_err(|_| RevocationError::Busy)?;
        self.await_answer(answer).await
    }

    /// Writes what became of a revocation, soon; an outcome that is lost leaves the event `captured`, which is replayed.
    pub async fn settle(&self, id: Uuid, outcome: Outcome, status: Option<i32>) {
        if self.sender.send(Message::Settle { id, outcome, status }).await.is_err() {
            tracing::warn!(%id, "the queue's task is gone; the outcome stays unknown");
        }
    }

    /// Declares that nothing more is captured before `epoch`, after every append and outcome before this call is written.
    /// Gives the last number of this incarnation.
    ///
    /// # Errors
    /// When control is out of reach or too slow, or another process took this gateway's name.
    pub async fn barrier(&self, epoch: i64) -> Result<i64, RevocationError> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(Message::Barrier { epoch, reply }).await.map_err(|_| RevocationError::Busy)?;
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
                Err(RevocationError::Slow { what: "control".to_owned(), act: ACT, limit_ms })
            }
        }
    }
}

struct Registered {
    incarnation: Uuid,
    last_seq: i64,
    client: Arc<Client>,
}

type Append = (Box<Captured>, oneshot::Sender<Result<Receipt, RevocationError>>);
type Settled = (Uuid, Outcome, Option<i32>);

struct Worker {
    link: Link,
    plan: String,
    gateway: String,
    install: Install,
    registered: Option<Registered>,
    unsettled: Vec<Settled>,
}

impl Worker {
    async fn work(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(BATCH);
        self.try_register().await;
        loop {
            let idle = self.registered.is_some() && self.unsettled.is_empty();
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
            tracing::warn!(%error, waiting = self.unsettled.len(), "outcomes wait for control");
        }
    }

    async fn handle(&mut self, batch: Vec<Message>) {
        let (mut appends, mut barriers) = (Vec::new(), Vec::new());
        for message in batch {
            match message {
                Message::Append { captured, reply } => appends.push((captured, reply)),
                Message::Settle { id, outcome, status } => self.unsettled.push((id, outcome, status)),
                Message::Barrier { epoch, reply } => barriers.push((epoch, reply)),
            }
        }
        if !appends.is_empty() {
            self.append(appends).await;
        }
        if !self.unsettled.is_empty() {
            self.try_settle().await;
        }
        for (epoch, reply) in barriers {
            let _ = reply.send(self.barrier(epoch).await);
        }
    }

    /// Tries twice: a connection that died since its last use costs nobody a revocation.
    async fn append(&mut self, appends: Vec<Append>) {
        let mut result = self.append_once(&appends).await;
        if matches!(&result, Err(error) if !matches!(error, RevocationError::Slow { .. } | RevocationError::Unreachable { .. }))
        {
            result = self.append_once(&appends).await;
        }
        match result {
            Ok(receipts) => {
                for ((_, reply), receipt) in appends.into_iter().zip(receipts) {
                    // Its caller gave up and has answered 503: it was never forwarded.
                    if reply.send(Ok(receipt)).is_err() {
                        self.unsettled.push((receipt.id, Outcome::Refused, None));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, count = appends.len(), "revocations could not be queued");
                let what = error.to_string();
                for (_, reply) in appends {
                    let _ = reply.send(Err(RevocationError::Install(what.clone())));
                }
            }
        }
    }

    async fn append_once(&mut self, appends: &[Append]) -> Result<Vec<Receipt>, RevocationError> {
        self.ensure().await?;
        let Some(registered) = &mut self.registered else {
            return Err(RevocationError::Busy);
        };
        let receipts = number(registered, appends.len());
        let work = insert(&registered.client, &self.plan, registered.incarnation, &receipts, appends);
        let written = match timeout(self.link.limit(), work).await {
            Ok(Ok(rows)) if rows == receipts.len() as u64 => {
                registered.last_seq += i64::try_from(receipts.len()).expect("a batch is small");
                return Ok(receipts);
            }
            Ok(Ok(_)) => Err(RevocationError::Ended),
            Ok(Err(source)) => Err(RevocationError::Query { what: "control".to_owned(), act: ACT, source }),
            Err(_) => Err(self.link.slow(ACT)),
        };
        // Whether they were written is unknown. Nobody forwards them; the next incarnation says so.
        self.unsettled.extend(receipts.iter().map(|receipt| (receipt.id, Outcome::Refused, None)));
        self.registered = None;
        self.link.drop_client().await;
        written
    }

    async fn ensure(&mut self) -> Result<(), RevocationError> {
        if self.registered.as_ref().is_some_and(|registered| !registered.client.is_closed()) {
            return Ok(());
        }
        self.registered = None;
        let client = self.link.client(ACT).await?;
        match timeout(INSTALL, (self.install)()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(RevocationError::Install(error)),
            Err(_) => return Err(self.link.slow(ACT)),
        }
        let incarnation = Uuid::new_v4();
        let (plan, gateway) = (self.plan.clone(), self.gateway.clone());
        self.link
            .run("register a producer of revocations", |client| async move {
                client.batch_execute(DURABLE).await?;
                client.execute(REGISTER, &[&incarnation, &plan, &gateway]).await
            })
            .await?;
        self.registered = Some(Registered { incarnation, last_seq: 0, client });
        Ok(())
    }

    async fn write_settled(&mut self) -> Result<(), RevocationError> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        self.ensure().await?;
        let (mut ids, mut outcomes, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
        for (id, outcome, status) in &self.unsettled {
            ids.push(*id);
            outcomes.push(outcome.as_str());
            statuses.push(*status);
        }
        self.link
            .run("write what became of revocations", |client| async move {
                client.execute(SETTLE, &[&ids, &outcomes, &statuses]).await
            })
            .await?;
        self.unsettled.clear();
        Ok(())
    }

    async fn barrier(&mut self, epoch: i64) -> Result<i64, RevocationError> {
        self.write_settled().await?;
        self.ensure().await?;
        let Some(Registered { incarnation, last_seq, .. }) = self.registered else {
            return Err(RevocationError::Busy);
        };
        let plan = self.plan.clone();
        let rows = self
            .link
            .run("write the barrier of revocations", |client| async move {
                client.execute(BARRIER, &[&incarnation, &plan, &epoch, &last_seq]).await
            })
            .await?;
        if rows == 1 {
            return Ok(last_seq);
        }
        self.registered = None;
        Err(RevocationError::Ended)
    }
}

fn number(registered: &Registered, count: usize) -> Vec<Receipt> {
    let incarnation = registered.incarnation;
    (1..=count)
        .map(|offset| Receipt {
            id: Uuid::new_v4(),
            incarnation,
            seq: registered.last_seq + i64::try_from(offset).expect("a batch is small"),
        })
        .collect()
}

async fn insert(
    client: &Client,
    plan: &str,
    incarnation: Uuid,
    receipts: &[Receipt],
    appends: &[Append],
) -> Result<u64, tokio_postgres::Error> {
    let ids: Vec<Uuid> = receipts.iter().map(|receipt| receipt.id).collect();
    let seqs: Vec<i64> = receipts.iter().map(|receipt| receipt.seq).collect();
    let captured: Vec<&Captured> = appends.iter().map(|(captured, _)| captured.as_ref()).collect();
    let lives: Vec<&str> = captured.iter().map(|what| what.live.as_str()).collect();
    let epochs: Vec<i64> = captured.iter().map(|what| what.epoch).collect();
    let doors: Vec<&str> = captured.iter().map(|what| what.door.as_str()).collect();
    let chains: Vec<serde_json::Value> =
        captured.iter().map(|what| serde_json::to_value(&what.chain).expect("a chain is plain data")).collect();
    let blues: Vec<&str> = captured.iter().map(|what| what.blue.as_str()).collect();
    let greens: Vec<&str> = captured.iter().map(|what| what.green.as_str()).collect();
    client.execute(APPEND, &[&incarnation, &plan, &ids, &seqs, &lives, &epochs, &doors, &chains, &blues, &greens]).await
}

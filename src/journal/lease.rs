//! The lease: one run at a time per control database, and a new term for each process that takes it.
//!
//! The lease says who *should* act, so that two people do not start two runs; the term, raised when it is taken, is what fences.
//! That is why an expired lease may be taken without being named by the next run of the same plan: if its holder was only
//! paused, every act of it fails as superseded. Times are the control server's and are information, not fences; that the
//! holder's session is gone (its advisory lock is free) is a hint of the same kind.

use super::error::{JournalError, LeaseHolder};
use super::schema;
use super::store::Journal;
use crate::database::term::{Term, raise};
use crate::plan::Secret;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

const READ: &str = "select id, plan, holder, released_at is null,
  extract(epoch from clock_timestamp() - acquired_at)::bigint,
  extract(epoch from clock_timestamp() - renewed_at)::bigint,
  clock_timestamp() - renewed_at > make_interval(secs => ttl_ms / 1000.0)
from cutover.lease";
const TAKE: &str = "update cutover.lease set id = $1, plan = $2, holder = $3, ttl_ms = $4, term = null, nonce = null,
  acquired_at = clock_timestamp(), renewed_at = clock_timestamp(), released_at = null, pause_asked_at = null,
  pause_asked_by = null";
const STAMP: &str = "update cutover.lease set term = $2, nonce = $3 where id = $1 and released_at is null";
const RENEW: &str = "update cutover.lease set renewed_at = clock_timestamp() where id = $1 and released_at is null
returning pause_asked_by";
const ASK: &str = "update cutover.lease set pause_asked_at = clock_timestamp(), pause_asked_by = $2
where id = $1 and released_at is null";
const RELEASE: &str = "update cutover.lease set released_at = clock_timestamp() where id = $1 and released_at is null";
const LOCK: &str = "select pg_advisory_lock($1)";
const TRY_LOCK: &str = "select pg_try_advisory_xact_lock($1)";
/// A renewal also brings word of a request to park, so it comes at least this often.
const WORD: Duration = Duration::from_secs(1);

/// What a process asks the lease for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The plan's name.
    pub plan: String,
    /// Who we are, for people: `user@host pid 123`.
    pub holder: String,
    /// How long the lease outlives its last renewal.
    pub ttl: Duration,
    /// The lease to take over, by name.
    pub take_over: Option<Uuid>,
}

/// The lease, held and renewed in the background until it is released or dropped.
#[derive(Debug)]
pub struct Lease {
    id: Uuid,
    term: Term,
    url: Secret,
    lost: watch::Receiver<bool>,
    pause: watch::Receiver<Option<String>>,
    renewing: JoinHandle<()>,
}

impl Lease {
    /// Its id, as `--take-over` would name it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The term in which its holder acts.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whether another process was seen to hold it; every act of ours then fails as superseded.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Answers who asked its holder to park, as soon as somebody did; never, once the lease is gone.
    pub fn pause_asked(&self) -> impl Future<Output = String> + Send + use<> {
        let mut pause = self.pause.clone();
        async move {
            let asked = pause.wait_for(Option::is_some).await.ok().and_then(|by| by.clone());
            match asked {
                Some(by) => by,
                None => std::future::pending().await,
            }
        }
    }

    /// Gives it back, so that the next run need not wait for it to expire.
    ///
    /// # Errors
    /// When the control database does not answer: the lease then expires by itself.
    pub async fn release(self) -> Result<(), JournalError> {
        self.renewing.abort();
        let client = schema::control(&self.url).await?;
        client.execute(RELEASE, &[&self.id]).await.map_err(JournalError::server("release the lease"))?;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Journal {
    /// Takes the lease and raises the term in control and in each of `sides` that knows terms: from then on every older
    /// process is fenced.
    ///
    /// # Errors
    /// `Locked` when it is held and may not be taken; `Term` or `Server` when a database does not answer: the lease is then
    /// given back.
    pub async fn acquire(&self, claim: &Claim, sides: &[&Client]) -> Result<Lease, JournalError> {
        let mut client = schema::control(self.url()).await?;
        let id = take(&mut client, claim).await?;
        client.execute(LOCK, &[&lock_key(id)]).await.map_err(JournalError::server("take the lease"))?;
        let term = match stamp(&client, id, sides).await {
            Ok(term) => term,
            Err(error) => {
                // If this fails too, the lease expires by itself.
                let _ = client.execute(RELEASE, &[&id]).await;
                return Err(error);
            }
        };
        let ((tell_lost, lost), (tell_pause, pause)) = (watch::channel(false), watch::channel(None));
        let tell = Tell { lost: tell_lost, pause: tell_pause };
        let renewing = tokio::spawn(renew(self.url().clone(), client, id, (claim.ttl / 3).min(WORD), tell));
        Ok(Lease { id, term, url: self.url().clone(), lost, pause, renewing })
    }

    /// Who holds the lease now, if anybody.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn lease_holder(&self) -> Result<Option<LeaseHolder>, JournalError> {
        let (holder, held, _) = self.look_at_lease().await?;
        Ok(held.then_some(holder))
    }

    /// Who is at work on `plan`: its lease is held and has been renewed within its time to live.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn at_work(&self, plan: &str) -> Result<Option<LeaseHolder>, JournalError> {
        let (holder, held, silent) = self.look_at_lease().await?;
        Ok(Some(holder).filter(|holder| held && !silent && holder.plan == plan))
    }

    /// Asks the holder of `lease` to park; durable when it returns. The holder sees it at its next renewal, within a second or
    /// two, and nobody who takes the lease later does. False when the lease was given back or taken meanwhile.
    ///
    /// # Errors
    /// When the server does not answer: whether it was asked is unknown, and asking again is harmless.
    pub async fn ask_to_pause(&self, lease: Uuid, by: &str) -> Result<bool, JournalError> {
        let client = schema::control(self.url()).await?;
        let asked = client.execute(ASK, &[&lease, &by]).await;
        Ok(asked.map_err(JournalError::server("ask for a pause"))? == 1)
    }

    async fn look_at_lease(&self) -> Result<(LeaseHolder, bool, bool), JournalError> {
        let client = schema::control(self.url()).await?;
        let row = client.query_one(READ, &[]).await.map_err(JournalError::server("look at the lease"))?;
        Ok(standing(&row))
    }
}

async fn take(client: &mut Client, claim: &Claim) -> Result<Uuid, JournalError> {
    let failed = || JournalError::server("take the lease");
    let id = Uuid::new_v4();
    let ttl_ms = i64::try_from(claim.ttl.as_millis()).unwrap_or(i64::MAX);
    let transaction = client.transaction().await.map_err(failed())?;
    let row = transaction.query_one(&format!("{READ} for update"), &[]).await.map_err(failed())?;
    let (holder, held, silent) = standing(&row);
    if held {
        let gone = silent || session_is_gone(&transaction, holder.lease).await?;
        if !may_take(claim, &holder, gone) {
            return Err(JournalError::Locked(holder));
        }
    }
    transaction.execute(TAKE, &[&id, &claim.plan, &claim.holder, &ttl_ms]).await.map_err(failed())?;
    transaction.commit().await.map_err(failed())?;
    Ok(id)
}

/// A held lease is taken by naming it, or, when its holder seems gone, by the same plan's next run.
fn may_take(claim: &Claim, holder: &LeaseHolder, gone: bool) -> bool {
    match claim.take_over {
        Some(named) => named == holder.lease,
        None => gone && claim.plan == holder.plan,
    }
}

async fn session_is_gone(transaction: &Transaction<'_>, lease: Uuid) -> Result<bool, JournalError> {
    let row = transaction.query_one(TRY_LOCK, &[&lock_key(lease)]).await;
    Ok(row.map_err(JournalError::server("look at the lease"))?.get(0))
}

async fn stamp(client: &Client, id: Uuid, sides: &[&Client]) -> Result<Term, JournalError> {
    let term = raise(client, sides).await?;
    let stamped = client.execute(STAMP, &[&id, &term.term, &term.nonce]).await;
    if stamped.map_err(JournalError::server("take the lease"))? == 1 {
        return Ok(term);
    }
    let row = client.query_one(READ, &[]).await.map_err(JournalError::server("look at the lease"))?;
    Err(JournalError::Locked(standing(&row).0))
}

/// The holder, whether the lease is held, and whether it has not been renewed for its time to live.
fn standing(row: &Row) -> (LeaseHolder, bool, bool) {
    let holder = LeaseHolder {
        lease: row.get(0),
        plan: row.get(1),
        holder: row.get(2),
        age_s: row.get(4),
        silent_s: row.get(5),
    };
    (holder, row.get(3), row.get(6))
}

/// The key of the advisory lock that a lease's session holds while it lives.
fn lock_key(lease: Uuid) -> i64 {
    let (high, _) = lease.as_u64_pair();
    high.cast_signed()
}

/// What the holder of a lease is told about it.
struct Tell {
    lost: watch::Sender<bool>,
    pause: watch::Sender<Option<String>>,
}

/// Renews until another holder is seen. A control database that is away is tried again at each beat.
async fn renew(url: Secret, mut client: Client, id: Uuid, every: Duration, tell: Tell) {
    let mut beat = interval(every.max(Duration::from_millis(100)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if client.is_closed() && reconnect(&url, &mut client, id).await.is_err() {
            continue;
        }
        match client.query_opt(RENEW, &[&id]).await {
            Ok(None) => {
                tracing::warn!(lease = %id, "the lease was taken over or released");
                let _ = tell.lost.send(true);
                return;
            }
            Ok(Some(row)) => {
                let _ = tell.pause.send(row.get(0));
            }
            Err(error) => tracing::warn!(lease = %id, %error, "the lease could not be renewed"),
        }
    }
}

async fn reconnect(url: &Secret, client: &mut Client, id: Uuid) -> Result<(), JournalError> {
    *client = schema::control(url).await?;
    client.execute(LOCK, &[&lock_key(id)]).await.map_err(JournalError::server("renew the lease"))?;
    Ok(())
}

//! The log of one run in the control database: each record in one transaction that holds our term.
//!
//! Calls `database::term`. Outlives a broken connection for a bounded time; never writes a record twice.

use super::error::JournalError;
use super::record::{Entry, Fields, Kind, Log, Record, record_hash};
use super::schema;
use super::store::{RunInfo, read_records};
use crate::database::term::{Term, TermError, hold};
use crate::plan::Secret;
use jiff::Timestamp;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

const CLOCK: &str = "select clock_timestamp()";
const INSERT: &str = "insert into cutover.record (run, seq, at, term, kind, step, body, hash)
values ($1, $2, $3, $4, $5, $6, $7::text::json, $8)";
const FINISH: &str = "update cutover.run set finished_at = $2 where id = $1";
/// How long a reader or a writer outwaits a control database that is away.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// The log of one run; one process writes it at a time, by its term.
#[derive(Debug)]
pub struct RunLog {
    url: Secret,
    run: RunInfo,
    term: Term,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    /// Seq and hash of the last record; none while it is not known (after a cut or a broken connection).
    tail: Option<(i64, [u8; 32])>,
}

impl RunLog {
    pub(super) fn new(url: Secret, client: Client, run: RunInfo, term: Term) -> Self {
        Self { url, run, term, inner: Mutex::new(Inner { client, tail: None }) }
    }

    /// The run's header.
    #[must_use]
    pub fn info(&self) -> &RunInfo {
        &self.run
    }

    /// Tries once; a record that an earlier try may have left is recognised by its place and content.
    async fn try_append(&self, inner: &mut Inner, entry: &Entry, tried: Option<i64>) -> Result<Record, Failure> {
        self.reconnect(inner).await.map_err(|error| Failure { error, at_seq: tried })?;
        // Taken out, so that a future dropped half-way leaves "not known" behind.
        let (seq, hash) = match inner.tail.take() {
            Some(tail) => tail,
            None => match self.reload(&inner.client, entry, tried).await {
                Ok(Reloaded::Landed(record)) => return Ok(record),
                Ok(Reloaded::Tail(seq, hash)) => (seq, hash),
                Err(error) => return Err(Failure { error, at_seq: tried }),
            },
        };
        self.write(&mut inner.client, entry, seq + 1, &hash)
            .await
            .map_err(|error| Failure { error, at_seq: Some(seq + 1) })
    }

    async fn try_read(&self, inner: &mut Inner) -> Result<Vec<Record>, JournalError> {
        self.reconnect(inner).await?;
        read_records(&inner.client, &self.run).await
    }

    async fn reconnect(&self, inner: &mut Inner) -> Result<(), JournalError> {
        if inner.client.is_closed() {
            inner.client = schema::control(&self.url).await?;
        }
        Ok(())
    }

    async fn reload(&self, client: &Client, entry: &Entry, tried: Option<i64>) -> Result<Reloaded, JournalError> {
        let records = read_records(client, &self.run).await?;
        let Some(last) = records.last() else { return Ok(Reloaded::Tail(0, self.run.header_hash)) };
        let same = (last.kind, &last.step, &last.body) == (entry.kind, &entry.step, &entry.body);
        if Some(last.seq) == tried && last.term == self.term.term && same {
            return Ok(Reloaded::Landed(last.clone()));
        }
        Ok(Reloaded::Tail(last.seq, last.hash))
    }

    async fn write(
        &self,
        client: &mut Client,
        entry: &Entry,
        seq: i64,
        previous: &[u8; 32],
    ) -> Result<Record, JournalError> {
        let failed = || JournalError::server("write a record");
        let transaction = client.transaction().await.map_err(failed())?;
        hold(&transaction, &self.term).await?;
        let at: Timestamp = transaction.query_one(CLOCK, &[]).await.map_err(failed())?.get(0);
        let record = insert(&transaction, self.run.id, &self.term, entry, (seq, at, previous)).await?;
        if entry.kind == Kind::RolledBack {
            transaction.execute(FINISH, &[&self.run.id, &at]).await.map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())?;
        Ok(record)
    }
}

enum Reloaded {
    Landed(Record),
    Tail(i64, [u8; 32]),
}

/// An append that failed, and the place it may have been written to.
struct Failure {
    error: JournalError,
    at_seq: Option<i64>,
}

async fn insert(
    transaction: &Transaction<'_>,
    run: Uuid,
    term: &Term,
    entry: &Entry,
    (seq, at, previous): (i64, Timestamp, &[u8; 32]),
) -> Result<Record, JournalError> {
    let (kind, step, body, term) = (entry.kind.as_str(), entry.step.as_deref(), entry.body.to_string(), term.term);
    let hash = record_hash(previous, run, &Fields { seq, at, term, kind, step, body: &body });
    transaction
        .execute(INSERT, &[&run, &seq, &at, &term, &kind, &step, &body, &hash.as_slice()])
        .await
        .map_err(JournalError::server("write a record"))?;
    Ok(Record { seq, at, term, kind: entry.kind, step: entry.step.clone(), body: entry.body.clone(), hash })
}

/// Whether the failure is the connection's and may pass, rather than an answer.
fn is_passing(error: &JournalError) -> bool {
    let answered = |source: &tokio_postgres::Error| {
        // Class 57P is a server going down or coming up; every other answer is an answer.
        source.as_db_error().is_some_and(|db| !db.code().code().starts_with("57P"))
    };
    match error {
        JournalError::Server { source, .. } | JournalError::Term(TermError::Server { source, .. }) => !answered(source),
        JournalError::Connect(_) => true,
        _ => false,
    }
}

impl Log for RunLog {
    fn run(&self) -> Uuid {
        self.run.id
    }

    fn term(&self) -> Term {
        self.term
    }

    async fn records(&self) -> Result<Vec<Record>, JournalError> {
        let mut inner = self.inner.lock().await;
        let end = Instant::now() + PATIENCE;
        loop {
            // A connection may be broken before we hear of it, so a reader outwaits that as a writer does.
            match self.try_read(&mut inner).await {
                Err(error) if is_passing(&error) && Instant::now() < end => sleep(POLL).await,
                answer => return answer,
            }
        }
    }

    async fn append(&self, entry: Entry) -> Result<Record, JournalError> {
        let mut inner = self.inner.lock().await;
        let end = Instant::now() + PATIENCE;
        let mut tried = None;
        loop {
            match self.try_append(&mut inner, &entry, tried).await {
                Ok(record) => {
                    inner.tail = Some((record.seq, record.hash));
                    return Ok(record);
                }
                Err(failure) if is_passing(&failure.error) && Instant::now() < end => {
                    tracing::warn!(error = %failure.error, "the control database is away; the record is tried again");
                    tried = failure.at_seq.or(tried);
                    sleep(POLL).await;
                }
                Err(failure) => return Err(failure.error),
            }
        }
    }
}

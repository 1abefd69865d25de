//! The journal in the control database: its runs, and reading them with their hash chain checked.
//!
//! Calls `database::client` and `database::term`. Writing records is `run_log`'s, the lease is `lease`'s.

use super::error::JournalError;
use super::lease::Lease;
use super::record::{Entry, Fields, Kind, Log, Record, header_hash, record_hash};
use super::run_log::RunLog;
use super::schema;
use super::state::{Corruption, RunState};
use crate::database::sql::literal;
use crate::database::term::{Term, hold};
use crate::plan::Secret;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

const RUN_COLUMNS: &str = "select id, plan, digest, header::text, started_at, finished_at from cutover.run";
const INSERT_RUN: &str = "insert into cutover.run (id, plan, digest, header, started_at)
values ($1, $2, $3, $4::text::json, clock_timestamp()) on conflict (plan) where finished_at is null do nothing";
const RECORDS: &str =
    "select seq, at, term, kind, step, body::text, hash from cutover.record where run = $1 order by seq";

/// A run as its header says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunInfo {
    /// Its id; everything we create carries it.
    pub id: Uuid,
    /// The plan's name.
    pub plan: String,
    /// The plan's digest.
    pub digest: String,
    /// The plan with its named files, the schema fingerprints and the tool's version, as they were at the start.
    pub header: Value,
    /// When it began, by the control server's clock.
    pub started_at: Timestamp,
    /// When it was over, by the control server's clock.
    pub finished_at: Option<Timestamp>,
    #[serde(skip)]
    pub(super) header_hash: [u8; 32],
}

/// A record as it is stored, whole or not: for people who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the run.
    pub seq: i64,
    /// The control server's clock.
    pub at: Timestamp,
    /// The term of the process that wrote it.
    pub term: i64,
    /// What it says.
    pub kind: String,
    /// The step it is about, for kinds of a step.
    pub step: Option<String>,
    /// Details, as text.
    pub body: String,
}

/// What a person runs on control to end the unfinished run of a plan whose journal is damaged, once nothing of it is left.
#[must_use]
pub fn end_by_hand(plan: &str) -> String {
    let plan = literal(plan);
    format!("update cutover.run set finished_at = clock_timestamp() where plan = {plan} and finished_at is null;")
}

/// The journal of a control database.
#[derive(Debug)]
pub struct Journal {
    url: Secret,
    client: Client,
}

impl Journal {
    /// Opens the journal, creating its tables where they are missing.
    ///
    /// # Errors
    /// When the server cannot be reached or the tables cannot be brought to this version.
    pub async fn open(url: &Secret) -> Result<Self, JournalError> {
        let mut client = schema::control(url).await?;
        schema::migrate(url, &mut client).await?;
        Ok(Self { url: url.clone(), client })
    }

    /// Opens the journal for looking only: none when it was never created.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn look(url: &Secret) -> Result<Option<Self>, JournalError> {
        let client = schema::control(url).await?;
        let exists = schema::exists(&client).await?;
        Ok(exists.then(|| Self { url: url.clone(), client }))
    }

    /// The newest run of a plan, over or not.
    ///
    /// # Errors
    /// When the server does not answer or a header is damaged.
    pub async fn last_run(&self, plan: &str) -> Result<Option<RunInfo>, JournalError> {
        let query = format!("{RUN_COLUMNS} where plan = $1 order by finished_at is null desc, started_at desc limit 1");
        let row = self.client.query_opt(&query, &[&plan]).await.map_err(JournalError::server("look for the run"))?;
        row.map(run_info).transpose()
    }

    /// A run's records with the hash chain checked from the header on.
    ///
    /// # Errors
    /// `Corrupt` with the first bad place; `Server` when the records cannot be read.
    pub async fn records(&self, run: &RunInfo) -> Result<Vec<Record>, JournalError> {
        read_records(&self.client, run).await
    }

    /// A run's records as they are stored, unchecked.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn stored(&self, run: &RunInfo) -> Result<Vec<Stored>, JournalError> {
        let rows = self.client.query(RECORDS, &[&run.id]).await.map_err(JournalError::server("read the records"))?;
        Ok(rows.iter().map(stored).collect())
    }

    /// A run's state: its records, checked and folded.
    ///
    /// # Errors
    /// As for [`Self::records`], and when a record cannot follow the ones before it.
    pub async fn state(&self, run: &RunInfo) -> Result<RunState, JournalError> {
        Ok(RunState::fold(&self.records(run).await?)?)
    }

    /// Checks a run's journal: the chain and the fold. Says how many records there are.
    ///
    /// # Errors
    /// `Corrupt` with the first bad place.
    pub async fn check(&self, run: &RunInfo) -> Result<usize, JournalError> {
        let records = self.records(run).await?;
        RunState::fold(&records)?;
        Ok(records.len())
    }

    /// Begins a run under our lease. `header` is stored as it is and must be free of secrets; `opening` says who and how
    /// (verb, overrides).
    ///
    /// # Errors
    /// `Unfinished` when a run of this plan is not over; `Term` when another process took over.
    pub async fn begin(
        &self,
        lease: &Lease,
        plan: &str,
        digest: &str,
        header: &Value,
        opening: Value,
    ) -> Result<RunLog, JournalError> {
        let mut client = schema::control(&self.url).await?;
        let id = Uuid::new_v4();
        if !insert_run(&mut client, &lease.term(), id, (plan, digest, &header.to_string())).await? {
            let run = self.last_run(plan).await?.map_or(id, |run| run.id);
            return Err(JournalError::Unfinished { run });
        }
        let run = self.last_run(plan).await?.filter(|run| run.id == id);
        self.enter(run.ok_or(JournalError::Closed)?, lease, client, opening).await
    }

    /// Continues the plan's unfinished run under our lease; none when there is none.
    ///
    /// # Errors
    /// `Changed` when it was begun under another digest; `Corrupt` when it is damaged.
    pub async fn resume(
        &self,
        lease: &Lease,
        plan: &str,
        digest: &str,
        opening: Value,
    ) -> Result<Option<RunLog>, JournalError> {
        let Some(run) = self.last_run(plan).await?.filter(|run| run.finished_at.is_none()) else {
            return Ok(None);
        };
        if run.digest != digest {
            return Err(JournalError::Changed { run: run.id, was: run.digest, now: digest.to_owned() });
        }
        self.check(&run).await?;
        let client = schema::control(&self.url).await?;
        self.enter(run, lease, client, opening).await.map(Some)
    }

    async fn enter(&self, run: RunInfo, lease: &Lease, client: Client, opening: Value) -> Result<RunLog, JournalError> {
        let log = RunLog::new(self.url.clone(), client, run, lease.term());
        log.append(Entry::of_run(Kind::Opened, opening)).await?;
        Ok(log)
    }

    pub(super) fn url(&self) -> &Secret {
        &self.url
    }
}

async fn insert_run(
    client: &mut Client,
    term: &Term,
    id: Uuid,
    (plan, digest, header): (&str, &str, &str),
) -> Result<bool, JournalError> {
    let failed = || JournalError::server("begin a run");
    let transaction = client.transaction().await.map_err(failed())?;
    hold(&transaction, term).await?;
    let inserted = transaction.execute(INSERT_RUN, &[&id, &plan, &digest, &header]).await.map_err(failed())?;
    transaction.commit().await.map_err(failed())?;
    Ok(inserted == 1)
}

fn run_info(row: Row) -> Result<RunInfo, JournalError> {
    let (id, plan, digest, text): (Uuid, String, String, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let header =
        serde_json::from_str(&text).map_err(|_| Corruption { seq: 0, why: "the header is not JSON".to_owned() })?;
    let header_hash = header_hash(id, &plan, &digest, &text);
    Ok(RunInfo { id, plan, digest, header, started_at: row.get(4), finished_at: row.get(5), header_hash })
}

/// Reads a run's records in order and checks each one's place and hash.
pub(super) async fn read_records(client: &Client, run: &RunInfo) -> Result<Vec<Record>, JournalError> {
    let rows = client.query(RECORDS, &[&run.id]).await.map_err(JournalError::server("read the records"))?;
    let mut records: Vec<Record> = Vec::with_capacity(rows.len());
    for row in rows {
        let (seq, previous) = records.last().map_or((1, run.header_hash), |last| (last.seq + 1, last.hash));
        let record = read_record(&row, run.id, &previous, seq).map_err(|why| Corruption { seq, why })?;
        records.push(record);
    }
    Ok(records)
}

fn stored(row: &Row) -> Stored {
    let (seq, at, term) = (row.get(0), row.get(1), row.get(2));
    Stored { seq, at, term, kind: row.get(3), step: row.get(4), body: row.get(5) }
}

fn read_record(row: &Row, run: Uuid, previous: &[u8; 32], expected: i64) -> Result<Record, String> {
    let Stored { seq, at, term, kind, step, body } = stored(row);
    let stored: Vec<u8> = row.get(6);
    if seq != expected {
        return Err(format!("the record is missing; the next one there has seq {seq}"));
    }
    let hash = record_hash(previous, run, &Fields { seq, at, term, kind: &kind, step: step.as_deref(), body: &body });
    if stored != hash {
        return Err("the hash does not fit: this record, the one before it or the header was changed".to_owned());
    }
    let kind = Kind::parse(&kind).ok_or_else(|| format!("this version knows no record of kind {kind:?}"))?;
    let body = serde_json::from_str(&body).map_err(|_| "the body is not JSON".to_owned())?;
    Ok(Record { seq, at, term, kind, step, body, hash })
}

//! The row `cutover.capture` on the captured side: whose capture it is, what the tables looked like before it, where it begins.

use super::{Capture, CaptureError, Logged, Relations};
use crate::plan::TableName;
use tokio_postgres::error::SqlState;
use tokio_postgres::{GenericClient, Transaction};
use uuid::Uuid;

const CREATE: &str = "create table if not exists cutover.capture (
  singleton boolean primary key default true check (singleton),
  run uuid not null,
  slot text not null,
  nonce uuid not null,
  relations text not null,
  logged text not null,
  server text,
  start_lsn pg_lsn,
  skip_lsn pg_lsn,
  mark bigint not null default 0,
  first_mark bigint not null default 0)";
const READ: &str =
    "select run, slot, nonce, relations, (start_lsn - '0/0'::pg_lsn)::bigint, (skip_lsn - '0/0'::pg_lsn)::bigint,
  logged, server, first_mark
from cutover.capture";
const NOTE: &str = "insert into cutover.capture (run, slot, nonce, relations, logged) values ($1, $2, $3, $4, $5)
on conflict (singleton) do update set nonce = excluded.nonce, relations = excluded.relations, logged = excluded.logged
where capture.run = excluded.run and capture.start_lsn is null";

pub(super) struct Noted {
    pub(super) run: Uuid,
    pub(super) nonce: Uuid,
    pub(super) relations: Relations,
    /// Set once the capture stands.
    pub(super) start: Option<i64>,
    pub(super) skip: Option<i64>,
    /// What triggers log; nothing for a slot.
    pub(super) logged: Logged,
    /// The server, and its timeline, on which a trigger log began.
    pub(super) server: Option<String>,
    /// The mark of a trigger log at which reading begins.
    pub(super) first_mark: i64,
}

impl Capture {
    /// Notes, before anything is made, what the tables look like, and draws a nonce. A capture that stands is not noted again.
    pub(super) async fn note(
        &self,
        transaction: &Transaction<'_>,
        tables: &[TableName],
        logged: &Logged,
    ) -> Result<Uuid, CaptureError> {
        transaction.batch_execute(CREATE).await.map_err(self.server("create table cutover.capture"))?;
        let relations = self.relations(transaction, tables).await?;
        let relations = serde_json::to_string(&relations).expect("plain text is JSON");
        let logged = serde_json::to_string(logged).expect("plain text is JSON");
        let nonce = Uuid::new_v4();
        let written = transaction.execute(NOTE, &[&self.run, &self.name(), &nonce, &relations, &logged]).await;
        match written.map_err(self.server("note the capture"))? {
            1 => Ok(nonce),
            _ => Err(CaptureError::Foreign { side: self.side, what: "another capture is noted".into() }),
        }
    }

    pub(super) async fn noted(&self, client: &impl GenericClient) -> Result<Option<Noted>, CaptureError> {
        let row = match client.query_opt(READ, &[]).await {
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
            other => other.map_err(self.server("read cutover.capture"))?,
        };
        let unreadable = |error: serde_json::Error| CaptureError::Foreign {
            side: self.side,
            what: format!("cutover.capture: {error}"),
        };
        row.map(|row| {
            Ok(Noted {
                run: row.get(0),
                nonce: row.get(2),
                relations: serde_json::from_str(row.get(3)).map_err(unreadable)?,
                start: row.get(4),
                skip: row.get(5),
                logged: serde_json::from_str(row.get(6)).map_err(unreadable)?,
                server: row.get(7),
                first_mark: row.get(8),
            })
        })
        .transpose()
    }
}

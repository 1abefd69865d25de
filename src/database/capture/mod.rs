//! Capture: which rows are touched on a serving side, noted there from before the first snapshot of the copy until green is left or final.
//!
//! Two ways: a publication and a logical slot, or triggers that write a log where decoding is not to be had. The plan says which; what
//! stands, and whether it is whole, is answered alike for both. Owns the row `cutover.capture` on the captured side, which carries the
//! run's id. May call `term` and `sql`. Never reads a change: `level` does.

mod error;
mod identity;
mod note;
mod pending;
mod relations;
mod retention;
mod skip;
mod slot;
mod triggers;

pub use error::CaptureError;
pub use relations::{RelationState, Relations, TableNameKey};
pub use retention::{Kept, Room, WalLimits, room};
pub use skip::Opened;
pub use triggers::{Logged, LoggedTable};
pub(in crate::database) use triggers::{NONCE_RELATION, let_go};

use super::pgoutput::Lsn;
use super::term::{self, Term};
use crate::plan::{CaptureMethod, Side, TableName};
use std::time::Duration;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

/// Transactions of this server, in any database, for whose end a new capture may be waiting.
const BLOCKERS: &str = "select format('backend %s (%s, database %s, since %s)', pid, coalesce(nullif(application_name, ''), usename), datname, xact_start)
from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
union all select format('prepared transaction %s (database %s)', gid, database) from pg_prepared_xacts
limit 5";

/// A capture that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The captured side.
    pub side: Side,
    /// What keeps the list of changes.
    pub method: CaptureMethod,
    /// Its name: of slot and publication, and of the target's position.
    pub name: String,
    /// Drawn when the list was made; the other side's progress carries it.
    pub nonce: Uuid,
    /// Where reading begins: where the list began, or what was skipped to since.
    pub start: Lsn,
    /// The tables before the list was made.
    pub relations: Relations,
    /// What triggers log of each of them; nothing for a slot.
    pub logged: Logged,
}

/// What stands on a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureStanding {
    /// Nothing of ours.
    Absent,
    /// Begun and not finished; starting again finishes it.
    Partial,
    /// Capturing, and every older transaction has ended.
    Present(Captured),
    /// Something of our name is not ours.
    Foreign(String),
    /// It stood, and cannot deliver every change any more.
    Lost(String),
}

/// The capture of one run on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// The run.
    pub run: Uuid,
    /// The side it captures: blue to keep green level, green for the way back.
    pub side: Side,
    /// What keeps the list of changes there.
    pub method: CaptureMethod,
}

impl Capture {
    /// `cutover_` and the first twelve hex digits of the run; green's ends in `_back`, since both sides may live in one server, which
    /// names a slot only once.
    #[must_use]
    pub fn name(&self) -> String {
        let run = &self.run.simple().to_string()[..12];
        match self.side {
            Side::Blue => format!("cutover_{run}"),
            Side::Green => format!("cutover_{run}_back"),
        }
    }

    /// Makes what captures, and waits until a snapshot taken from now on misses nothing that it does not deliver. Finds what an earlier
    /// call has made. `bound` is for each of its waits for transactions of others.
    ///
    /// # Errors
    /// See [`CaptureError`]; called again, it goes on.
    pub async fn start(
        &self,
        client: &mut Client,
        term: &Term,
        tables: &[TableName],
        bound: Duration,
    ) -> Result<Captured, CaptureError> {
        match self.verify(client).await? {
            CaptureStanding::Present(captured) => return Ok(captured),
            CaptureStanding::Foreign(what) => return Err(CaptureError::Foreign { side: self.side, what }),
            CaptureStanding::Lost(why) => return Err(CaptureError::Lost { side: self.side, why }),
            CaptureStanding::Absent | CaptureStanding::Partial => {}
        }
        match self.method {
            CaptureMethod::Slot => self.start_slot(client, term, tables, bound).await?,
            CaptureMethod::Triggers => self.start_log(client, term, tables, bound).await?,
        }
        match self.verify(client).await? {
            CaptureStanding::Present(captured) => Ok(captured),
            other => Err(CaptureError::Lost { side: self.side, why: format!("just made, it was found {other:?}") }),
        }
    }

    /// What stands on the side; read-only.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn verify(&self, client: &impl GenericClient) -> Result<CaptureStanding, CaptureError> {
        let noted = self.noted(client).await?;
        if let Some(noted) = noted.as_ref().filter(|noted| noted.run != self.run) {
            return Ok(CaptureStanding::Foreign(format!("run {} captures this database", noted.run)));
        }
        match self.method {
            CaptureMethod::Slot => self.slot_standing(client, noted).await,
            CaptureMethod::Triggers => self.log_standing(client, noted).await,
        }
    }

    /// Removes what captures and the row of this run; what is absent is done. Foreign things are left alone and reported.
    ///
    /// # Errors
    /// When somebody keeps it in use and does not end, or the server refuses.
    pub async fn stop(&self, client: &mut Client, term: &Term) -> Result<(), CaptureError> {
        if let CaptureStanding::Foreign(what) = self.verify(client).await? {
            return Err(CaptureError::Foreign { side: self.side, what });
        }
        match self.method {
            CaptureMethod::Slot => self.stop_slot(client, term).await?,
            CaptureMethod::Triggers => self.stop_log(client, term).await?,
        }
        let transaction = client.transaction().await.map_err(self.server("begin"))?;
        term::hold(&transaction, term).await?;
        let drop = transaction.batch_execute("drop table if exists cutover.capture").await;
        drop.map_err(self.server("drop table cutover.capture"))?;
        self.forget_identities(&transaction).await?;
        transaction.commit().await.map_err(self.server("drop table cutover.capture"))
    }

    async fn blocked(
        &self,
        client: &Client,
        what: impl Into<String>,
        bound: Duration,
    ) -> Result<CaptureError, CaptureError> {
        let rows = client.query(BLOCKERS, &[]).await.map_err(self.server("name the blockers"))?;
        let blockers: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let blockers = if blockers.is_empty() { "they have just ended".to_owned() } else { blockers.join("; ") };
        Ok(CaptureError::Blocked { side: self.side, what: what.into(), waited_s: bound.as_secs(), blockers })
    }

    fn server(&self, what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> CaptureError + use<> {
        let side = self.side;
        move |source| CaptureError::Server { side, what, source }
    }
}

//! The register: which side is served. One row in each of blue and green; the row of the side being left is the one place of
//! decision.
//!
//! A side is served only while its own register is open. Every change is a compare-and-set from the row's own state and epoch
//! ([`Change`]), so of two who change it at once exactly one wins, and an unknown outcome is resolved by writing against it
//! ([`recover`]), never by reading. [`decide`] says what may be concluded from reading both rows. May call `plan` for [`Side`].
//! Never moves traffic and never creates triggers: the fence does that, with the SQL of [`Change::raise_sql`] in its own message.
//!
//! A gateway reads the rows with its own login, and settles a hold without an owner through one narrow function ([`keep_open`]);
//! [`grant_sql`] is all that this login needs.

mod decision;

pub use decision::{Decision, Seen, decide};

use crate::database::sql::{ident, literal};
use crate::database::term::{Term, TermError, hold};
use crate::plan::Side;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

const CREATE: &str = "create schema if not exists cutover;
create table if not exists cutover.register (
  singleton boolean primary key default true check (singleton),
  side text not null check (side in ('blue', 'green')),
  epoch bigint not null check (epoch >= 0),
  nonce uuid not null,
  state text not null check (state in ('open', 'sealed', 'closed')),
  fence_pid integer,
  opened_lsn pg_lsn,
  opened_at timestamptz,
  opened_snapshot pg_snapshot);
create or replace function cutover.keep_open(proposed bigint, by uuid)
  returns table (side text, epoch bigint, nonce uuid, state text, fence_pid integer)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $cutover$
begin
  update cutover.register r set epoch = proposed, nonce = by, fence_pid = null
   where r.state = 'open' and r.epoch < proposed;
  return query select r.side, r.epoch, r.nonce, r.state, r.fence_pid from cutover.register r;
end $cutover$;
revoke all on function cutover.keep_open from public";
const KEEP_OPEN: &str = "select side, epoch, nonce, state, fence_pid from cutover.keep_open($1, $2)";
const INSERT: &str = "insert into cutover.register (side, epoch, nonce, state) values ($1, $2, $3, $4)
on conflict (singleton) do nothing";
const READ: &str = "select side, epoch, nonce, state, fence_pid from cutover.register";
/// In the very transaction that opens: nobody but us can have written before its commit, and whoever goes on later finds it where it counts.
const OPENS: &str =
    "opened_lsn = pg_current_wal_insert_lsn(), opened_at = clock_timestamp(), opened_snapshot = pg_current_snapshot()";
const OPENING: &str =
    "select (opened_lsn - '0/0'::pg_lsn)::bigint, (opened_at at time zone 'utc')::text, opened_snapshot::text
from cutover.register where opened_lsn is not null";
const NOTE_FENCE: &str = "update cutover.register set fence_pid = $1 where state = 'open' and epoch = $2";

/// Something of our own in the log, behind what is confirmed; it locks nothing that others wait for.
const CONFIRM: &str =
    "begin; set local synchronous_commit = on; select pg_logical_emit_message(true, 'cutover.register', ''); commit";
/// Longest wait for the standbys that a commit waits for.
const STANDBYS: Duration = Duration::from_secs(10);

/// How often a recovery starts over because another changed the row meanwhile.
const RECOVERIES: u32 = 5;

/// Error code that a lost compare-and-set raises inside the seal's message.
pub const LOST_CODE: &str = "CUT01";

/// What a register says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The side is served.
    Open,
    /// The side has been left; its tables refuse every write.
    Sealed,
    /// The side has not opened yet.
    Closed,
}

impl State {
    /// The word in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Closed => "closed",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Open, Self::Sealed, Self::Closed].into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One side's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The side it belongs to.
    pub side: Side,
    /// Grows with every change.
    pub epoch: i64,
    /// Nonce of the proposal that made the last change.
    pub nonce: Uuid,
    /// What it says.
    pub state: State,
    /// Backend that holds, or held, the fence of this side; meaningful only with the fence's application name.
    pub fence_pid: Option<i32>,
}

/// Where a side's log ended before its first writer but us, when that was by its own clock, and what had been committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// Where its log stood.
    #[serde(rename = "opened_lsn")]
    pub lsn: i64,
    /// When, in UTC.
    #[serde(rename = "opened_at")]
    pub at: String,
    /// What had been committed.
    #[serde(rename = "opened_snapshot")]
    pub snapshot: String,
}

impl Register {
    /// What the row says of a side: of another than its own, that it is closed.
    #[must_use]
    pub fn seen_from(self, side: Side) -> Self {
        if self.side == side { self } else { Self { side, state: State::Closed, fence_pid: None, ..self } }
    }
}

/// Why a register could not be read or changed.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// The server refused or the connection broke; after a write, whether it was written is unknown: resolve it by [`recover`].
    #[error("{what} the register")]
    Server {
        /// What was tried.
        what: &'static str,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Another process has taken over; nothing was changed.
    #[error("{0}")]
    Term(#[from] TermError),
    /// There is no row: this database was never part of a cutover, or was fully undone.
    #[error("{what} the register: the database has none")]
    Missing {
        /// What was tried.
        what: &'static str,
    },
    /// Others kept changing it; nothing may be concluded.
    #[error("recover the register: others keep changing it")]
    Contended,
    /// A decision is read that standbys may not have; nothing may be concluded.
    #[error("confirm the decision in the register: the standbys that commits wait for have not followed within {} s", waited.as_secs())]
    Unconfirmed {
        /// How long they were waited for.
        waited: Duration,
    },
    /// The row holds a word that we never write.
    #[error("read the register: {word:?} is neither a side nor a state of ours")]
    Foreign {
        /// The word.
        word: String,
    },
}

impl RegisterError {
    fn server(what: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |source| Self::Server { what, source }
    }
}

/// Creates the table and the row of `side`, and leaves a row that stands already as it is: blue starts open, green closed.
///
/// `epoch` is 1 for blue and 0 for green in a first run; a later run after a full undo starts above every epoch that control
/// remembers, because participants refuse lower ones.
///
/// # Errors
/// When the server refuses.
pub async fn install(client: &impl GenericClient, side: Side, epoch: i64, nonce: Uuid) -> Result<(), RegisterError> {
    let state = if side == Side::Blue { State::Open } else { State::Closed };
    client.batch_execute(CREATE).await.map_err(RegisterError::server("create"))?;
    client
        .execute(INSERT, &[&side.as_str(), &epoch, &nonce, &state.as_str()])
        .await
        .map_err(RegisterError::server("install"))?;
    Ok(())
}

/// The row of a database, or none when it has no register.
///
/// # Errors
/// When the server does not answer, or the row holds words that are not ours.
pub async fn read(client: &impl GenericClient) -> Result<Option<Register>, RegisterError> {
    let row = match client.query_opt(READ, &[]).await {
        Err(error) if is_absent(&error) => return Ok(None),
        other => other.map_err(RegisterError::server("read"))?,
    };
    row.map(|row| from_row(&row)).transpose()
}

/// The same, as seen from one side. In a plan in place both sides are one database with one row: the other side than the row's own is
/// closed then, at the same epoch.
///
/// # Errors
/// As [`read`].
pub async fn read_of(client: &impl GenericClient, side: Side) -> Result<Option<Register>, RegisterError> {
    Ok(read(client).await?.map(|register| register.seen_from(side)))
}

/// When the side opened last, or none when it never did.
///
/// # Errors
/// When the server does not answer.
pub async fn opening(client: &impl GenericClient) -> Result<Option<Opening>, RegisterError> {
    let row = client.query_opt(OPENING, &[]).await.map_err(RegisterError::server("read"))?;
    Ok(row.map(|row| Opening { lsn: row.get(0), at: row.get(1), snapshot: row.get(2) }))
}

/// Makes a change of the one row of a plan in place, with our term held until its commit; true when it was made, false when the row says
/// something else.
///
/// # Errors
/// When another process took over, or the server does not answer; after the latter the outcome is unknown.
pub async fn change_held(client: &mut Client, term: &Term, change: &Change) -> Result<bool, RegisterError> {
    held(client, term, &change.update_sql()).await
}

/// Opens the other side in the one row of a plan in place, after it was sealed at `epoch` with `nonce`; answers and fails as
/// [`change_held`].
///
/// # Errors
/// As [`change_held`].
pub async fn hand_over(
    client: &mut Client,
    term: &Term,
    to: Side,
    epoch: i64,
    nonce: Uuid,
) -> Result<bool, RegisterError> {
    let (side, nonce) = (literal(to.as_str()), literal(&nonce.to_string()));
    let sql = format!(
        "update cutover.register set side = {side}, state = 'open', fence_pid = null, {OPENS}
         where side <> {side} and state = 'sealed' and epoch = {epoch} and nonce = {nonce}::uuid"
    );
    held(client, term, &sql).await
}

async fn held(client: &mut Client, term: &Term, update: &str) -> Result<bool, RegisterError> {
    let refused = || RegisterError::server("change");
    let transaction = client.transaction().await.map_err(refused())?;
    hold(&transaction, term).await?;
    let rows = transaction.execute(update, &[]).await.map_err(refused())?;
    transaction.commit().await.map_err(refused())?;
    Ok(rows == 1)
}

fn is_absent(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE) || error.code() == Some(&SqlState::INVALID_SCHEMA_NAME)
}

fn from_row(row: &tokio_postgres::Row) -> Result<Register, RegisterError> {
    let (side, state): (&str, &str) = (row.get(0), row.get(3));
    Ok(Register {
        side: side.parse().map_err(|_| RegisterError::Foreign { word: side.to_owned() })?,
        epoch: row.get(1),
        nonce: row.get(2),
        state: State::from_word(state).ok_or_else(|| RegisterError::Foreign { word: state.to_owned() })?,
        fence_pid: row.get(4),
    })
}

/// SQL that lets a gateway's login read the register and settle a hold, and nothing else of ours.
#[must_use]
pub fn grant_sql(role: &str) -> String {
    let role = ident(role);
    format!(
        "grant usage on schema cutover to {role}; grant select on cutover.register to {role};
grant execute on function cutover.keep_open(bigint, uuid) to {role}"
    )
}

/// Settles a hold whose owner does not come back, as [`recover`] does, for a login that may do nothing else: a register that is open
/// below `proposed` is open at `proposed` afterwards, and the flip of that epoch can decide no more. What it then says is the answer.
///
/// # Errors
/// When the server does not answer or there is no register: nothing may be concluded; refuse.
pub async fn keep_open(client: &impl GenericClient, proposed: i64, nonce: Uuid) -> Result<Register, RegisterError> {
    let row = client.query_opt(KEEP_OPEN, &[&proposed, &nonce]).await.map_err(RegisterError::server("settle"))?;
    from_row(&row.ok_or(RegisterError::Missing { what: "settle" })?)
}

/// Writes the backend that is about to fence this side, so that whoever takes over can end it. False when the register is no
/// longer open at `epoch`.
///
/// # Errors
/// When the server does not answer.
pub async fn note_fence(client: &impl GenericClient, epoch: i64, pid: i32) -> Result<bool, RegisterError> {
    let rows = client.execute(NOTE_FENCE, &[&pid, &epoch]).await.map_err(RegisterError::server("note the fence in"))?;
    Ok(rows == 1)
}

/// The epoch of a new flip: above both registers.
#[must_use]
pub fn propose(blue: &Register, green: &Register) -> i64 {
    blue.epoch.max(green.epoch) + 1
}

/// One change of a register, from what it must say to what it shall say. Only the changes of a cutover can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    from: State,
    from_epoch: i64,
    to: State,
    to_epoch: i64,
    nonce: Uuid,
}

impl Change {
    /// The decision: this side is left.
    #[must_use]
    pub fn seal(from_epoch: i64, to_epoch: i64, nonce: Uuid) -> Self {
        Self { from: State::Open, from_epoch, to: State::Sealed, to_epoch, nonce }
    }

    /// Against a decision: this side stays open, and whoever tries to seal it at `from_epoch` loses.
    #[must_use]
    pub fn keep_open(from_epoch: i64, to_epoch: i64, nonce: Uuid) -> Self {
        Self { from: State::Open, from_epoch, to: State::Open, to_epoch, nonce }
    }

    /// The side that was gone to starts to be served.
    #[must_use]
    pub fn open(from_epoch: i64, to_epoch: i64, nonce: Uuid) -> Self {
        Self { from: State::Closed, from_epoch, to: State::Open, to_epoch, nonce }
    }

    /// Going back before green is open: whoever tries to open it at `from_epoch` loses; the winner may unseal blue.
    #[must_use]
    pub fn keep_closed(from_epoch: i64, to_epoch: i64, nonce: Uuid) -> Self {
        Self { from: State::Closed, from_epoch, to: State::Closed, to_epoch, nonce }
    }

    /// A sealed side becomes one that can be opened: it is brought level for the way back, or for another flip.
    #[must_use]
    pub fn shut(from_epoch: i64, to_epoch: i64, nonce: Uuid) -> Self {
        Self { from: State::Sealed, from_epoch, to: State::Closed, to_epoch, nonce }
    }

    /// Blue is served again, after [`Change::keep_closed`] won on green.
    #[must_use]
    pub fn unseal(from_epoch: i64, to_epoch: i64, nonce: Uuid) -> Self {
        Self { from: State::Sealed, from_epoch, to: State::Open, to_epoch, nonce }
    }

    /// The epoch after the change.
    #[must_use]
    pub fn to_epoch(&self) -> i64 {
        self.to_epoch
    }

    /// The compare-and-set as one statement that changes one row or none.
    #[must_use]
    pub fn update_sql(&self) -> String {
        let opens =
            if self.from == State::Closed && self.to == State::Open { format!(", {OPENS}") } else { String::new() };
        format!(
            "update cutover.register set state = {}, epoch = {}, nonce = {}::uuid, fence_pid = null{opens} where state = {} and epoch = {} and {} > epoch",
            literal(self.to.as_str()),
            self.to_epoch,
            literal(&self.nonce.to_string()),
            literal(self.from.as_str()),
            self.from_epoch,
            self.to_epoch,
        )
    }

    /// The compare-and-set as a block that raises [`LOST_CODE`] when it changes nothing; for use inside one message with more.
    #[must_use]
    pub fn raise_sql(&self) -> String {
        format!(
            "do $cutover$ begin {}; if not found then raise exception 'the register is not {} at epoch {}' using errcode = '{LOST_CODE}'; end if; end $cutover$",
            self.update_sql(),
            self.from,
            self.from_epoch,
        )
    }

    /// Makes the change; true when it was made, false when the register said something else. Waits for a commit in flight, as
    /// long as the session's `lock_timeout` allows.
    ///
    /// # Errors
    /// When the server does not answer; then the outcome is unknown.
    pub async fn apply(&self, client: &impl GenericClient) -> Result<bool, RegisterError> {
        let rows = client.execute(&self.update_sql(), &[]).await.map_err(RegisterError::server("change"))?;
        Ok(rows == 1)
    }
}

/// How a recovery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// The side stays open, at the epoch of this register; no flip proposed before can decide any more.
    Kept(Register),
    /// The side is sealed: the decision was made, go on at the switch.
    Sealed(Register),
}

/// Resolves a hold of `side` without an owner, or a seal whose outcome is unknown, by writing against it: open below `proposed` becomes
/// open at `proposed`, unless the seal comes first. Whoever calls it may then act on the answer.
///
/// `proposed` is the epoch of the flip to be settled. A register already open there or above settles it too: the seal of that
/// flip compares with a lower epoch and can no longer win.
///
/// # Errors
/// When the server does not answer: nothing may be concluded; refuse.
pub async fn recover(
    client: &impl GenericClient,
    side: Side,
    proposed: i64,
    nonce: Uuid,
) -> Result<Recovered, RegisterError> {
    for _ in 0..RECOVERIES {
        let seen = read_of(client, side).await?.ok_or(RegisterError::Missing { what: "recover" })?;
        if seen.state != State::Open {
            confirm(client).await?;
            return Ok(Recovered::Sealed(seen));
        }
        if seen.epoch >= proposed {
            return Ok(Recovered::Kept(seen));
        }
        if Change::keep_open(seen.epoch, proposed, nonce).apply(client).await? {
            return Ok(Recovered::Kept(Register { epoch: proposed, nonce, fence_pid: None, ..seen }));
        }
    }
    Err(RegisterError::Contended)
}

/// Waits until every standby that commits wait for has what the register says. Whoever reads a decision that it did not make itself cannot know:
/// the wait of that commit may have been cut off, and a standby that is promoted without it would open the side again. A commit of our own
/// waits for the same standbys, later in the log.
///
/// # Errors
/// `Unconfirmed` when they do not follow in time, or when the server does not answer.
pub async fn confirm(client: &impl GenericClient) -> Result<(), RegisterError> {
    let confirmed = timeout(STANDBYS, client.batch_execute(CONFIRM)).await;
    confirmed
        .map_err(|_| RegisterError::Unconfirmed { waited: STANDBYS })?
        .map_err(RegisterError::server("confirm the decision in"))
}

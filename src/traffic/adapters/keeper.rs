//! The memory of systems that have none: where each stands, in the control database, changed only as an order may change it.
//!
//! A command or a proxy cannot refuse an order of the past. So whoever moves one writes the epoch down first, where every orchestrator on any
//! machine looks, and for as long as an act is under way nobody else begins one. Knows no commands and no proxies.

use crate::database::client::connect;
use crate::plan::{Secret, Side};
use crate::traffic::protocol::{Conflict, Order, State};
use crate::traffic::stand::{Objection, Stand, Verb};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// Pause between two looks at an act of somebody else.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

const FIRST: &str = "insert into cutover.system_stand (plan, system) values ($1, $2) on conflict do nothing";
const READ: &str = "select epoch, nonce, side, state,
  act is not null and act_until > clock_timestamp() as busy from cutover.system_stand where plan = $1 and system = $2";
const BEGIN: &str = "update cutover.system_stand set epoch = $3, nonce = $4, side = $5, state = $6, act = $7,
  act_until = clock_timestamp() + $8 * interval '1 millisecond' where plan = $1 and system = $2";
const OURS: &str = "select 1 from cutover.system_stand where plan = $1 and system = $2 and act = $3";
const END: &str = "update cutover.system_stand set act = null, act_until = null
where plan = $1 and system = $2 and act = $3 returning epoch, nonce, side, state, false as busy";

/// Remembers for the systems of one plan. One connection, opened when it is first needed.
#[derive(Clone)]
pub(super) struct Keeper {
    control: Secret,
    plan: String,
    client: Arc<Mutex<Option<Client>>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keeper of {}", self.plan)
    }
}

/// The right to act on a system, until its deadline.
#[derive(Debug)]
pub(super) struct Act {
    /// Where the system stood.
    pub(super) before: Stand,
    /// Where it stands by the order; written already.
    pub(super) next: Stand,
    token: Uuid,
}

/// Why nobody may act.
#[derive(Debug)]
pub(super) enum Unkept {
    /// A higher epoch was accepted, or this one from another proposal.
    Conflict(Conflict),
    /// Not now, or the memory itself cannot be reached.
    NotNow(String),
}

impl Keeper {
    pub(super) fn new(control: &Secret, plan: &str) -> Self {
        Self { control: control.clone(), plan: plan.to_owned(), client: Arc::default() }
    }

    /// Where a system stands.
    pub(super) async fn stand(&self, system: &str, bound: Duration) -> Result<Stand, Unkept> {
        let asked = self.with(async |client| client.query_opt(READ, &[&self.plan, &system]).await);
        let row = bounded(bound, "read where it stands", asked).await?;
        Ok(row.as_ref().map_or_else(|| Stand::first(State::Serving), stand_of))
    }

    /// Writes down where an order leads, and gives the right to carry it out. Outwaits the act of another, at most for `bound`.
    pub(super) async fn begin(&self, system: &str, verb: Verb, order: &Order, bound: Duration) -> Result<Act, Unkept> {
        let until = Instant::now() + bound;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let tried = self.with(async |client| self.try_begin(client, system, verb, order, bound).await);
            match bounded(left, "write down what is asked of it", tried).await? {
                Tried::Begun(act) => return Ok(act),
                Tried::Objected(objection, stand) => return Err(objected(objection, &stand)),
                Tried::Busy if Instant::now() + LOOK_AGAIN >= until => {
                    return Err(Unkept::NotNow("an earlier order is still being carried out".to_owned()));
                }
                Tried::Busy => sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn try_begin(
        &self,
        client: &mut Client,
        system: &str,
        verb: Verb,
        order: &Order,
        bound: Duration,
    ) -> Result<Tried, tokio_postgres::Error> {
        client.execute(FIRST, &[&self.plan, &system]).await?;
        let work = client.transaction().await?;
        let row = work.query_one(&format!("{READ} for update"), &[&self.plan, &system]).await?;
        let before = stand_of(&row);
        let next = match before.obey(verb, order) {
            Ok(next) => next,
            Err(objection) => return Ok(Tried::Objected(objection, before)),
        };
        if row.get("busy") {
            return Ok(Tried::Busy);
        }
        let (token, ms) = (Uuid::new_v4(), f64::from(u32::try_from(bound.as_millis()).unwrap_or(u32::MAX)));
        let (side, state) = (next.side.as_str(), word(next.state));
        work.execute(BEGIN, &[&self.plan, &system, &next.epoch, &next.nonce, &side, &state, &token, &ms]).await?;
        work.commit().await?;
        Ok(Tried::Begun(Act { before, next, token }))
    }

    /// Whether nobody has begun another act since; asked right before what cannot be called back.
    pub(super) async fn is_ours(&self, system: &str, act: &Act, bound: Duration) -> Result<bool, Unkept> {
        let asked = self.with(async |client| client.query_opt(OURS, &[&self.plan, &system, &act.token]).await);
        Ok(bounded(bound, "see that the order still stands", asked).await?.is_some())
    }

    /// Ends an act. A conflict when another has begun one since: whatever came of ours, it is not the last word.
    pub(super) async fn end(&self, system: &str, act: &Act, bound: Duration) -> Result<Stand, Unkept> {
        let ended = self.with(async |client| client.query_opt(END, &[&self.plan, &system, &act.token]).await);
        if let Some(row) = bounded(bound, "write down that it is done", ended).await? {
            return Ok(stand_of(&row));
        }
        let found = self.stand(system, bound).await?;
        Err(objected(Objection::Conflict("another order was begun meanwhile"), &found))
    }

    /// Runs `ask` on the one connection; a connection that failed, or whose call was given up, is closed and never used again.
    async fn with<T>(
        &self,
        ask: impl AsyncFnOnce(&mut Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, String> {
        let kept = self.client.lock().await.take().filter(|client| !client.is_closed());
        let mut client = match kept {
            Some(client) => client,
            None => connect(&self.control, "control").await.map_err(|error| error.to_string())?,
        };
        let answer = ask(&mut client).await.map_err(|error| format!("control said: {}", said(&error)))?;
        *self.client.lock().await = Some(client);
        Ok(answer)
    }
}

/// How a try to begin ended.
enum Tried {
    Begun(Act),
    Objected(Objection, Stand),
    /// Another acts.
    Busy,
}

async fn bounded<T>(bound: Duration, what: &str, asked: impl Future<Output = Result<T, String>>) -> Result<T, Unkept> {
    match timeout(bound, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(why)) => Err(Unkept::NotNow(format!("{what}: {why}"))),
        Err(_) => Err(Unkept::NotNow(format!("{what}: control did not answer in time"))),
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |answer| answer.message().to_owned())
}

fn objected(objection: Objection, stand: &Stand) -> Unkept {
    match objection {
        Objection::Conflict(error) => {
            Unkept::Conflict(Conflict { error: error.to_owned(), epoch: stand.epoch, nonce: stand.nonce })
        }
        Objection::NotNow(why) => Unkept::NotNow(why.to_owned()),
    }
}

/// The table's own checks keep other words out.
fn stand_of(row: &Row) -> Stand {
    let side = row.get::<_, &str>("side").parse().unwrap_or(Side::Blue);
    let found = row.get::<_, &str>("state");
    let states = [State::Serving, State::Prepared, State::Holding, State::Switched, State::Refusing];
    let state = states.into_iter().find(|state| word(*state) == found).unwrap_or(State::Refusing);
    Stand { epoch: row.get("epoch"), nonce: row.get("nonce"), side, state }
}

fn word(state: State) -> &'static str {
    match state {
        State::Serving => "serving",
        State::Prepared => "prepared",
        State::Holding => "holding",
        State::Switched => "switched",
        State::Refusing => "refusing",
    }
}

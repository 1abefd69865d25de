//! What the steps act with: the plan, and the way to each server. Opens connections, holds none.

use super::failure::fail;
use super::flip::Route;
use crate::database::capture::Capture;
use crate::database::client::connect;
use crate::engine::StepError;
use crate::plan::{Plan, Queue, Secret, Side, TableName};
use crate::revocations::{Ledger, queue};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Client;
use uuid::Uuid;

/// Longest wait for an answer of the queue of revocations.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);

/// The hands' common ground.
#[derive(Debug)]
pub struct World {
    /// The plan.
    pub plan: Plan,
    /// Speaks HTTP to the systems.
    pub http: reqwest::Client,
    /// Set when green does not answer and everything has to be done without it; nothing is asked of it then.
    pub gone: Option<Gone>,
    /// Repairs that a person allows in this call, by their names.
    pub allowed_repairs: BTreeSet<String>,
    /// The folder of PostgreSQL's programs, when a person names one.
    pub programs: Option<PathBuf>,
}

/// Why a green that does not answer may be left out: it serves nobody any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// A person says that it is cut off from every client, and how they know.
    Said(String),
    /// The plan's `isolate_green` cuts it off before anything opens without it.
    ByCommand,
}

impl World {
    /// A new connection to a side's database.
    ///
    /// # Errors
    /// When the server does not answer; nothing was changed, and it may pass.
    pub async fn side(&self, side: Side) -> Result<Client, StepError> {
        if side == Side::Green && self.gone.is_some() {
            return Err(StepError::stuck("green is cut off: nothing is asked of it", "cutover status PLAN"));
        }
        connect(self.url(side), side.as_str()).await.map_err(|error| fail("reach the server", error).retry())
    }

    /// The run's capture on a side, as the plan has it.
    #[must_use]
    pub fn capture(&self, run: Uuid, side: Side) -> Capture {
        Capture { run, side, method: self.plan.databases.of(side).capture }
    }

    /// A side's URL.
    #[must_use]
    pub fn url(&self, side: Side) -> &Secret {
        &self.plan.databases.of(side).url
    }

    /// Tables of the side being left that have another name on the other.
    #[must_use]
    pub fn renamed(&self, route: Route) -> BTreeMap<TableName, TableName> {
        let pairs = self.plan.carry.iter().filter_map(|(green, entry)| Some((entry.table.clone()?, green.clone())));
        match route {
            Route::Out => pairs.collect(),
            Route::Back => pairs.map(|(blue, green)| (green, blue)).collect(),
        }
    }

    /// The queue of revocations as seen when `from` is left, when the plan has one. In place nothing is said of it, and the gateway uses
    /// the default one.
    #[must_use]
    pub fn ledger(&self, from: Side) -> Option<Ledger> {
        let (control, name) = (&self.plan.control, &self.plan.name);
        let kind = match &self.plan.revocations {
            Some(revocations) => &revocations.queue,
            None if self.plan.databases.is_in_place && self.plan.gateway.is_some() => &Queue::Postgres,
            None => return None,
        };
        let queue = queue::open(kind, control, name, QUEUE_PATIENCE);
        Some(Ledger::over(queue, control, name, from, QUEUE_PATIENCE))
    }
}

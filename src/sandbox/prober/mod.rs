//! The independent prober: live load, a history of its own, probe rows on both databases, and a judge.
//!
//! Owns everything it concludes: it speaks to the gateway and the systems as clients do and to the databases as the application does,
//! and never asks the product how it went.

mod actions;
mod client;
mod control;
mod direct;
mod doors;
mod history;
mod holds;
mod ledger;
mod load;
mod rows;
mod rulings;
mod secrets;
mod sessions;
mod settle;
#[cfg(test)]
mod tests;
mod turns;
mod warm;
mod words;
mod writers;

pub(crate) use client::Doors;
pub use words::{Door, FlipSeen, Report, Seen, Switch};

use crate::plan::{Secret, Side};
use client::Client;
use history::History;
use reqwest::RequestBuilder;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;
use words::{Call, Kind};

/// Apps that are never deleted, so that there is always somebody to act.
const LASTING_APPS: usize = 12;
/// Longest wait for the systems at the start.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// What the prober needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where requests go.
    pub(crate) doors: Doors,
    /// Blue's database in the application's role.
    pub(crate) blue: Secret,
    /// Green's.
    pub(crate) green: Secret,
    /// What the gateway wants of a system that tells it of a revocation.
    pub(crate) revocations_token: Secret,
    /// Requests a second.
    pub(crate) rate: u32,
    /// Where the report is asked for, `127.0.0.1:port`.
    pub(crate) control: String,
    /// Folder of the history and the last report.
    pub(crate) folder: PathBuf,
    /// Whether both sides are one database: which of them writes is told by the answers then.
    pub(crate) is_in_place: bool,
}

/// Why the prober ended.
#[derive(Debug, Error)]
pub enum ProberError {
    /// Its folder or its control address cannot be used.
    #[error("start the prober: {0}")]
    Start(#[from] std::io::Error),
    /// The systems did not answer in time.
    #[error("start the prober: no app could be created on the dashboard within {0} s")]
    NoApps(u64),
}

/// The running prober.
struct Prober {
    client: Client,
    history: History,
    blue: Secret,
    green: Secret,
    revocations_token: Secret,
    report_file: PathBuf,
    is_in_place: bool,
}

impl Prober {
    fn url(&self, side: Side) -> &Secret {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }

    /// Sends one request; what its answer tells of where traffic is counts before it is ruled on.
    async fn call(&self, kind: Kind, request: RequestBuilder) -> Call {
        self.learnt(self.client.call(kind, request).await)
    }

    /// Asks whether a token is active, likewise.
    async fn introspect(&self, token: &str) -> Call {
        self.learnt(self.client.introspect(token).await)
    }

    fn learnt(&self, call: Call) -> Call {
        if let Some(origin) = call.origin() {
            self.history.lock().ledger.turns.saw(origin);
        }
        call
    }
}

/// Drives the load and answers for its report until the process ends.
///
/// # Errors
/// When the history cannot be written, the control address is taken, or the systems never answer.
pub(crate) async fn run(settings: Settings) -> Result<(), ProberError> {
    std::fs::create_dir_all(&settings.folder)?;
    let history = History::open(&settings.folder.join("history.jsonl"))?;
    let report_file = settings.folder.join("report.json");
    let Settings { doors, blue, green, revocations_token, is_in_place, .. } = settings;
    {
        let mut known = history.lock();
        (known.writers.by_answers, known.ledger.turns.is_in_place) = (is_in_place, is_in_place);
    }
    let client = Client::new(doors);
    let prober = Arc::new(Prober { client, history, blue, green, revocations_token, report_file, is_in_place });
    let listener = tokio::net::TcpListener::bind(&settings.control).await?;
    for side in [Side::Blue, Side::Green].into_iter().filter(|_| !is_in_place) {
        tokio::spawn(rows::probe_side(prober.clone(), side, prober.url(side).clone()));
    }
    create_lasting_apps(&prober).await?;
    warm::warm_up(&prober.client).await;
    tokio::spawn(load::drive(prober.clone(), settings.rate));
    Ok(axum::serve(listener, control::routes(prober)).await?)
}

/// Creates the first apps; what fails before the systems are up is not part of the history.
async fn create_lasting_apps(prober: &Prober) -> Result<(), ProberError> {
    let until = Instant::now() + START_PATIENCE;
    while prober.history.lock().ledger.apps.len() < LASTING_APPS {
        if Instant::now() > until {
            return Err(ProberError::NoApps(START_PATIENCE.as_secs()));
        }
        let before = prober.history.lock().ledger.apps.len();
        actions::create_app(prober, true).await;
        if prober.history.lock().ledger.apps.len() == before {
            prober.history.start_over();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

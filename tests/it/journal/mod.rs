//! The journal, the lease and the term row, against a real control database.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod chain;
mod lease;
mod run_log;
mod schema;
mod term;

use crate::harness::Place;
use cutover::journal::{Claim, Journal, JournalError, Lease, RunLog};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

const PLAN: &str = "hydra-1x-to-2x";
const DIGEST: &str = "sha256:one";

fn claim() -> Claim {
    Claim { plan: PLAN.to_owned(), holder: "me@here pid 1".to_owned(), ttl: Duration::from_secs(30), take_over: None }
}

fn naming(lease: Uuid) -> Claim {
    Claim { holder: "you@there pid 2".to_owned(), take_over: Some(lease), ..claim() }
}

async fn control() -> (Place, Journal) {
    let place = Place::shared("control").await;
    let journal = Journal::open(&place.url()).await.unwrap();
    (place, journal)
}

async fn begin(journal: &Journal, lease: &Lease) -> RunLog {
    journal.begin(lease, PLAN, DIGEST, &json!({ "plan": "text" }), json!({ "verb": "run" })).await.unwrap()
}

async fn resume(journal: &Journal, lease: &Lease) -> RunLog {
    journal.resume(lease, PLAN, DIGEST, json!({ "verb": "run" })).await.unwrap().expect("a run to continue")
}

/// What an append of a process that was taken over says.
fn is_superseded<T>(result: Result<T, JournalError>) -> bool {
    result.err().is_some_and(|error| error.is_superseded())
}

//! What must be true of the plan's invariants on blue: it can be asked, with our login's rights, and answers in the form that the plan says. Green
//! has no tables yet.

use super::{Findings, PATIENCE, Server, silent, unreachable};
use crate::database::invariants::{self, InvariantError};
use crate::plan::{Invariant, Side};
use std::error::Error;
use std::time::Duration;
use tokio_postgres::Client;

/// For one question; one that takes longer is not judged here.
const EACH: Duration = Duration::from_secs(5);

pub(super) async fn examine(blue: &Server<'_>, asked: &[Invariant]) -> Findings {
    let mut findings = Findings { server: blue.name, all: Vec::new() };
    // A connection of its own, since each is asked in a transaction.
    match invariants::session(blue.url, Side::Blue).await {
        Ok(mut client) => {
            let patience = PATIENCE + EACH * u32::try_from(asked.len()).unwrap_or(u32::MAX);
            if tokio::time::timeout(patience, ask(&mut client, asked, &mut findings)).await.is_err() {
                findings.all.push(silent(blue.name));
            }
        }
        Err(InvariantError::Connect(error)) => findings.all.push(unreachable(blue.name, &error)),
        Err(error) => findings.error(said(&error), "rows are compared in one order of both sides", String::new()),
    }
    findings
}

async fn ask(client: &mut Client, asked: &[Invariant], findings: &mut Findings) {
    for invariant in asked {
        let Err(error) = one(client, invariant).await else { continue };
        let what = format!("invariant {} cannot be asked: {}", invariant.name, said(&error));
        findings.error(what, "what blue does not answer, green's answer cannot be compared with", error.hint());
    }
}

async fn one(client: &mut Client, invariant: &Invariant) -> Result<(), InvariantError> {
    let transaction = invariants::begin(client, Side::Blue, EACH, None).await?;
    match invariants::examine(invariant, &transaction).await {
        Err(error) if error.is_late() => Ok(()),
        examined => examined,
    }
}

/// The server's own words, or ours about the form of the answer.
fn said(error: &InvariantError) -> String {
    let source = error.source().and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    let said = source.and_then(tokio_postgres::Error::as_db_error).map(|error| error.message().to_owned());
    said.unwrap_or_else(|| error.to_string())
}

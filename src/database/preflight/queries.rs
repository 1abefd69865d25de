//! What must be true of the plan's hot queries on blue: it can plan them, with our login's rights. Green has no tables yet.

use super::{Findings, PATIENCE, Server, silent, unreachable};
use crate::database::client::connect;
use crate::database::hot_queries::{self, QueryError};
use crate::plan::{HotQueries, Side};
use std::error::Error;
use tokio_postgres::Client;

pub(super) async fn examine(blue: &Server<'_>, hot: &HotQueries) -> Findings {
    let mut findings = Findings { server: blue.name, all: Vec::new() };
    // A connection of its own, since each query is planned in a transaction.
    match connect(blue.url, blue.name).await {
        Ok(mut client) => {
            if tokio::time::timeout(PATIENCE, ask(&mut client, hot, &mut findings)).await.is_err() {
                findings.all.push(silent(blue.name));
            }
        }
        Err(error) => findings.all.push(unreachable(blue.name, &error)),
    }
    findings
}

async fn ask(client: &mut Client, hot: &HotQueries, findings: &mut Findings) {
    for query in &hot.queries {
        let Err(error) = hot_queries::ask(client, Side::Blue, &query.name, &query.blue.text).await else { continue };
        let what = format!("hot query {} cannot be planned: {}", query.name, said(&error));
        let why = "what blue cannot plan, green's plan cannot be compared with";
        findings.error(what, why, error.hint());
    }
}

/// The server's own words.
fn said(error: &QueryError) -> String {
    let source = error.source().and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    let said = source.and_then(tokio_postgres::Error::as_db_error).map(|error| error.message().to_owned());
    said.unwrap_or_else(|| error.to_string())
}

//! What must be true of the servers before anything is touched: every question is asked, every finding told, none stops the others.
//!
//! Owns the order of the questions and the words of the findings. May call `client`, `catalog`-like reads of its own and `plan`. Reads
//! only; the one lock it takes is an advisory one, on a random key, to see whether two URLs lead to one database.

mod dirty;
mod flows;
mod green;
mod invariants;
mod jwt;
mod pair;
mod queries;
mod schema;
mod server;
mod standby;
mod tables;

use super::client::{ConnectError, connect};
use crate::plan::{CopyMethod, Plan, Secret};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Longest time that all questions to one server may take together.
const PATIENCE: Duration = Duration::from_secs(30);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing may be touched before it is mended.
    Error,
    /// A person must know it.
    Warning,
}

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where: `blue`, `green`, `control`, `standby`, `queue`.
    pub server: &'static str,
    /// What was found.
    pub what: String,
    /// What would go wrong.
    pub why: String,
    /// What to do about it.
    pub next: String,
}

/// Asks every server of the plan everything and tells all findings, errors first. `run` is the id of the run that may already have
/// claimed both sides; `programs` is the folder of PostgreSQL's programs, when a person names one.
pub async fn check(plan: &Plan, run: Option<&str>, programs: Option<&Path>) -> Vec<Finding> {
    let mut findings = Findings::default();
    let (control, blue, green) = tokio::join!(
        reach(&plan.control, "control"),
        reach(&plan.databases.blue.url, "blue"),
        reach(&plan.databases.green.url, "green")
    );
    let servers = [control, blue, green].map(|reached| reached.map_err(|finding| findings.all.push(finding)).ok());
    // In place green is blue's own database, and is asked nothing twice.
    let asked = if plan.databases.is_in_place { 2 } else { 3 };
    for server in servers[..asked].iter().flatten() {
        let asked = tokio::time::timeout(PATIENCE, server.examine(plan, run)).await;
        match asked {
            Ok(found) => findings.all.extend(found.all),
            Err(_) => findings.all.push(silent(server.name)),
        }
    }
    let [control, blue, green] = &servers;
    let green = &green.as_ref().filter(|_| !plan.databases.is_in_place);
    let (blue, control) = (&blue.as_ref(), &control.as_ref());
    for (one, other) in [(blue, green), (control, blue), (control, green)] {
        let (Some(one), Some(other)) = (one, other) else { continue };
        match tokio::time::timeout(PATIENCE, pair::examine(plan, one, other)).await {
            Ok(found) => findings.all.extend(found.all),
            Err(_) => findings.all.push(silent(other.name)),
        }
    }
    if let Some(blue) = blue
        && !plan.invariants.is_empty()
    {
        findings.all.extend(invariants::examine(blue, &plan.invariants).await.all);
    }
    if let Some(blue) = blue {
        findings.all.extend(jwt::examine(blue, plan).await.all);
    }
    findings.all.extend(flows::examine(plan).all);
    if let (Some(blue), Some(hot)) = (blue, &plan.hot_queries) {
        findings.all.extend(queries::examine(blue, hot).await.all);
    }
    if let (Some(blue), CopyMethod::Logical) = (blue, plan.copy.method) {
        findings.all.extend(schema::examine(blue, programs).await.all);
    }
    if let (Some(blue), Some(standby)) = (blue, &plan.copy.standby) {
        findings.all.extend(standby::examine(blue, standby).await.all);
    }
    findings.all.sort_by_key(|finding| finding.severity);
    findings.all
}

/// Asks blue the plan's questions for dirty rows; read-only. The run asks them again, with more time.
pub async fn dirty(plan: &Plan) -> Vec<Finding> {
    if plan.dirty.is_empty() {
        return Vec::new();
    }
    match connect(&plan.databases.blue.url, "blue").await {
        Ok(mut blue) => dirty::examine(&mut blue, &plan.dirty).await.all,
        // Told already, by the questions before.
        Err(_) => Vec::new(),
    }
}

/// A server that let us in, on two connections.
struct Server<'a> {
    name: &'static str,
    client: Client,
    second: Client,
    url: &'a Secret,
}

async fn reach<'a>(url: &'a Secret, name: &'static str) -> Result<Server<'a>, Finding> {
    let client = connect(url, name).await.map_err(|error| unreachable(name, &error))?;
    let second = connect(url, name).await.map_err(|error| unreachable(name, &error))?;
    Ok(Server { name, client, second, url })
}

impl Server<'_> {
    async fn examine(&self, plan: &Plan, run: Option<&str>) -> Findings {
        let mut findings = Findings { server: self.name, all: Vec::new() };
        server::examine(self, plan, &mut findings).await;
        if self.name != "control" {
            tables::examine(self, plan, run, &mut findings).await;
        }
        if self.name == "green" && plan.copy.prewarm {
            green::prewarm(&self.client, &mut findings).await;
        }
        findings
    }
}

/// Findings about one server, as they come.
#[derive(Default)]
struct Findings {
    server: &'static str,
    all: Vec<Finding>,
}

impl Findings {
    fn error(&mut self, what: impl Into<String>, why: &str, next: impl Into<String>) {
        self.add(Severity::Error, what.into(), why, next.into());
    }

    fn warning(&mut self, what: impl Into<String>, why: &str, next: impl Into<String>) {
        self.add(Severity::Warning, what.into(), why, next.into());
    }

    fn add(&mut self, severity: Severity, what: String, why: &str, next: String) {
        self.all.push(Finding { severity, server: self.server, what, why: why.to_owned(), next });
    }

    /// The answer of a question, or nothing and a finding that it could not be asked.
    fn answer<T>(&mut self, question: &str, answer: Result<T, tokio_postgres::Error>) -> Option<T> {
        answer.map_err(|error| self.unasked(question, &error)).ok()
    }

    fn unasked(&mut self, question: &str, error: &tokio_postgres::Error) {
        let said = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        let next = "give our login the right to look, or look at the server's log";
        self.error(format!("{question} could not be asked: {said}"), "what is not known is not assumed", next);
    }
}

fn silent(server: &'static str) -> Finding {
    Finding {
        severity: Severity::Error,
        server,
        what: format!("it did not answer within {} s", PATIENCE.as_secs()),
        why: "a server that is slow to look at is slow to fence".to_owned(),
        next: "look at what runs there".to_owned(),
    }
}

/// A connection that could not be had, told by its reason. Never names the URL.
fn unreachable(server: &'static str, error: &ConnectError) -> Finding {
    let source = std::error::Error::source(error);
    let refused = source.and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    let code = refused.and_then(tokio_postgres::Error::code).cloned();
    let said = refused.and_then(tokio_postgres::Error::as_db_error).map(|error| error.message().to_owned());
    let deepest = std::iter::successors(source, |error| std::error::Error::source(*error)).last();
    let said = said.or_else(|| deepest.map(ToString::to_string)).unwrap_or_else(|| error.to_string());
    let (what, next) = match code {
        None if matches!(error, ConnectError::Unusable { .. }) => (said, "correct the plan's URL"),
        Some(code) if code == SqlState::INVALID_PASSWORD || code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => (
            format!("it refuses our login: {said}"),
            "correct user and password in the plan's URL, or allow the login in pg_hba.conf",
        ),
        Some(code) if code == SqlState::INVALID_CATALOG_NAME => {
            (format!("it has no such database: {said}"), "correct the database in the plan's URL, or create it")
        }
        Some(code) if code == SqlState::TOO_MANY_CONNECTIONS => {
            (format!("it has no connection left: {said}"), "raise max_connections, or end sessions")
        }
        _ => (
            format!("no connection: {said}"),
            "correct host and port in the plan's URL; see that the server runs and may be reached",
        ),
    };
    let why = "nothing can be asked of it".to_owned();
    Finding { severity: Severity::Error, server, what, why, next: next.to_owned() }
}

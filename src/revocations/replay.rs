//! Killing chains on green as SQL, inside a transaction of the one worker that writes green. Idempotent; never commits.
//!
//! What an engine does is repeated in its effect: access tokens are deleted, refresh tokens and codes switched off, consents made
//! unusable, login sessions deleted. A consent's row is kept and marked as refused, because a batch runs without cascades and the
//! tokens of the chain still point at it.

use super::event::{Door, Event};
use super::shape::{Shape, ask};
use super::ways::Ways;
use std::collections::BTreeSet;
use tokio_postgres::Transaction;
use uuid::Uuid;

/// Written where an engine keeps a consent's error; any object other than `{}` means that the consent was not given.
const REVOKED: &str = r#"{"error":"consent_revoked"}"#;

/// What events kill, merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kills {
    requests: BTreeSet<String>,
    whole_requests: BTreeSet<String>,
    consents: BTreeSet<String>,
    sessions: BTreeSet<String>,
    signatures: BTreeSet<String>,
    access_until: Vec<(String, String)>,
    client_until: Vec<(String, String)>,
}

impl Kills {
    /// Merges what the events kill.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut kills = Self::default();
        for event in events {
            kills.add(event);
        }
        kills
    }

    fn add(&mut self, event: &Event) {
        let chain = &event.what.chain;
        match event.what.door {
            Door::Token => {
                self.requests.extend(chain.requests.iter().cloned());
                // One signature belongs to one request: where that is known, nothing more is to be asked.
                if chain.requests.is_empty() {
                    self.signatures.extend(chain.signatures.iter().cloned());
                }
            }
            Door::Consent => {
                self.whole_requests.extend(chain.requests.iter().chain(&chain.consents).cloned());
                self.consents.extend(chain.consents.iter().cloned());
            }
            Door::LoginSession | Door::Logout => self.sessions.extend(chain.sessions.iter().cloned()),
            Door::ClientTokens => add_until(&mut self.access_until, event),
            Door::ClientDelete => add_until(&mut self.client_until, event),
            // The new secret and state travel with the client's row.
            Door::ClientUpdate => {}
        }
    }
}

fn add_until(list: &mut Vec<(String, String)>, event: &Event) {
    if let Some(until) = &event.what.chain.until {
        list.extend(event.what.chain.clients.iter().map(|client| (client.clone(), until.clone())));
    }
}

/// Kills the chains of `events` on green: only rows that live and should not are changed. Gives their number: zero when all was dead already.
///
/// In a level batch it comes last, since the batch may have brought rows back from blue, with every effective event
/// ([`super::Ledger::effective_ids`]) that no batch of the same worker has applied before, and of the others those that the batch meets
/// ([`super::Touched`]).
///
/// # Errors
/// When the server refuses; the transaction is then lost. Isolate the event with [`replay_each`].
pub async fn replay(tx: &Transaction<'_>, ways: &Ways, events: &[Event]) -> Result<u64, tokio_postgres::Error> {
    // The plan's statements may look in the engine's tables for what is about to go there.
    let rows = ways.sql().revoke(tx, events).await?;
    Ok(rows + apply(tx, ways.shape(), &Kills::of(events)).await?)
}

/// What became of each event's replay: rows changed, or what its SQL said.
pub type Replayed = Vec<(Uuid, Result<u64, tokio_postgres::Error>)>;

/// Kills the chains of `events`, all at once if that works; otherwise one by one, each in a savepoint, so that one that cannot be
/// replayed does not keep the others. Rows changed are counted with the first event when all went at once.
///
/// # Errors
/// When the connection is lost; what one event's SQL says is in its own result.
pub async fn replay_each(
    tx: &Transaction<'_>,
    ways: &Ways,
    events: &[Event],
) -> Result<Replayed, tokio_postgres::Error> {
    match replay_apart(tx, ways, events).await? {
        Ok(rows) => {
            Ok(events.iter().enumerate().map(|(n, event)| (event.id, Ok(if n == 0 { rows } else { 0 }))).collect())
        }
        Err(error) => {
            tracing::warn!(%error, "revocations cannot be replayed together; one by one");
            let mut results = Vec::with_capacity(events.len());
            for event in events {
                results.push((event.id, replay_apart(tx, ways, std::slice::from_ref(event)).await?));
            }
            Ok(results)
        }
    }
}

/// In a savepoint: an event's own error is the inner result and leaves the transaction usable.
async fn replay_apart(
    tx: &Transaction<'_>,
    ways: &Ways,
    events: &[Event],
) -> Result<Result<u64, tokio_postgres::Error>, tokio_postgres::Error> {
    tx.batch_execute("savepoint cutover_replay").await?;
    let (replayed, end) = match replay(tx, ways, events).await {
        Err(error) if error.as_db_error().is_none() => return Err(error),
        Err(error) => (Err(error), "rollback to savepoint cutover_replay; release savepoint cutover_replay"),
        Ok(rows) => (Ok(rows), "release savepoint cutover_replay"),
    };
    tx.batch_execute(end).await?;
    Ok(replayed)
}

/// Applies kills; each statement touches only rows that still live.
async fn apply(tx: &Transaction<'_>, shape: &Shape, kills: &Kills) -> Result<u64, tokio_postgres::Error> {
    let mut kills = kills.clone();
    resolve_signatures(tx, shape, &mut kills).await?;
    let mut rows = 0;
    for statement in statements(shape, &kills) {
        rows += execute(tx, &statement).await?;
    }
    Ok(rows)
}

/// A token that neither side knew at capture, or that one side could not be asked for, may be known here by now.
async fn resolve_signatures(
    tx: &Transaction<'_>,
    shape: &Shape,
    kills: &mut Kills,
) -> Result<(), tokio_postgres::Error> {
    if kills.signatures.is_empty() {
        return Ok(());
    }
    let signatures: Vec<String> = kills.signatures.iter().cloned().collect();
    for row in ask(tx, &by_signature_sql(shape), &[&signatures]).await? {
        kills.requests.insert(row.get(0));
    }
    Ok(())
}

/// Request ids of the tokens that carry one of the stored signatures `$1`.
pub(super) fn by_signature_sql(shape: &Shape) -> String {
    let parts: Vec<String> = shape
        .tokens()
        .map(|table| format!("select request_id::text, signature::text from {table} where signature = any($1)"))
        .collect();
    parts.join(" union ")
}

/// A statement and its text-array parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    sql: String,
    arrays: Vec<Vec<String>>,
}

fn statements(shape: &Shape, kills: &Kills) -> Vec<Statement> {
    let mut list = Vec::new();
    let all: Vec<String> = kills.requests.union(&kills.whole_requests).cloned().collect();
    by_request(shape, all, false, &mut list);
    by_request(shape, kills.whole_requests.iter().cloned().collect(), true, &mut list);
    by_consent(shape, kills.consents.iter().cloned().collect(), &mut list);
    by_session(shape, kills.sessions.iter().cloned().collect(), &mut list);
    by_client(shape, &kills.access_until, false, &mut list);
    by_client(shape, &kills.client_until, true, &mut list);
    list
}

fn by_request(shape: &Shape, requests: Vec<String>, whole: bool, list: &mut Vec<Statement>) {
    if requests.is_empty() {
        return;
    }
    let mut add = |sql: String| list.push(Statement { sql, arrays: vec![requests.clone()] });
    if let Some(access) = shape.access() {
        add(format!("delete from {access} where request_id = any($1)"));
    }
    for table in shape.switched_off(whole) {
        add(format!("update {table} set active = false where request_id = any($1) and active"));
    }
}

fn by_consent(shape: &Shape, consents: Vec<String>, list: &mut Vec<Statement>) {
    if consents.is_empty() {
        return;
    }
    let mut add = |sql: String| list.push(Statement { sql, arrays: vec![consents.clone()] });
    if let Some(flow) = shape.flow() {
        add(format!(
            "update {flow} set state = 129, consent_error = '{REVOKED}', consent_remember = false where consent_challenge_id = any($1) and state in (4, 5, 6)"
        ));
    }
    if let Some(handled) = shape.consent_handled() {
        add(format!(
            "update {handled} set error = '{REVOKED}', remember = false where challenge = any($1) and error in ('', '{{}}')"
        ));
    }
}

/// Deletes sessions; what points at them is let go first, because a batch runs without cascades.
fn by_session(shape: &Shape, sessions: Vec<String>, list: &mut Vec<Statement>) {
    let (false, Some(session)) = (sessions.is_empty(), shape.session()) else {
        return;
    };
    for table in [shape.flow(), shape.login_request(), shape.consent_request()].into_iter().flatten() {
        let sql = format!("update {table} set login_session_id = null where login_session_id = any($1)");
        list.push(Statement { sql, arrays: vec![sessions.clone()] });
    }
    list.push(Statement { sql: format!("delete from {session} where id = any($1)"), arrays: vec![sessions] });
}

fn by_client(shape: &Shape, clients: &[(String, String)], whole: bool, list: &mut Vec<Statement>) {
    if clients.is_empty() {
        return;
    }
    let (ids, untils): (Vec<String>, Vec<String>) = clients.iter().cloned().unzip();
    let mut add = |sql: String| list.push(Statement { sql, arrays: vec![ids.clone(), untils.clone()] });
    if let Some(access) = shape.access() {
        add(format!("delete from {access} t using {}", of_clients(access, "")));
    }
    if whole {
        for table in shape.switched_off(true) {
            add(format!(
                "update {table} t set active = false from {} and t.active",
                of_clients(table, " and t.active")
            ));
        }
    }
}

/// Those of the clients `$1` that still have rows from before their times `$2`. Asked client by client through the index: most have none,
/// and by an estimate of all together the whole table would be read. The offset keeps the planner from making a join of it.
pub(super) fn clients_alive_sql(table: &str, and_alive: &str) -> String {
    format!(
        "select c.client, c.until from unnest($1::text[], $2::text[]) as c (client, until) where exists (
  select from {table} t where t.client_id = c.client and t.requested_at <= c.until::timestamp{and_alive} offset 0)"
    )
}

/// The rows `t` of clients from before their times.
fn of_clients(table: &str, and_alive: &str) -> String {
    format!(
        "({}) c where t.client_id = c.client and t.requested_at <= c.until::timestamp",
        clients_alive_sql(table, and_alive)
    )
}

async fn execute(tx: &Transaction<'_>, statement: &Statement) -> Result<u64, tokio_postgres::Error> {
    use tokio_postgres::types::{ToSql, Type};
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        statement.arrays.iter().map(|array| (array as &(dyn ToSql + Sync), Type::TEXT_ARRAY)).collect();
    tx.execute_typed(&statement.sql, &parameters).await
}

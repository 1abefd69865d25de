//! Proving that revocations hold on green: the chain is asked for and found inactive. Reads only.
//!
//! A status code proves nothing, and neither does absence on a side that never knew the chain: a signature unknown on both sides
//! is proved only when blue itself, under the fence, still does not know it.

pub use super::drained::{Drained, drained};
use super::event::{Door, Event, Seen};
use super::replay::{by_signature_sql, clients_alive_sql};
use super::shape::{Shape, ask};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::GenericClient;
use uuid::Uuid;

/// What a proof found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Events whose chains are dead on green.
    pub proved: Vec<Uuid>,
    /// Events that are not, with the reason.
    pub open: Vec<(Uuid, String)>,
}

/// Asks green, and blue under its fence, whether the chains of `events` are dead. The same connection may not serve both.
///
/// # Errors
/// When a server does not answer; nothing is proved then.
pub async fn prove(
    green: &impl GenericClient,
    green_shape: &Shape,
    blue_frozen: &impl GenericClient,
    blue_shape: &Shape,
    events: &[Event],
) -> Result<Proof, tokio_postgres::Error> {
    let mut alive = Alive::ask(green, green_shape, events).await?;
    alive.known_on_blue = known_signatures(blue_frozen, blue_shape, events).await?;
    alive.clients_differ = differing_clients(green, green_shape, blue_frozen, blue_shape, events).await?;
    Ok(alive.judge(events))
}

/// Asks green alone, before the hold: proves what needs no answer of blue's, so that the hold proves only the rest. A proof stands
/// until a batch touches the chain, and a batch kills again what it touches. Events that need blue under its fence are in neither
/// list.
///
/// # Errors
/// When green does not answer; nothing is proved then.
pub async fn prove_on_target(
    green: &impl GenericClient,
    shape: &Shape,
    events: &[Event],
) -> Result<Proof, tokio_postgres::Error> {
    let events: Vec<Event> = events.iter().filter(|event| !needs_blue(event)).cloned().collect();
    let alive = Alive::ask(green, shape, &events).await?;
    Ok(alive.judge(&events))
}

/// Asks the side that opens alone, when the other is gone for good: nothing comes from there any more, so what is not alive here stays
/// dead, whoever knew it.
///
/// # Errors
/// When the side does not answer; nothing is proved then.
pub async fn prove_alone(
    target: &impl GenericClient,
    shape: &Shape,
    events: &[Event],
) -> Result<Proof, tokio_postgres::Error> {
    let alive = Alive { is_alone: true, ..Alive::ask(target, shape, events).await? };
    Ok(alive.judge(events))
}

/// Whether a proof needs to know what blue says under its fence.
fn needs_blue(event: &Event) -> bool {
    match event.what.door {
        Door::Token => event.what.chain.requests.is_empty(),
        Door::ClientDelete | Door::ClientUpdate => true,
        Door::Consent | Door::LoginSession | Door::ClientTokens | Door::Logout => !event.what.chain.is_known(),
    }
}

/// What still lives.
#[derive(Default)]
struct Alive {
    requests: BTreeMap<String, String>,
    consents: BTreeSet<String>,
    sessions: BTreeSet<String>,
    signatures: BTreeMap<String, String>,
    clients: BTreeSet<(String, String)>,
    known_on_blue: BTreeSet<String>,
    clients_differ: BTreeSet<String>,
    /// The other side is gone: it brings nothing any more.
    is_alone: bool,
}

impl Alive {
    async fn ask(green: &impl GenericClient, shape: &Shape, events: &[Event]) -> Result<Self, tokio_postgres::Error> {
        let mut alive = Self {
            requests: living_requests(green, shape, requests(events)).await?,
            consents: living_consents(green, shape, consents(events)).await?,
            sessions: living_sessions(green, shape, sessions(events)).await?,
            clients: living_clients(green, shape, events).await?,
            ..Self::default()
        };
        alive.signatures = living_signatures(green, shape, signatures(events)).await?;
        Ok(alive)
    }

    fn judge(&self, events: &[Event]) -> Proof {
        let mut proof = Proof::default();
        for event in events {
            match self.objection(event) {
                None => proof.proved.push(event.id),
                Some(reason) => proof.open.push((event.id, reason)),
            }
        }
        proof
    }

    /// Why an event is not proved.
    fn objection(&self, event: &Event) -> Option<String> {
        let chain = &event.what.chain;
        for request in chain.requests.iter().chain(&chain.consents) {
            if let Some(table) = self.requests.get(request) {
                return Some(format!("request {request} is active in green's {table}"));
            }
        }
        if let Some(consent) = chain.consents.iter().find(|consent| self.consents.contains(*consent)) {
            return Some(format!("consent {consent} still stands on green"));
        }
        if let Some(session) = chain.sessions.iter().find(|session| self.sessions.contains(*session)) {
            return Some(format!("login session {session} still stands on green"));
        }
        if let Some(table) = chain.signatures.iter().find_map(|signature| self.signatures.get(signature)) {
            return Some(format!("the token itself is active in green's {table}"));
        }
        self.client_objection(event).or_else(|| self.absence_objection(event))
    }

    fn client_objection(&self, event: &Event) -> Option<String> {
        let chain = &event.what.chain;
        if let Some(until) = &chain.until {
            let alive = chain.clients.iter().find(|client| self.clients.contains(&((*client).clone(), until.clone())));
            if let Some(client) = alive {
                return Some(format!("client {client} still has tokens on green from before {until}"));
            }
        }
        let client = chain.clients.iter().find(|client| self.clients_differ.contains(*client))?;
        Some(format!("client {client} is not on green as it is on blue"))
    }

    /// Absence where nothing was found counts only as far as the sides were asked.
    fn absence_objection(&self, event: &Event) -> Option<String> {
        let what = &event.what;
        if self.is_alone || what.door != Door::Token || !what.chain.requests.is_empty() {
            return None;
        }
        if what.blue == Seen::Unreachable {
            return Some("the token was unknown, and blue could not be asked for it".to_owned());
        }
        let known = what.chain.signatures.iter().any(|signature| self.known_on_blue.contains(signature));
        known.then(|| "the token was unknown when it was revoked, and blue knows it now".to_owned())
    }
}

fn of_events(events: &[Event], pick: impl Fn(&Event) -> Vec<&String>) -> Vec<String> {
    let all: BTreeSet<&String> = events.iter().flat_map(pick).collect();
    all.into_iter().cloned().collect()
}

fn requests(events: &[Event]) -> Vec<String> {
    of_events(events, |event| event.what.chain.requests.iter().chain(&event.what.chain.consents).collect())
}

fn consents(events: &[Event]) -> Vec<String> {
    of_events(events, |event| event.what.chain.consents.iter().collect())
}

fn sessions(events: &[Event]) -> Vec<String> {
    of_events(events, |event| event.what.chain.sessions.iter().collect())
}

/// Signatures of the tokens whose request is not known; where it is, the request answers for them.
fn signatures(events: &[Event]) -> Vec<String> {
    let unknown: Vec<Event> = events.iter().filter(|event| event.what.chain.requests.is_empty()).cloned().collect();
    of_events(&unknown, |event| event.what.chain.signatures.iter().collect())
}

async fn living_requests(
    green: &impl GenericClient,
    shape: &Shape,
    requests: Vec<String>,
) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    let mut parts = Vec::new();
    if let Some(access) = shape.access() {
        parts.push(format!("select distinct request_id::text, 'access' from {access} where request_id = any($1)"));
    }
    for table in shape.switched_off(false) {
        let name = if Some(table) == shape.refresh() { "refresh" } else { "code" };
        parts.push(format!(
            "select distinct request_id::text, '{name}' from {table} where request_id = any($1) and active"
        ));
    }
    living(green, &parts, requests, |row| (row.get(0), row.get(1))).await
}

async fn living_signatures(
    green: &impl GenericClient,
    shape: &Shape,
    signatures: Vec<String>,
) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    let mut parts = Vec::new();
    if let Some(access) = shape.access() {
        parts.push(format!("select signature::text, 'access' from {access} where signature = any($1)"));
    }
    if let Some(refresh) = shape.refresh() {
        parts.push(format!("select signature::text, 'refresh' from {refresh} where signature = any($1) and active"));
    }
    living(green, &parts, signatures, |row| (row.get(0), row.get(1))).await
}

async fn living_consents(
    green: &impl GenericClient,
    shape: &Shape,
    consents: Vec<String>,
) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let mut parts = Vec::new();
    if let Some(flow) = shape.flow() {
        parts.push(format!(
            "select consent_challenge_id::text from {flow} where consent_challenge_id = any($1) and state in (4, 5, 6)"
        ));
    }
    if let Some(handled) = shape.consent_handled() {
        parts
            .push(format!("select challenge::text from {handled} where challenge = any($1) and error in ('', '{{}}')"));
    }
    living(green, &parts, consents, |row| row.get(0)).await
}

async fn living_sessions(
    green: &impl GenericClient,
    shape: &Shape,
    sessions: Vec<String>,
) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let parts: Vec<String> =
        shape.session().map(|table| format!("select id::text from {table} where id = any($1)")).into_iter().collect();
    living(green, &parts, sessions, |row| row.get(0)).await
}

async fn living<T, C: FromIterator<T> + Default>(
    client: &impl GenericClient,
    parts: &[String],
    values: Vec<String>,
    take: impl Fn(&tokio_postgres::Row) -> T,
) -> Result<C, tokio_postgres::Error> {
    if values.is_empty() || parts.is_empty() {
        return Ok(C::default());
    }
    let rows = ask(client, &parts.join(" union all "), &[&values]).await?;
    Ok(rows.iter().map(take).collect())
}

/// Clients with tokens on green from before their doors' times.
async fn living_clients(
    green: &impl GenericClient,
    shape: &Shape,
    events: &[Event],
) -> Result<BTreeSet<(String, String)>, tokio_postgres::Error> {
    let mut alive = BTreeSet::new();
    for door in [Door::ClientTokens, Door::ClientDelete] {
        let (clients, untils): (Vec<String>, Vec<String>) = events
            .iter()
            .filter(|event| event.what.door == door)
            .filter_map(|event| Some((event, event.what.chain.until.clone()?)))
            .flat_map(|(event, until)| event.what.chain.clients.iter().map(move |c| (c.clone(), until.clone())))
            .unzip();
        if clients.is_empty() {
            continue;
        }
        let parts =
            client_tables(shape, door).into_iter().map(|(table, and_alive)| clients_alive_sql(table, and_alive));
        let query = parts.collect::<Vec<_>>().join(" union ");
        let rows = ask(green, &query, &[&clients, &untils]).await?;
        alive.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
    }
    Ok(alive)
}

fn client_tables(shape: &Shape, door: Door) -> Vec<(&str, &'static str)> {
    let mut tables: Vec<(&str, &'static str)> = shape.access().map(|table| (table, "")).into_iter().collect();
    if door == Door::ClientDelete {
        tables.extend(shape.switched_off(false).map(|table| (table, " and t.active")));
    }
    tables
}

/// Signatures of events without a chain that blue knows.
async fn known_signatures(
    blue: &impl GenericClient,
    shape: &Shape,
    events: &[Event],
) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let signatures = signatures(events);
    if signatures.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = ask(blue, &by_signature_sql(shape), &[&signatures]).await?;
    Ok(rows.iter().map(|row| row.get(1)).collect())
}

/// Deleted and changed clients whose rows on green do not say what blue's say; by the columns that both majors share.
async fn differing_clients(
    green: &impl GenericClient,
    green_shape: &Shape,
    blue: &impl GenericClient,
    blue_shape: &Shape,
    events: &[Event],
) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let doors = [Door::ClientDelete, Door::ClientUpdate];
    let changed: Vec<Event> = events.iter().filter(|event| doors.contains(&event.what.door)).cloned().collect();
    let clients = of_events(&changed, |event| event.what.chain.clients.iter().collect());
    let (false, Some(on_green), Some(on_blue)) = (clients.is_empty(), green_shape.client(), blue_shape.client()) else {
        return Ok(BTreeSet::new());
    };
    let green_rows = client_rows(green, on_green, &clients).await?;
    let blue_rows = client_rows(blue, on_blue, &clients).await?;
    Ok(clients.into_iter().filter(|client| green_rows.get(client) != blue_rows.get(client)).collect())
}

async fn client_rows(
    client: &impl GenericClient,
    table: &str,
    ids: &Vec<String>,
) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    let query = format!(
        "select id::text, md5(concat_ws('|', client_secret, client_secret_expires_at, token_endpoint_auth_method, owner, scope)) from {table} where id = any($1)"
    );
    let rows = ask(client, &query, &[ids]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

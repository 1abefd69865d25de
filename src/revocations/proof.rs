//! Proving that revocations hold on the side that is to open, the target: the chain is asked for and found inactive. Reads only.
//!
//! A status code proves nothing, and neither does absence on a side that never knew the chain: a signature unknown on both sides
//! is proved only when the side being left, the source, still does not know it under its fence. A side that could not be asked at capture,
//! because it did not serve, is asked here: nobody but our worker has written it since.

pub use super::drained::{Drained, drained};
use super::event::{Door, Event, Seen};
use super::replay::{by_signature_sql, clients_alive_sql};
use super::shape::{Shape, ask};
use super::ways::Ways;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::GenericClient;
use uuid::Uuid;

/// What a proof found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Events whose chains are dead on the target.
    pub proved: Vec<Uuid>,
    /// Events that are not, with the reason.
    pub open: Vec<(Uuid, String)>,
}

impl Proof {
    /// Adds what was found of others.
    pub fn add(&mut self, other: Self) {
        self.proved.extend(other.proved);
        self.open.extend(other.open);
    }
}

/// Asks the target, and the source under its fence, whether the chains of `events` are dead. The same connection may not serve both.
///
/// # Errors
/// When a server does not answer; nothing is proved then.
pub async fn prove(
    target: &impl GenericClient,
    target_ways: &Ways,
    source_frozen: &impl GenericClient,
    source_ways: &Ways,
    events: &[Event],
) -> Result<Proof, tokio_postgres::Error> {
    let mut alive = Alive::ask(target, target_ways, events).await?;
    let (target_shape, source_shape) = (target_ways.shape(), source_ways.shape());
    alive.known_on_source = known_signatures(source_frozen, source_shape, events).await?;
    alive.clients_differ = differing_clients(target, target_shape, source_frozen, source_shape, events).await?;
    Ok(alive.judge(events))
}

/// Asks the target alone, before the hold: proves what needs no answer of the source's, so that the hold proves only the rest. A proof
/// stands until a batch touches the chain, and a batch kills again what it touches. Events that need the source under its fence are in
/// neither list.
///
/// # Errors
/// When the target does not answer; nothing is proved then.
pub async fn prove_on_target(
    target: &impl GenericClient,
    ways: &Ways,
    events: &[Event],
) -> Result<Proof, tokio_postgres::Error> {
    let events: Vec<Event> = events.iter().filter(|event| !needs_source(event)).cloned().collect();
    let alive = Alive::ask(target, ways, &events).await?;
    Ok(alive.judge(&events))
}

/// Asks the side that opens alone, when the other is gone for good: nothing comes from there any more, so what is not alive here stays
/// dead, whoever knew it.
///
/// # Errors
/// When the side does not answer; nothing is proved then.
pub async fn prove_alone(
    target: &impl GenericClient,
    ways: &Ways,
    events: &[Event],
) -> Result<Proof, tokio_postgres::Error> {
    let alive = Alive { is_alone: true, ..Alive::ask(target, ways, events).await? };
    Ok(alive.judge(events))
}

/// Whether a proof needs to know what the source says under its fence.
fn needs_source(event: &Event) -> bool {
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
    /// Each with whether a browser is known by it.
    sessions: BTreeMap<String, bool>,
    signatures: BTreeMap<String, String>,
    clients: BTreeSet<(String, String)>,
    known_on_source: BTreeSet<String>,
    clients_differ: BTreeSet<String>,
    /// Events of which the plan's own questions say so.
    by_plan: BTreeMap<Uuid, String>,
    /// The other side is gone: it brings nothing any more.
    is_alone: bool,
}

impl Alive {
    async fn ask(target: &impl GenericClient, ways: &Ways, events: &[Event]) -> Result<Self, tokio_postgres::Error> {
        let shape = ways.shape();
        let mut alive = Self {
            by_plan: ways.sql().alive(target, events).await?,
            requests: living_requests(target, shape, requests(events)).await?,
            consents: living_consents(target, shape, consents(events)).await?,
            sessions: living_sessions(target, shape, sessions(events)).await?,
            clients: living_clients(target, shape, events).await?,
            ..Self::default()
        };
        alive.signatures = living_signatures(target, shape, signatures(events)).await?;
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
        if let Some(why) = self.by_plan.get(&event.id) {
            return Some(why.clone());
        }
        for request in chain.requests.iter().chain(&chain.consents) {
            if let Some(table) = self.requests.get(request) {
                return Some(format!("request {request} is active in {table} of the side that is to open"));
            }
        }
        if let Some(consent) = chain.consents.iter().find(|consent| self.consents.contains(*consent)) {
            return Some(format!("consent {consent} still stands on the side that is to open"));
        }
        if let Some(session) = chain.sessions.iter().find(|session| self.sessions.contains_key(*session)) {
            return Some(format!("login session {session} still stands on the side that is to open"));
        }
        if let Some(table) = chain.signatures.iter().find_map(|signature| self.signatures.get(signature)) {
            return Some(format!("the token itself is active in {table} of the side that is to open"));
        }
        self.client_objection(event).or_else(|| self.absence_objection(event))
    }

    fn client_objection(&self, event: &Event) -> Option<String> {
        let chain = &event.what.chain;
        if let Some(until) = &chain.until {
            let alive = chain.clients.iter().find(|client| self.clients.contains(&((*client).clone(), until.clone())));
            if let Some(client) = alive {
                return Some(format!("client {client} still has tokens there from before {until}"));
            }
        }
        let client = chain.clients.iter().find(|client| self.clients_differ.contains(*client))?;
        Some(format!("client {client} is not on the side that is to open as on the one being left"))
    }

    /// Absence where nothing was found counts only as far as the sides were asked. The one that served then must have said so at capture:
    /// its clients have written it since.
    fn absence_objection(&self, event: &Event) -> Option<String> {
        let what = &event.what;
        if self.is_alone || what.door != Door::Token || !what.chain.requests.is_empty() {
            return None;
        }
        if what.seen_on(what.live) == Seen::Unreachable {
            return Some(format!("the token was unknown, and {}, which served, could not be asked for it", what.live));
        }
        let known = what.chain.signatures.iter().any(|signature| self.known_on_source.contains(signature));
        known.then(|| "the token was unknown when it was revoked, and the side being left knows it now".to_owned())
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

pub(super) async fn living_requests(
    target: &impl GenericClient,
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
    living(target, &parts, requests, |row| (row.get(0), row.get(1))).await
}

pub(super) async fn living_signatures(
    target: &impl GenericClient,
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
    living(target, &parts, signatures, |row| (row.get(0), row.get(1))).await
}

pub(super) async fn living_consents(
    target: &impl GenericClient,
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
    living(target, &parts, consents, |row| row.get(0)).await
}

/// Login sessions that stand, each with whether a browser is known by it again. One that nobody asked to be remembered lets nobody in.
pub(super) async fn living_sessions(
    target: &impl GenericClient,
    shape: &Shape,
    sessions: Vec<String>,
) -> Result<BTreeMap<String, bool>, tokio_postgres::Error> {
    let parts = shape
        .session()
        .map(|table| format!("select id::text, coalesce(remember, true) from {table} where id = any($1)"));
    let parts: Vec<String> = parts.into_iter().collect();
    living(target, &parts, sessions, |row| (row.get(0), row.get(1))).await
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

/// Clients with tokens on the target from before their doors' times.
async fn living_clients(
    target: &impl GenericClient,
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
        let rows = ask(target, &query, &[&clients, &untils]).await?;
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

/// Signatures of events without a chain that the source knows.
async fn known_signatures(
    source: &impl GenericClient,
    shape: &Shape,
    events: &[Event],
) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let signatures = signatures(events);
    if signatures.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = ask(source, &by_signature_sql(shape), &[&signatures]).await?;
    Ok(rows.iter().map(|row| row.get(1)).collect())
}

/// Deleted and changed clients whose rows on the target do not say what the source's say; by the columns that both majors share.
async fn differing_clients(
    target: &impl GenericClient,
    target_shape: &Shape,
    source: &impl GenericClient,
    source_shape: &Shape,
    events: &[Event],
) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let doors = [Door::ClientDelete, Door::ClientUpdate];
    let changed: Vec<Event> = events.iter().filter(|event| doors.contains(&event.what.door)).cloned().collect();
    let clients = of_events(&changed, |event| event.what.chain.clients.iter().collect());
    let (false, Some(on_target), Some(on_source)) = (clients.is_empty(), target_shape.client(), source_shape.client())
    else {
        return Ok(BTreeSet::new());
    };
    let target_rows = client_rows(target, on_target, &clients).await?;
    let source_rows = client_rows(source, on_source, &clients).await?;
    Ok(clients.into_iter().filter(|client| target_rows.get(client) != source_rows.get(client)).collect())
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

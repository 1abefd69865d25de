//! Executing on the side that serves what may not have been executed there, or only in part: the engine timed out, failed, or did not see all.
//!
//! Every revocation is executed on both sides. By chain in SQL first: an API revokes by subject and client, and a grant that is made while
//! it is asked would die with the ones that are meant. The engine's API is the second try, for what SQL could not reach, and only where all
//! that it kills is meant. Whatever is answered, the tables are asked.

use super::chain::lookup;
use super::event::{Door, Event};
use super::hydra::Knock;
use super::replay::replay_each;
use super::shape::{Shape, ask};
use super::sinks::{Errand, Sink};
use super::ways::Ways;
use super::witness::Witness;
use crate::database::term::{self, Term};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

/// Chains that the engine is told of at once.
const AT_ONCE: usize = 8;

/// Why nothing could be executed on the side that serves; what had been is repeated without harm.
#[derive(Debug, Error)]
pub enum LiveError {
    /// The database refused, or did not answer.
    #[error("ask the side that serves")]
    Database(#[from] tokio_postgres::Error),
    /// Another process may act now.
    #[error("execute revocations on the side that serves")]
    Term(#[from] term::TermError),
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    /// Found dead on the side that serves, with the engine's status where it was told.
    pub dead: Vec<(Uuid, Option<u16>)>,
    /// Still alive, and why.
    pub alive: Vec<(Uuid, String)>,
}

/// What the engine said of each event.
type Answers = Vec<(Uuid, Result<u16, String>)>;

/// Executes `events` on the side that serves, oldest first within a chain, chains side by side; `term` says that we may act.
///
/// # Errors
/// When the database does not answer or another process may act. What the engine's API says is in the result.
pub async fn execute(
    live: &mut Client,
    ways: &Ways,
    term: &Term,
    sink: Option<&dyn Sink>,
    events: &[Event],
) -> Result<Executed, LiveError> {
    kill(live, ways, term, events).await?;
    let mut witness = Witness::ask(live, ways, events).await?;
    let left: Vec<Event> = events.iter().filter(|event| !witness.dead.contains(&event.id)).cloned().collect();
    let mut answers = Answers::new();
    if let (Some(sink), false) = (sink, left.is_empty()) {
        answers = tell_all(sink, &left, &errands(live, ways.shape(), &left).await?).await;
        witness = Witness::ask(live, ways, events).await?;
    }
    Ok(executed(witness, answers))
}

/// What the tables say, with what the engine said.
fn executed(witness: Witness, answers: Answers) -> Executed {
    let (mut told, mut said) = (BTreeMap::new(), BTreeMap::new());
    for (id, answer) in answers {
        match answer {
            Ok(status) => drop(told.insert(id, status)),
            Err(why) => drop(said.insert(id, why)),
        }
    }
    let alive = [witness.alive, witness.rotated, witness.late, witness.idle, witness.unsettled].concat();
    let alive = alive.into_iter().map(|(id, why)| match said.get(&id) {
        Some(more) => (id, format!("{why}; {more}")),
        None => (id, why),
    });
    Executed { dead: witness.dead.iter().map(|id| (*id, told.get(id).copied())).collect(), alive: alive.collect() }
}

/// Tells the engine, chains side by side.
async fn tell_all(sink: &dyn Sink, events: &[Event], errands: &BTreeMap<Uuid, Vec<Errand>>) -> Answers {
    let mut chains: Vec<BoxFuture<'_, Answers>> = Vec::new();
    for chain in apart(events) {
        chains.push(Box::pin(tell(sink, chain, errands)));
    }
    let answers: Vec<Answers> = stream::iter(chains).buffer_unordered(AT_ONCE).collect().await;
    answers.concat()
}

/// Tells the engine of one chain's events, in their order; the first that fails ends it. What the engine refuses it has not done, and it may
/// understand another's words for the same.
async fn tell(sink: &dyn Sink, chain: Vec<&Event>, errands: &BTreeMap<Uuid, Vec<Errand>>) -> Answers {
    let mut answers = Vec::new();
    for event in chain {
        for errand in errands.get(&event.id).into_iter().flatten() {
            let answer = sink.tell(errand).await;
            let has_failed = answer.as_ref().is_err_and(|error| !error.is_refusal());
            answers.push((event.id, answer.map_err(|error| error.to_string())));
            if has_failed {
                return answers;
            }
        }
    }
    answers
}

async fn errands(
    live: &impl GenericClient,
    shape: &Shape,
    events: &[Event],
) -> Result<BTreeMap<Uuid, Vec<Errand>>, tokio_postgres::Error> {
    let mut all = BTreeMap::new();
    for event in events {
        all.insert(event.id, errands_of(live, shape, event).await?);
    }
    Ok(all)
}

/// By chain whatever still lives; what a person must repeat is left alone. What one event's SQL says is not lost: the tables are asked
/// afterwards.
async fn kill(live: &mut Client, ways: &Ways, term: &Term, events: &[Event]) -> Result<(), LiveError> {
    let witness = Witness::ask(live, ways, events).await?;
    let is_due = |event: &&Event| !witness.dead.contains(&event.id) && !is_left_alone(event.what.door);
    let due: Vec<Event> = events.iter().filter(is_due).cloned().collect();
    if due.is_empty() {
        return Ok(());
    }
    let transaction = live.transaction().await?;
    term::hold(&transaction, term).await?;
    transaction.batch_execute("set local synchronous_commit = on").await?;
    let results = replay_each(&transaction, ways, &due).await?;
    for (id, error) in results.iter().filter_map(|(id, result)| Some((id, result.as_ref().err()?))) {
        tracing::warn!(%id, %error, "a revocation could not be executed by chain on the side that serves");
    }
    transaction.commit().await?;
    Ok(())
}

/// Deleting or changing a client is more than killing its tokens: whoever asked for it and was told nothing asks again.
fn is_left_alone(door: Door) -> bool {
    matches!(door, Door::ClientDelete | Door::ClientUpdate)
}

/// What the engine may be told of an event: nothing where that would kill more than is meant.
async fn errands_of(
    live: &impl GenericClient,
    shape: &Shape,
    event: &Event,
) -> Result<Vec<Errand>, tokio_postgres::Error> {
    match event.what.door {
        // An API that revokes by chain does not exist in both majors, and its door needs the token, which nobody keeps.
        Door::Token => Ok(Vec::new()),
        // Whoever asked for it repeats it.
        Door::ClientDelete | Door::ClientUpdate => Ok(Vec::new()),
        Door::Consent => consents(live, shape, event).await,
        Door::LoginSession | Door::Logout => sessions(live, shape, event).await,
        Door::ClientTokens => client_tokens(live, shape, event).await,
    }
}

/// By subject and client, where every grant of the pair that stands is meant.
async fn consents(
    live: &impl GenericClient,
    shape: &Shape,
    event: &Event,
) -> Result<Vec<Errand>, tokio_postgres::Error> {
    let meant = &event.what.chain.consents;
    let mut errands = Vec::new();
    for (subject, client) in pairs(live, shape, meant.iter().cloned().collect()).await? {
        let pair = Knock::Consents { subject: subject.clone(), client: Some(client.clone()) };
        if !lookup(live, shape, &pair).await?.consents.is_subset(meant) {
            return Ok(Vec::new());
        }
        errands.push(Errand::Consents { subject, client: Some(client) });
    }
    Ok(errands)
}

/// How an engine is told of one consent, when its pair has no other that stands; none when only its challenge says which is meant.
///
/// # Errors
/// When the server does not answer.
pub async fn only_consent(
    live: &impl GenericClient,
    shape: &Shape,
    challenge: &str,
) -> Result<Option<Errand>, tokio_postgres::Error> {
    let pairs = pairs(live, shape, vec![challenge.to_owned()]).await?;
    let Some((subject, client)) = pairs.into_iter().next() else { return Ok(None) };
    let pair = Knock::Consents { subject: subject.clone(), client: Some(client.clone()) };
    let is_only = lookup(live, shape, &pair).await?.consents.iter().all(|other| other == challenge);
    Ok(is_only.then_some(Errand::Consents { subject, client: Some(client) }))
}

/// How an engine is told of one login session, when its subject has no other; none when only its id says which is meant.
///
/// # Errors
/// When the server does not answer.
pub async fn only_session(
    live: &impl GenericClient,
    shape: &Shape,
    id: &str,
) -> Result<Option<Errand>, tokio_postgres::Error> {
    let Some(table) = shape.session() else { return Ok(None) };
    let query = format!("select distinct subject::text from {table} where id = any($1)");
    let rows = ask(live, &query, &[&vec![id.to_owned()]]).await?;
    let Some(subject) = rows.first().map(|row| row.get::<_, String>(0)).filter(|subject| !subject.is_empty()) else {
        return Ok(None);
    };
    let all = lookup(live, shape, &Knock::Sessions { subject: subject.clone() }).await?.sessions;
    Ok(all.iter().all(|other| other == id).then_some(Errand::Sessions { subject }))
}

/// Whose consents these are, and to which clients.
async fn pairs(
    live: &impl GenericClient,
    shape: &Shape,
    consents: Vec<String>,
) -> Result<BTreeSet<(String, String)>, tokio_postgres::Error> {
    let mut parts = Vec::new();
    if let Some(flow) = shape.flow() {
        parts.push(format!("select subject::text, client_id::text from {flow} where consent_challenge_id = any($1)"));
    }
    if let Some(request) = shape.consent_request() {
        parts.push(format!("select subject::text, client_id::text from {request} where challenge = any($1)"));
    }
    if parts.is_empty() || consents.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = ask(live, &parts.join(" union "), &[&consents]).await?;
    // A grant of nobody, as an engine's own migration may leave it, is no pair that its API could find.
    let named =
        rows.iter().filter_map(|row| Some((row.get::<_, Option<String>>(0)?, row.get::<_, Option<String>>(1)?)));
    Ok(named.filter(|(subject, client)| !subject.is_empty() && !client.is_empty()).collect())
}

/// By subject where all of its sessions are meant, which every version knows; else one by one, which those before 2.1 refuse.
async fn sessions(
    live: &impl GenericClient,
    shape: &Shape,
    event: &Event,
) -> Result<Vec<Errand>, tokio_postgres::Error> {
    let meant = &event.what.chain.sessions;
    let (Some(table), false) = (shape.session(), meant.is_empty()) else { return Ok(Vec::new()) };
    let query =
        format!("select subject::text, array_agg(id::text order by id) from {table} where id = any($1) group by 1");
    let ids: Vec<String> = meant.iter().cloned().collect();
    let mut errands = Vec::new();
    for row in ask(live, &query, &[&ids]).await? {
        let (subject, standing): (String, Vec<String>) = (row.get(0), row.get(1));
        let all = lookup(live, shape, &Knock::Sessions { subject: subject.clone() }).await?.sessions;
        if !subject.is_empty() && all.is_subset(meant) {
            errands.push(Errand::Sessions { subject });
        } else {
            errands.extend(standing.into_iter().map(|id| Errand::Session { id }));
        }
    }
    Ok(errands)
}

/// By client, where it has no token that is younger than the event means.
async fn client_tokens(
    live: &impl GenericClient,
    shape: &Shape,
    event: &Event,
) -> Result<Vec<Errand>, tokio_postgres::Error> {
    let chain = &event.what.chain;
    let mut errands = Vec::new();
    for client in &chain.clients {
        let newest = lookup(live, shape, &Knock::ClientTokens { client: client.clone() }).await?.until;
        if newest > chain.until {
            return Ok(Vec::new());
        }
        errands.push(Errand::ClientTokens { client: client.clone() });
    }
    Ok(errands)
}

/// Events that share an identity, together and in their order; those that share none, apart.
fn apart(events: &[Event]) -> Vec<Vec<&Event>> {
    let mut chains: Vec<(BTreeSet<String>, Vec<&Event>)> = Vec::new();
    for event in events {
        let mut ids = identities(event);
        let mut together = Vec::new();
        chains.retain_mut(|(known, of)| {
            let is_apart = known.is_disjoint(&ids);
            if !is_apart {
                ids.append(known);
                together.append(of);
            }
            is_apart
        });
        together.push(event);
        together.sort_by_key(|event| (event.captured_at, event.incarnation, event.seq));
        chains.push((ids, together));
    }
    chains.into_iter().map(|(_, events)| events).collect()
}

fn identities(event: &Event) -> BTreeSet<String> {
    let chain = &event.what.chain;
    let kinds = [("r", &chain.requests), ("r", &chain.consents), ("s", &chain.sessions), ("c", &chain.clients)];
    let ids = kinds.iter().flat_map(|(kind, ids)| ids.iter().map(move |id| format!("{kind} {id}")));
    ids.chain(chain.subject.iter().map(|subject| format!("u {subject}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::event::{Captured, Chain, Outcome, Seen};
    use super::*;
    use crate::plan::Side;

    fn event(seq: i64, requests: &[&str]) -> Event {
        let chain = Chain { requests: requests.iter().map(|id| (*id).to_owned()).collect(), ..Chain::default() };
        let (blue, green) = (Seen::Found, Seen::Found);
        let what = Captured { door: Door::Consent, chain, live: Side::Blue, epoch: 1, blue, green };
        let (captured_at, outcome) = (jiff::Timestamp::UNIX_EPOCH, Outcome::Captured);
        Event { id: Uuid::new_v4(), incarnation: Uuid::nil(), seq, captured_at, what, outcome }
    }

    #[test]
    fn events_of_one_chain_keep_their_order_and_others_go_beside() {
        let events = [event(3, &["a"]), event(1, &["b"]), event(2, &["c"]), event(4, &["a", "b"])];
        let chains = apart(&events);
        let mut numbers: Vec<Vec<i64>> =
            chains.iter().map(|chain| chain.iter().map(|event| event.seq).collect()).collect();
        numbers.sort();
        assert_eq!(numbers, [vec![1, 3, 4], vec![2]], "the last one joins two chains");
    }
}

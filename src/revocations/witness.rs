//! The second witness: whether what an engine says it has revoked is dead on its own side. Reads only.
//!
//! An engine may answer 204 and do nothing. The queue says what was revoked, the tables of the side that serves say what lives; both must
//! agree before the traffic moves.

use super::event::{Door, Event, Outcome, Seen};
use super::proof::{living_consents, living_requests, living_sessions, living_signatures};
use super::shape::{Shape, ask};
use super::ways::Ways;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::GenericClient;
use uuid::Uuid;

/// Events asked for in one round of queries.
const PAGE: usize = 2000;
/// Longest that a token request is under way at an engine: an older token lives because the engine did not delete it.
const UNDER_WAY: &str = "interval '60 s'";

/// What the tables of the side that serves say of its revocations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witness {
    /// Executed, the engine said, and what they name lives: with the reason. They stop a move.
    pub alive: Vec<(Uuid, String)>,
    /// The token is dead and others of its chain live: the engine took one that had been refreshed before for an invalid one. The chain is
    /// dead on the side that opens.
    pub rotated: Vec<(Uuid, String)>,
    /// Executed, and tokens of the client from right before live: an engine deletes those that it sees, and a request under way may leave
    /// another behind, with the time at which it began.
    pub late: Vec<(Uuid, String)>,
    /// Executed, and the login session stands, but no browser is known by it: an engine that is asked to end one by its id does not look for
    /// such a one. It lets nobody in.
    pub idle: Vec<(Uuid, String)>,
    /// Nobody knows whether they were executed, and what they name lives.
    pub unsettled: Vec<(Uuid, String)>,
    /// All the others.
    pub dead: Vec<Uuid>,
    /// Those of them that are to be executed by chain on the side that serves, so that both sides say the same: nobody knows whether they
    /// were, or the engine did not see all that they mean.
    pub unfinished: BTreeSet<Uuid>,
}

impl Witness {
    /// Asks the side that serves, `live`, of `events`.
    ///
    /// # Errors
    /// When the server does not answer; nothing is known then.
    pub async fn ask(live: &impl GenericClient, ways: &Ways, events: &[Event]) -> Result<Self, tokio_postgres::Error> {
        let mut witness = Self::default();
        for page in events.chunks(PAGE) {
            let living = Living::ask(live, ways, page).await?;
            for event in page {
                witness.take(event, &living);
            }
        }
        Ok(witness)
    }

    /// Adds what was found of others.
    pub fn add(&mut self, other: Self) {
        self.alive.extend(other.alive);
        self.rotated.extend(other.rotated);
        self.late.extend(other.late);
        self.idle.extend(other.idle);
        self.unsettled.extend(other.unsettled);
        self.dead.extend(other.dead);
        self.unfinished.extend(other.unfinished);
    }

    /// What stops a move, with the reason. In place nothing of ours writes the one database, so what came late stops it too.
    #[must_use]
    pub fn stopping(&self, is_in_place: bool) -> Vec<(Uuid, String)> {
        let late = if is_in_place { self.late.as_slice() } else { &[] };
        self.alive.iter().chain(late).cloned().collect()
    }

    /// Those of which the side need not be asked again where nothing of ours is executed on it: nothing of them lives, or only siblings of a
    /// token that is dead itself, which stop nothing. A session by which nobody is known yet may be one by which somebody is.
    #[must_use]
    pub fn lasting(&self) -> Vec<Uuid> {
        self.dead.iter().chain(self.rotated.iter().map(|(id, _)| id)).copied().collect()
    }

    fn take(&mut self, event: &Event, living: &Living) {
        let Some((life, why)) = living.of(event) else { return self.dead.push(event.id) };
        let is_executed = event.outcome == Outcome::Executed;
        let (list, is_unfinished) = match life {
            // Whoever asked for a client to be deleted, and was told nothing, repeats it.
            _ if !is_executed => (&mut self.unsettled, event.what.door != Door::ClientDelete),
            // A token that its own engine did not know any more, such as an access token that a refresh has replaced, ends nothing there.
            Life::Sibling => (&mut self.rotated, event.what.seen_on(event.what.live) == Seen::Found),
            Life::UnderWay => (&mut self.late, true),
            Life::Idle => (&mut self.idle, true),
            Life::Named => (&mut self.alive, false),
        };
        list.push((event.id, why));
        if is_unfinished {
            self.unfinished.insert(event.id);
        }
    }
}

/// What of an event lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// What it names.
    Named,
    /// Only others of the chain of the token that it names.
    Sibling,
    /// Of a client's tokens only such as may have been asked for while the others were deleted.
    UnderWay,
    /// Only login sessions by which no browser is known.
    Idle,
}

/// What still lives of many events.
struct Living {
    requests: BTreeMap<String, String>,
    consents: BTreeSet<String>,
    /// Each with whether a browser is known by it.
    sessions: BTreeMap<String, bool>,
    signatures: BTreeMap<String, String>,
    /// Clients with older tokens, and whether any is so old that no request can have left it behind.
    clients: BTreeMap<(String, String), bool>,
    /// Events of which the plan's own questions say so.
    by_plan: BTreeMap<Uuid, String>,
}

impl Living {
    async fn ask(live: &impl GenericClient, ways: &Ways, events: &[Event]) -> Result<Self, tokio_postgres::Error> {
        let shape = ways.shape();
        let all = |pick: fn(&Event) -> Vec<&String>| -> Vec<String> {
            let all: BTreeSet<&String> = events.iter().flat_map(pick).collect();
            all.into_iter().cloned().collect()
        };
        let requests = all(|event| event.what.chain.requests.iter().chain(&event.what.chain.consents).collect());
        let consents = all(|event| event.what.chain.consents.iter().collect());
        let sessions = all(|event| event.what.chain.sessions.iter().collect());
        let signatures = all(|event| event.what.chain.signatures.iter().collect());
        Ok(Self {
            requests: living_requests(live, shape, requests).await?,
            consents: living_consents(live, shape, consents).await?,
            sessions: living_sessions(live, shape, sessions).await?,
            signatures: living_signatures(live, shape, signatures).await?,
            clients: older_clients(live, shape, events).await?,
            by_plan: ways.sql().alive(live, events).await?,
        })
    }

    /// What lives of an event, and its name for people.
    fn of(&self, event: &Event) -> Option<(Life, String)> {
        let (door, chain) = (event.what.door, &event.what.chain);
        if let Some(what) = self.by_plan.get(&event.id) {
            return Some((Life::Named, what.clone()));
        }
        if door == Door::ClientUpdate {
            return None;
        }
        if let Some(table) = chain.signatures.iter().find_map(|signature| self.signatures.get(signature)) {
            return Some((Life::Named, format!("the token itself is active ({table})")));
        }
        let requests = chain.requests.iter().chain(&chain.consents);
        if let Some((request, table)) = requests.filter_map(|id| Some((id, self.requests.get(id)?))).next() {
            let life = if door == Door::Token { Life::Sibling } else { Life::Named };
            return Some((life, format!("request {request} is active ({table})")));
        }
        if let Some(consent) = chain.consents.iter().find(|consent| self.consents.contains(*consent)) {
            return Some((Life::Named, format!("consent {consent} stands")));
        }
        let sessions = chain.sessions.iter().filter_map(|id| Some((id, *self.sessions.get(id)?)));
        if let Some((session, is_remembered)) = sessions.max_by_key(|(_, is_remembered)| *is_remembered) {
            let (life, but) = match is_remembered {
                true => (Life::Named, ""),
                false => (Life::Idle, ", and no browser is known by it"),
            };
            return Some((life, format!("login session {session} stands{but}")));
        }
        let until = chain.until.as_ref()?;
        let older = |client: &String| self.clients.get(&(client.clone(), until.clone())).copied();
        let (client, is_old) = chain.clients.iter().find_map(|client| Some((client, older(client)?)))?;
        let life = if is_old || door == Door::ClientDelete { Life::Named } else { Life::UnderWay };
        Some((life, format!("client {client} has tokens from before {until}")))
    }
}

/// Clients with tokens from before their doors' times, and whether any is older than a request may be. An engine's times may be whole
/// seconds: one that equals a door's may be later than it.
async fn older_clients(
    live: &impl GenericClient,
    shape: &Shape,
    events: &[Event],
) -> Result<BTreeMap<(String, String), bool>, tokio_postgres::Error> {
    let mut alive = BTreeMap::new();
    for door in [Door::ClientTokens, Door::ClientDelete] {
        let named = events.iter().filter(|event| event.what.door == door).flat_map(|event| {
            let chain = &event.what.chain;
            chain.until.iter().flat_map(|until| chain.clients.iter().map(|client| (client.clone(), until.clone())))
        });
        let (clients, untils): (Vec<String>, Vec<String>) = named.unzip();
        let mut tables: Vec<(&str, &str)> = shape.access().map(|table| (table, "")).into_iter().collect();
        if door == Door::ClientDelete {
            tables.extend(shape.switched_off(false).map(|table| (table, " and t.active")));
        }
        if clients.is_empty() || tables.is_empty() {
            continue;
        }
        let part = |(table, and_alive): &(&str, &str)| {
            let older = format!(
                "exists (select from {table} t where t.client_id = c.client and t.requested_at < date_trunc('second', c.until::timestamp)"
            );
            format!(
                "select c.client, c.until, {older} - {UNDER_WAY}{and_alive} offset 0)
  from unnest($1::text[], $2::text[]) as c (client, until) where {older}{and_alive} offset 0)"
            )
        };
        let query = tables.iter().map(part).collect::<Vec<_>>().join(" union ");
        for row in ask(live, &query, &[&clients, &untils]).await? {
            *alive.entry((row.get(0), row.get(1))).or_default() |= row.get::<_, bool>(2);
        }
    }
    Ok(alive)
}

#[cfg(test)]
mod tests {
    use super::super::event::{Captured, Chain};
    use super::*;
    use crate::plan::Side;

    fn event(door: Door, outcome: Outcome, chain: Chain) -> Event {
        let what = Captured { door, chain, live: Side::Blue, epoch: 1, blue: Seen::Found, green: Seen::Found };
        let captured_at = jiff::Timestamp::UNIX_EPOCH;
        Event { id: Uuid::new_v4(), incarnation: Uuid::nil(), seq: 1, captured_at, what, outcome }
    }

    fn living(requests: &[&str], signatures: &[&str]) -> Living {
        let map = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), "access".to_owned())).collect();
        Living {
            requests: map(requests),
            consents: BTreeSet::new(),
            sessions: BTreeMap::new(),
            signatures: map(signatures),
            clients: BTreeMap::new(),
            by_plan: BTreeMap::new(),
        }
    }

    fn judged(event: &Event, living: &Living) -> Witness {
        let mut witness = Witness::default();
        witness.take(event, living);
        witness
    }

    #[test]
    fn a_token_that_was_refreshed_before_is_no_lie_of_the_engine() {
        let chain = Chain { requests: ["r1".to_owned()].into(), signatures: vec!["s1".to_owned()], ..Chain::default() };
        let token = event(Door::Token, Outcome::Executed, chain.clone());
        assert_eq!(judged(&token, &living(&["r1"], &["s1"])).alive.len(), 1, "the token itself lives");
        let rotated = judged(&token, &living(&["r1"], &[]));
        assert_eq!((rotated.rotated.len(), rotated.alive.len()), (1, 0), "only its siblings live");
        assert_eq!(rotated.unfinished, [token.id].into(), "they die as well");
        assert_eq!(rotated.lasting(), [token.id], "the token itself lives no more");
        let mut unknown = token.clone();
        unknown.what.blue = Seen::Unknown;
        let rotated = judged(&unknown, &living(&["r1"], &[]));
        assert_eq!((rotated.rotated.len(), rotated.unfinished.len()), (1, 0), "its engine knew no such token any more");
        assert_eq!(judged(&token, &living(&[], &[])).dead, [token.id]);
        let consent = event(Door::Consent, Outcome::Executed, Chain { consents: ["r1".to_owned()].into(), ..chain });
        assert_eq!(judged(&consent, &living(&["r1"], &[])).alive.len(), 1, "a consent takes all its tokens with it");
    }

    #[test]
    fn a_token_that_was_under_way_while_a_clients_were_deleted_is_no_lie_either() {
        let until = Some("2026-01-01 00:00:00".to_owned());
        let chain = Chain { clients: ["app".to_owned()].into(), until, ..Chain::default() };
        let of = |door| event(door, Outcome::Executed, chain.clone());
        let mut living = living(&[], &[]);
        let older = |is_old| (("app".to_owned(), "2026-01-01 00:00:00".to_owned()), is_old);
        living.clients.extend([older(false)]);
        let tokens = of(Door::ClientTokens);
        let found = judged(&tokens, &living);
        assert_eq!((found.late.len(), found.stopping(false).len(), found.stopping(true).len()), (1, 0, 1));
        assert_eq!(found.unfinished, [tokens.id].into(), "it is executed by chain");
        assert_eq!(judged(&of(Door::ClientDelete), &living).alive.len(), 1, "a client that is gone has no token");
        living.clients.extend([older(true)]);
        assert_eq!(judged(&tokens, &living).stopping(false).len(), 1, "no request takes that long: the engine lied");
    }

    #[test]
    fn a_session_by_which_nobody_is_let_in_accuses_no_engine() {
        let chain = Chain { sessions: ["s1".to_owned(), "s2".to_owned()].into(), ..Chain::default() };
        let session = event(Door::LoginSession, Outcome::Executed, chain.clone());
        let mut living = living(&[], &[]);
        assert_eq!(judged(&session, &living).dead, [session.id]);
        living.sessions.insert("s1".to_owned(), false);
        let found = judged(&session, &living);
        assert_eq!((found.idle.len(), found.stopping(false).len(), found.stopping(true).len()), (1, 0, 0));
        assert_eq!(found.unfinished, [session.id].into(), "it is executed by chain");
        assert!(found.lasting().is_empty(), "somebody may be known by it later");
        let captured = event(Door::LoginSession, Outcome::Captured, chain);
        let found = judged(&captured, &living);
        assert_eq!(found.unsettled.len(), 1, "nobody knows whether the engine heard of it");
        assert!(found.lasting().is_empty(), "it may be said yet");
        living.sessions.insert("s2".to_owned(), true);
        let found = judged(&session, &living);
        assert_eq!((found.alive.len(), found.idle.len()), (1, 0), "by one of them somebody is let in: the engine lied");
    }

    #[test]
    fn what_nobody_saw_executed_accuses_no_engine() {
        let chain = Chain { signatures: vec!["s1".to_owned()], ..Chain::default() };
        let token = event(Door::Token, Outcome::Captured, chain);
        let witness = judged(&token, &living(&[], &["s1"]));
        assert_eq!((witness.unsettled.len(), witness.alive.len()), (1, 0));
    }
}

//! The plan's own statements: what revokes in tables that are not the engine's, and what tells whether anything there is still alive.
//!
//! The statements come from the plan and nothing else does: what an event says is bound, as arrays with one element for each thing that it
//! names, so that many events are one statement.

use crate::plan::{Replay, ReplaySql, ReplayStatements, Side};
use crate::revocations::event::{Door, Event};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, GenericClient, Transaction};
use uuid::Uuid;

/// Events of one statement: what is held in memory for it does not grow with the queue.
const PAGE: usize = 2000;

/// Views and functions hide which tables a statement is about.
const HIDING: &str = "select case c.relkind when 'f' then 'foreign table' else 'view' end, c.relname::text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('v', 'm', 'f') and c.relname = any($1) and n.nspname not in ('pg_catalog', 'information_schema')
union select 'function', p.proname::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.proname = any($2) and n.nspname not in ('pg_catalog', 'information_schema') order by 1, 2";

/// What the plan runs and asks on one side.
#[derive(Debug, Clone, Default)]
pub struct SqlSink {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    name: String,
    doors: BTreeSet<Door>,
    on: ReplayStatements,
}

impl SqlSink {
    /// What the plan has for `side`.
    #[must_use]
    pub fn new(plan: &Replay, side: Side) -> Self {
        Self { parts: plan.sql.iter().filter_map(|sql| part(sql, side)).collect() }
    }

    /// Whether the plan has nothing to run and nothing to ask there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Kills what the events name, by each of the plan's statements that is for their doors. Gives the number of rows changed.
    ///
    /// # Errors
    /// When the server refuses; the transaction is then lost.
    pub async fn revoke(&self, tx: &Transaction<'_>, events: &[Event]) -> Result<u64, Error> {
        let mut rows = 0;
        for part in &self.parts {
            for page in events.chunks(PAGE) {
                let named = part.named(page);
                if !named.event.is_empty() {
                    rows += tx.execute_typed(&part.on.revoke.text, &named.parameters()).await?;
                }
            }
        }
        Ok(rows)
    }

    /// The events of which something is alive, and by whose word.
    ///
    /// # Errors
    /// When the server refuses or does not answer; nothing is known then.
    pub async fn alive(&self, client: &impl GenericClient, events: &[Event]) -> Result<BTreeMap<Uuid, String>, Error> {
        let mut alive = BTreeMap::new();
        for part in &self.parts {
            let Some(question) = &part.on.alive else { continue };
            for page in events.chunks(PAGE) {
                let named = part.named(page);
                if named.event.is_empty() {
                    continue;
                }
                for row in client.query_typed(&question.text, &named.parameters()).await? {
                    part.take(row.try_get(0)?, &named, &mut alive);
                }
            }
        }
        Ok(alive)
    }

    /// The doors whose statements name one of these tables: what is touched there may be what they kill.
    pub(crate) fn doors_over<'a>(&self, tables: impl Iterator<Item = &'a str> + Clone) -> BTreeSet<Door> {
        let over = self.parts.iter().filter(|part| tables.clone().any(|table| part.on.names.contains(table)));
        over.flat_map(|part| part.doors.iter().copied()).collect()
    }

    /// What the server says against the plan's statements, each with its name: they are prepared and not run.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn examine(&self, client: &impl GenericClient) -> Result<Vec<Flaw>, Error> {
        let mut flaws = Vec::new();
        for part in &self.parts {
            for (key, sql) in [("revoke", Some(&part.on.revoke)), ("alive", part.on.alive.as_ref())] {
                let Some(sql) = sql else { continue };
                let said = match client.prepare_typed(&sql.text, &TYPES).await {
                    Ok(prepared) => objection(key, &prepared).map(|what| Flaw::of(part, key, what, false)),
                    Err(error) => {
                        let Some(said) = error.as_db_error() else { return Err(error) };
                        let is_absent = *said.code() == tokio_postgres::error::SqlState::UNDEFINED_TABLE;
                        Some(Flaw::of(part, key, said.message().to_owned(), is_absent))
                    }
                };
                flaws.extend(said);
            }
            flaws.extend(part.hidden(client).await?);
        }
        Ok(flaws)
    }
}

/// Something wrong with one of the plan's statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The statement and what is wrong with it.
    pub what: String,
    /// A table is not there: before migrations it may not be there yet.
    pub is_absent: bool,
}

impl Flaw {
    fn of(part: &Part, key: &str, what: String, is_absent: bool) -> Self {
        Self { what: format!("revocations.replay.sql {}, {key}: {what}", part.name), is_absent }
    }
}

/// The types of the parameters, see [`ReplayStatements::PARAMETERS`].
const TYPES: [Type; 8] = [
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
];

fn part(sql: &ReplaySql, side: Side) -> Option<Part> {
    Some(Part { name: sql.name.clone(), doors: sql.doors.clone(), on: sql.on(side)?.clone() })
}

fn objection(key: &str, prepared: &tokio_postgres::Statement) -> Option<String> {
    let count = prepared.params().len();
    if count != TYPES.len() {
        return Some(format!("it has {count} parameters, and {} are given", TYPES.len()));
    }
    let first = prepared.columns().first().map(|column| column.type_().clone());
    match first {
        Some(Type::UUID) => None,
        _ if key != "alive" => None,
        Some(other) => Some(format!("its first column is of type {other}, and must be the event, a uuid")),
        None => Some("it answers with no column; the first must be the event, a uuid".to_owned()),
    }
}

impl Part {
    fn named(&self, events: &[Event]) -> Named {
        let mut named = Named::default();
        for event in events.iter().filter(|event| self.doors.contains(&event.what.door)) {
            named.add(event);
        }
        named
    }

    /// An answer that does not say which event lives speaks against all that were asked about.
    fn take(&self, event: Option<Uuid>, named: &Named, alive: &mut BTreeMap<Uuid, String>) {
        match event {
            Some(event) => {
                alive.entry(event).or_insert_with(|| format!("{} says that it lives", self.name));
            }
            None => {
                let why = format!("{} says that something lives, and not of which event", self.name);
                alive.extend(named.event.iter().map(|event| (*event, why.clone())));
            }
        }
    }

    async fn hidden(&self, client: &impl GenericClient) -> Result<Vec<Flaw>, Error> {
        let names: Vec<&String> = self.on.names.iter().collect();
        let calls: Vec<&String> = self.on.calls.iter().collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&names, Type::TEXT_ARRAY), (&calls, Type::TEXT_ARRAY)];
        let rows = client.query_typed(HIDING, &parameters).await?;
        let told = rows.iter().map(|row| {
            let (kind, name): (String, String) = (row.get(0), row.get(1));
            let what =
                format!("it names the {kind} {name}, behind which nobody sees which tables it is about: name those");
            Flaw { what: format!("revocations.replay.sql {}: {what}", self.name), is_absent: false }
        });
        Ok(told.collect())
    }
}

/// What events name, one element of each list for each thing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    event: Vec<Uuid>,
    /// Requests, consents, sessions, clients, subjects, signatures.
    ids: [Vec<Option<String>>; 6],
    before: Vec<jiff::Timestamp>,
}

impl Named {
    fn add(&mut self, event: &Event) {
        let chain = &event.what.chain;
        let sets = [&chain.requests, &chain.consents, &chain.sessions, &chain.clients];
        let rows = sets.iter().map(|set| set.len()).chain([chain.signatures.len(), 1]).max().unwrap_or(1);
        for (list, set) in self.ids.iter_mut().zip(sets) {
            list.extend(set.iter().cloned().map(Some).chain(std::iter::repeat(None)).take(rows));
        }
        self.ids[4].extend(std::iter::repeat_n(chain.subject.clone(), rows));
        self.ids[5].extend(chain.signatures.iter().cloned().map(Some).chain(std::iter::repeat(None)).take(rows));
        self.event.extend(std::iter::repeat_n(event.id, rows));
        self.before.extend(std::iter::repeat_n(event.before(), rows));
    }

    fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let ids = self.ids.iter().map(|list| list as &(dyn ToSql + Sync));
        let all = std::iter::once(&self.event as &(dyn ToSql + Sync)).chain(ids).chain([&self.before as _]);
        all.zip(TYPES).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocations::event::{Captured, Chain, Outcome, Seen};

    #[test]
    fn what_belongs_to_one_event_stands_in_lists_of_one_length() {
        let chain = Chain {
            requests: ["r1".to_owned(), "r2".to_owned()].into(),
            consents: ["c1".to_owned()].into(),
            subject: Some("ann".to_owned()),
            at: Some(jiff::Timestamp::from_second(7).expect("a moment")),
            ..Chain::default()
        };
        let (blue, green) = (Seen::Found, Seen::Found);
        let what = Captured { door: Door::Consent, chain, live: Side::Blue, epoch: 1, blue, green };
        let (captured_at, outcome) = (jiff::Timestamp::UNIX_EPOCH, Outcome::Executed);
        let event = Event { id: Uuid::from_u128(1), incarnation: Uuid::nil(), seq: 1, captured_at, what, outcome };
        let mut named = Named::default();
        named.add(&event);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(named.event, [event.id, event.id]);
        assert_eq!(named.ids[0], [text("r1"), text("r2")]);
        assert_eq!(named.ids[1], [text("c1"), None]);
        assert_eq!((&named.ids[2], &named.ids[4]), (&vec![None, None], &vec![text("ann"), text("ann")]));
        assert_eq!(named.before[1].as_second(), 7, "by the clock of the side that served");
        assert!(named.parameters().len() == TYPES.len() && named.ids.iter().all(|list| list.len() == 2));
    }
}

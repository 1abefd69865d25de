//! Which chains a level batch touched, as the rows that it left name them. Reads only.
//!
//! What a batch did not touch it cannot have brought back: a chain that was dead on the side before is dead after it, and a proof of it
//! stands.

use super::chain::MOMENT;
use super::event::Door;
use super::shape::{Shape, ask};
use super::ways::Ways;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::GenericClient;

/// Touched rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchedRows {
    /// The table, quoted as [`Shape`] quotes it.
    pub table: String,
    /// Its plain name.
    pub name: String,
    /// What follows `from` to read them, as `t`.
    pub from: String,
}

/// The identities that touched rows carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    pub(super) requests: BTreeSet<String>,
    pub(super) consents: BTreeSet<String>,
    pub(super) sessions: BTreeSet<String>,
    /// Clients of touched tokens, and when the oldest of them was requested.
    pub(super) clients: BTreeMap<String, String>,
    /// Doors for which the plan has statements about touched tables: which of its rows they kill only they know.
    pub(super) doors: BTreeSet<Door>,
}

impl Touched {
    /// Reads them, in the transaction that touched the rows.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn read(
        client: &impl GenericClient,
        ways: &Ways,
        rows: &[TouchedRows],
    ) -> Result<Self, tokio_postgres::Error> {
        let doors = ways.sql().doors_over(rows.iter().map(|rows| rows.name.as_str()));
        let mut touched = Self { doors, ..Self::default() };
        touched.read_tokens(client, ways.shape(), rows).await?;
        touched.read_logins(client, ways.shape(), rows).await?;
        Ok(touched)
    }

    async fn read_tokens(
        &mut self,
        client: &impl GenericClient,
        shape: &Shape,
        rows: &[TouchedRows],
    ) -> Result<(), tokio_postgres::Error> {
        let list = format!("t.request_id::text, t.client_id::text, coalesce(to_char(t.requested_at, '{MOMENT}'), '')");
        let parts: Vec<String> = shape
            .tokens()
            .filter_map(|table| of(rows, table))
            .map(|from| format!("select {list} from {from}"))
            .collect();
        for row in answer(client, &parts).await? {
            let (request, client, at): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            self.requests.insert(request);
            let oldest = self.clients.entry(client).or_insert_with(|| at.clone());
            if at < *oldest {
                *oldest = at;
            }
        }
        Ok(())
    }

    async fn read_logins(
        &mut self,
        client: &impl GenericClient,
        shape: &Shape,
        rows: &[TouchedRows],
    ) -> Result<(), tokio_postgres::Error> {
        let tables = [
            (shape.flow(), "t.consent_challenge_id::text, t.login_session_id::text"),
            (shape.consent_request(), "t.challenge::text, t.login_session_id::text"),
            (shape.consent_handled(), "t.challenge::text, null"),
            (shape.login_request(), "null, t.login_session_id::text"),
            (shape.session(), "null, t.id::text"),
        ];
        let parts: Vec<String> = tables
            .iter()
            .filter_map(|(table, list)| Some(format!("select {list} from {}", of(rows, (*table)?)?)))
            .collect();
        for row in answer(client, &parts).await? {
            self.consents.extend(row.get::<_, Option<String>>(0));
            self.sessions.extend(row.get::<_, Option<String>>(1));
        }
        Ok(())
    }
}

fn of<'a>(rows: &'a [TouchedRows], table: &str) -> Option<&'a str> {
    rows.iter().find(|rows| rows.table == table).map(|rows| rows.from.as_str())
}

async fn answer(
    client: &impl GenericClient,
    parts: &[String],
) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    ask(client, &parts.join(" union all "), &[]).await
}

//! The end check on the live database itself, in the application's role: what the engine's answers cannot hide.
//!
//! Read-only.

use super::Prober;
use super::ledger::Ledger;
use super::settle::note;
use crate::database::client::{ConnectError, connect};
use crate::plan::{Secret, Side};
use sha2::{Digest as _, Sha384};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use thiserror::Error;

/// Keys asked in one query.
const BATCH: usize = 5_000;
const ACCESS: &str = "select signature from hydra_oauth2_access where signature = any($1) and active";
const REFRESH: &str = "select signature from hydra_oauth2_refresh where signature = any($1) and active";
const CLIENTS: &str = "select id, client_name from hydra_client where id = any($1)";
const CONSENTS_1X: &str = "select r.subject || ' ' || r.client_id from hydra_oauth2_consent_request r
    join hydra_oauth2_consent_request_handled h using (challenge)
    where r.subject = any($1) and coalesce(h.error, '') in ('', '{}')";
const CONSENTS_2X: &str = "select subject || ' ' || client_id from hydra_oauth2_flow
    where subject = any($1) and state in (5, 6)";

/// Why the database could not be asked.
#[derive(Debug, Error)]
pub(super) enum DirectError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A query failed.
    #[error("query: {0}")]
    Query(#[from] tokio_postgres::Error),
}

/// A connection to the live database.
pub(super) struct Direct {
    client: tokio_postgres::Client,
    side: Side,
}

/// One token with the signatures under which an engine may have stored it.
struct Stored {
    chain: usize,
    token: String,
    signatures: [String; 2],
    revoked: bool,
    refresh: bool,
}

impl Stored {
    fn new(chain: usize, token: &str, revoked: bool, refresh: bool) -> Self {
        let raw = token.rsplit('.').next().unwrap_or(token).to_owned();
        let hashed = hex::encode(Sha384::digest(raw.as_bytes()));
        Self { chain, token: token.to_owned(), signatures: [raw, hashed], revoked, refresh }
    }
}

impl Direct {
    pub(super) async fn open(side: Side, url: &Secret) -> Result<Self, DirectError> {
        let client = connect(url, side.as_str()).await?;
        client.batch_execute("set statement_timeout = '60s'; set default_transaction_read_only = on").await?;
        Ok(Self { client, side })
    }

    /// Looks at tokens, clients and consents.
    pub(super) async fn check(&self, prober: &Prober, lost: &Mutex<BTreeSet<String>>) -> Result<(), DirectError> {
        let tokens = stored(&prober.history.lock().ledger);
        let (refresh, access): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|token| token.refresh);
        self.check_tokens(prober, ACCESS, &access, lost).await?;
        self.check_tokens(prober, REFRESH, &refresh, lost).await?;
        self.check_clients(prober, lost).await?;
        self.check_consents(prober, lost).await
    }

    async fn check_tokens(
        &self,
        prober: &Prober,
        query: &str,
        tokens: &[Stored],
        lost: &Mutex<BTreeSet<String>>,
    ) -> Result<(), DirectError> {
        for batch in tokens.chunks(BATCH) {
            let keys: Vec<&str> = batch.iter().flat_map(|token| token.signatures.iter().map(String::as_str)).collect();
            let found = self.client.query(query, &[&keys]).await?;
            let found: BTreeSet<String> = found.iter().map(|row| row.get(0)).collect();
            for token in batch {
                let active = token.signatures.iter().any(|signature| found.contains(signature));
                self.rule(prober, token, active, lost);
            }
        }
        Ok(())
    }

    fn rule(&self, prober: &Prober, token: &Stored, active: bool, lost: &Mutex<BTreeSet<String>>) {
        let (chain, side) = (token.chain, self.side);
        let mut state = prober.history.lock();
        if active && token.revoked {
            state.ended_accepted(chain, || format!("chain {chain} is active in {side}'s tables after its revocation"));
        }
        let doomed = state.ledger.fate_of(chain, &token.token).is_doomed();
        let certain = state.ledger.is_certain(chain, &token.token, prober.client.now_us());
        drop(state);
        if !active && !doomed && certain {
            note(lost, format!("a token of chain {chain}"));
        }
    }

    async fn check_clients(&self, prober: &Prober, lost: &Mutex<BTreeSet<String>>) -> Result<(), DirectError> {
        let before = prober.history.lock().ledger.apps.clone();
        let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
        for batch in before.chunks(BATCH) {
            let ids: Vec<&str> = batch.iter().map(|app| app.id.as_str()).collect();
            let rows = self.client.query(CLIENTS, &[&ids]).await?;
            found.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
        }
        let state = prober.history.lock();
        for (before, after) in before.iter().zip(&state.ledger.apps) {
            let still = before.renames == after.renames && before.fate == after.fate && !before.busy && !after.busy;
            if !still || after.uncertain {
                continue;
            }
            let name = &after.name;
            match found.get(&after.id) {
                Some(_) if after.fate.revoked_us.is_some() => note(lost, format!("the deletion of {name:?}")),
                Some(found) if !after.fate.is_doomed() && found.as_ref() != Some(name) => {
                    note(lost, format!("the name {name:?} of a client"));
                }
                None if !after.fate.is_doomed() => note(lost, format!("client {name:?}")),
                _ => {}
            }
        }
        Ok(())
    }

    async fn check_consents(&self, prober: &Prober, lost: &Mutex<BTreeSet<String>>) -> Result<(), DirectError> {
        let shape = self.client.query_one("select to_regclass('public.hydra_oauth2_flow') is not null", &[]).await?;
        let query = if shape.get(0) { CONSENTS_2X } else { CONSENTS_1X };
        let before = prober.history.lock().ledger.consents.clone();
        let mut found: BTreeSet<String> = BTreeSet::new();
        for batch in before.chunks(BATCH) {
            let subjects: Vec<&str> = batch.iter().map(|consent| consent.subject.as_str()).collect();
            let rows = self.client.query(query, &[&subjects]).await?;
            found.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        let mut state = prober.history.lock();
        for (index, before) in before.iter().enumerate() {
            let after = state.ledger.consents[index].clone();
            let app = &state.ledger.apps[after.app];
            let there = found.contains(&format!("{} {}", after.subject, app.id));
            let known = !before.busy && !after.busy && !after.uncertain && !app.uncertain;
            let certain = known && !state.ledger.is_consent_given_up(index);
            if after.is_followed {
                continue;
            }
            if there && before.fate.revoked_us.is_some() {
                state.revoked_accepted(|| format!("consent {index} stands in the tables after its revocation"));
            } else if !there && certain && !after.fate.is_doomed() {
                note(lost, format!("consent {index}"));
            }
        }
        Ok(())
    }
}

/// Every token that must be there, and every one that must not.
fn stored(ledger: &Ledger) -> Vec<Stored> {
    let mut tokens = Vec::new();
    for (index, chain) in ledger.chains.iter().enumerate() {
        let revoked = chain.fate.revoked_us.is_some();
        if chain.fate.is_doomed() && !revoked {
            continue;
        }
        let is_cut = chain.cut.revoked_us.is_some();
        if is_cut || !chain.cut.is_doomed() {
            tokens.push(Stored::new(index, &chain.access, revoked || is_cut, false));
        }
        tokens.extend(chain.refresh.iter().map(|token| Stored::new(index, token, revoked, true)));
        if revoked {
            tokens.extend(chain.replaced.iter().map(|token| Stored::new(index, token, revoked, false)));
            tokens.extend(chain.used.iter().map(|token| Stored::new(index, token, revoked, true)));
        }
    }
    tokens
}

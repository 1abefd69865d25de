//! The end check: everything that was acknowledged is on the live side, and everything that was revoked is dead there.
//!
//! Asks through the gateway as clients do, and the live database directly in the application's role. Runs beside the load; what
//! changes while it is looked at is not ruled on.

use super::actions::{self, Asked};
use super::direct::Direct;
use super::rulings::Ruling;
use super::words::{Call, Kind, Report};
use super::{Prober, doors, secrets, sessions};
use crate::plan::Side;
use futures_util::StreamExt as _;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Questions outstanding at once.
const ABREAST: usize = 24;
/// Longest wait for exactly one side that accepts writes.
const LIVE_PATIENCE: Duration = Duration::from_secs(20);
/// Bound on the whole check.
const PATIENCE: Duration = Duration::from_secs(150);
/// Most tokens asked about through the gateway; the database is asked about all.
const ASKED_MAX: usize = 30_000;

/// What was not found, by name, so that nothing is counted twice.
type Lost = Mutex<BTreeSet<String>>;

/// Checks everything and reports.
pub(super) async fn settle(prober: &Prober) -> Report {
    prober.history.lock().forget_lost_writes();
    let outcome = timeout(PATIENCE, check(prober))
        .await
        .unwrap_or_else(|_| Err(format!("the end check took longer than {} s", PATIENCE.as_secs())));
    let mut report = prober.history.lock().report();
    report.settled = outcome.is_ok();
    report.unsettled_because = outcome.err();
    report
}

async fn check(prober: &Prober) -> Result<(), String> {
    let side = live_side(prober).await?;
    let lost = Lost::default();
    ask_tokens(prober, &lost).await;
    ask_revoked(prober).await;
    ask_consents(prober, &lost).await;
    ask_apps(prober, &lost).await;
    ask_browsers(prober).await;
    try_old_secrets(prober).await;
    // In place the tables have one shape, whichever engine serves.
    let shape = if prober.is_in_place { Side::Blue } else { side };
    let direct =
        Direct::open(shape, prober.url(side)).await.map_err(|error| format!("ask {side} directly: {error}"))?;
    direct.check(prober, &lost).await.map_err(|error| format!("ask {side} directly: {error}"))?;
    let lost = lost.into_inner().unwrap_or_default();
    let mut state = prober.history.lock();
    for name in lost {
        state.lost_write(|| format!("{name} was acknowledged and is not on {side}"));
    }
    Ok(())
}

/// Waits for exactly one side that accepts the application's writes.
async fn live_side(prober: &Prober) -> Result<Side, String> {
    let until = Instant::now() + LIVE_PATIENCE;
    loop {
        if let Some(side) = prober.history.lock().writers.live() {
            return Ok(side);
        }
        if Instant::now() > until {
            return Err("there is no single side that accepts writes".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Notes something that is not there.
pub(super) fn note(lost: &Lost, name: String) {
    lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name);
}

/// Every live token is active.
async fn ask_tokens(prober: &Prober, lost: &Lost) {
    let live: Vec<(usize, String)> = {
        let state = prober.history.lock();
        let chains = state.ledger.chains.iter().enumerate().rev();
        let live = chains.filter(|(_, chain)| !chain.fate.is_doomed() && !chain.uncertain);
        let tokens = live.flat_map(|(index, chain)| {
            let both = std::iter::once(&chain.access).chain(chain.refresh.as_ref());
            both.map(|token| (index, token.clone())).collect::<Vec<_>>()
        });
        tokens.take(ASKED_MAX).collect()
    };
    let asked = futures_util::stream::iter(live).map(|(chain, token)| async move {
        if actions::ask_about(prober, chain, &token, Asked::AtTheEnd).await {
            note(lost, format!("a token of chain {chain}"));
        }
    });
    asked.buffer_unordered(ABREAST).collect::<Vec<()>>().await;
}

/// Every token that a revoked chain ever had is dead, and of every other those that a refresh has replaced.
pub(super) async fn ask_revoked(prober: &Prober) {
    let (revoked, dead) = {
        let state = prober.history.lock();
        let revoked: Vec<usize> = state.ledger.revoked.iter().rev().take(ASKED_MAX).copied().collect();
        let of = |index: usize| state.ledger.chains[index].tokens().map(move |token| (index, token.clone()));
        let ended = revoked.iter().flat_map(|index| of(*index));
        let live = state.ledger.chains.iter().enumerate().filter(|(_, chain)| chain.fate.revoked_us.is_none());
        let replaced = live.flat_map(|(index, chain)| {
            chain.used.iter().chain(&chain.replaced).map(move |token| (index, token.clone()))
        });
        (revoked.clone(), ended.chain(replaced.take(ASKED_MAX)).collect::<Vec<_>>())
    };
    let asked = futures_util::stream::iter(dead).map(|(chain, token)| actions::ask_dead(prober, chain, token));
    asked.buffer_unordered(ABREAST).collect::<Vec<()>>().await;
    let tried = futures_util::stream::iter(revoked).map(|chain| actions::try_revoked_refresh(prober, chain));
    tried.buffer_unordered(ABREAST).collect::<Vec<_>>().await;
    let over: Vec<usize> = {
        let state = prober.history.lock();
        let chains = (0..state.ledger.chains.len()).rev();
        let with_code = chains.filter(|chain| state.ledger.chains[*chain].code.is_some());
        with_code.filter(|chain| state.ledger.is_over(*chain)).take(ASKED_MAX).collect()
    };
    let tried = futures_util::stream::iter(over).map(|chain| doors::try_code(prober, chain));
    tried.buffer_unordered(ABREAST).collect::<Vec<_>>().await;
}

/// Every browser that was logged out has to log in, every other is known.
async fn ask_browsers(prober: &Prober) {
    let consents = 0..prober.history.lock().ledger.consents.len();
    let asked = futures_util::stream::iter(consents).map(|consent| sessions::ask(prober, consent));
    asked.buffer_unordered(ABREAST).collect::<Vec<_>>().await;
}

/// Every secret that was changed is refused.
pub(super) async fn try_old_secrets(prober: &Prober) {
    let old: Vec<(usize, String)> = {
        let state = prober.history.lock();
        let apps = state.ledger.apps.iter().enumerate();
        apps.flat_map(|(app, kept)| kept.old_secrets.iter().map(move |secret| (app, secret.clone()))).collect()
    };
    let tried = futures_util::stream::iter(old).map(|(app, secret)| secrets::try_old(prober, app, secret));
    tried.buffer_unordered(ABREAST).collect::<Vec<()>>().await;
}

/// Every consent that was given is allowed, every one taken away is denied.
pub(super) async fn ask_consents(prober: &Prober, lost: &Lost) {
    let consents = 0..prober.history.lock().ledger.consents.len();
    let asked = futures_util::stream::iter(consents).map(|consent| async move {
        if actions::check_consent(prober, consent).await == Some(Ruling::Forbidden) {
            note(lost, format!("consent {consent}"));
        }
    });
    asked.buffer_unordered(ABREAST).collect::<Vec<()>>().await;
}

/// Every client is there under its last name, every deleted one is gone.
pub(super) async fn ask_apps(prober: &Prober, lost: &Lost) {
    let apps = 0..prober.history.lock().ledger.apps.len();
    let asked = futures_util::stream::iter(apps).map(|app| async move {
        let (id, before) = {
            let state = prober.history.lock();
            (state.ledger.apps[app].id.clone(), state.ledger.apps[app].clone())
        };
        let url = format!("{}/clients/{id}", prober.client.doors.dashboard);
        let call = prober.call(Kind::Check, prober.client.http.get(url)).await;
        let forbidden = (!matches!(call.status(), Some(200 | 404))).then(|| "neither there nor gone".to_owned());
        prober.history.enter(&call, forbidden, Some(&format!("app {app}")));
        let after = prober.history.lock().ledger.apps[app].clone();
        if before.renames == after.renames && before.fate == after.fate && !before.busy && !after.uncertain {
            rule_on_app(&call, &after.name, after.fate.revoked_us.is_some(), after.fate.is_doomed(), lost);
        }
    });
    asked.buffer_unordered(ABREAST).collect::<Vec<()>>().await;
}

fn rule_on_app(call: &Call, name: &str, deleted: bool, doomed: bool, lost: &Lost) {
    let found = call.success().and_then(|body| body.get("name")?.as_str());
    match found {
        Some(_) if deleted => note(lost, format!("the deletion of {name:?}")),
        Some(found) if !doomed && found != name => note(lost, format!("the name {name:?} of a client")),
        None if !doomed && call.status() == Some(404) => note(lost, format!("client {name:?}")),
        _ => {}
    }
}

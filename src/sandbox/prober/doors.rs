//! The rarer ways in which a grant ends, and a grant after that: whoever reuses or replays ends a chain too, and the engine alone knows.
//!
//! Each enters its calls into the history, as `actions` do.

use super::Prober;
use super::actions::{grant_to, refused};
use super::ledger::THEFT;
use super::words::{Call, Kind, Reply};
use serde_json::Value;

/// A thief presents a refresh token that its owner has used: the engine ends the whole chain, and says so.
pub(super) async fn reuse(prober: &Prober) -> Option<()> {
    let (chain, app, token) = {
        let mut state = prober.history.lock();
        let (chain, token) = state.ledger.take_for_reuse(prober.client.now_us())?;
        (chain, state.ledger.chains[chain].app, token)
    };
    let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    let call = prober.call(Kind::Refresh, prober.token_request("/oauth2/token", app, &form)).await;
    stolen(prober, chain, &call, "a refresh token that was used");
    prober.history.lock().ledger.give_back(chain);
    Some(())
}

/// Rules on what a thief was told: the chain is dead from here, or the theft was not noticed. Of a chain that a way back gave up, the engine may
/// not know the token, so it need not notice; it must not accept it either. Whoever is told no more than the owner was, by a
/// gateway that keeps answers of refreshes for a while, has got nothing new; the chain lives on, and nobody uses it any more.
pub(super) fn stolen(prober: &Prober, chain: usize, call: &Call, what: &str) {
    let (is_noticed, is_the_owners) = (is_noticed(call), is_the_owners(prober, chain, call));
    let must_notice = !prober.history.lock().ledger.is_given_up(chain);
    let forbidden = match &call.reply {
        Reply::Answered { .. } if call.success().is_some() && !is_the_owners => Some(format!("{what} was accepted")),
        Reply::Answered { .. } if call.success().is_some() => None,
        Reply::Answered { status, .. } if *status < 500 && !is_noticed && must_notice => {
            Some(format!("{what} was not noticed"))
        }
        _ => None,
    };
    let name = format!("chain {chain}, {what}");
    match forbidden {
        Some(_) => prober.history.enter(call, forbidden, Some(&name)),
        None => prober.history.enter_try(call, &name),
    }
    if is_noticed {
        prober.history.lock().ledger.chain_revoked(chain, call.end_us, THEFT);
    }
}

/// Whether the answer holds the very tokens that the owner has.
fn is_the_owners(prober: &Prober, chain: usize, call: &Call) -> bool {
    let state = prober.history.lock();
    let kept = &state.ledger.chains[chain];
    let told = |name: &str| call.success()?.get(name)?.as_str();
    told("access_token") == Some(kept.access.as_str()) && told("refresh_token") == kept.refresh.as_deref()
}

/// Whether the engine says that it ended the chain, rather than that it does not know what was presented.
fn is_noticed(call: &Call) -> bool {
    let Reply::Answered { body, .. } = &call.reply else { return false };
    body.get("error_description").and_then(Value::as_str).is_some_and(|said| said.contains("used before"))
}

/// A user lets an app in again that was taken away: the consent of before stays dead, this one lives.
pub(super) async fn regrant(prober: &Prober) -> Option<()> {
    let (app, subject) = {
        let mut state = prober.history.lock();
        if state.ledger.is_full() { None } else { state.ledger.take_to_follow() }
    }?;
    grant_to(prober, app, subject, false).await;
    Some(())
}

/// An administrator takes a user away from all apps.
pub(super) async fn revoke_subject(prober: &Prober) -> Option<()> {
    let (consent, app, subject) = {
        let mut state = prober.history.lock();
        let consent = state.ledger.take_consent(prober.client.now_us())?;
        let taken = &state.ledger.consents[consent];
        (consent, taken.app, taken.subject.clone())
    };
    let delete = |url: String| prober.client.http.delete(url).query(&[("subject", subject.as_str()), ("all", "true")]);
    let call = prober.learnt(prober.client.admin(Kind::RevokeConsent, "/oauth2/auth/sessions/consent", delete).await);
    prober.history.enter(&call, refused(&call), Some(&format!("consent {consent}, all of its subject's")));
    let mut state = prober.history.lock();
    if call.success().is_some() {
        state.ledger.consent_revoked(consent, call.end_us);
    }
    state.ledger.consents[consent].busy = false;
    state.ledger.leave(app);
    Some(())
}

/// An administrator ends a client's access tokens; what they are refreshed from stays.
pub(super) async fn revoke_access(prober: &Prober) -> Option<()> {
    let (app, client) = {
        let mut state = prober.history.lock();
        let app = state.ledger.take_to_cut(prober.client.now_us())?;
        (app, state.ledger.apps[app].id.clone())
    };
    let delete = |url: String| prober.client.http.delete(url).query(&[("client_id", client.as_str())]);
    let call = prober.learnt(prober.client.admin(Kind::RevokeAccess, "/oauth2/tokens", delete).await);
    prober.history.enter(&call, refused(&call), Some(&format!("access tokens of app {app}")));
    let mut state = prober.history.lock();
    if call.success().is_some() {
        state.ledger.access_revoked(app, call.end_us);
    }
    state.ledger.open(app);
    Some(())
}

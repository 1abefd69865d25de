//! The rarer ways in which a grant ends, and a grant after that: whoever reuses or replays ends a chain too, and the engine alone knows.
//!
//! Each enters its calls into the history, as `actions` do.

use super::Prober;
use super::actions::{exchange, grant_to, refused};
use super::ledger::{Chain, THEFT};
use super::rulings::{Ruling, rule};
use super::words::{Call, Door, Kind, Reply};
use serde_json::{Value, json};

/// A thief presents a refresh token that its owner has used: the engine ends the whole chain, and says so.
pub(super) async fn reuse(prober: &Prober) -> Option<()> {
    let (chain, app, token) = {
        let mut state = prober.history.lock();
        let (chain, token) = state.ledger.take_for_reuse(prober.client.now_us())?;
        (chain, state.ledger.chains[chain].app, token)
    };
    let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    let call = prober.call(Kind::Refresh, prober.token_request("/oauth2/token", app, &form)).await;
    stolen(prober, chain, &call, Door::Reuse);
    prober.history.lock().ledger.give_back(chain);
    Some(())
}

/// A thief presents a code that its owner has exchanged, however long ago and wherever: likewise.
pub(super) async fn replay_code(prober: &Prober) -> Option<()> {
    let (chain, app, spent) = {
        let mut state = prober.history.lock();
        let (chain, spent) = state.ledger.take_to_replay(prober.client.now_us())?;
        (chain, state.ledger.chains[chain].app, spent)
    };
    stolen(prober, chain, &exchange(prober, app, &spent).await, Door::CodeReplay);
    prober.history.lock().ledger.give_back(chain);
    Some(())
}

/// A thief presents a code of a chain that is over.
pub(super) async fn try_any_code(prober: &Prober) -> Option<()> {
    let chain = prober.history.lock().ledger.over_with_code()?;
    try_code(prober, chain).await
}

/// Presents the code of a chain that is over: on either side it was used, and gives nobody anything.
pub(super) async fn try_code(prober: &Prober, chain: usize) -> Option<()> {
    let (app, spent, fate) = {
        let state = prober.history.lock();
        let tried = &state.ledger.chains[chain];
        (tried.app, tried.code.clone()?, tried.fate)
    };
    let call = exchange(prober, app, &spent).await;
    prober.history.enter_try(&call, &format!("the code of chain {chain}, which is over"));
    if call.success().is_some() {
        let mut state = prober.history.lock();
        let what = || format!("the code of chain {chain}, which is over, was accepted");
        match rule(fate, call.start_us, call.end_us, true, false) {
            Ruling::RevokedAccepted => state.ended_accepted(chain, what),
            _ => state.over_accepted(what),
        }
    }
    Some(())
}

/// Rules on what a thief was told: the chain is dead from here, or the theft was not noticed. Of a chain that a way back gave up, the engine may
/// not know the token, so it need not notice; it must not accept it either. Whoever is told no more than the owner was, by a
/// gateway that keeps answers of refreshes for a while, has got nothing new; the chain lives on, and nobody uses it any more.
fn stolen(prober: &Prober, chain: usize, call: &Call, door: Door) {
    let what = if door == Door::Reuse { "a refresh token that was used" } else { "a code that was exchanged" };
    let (is_noticed, is_accepted) = (is_noticed(call), call.success().is_some());
    let must_notice = !prober.history.lock().ledger.is_given_up(chain);
    let forbidden = match &call.reply {
        Reply::Answered { status, .. } if *status < 500 && !is_accepted && !is_noticed && must_notice => {
            Some(format!("{what} was not noticed"))
        }
        _ => None,
    };
    let name = format!("chain {chain}, {what}");
    match forbidden {
        Some(_) => prober.history.enter(call, forbidden, Some(&name)),
        None => prober.history.enter_try(call, &name),
    }
    let mut state = prober.history.lock();
    if is_noticed {
        state.ledger.chain_revoked(chain, call.end_us, THEFT);
        state.went_through(door);
    }
    if is_accepted && !is_nothing_new(&state.ledger.chains[chain], call) {
        state.over_accepted(|| format!("of chain {chain} {what} was accepted"));
    }
}

/// Whether the answer holds no token but such as the owner was given.
pub(super) fn is_nothing_new(chain: &Chain, call: &Call) -> bool {
    let told = |name: &str| call.success()?.get(name)?.as_str();
    let is_known = |told: &str| chain.tokens().any(|token| token == told);
    told("access_token").is_some_and(is_known) && told("refresh_token").is_none_or(is_known)
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
    grant_to(prober, app, subject).await;
    Some(())
}

/// Takes a consent that is to end, all its chains with it: whose it is, and to which client.
pub(super) fn take_consent(prober: &Prober) -> Option<(usize, String, String)> {
    let mut state = prober.history.lock();
    let consent = state.ledger.take_consent(prober.client.now_us())?;
    let taken = &state.ledger.consents[consent];
    Some((consent, taken.subject.clone(), state.ledger.apps[taken.app].id.clone()))
}

/// An administrator takes a user away from all apps.
pub(super) async fn revoke_subject(prober: &Prober) -> Option<()> {
    let (consent, subject, _) = take_consent(prober)?;
    let delete = |url: String| prober.client.http.delete(url).query(&[("subject", subject.as_str()), ("all", "true")]);
    let call = prober.learnt(prober.client.admin(Kind::RevokeConsent, "/oauth2/auth/sessions/consent", delete).await);
    prober.history.enter(&call, refused(&call), Some(&format!("consent {consent}, all of its subject's")));
    let mut state = prober.history.lock();
    if call.success().is_some() {
        state.ledger.consent_revoked(consent, call.end_us);
        state.went_through(Door::Subject);
    }
    state.ledger.give_consent_back(consent);
    Some(())
}

/// A system that revokes by no door of the engine tells the gateway: of a user's one app, or of all.
pub(super) async fn add_revocation(prober: &Prober) -> Option<()> {
    let (consent, subject, client) = take_consent(prober)?;
    let mut wish = json!({"subject": subject, "because": "the load wants it", "actor": "the load"});
    if rand::random() {
        wish["client"] = json!(client);
    }
    let url = format!("{}/cutover/v1/revocations", prober.client.doors.control);
    let request = prober.client.http.post(url).bearer_auth(prober.revocations_token.expose()).json(&wish);
    let call = prober.call(Kind::AddRevocation, request).await;
    // A plan without a token has no such place.
    let forbidden = refused(&call).filter(|_| call.status() != Some(404));
    prober.history.enter(&call, forbidden, Some(&format!("consent {consent}, past the engine")));
    let mut state = prober.history.lock();
    if call.success().is_some() {
        state.ledger.consent_revoked(consent, call.end_us);
        state.went_through(Door::Added);
    }
    state.ledger.give_consent_back(consent);
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
        state.went_through(Door::ClientTokens);
    }
    state.ledger.open(app);
    Some(())
}

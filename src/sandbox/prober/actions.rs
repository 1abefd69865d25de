//! What clients, users and developers do: one function per act, each entering its calls into the history.
//!
//! An act answers `None` when there was nothing to act on. Never retries: a retry would hide a failure.

use super::ledger::{Spent, THEFT, Tokens};
use super::rulings::{Fate, Ruling, rule};
use super::words::{Call, Door, Kind, Reply};
use super::{Prober, doors};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Where the engine sends the browser back to; nobody listens there.
pub(super) const CALLBACK: &str = "http://127.0.0.1:5555/callback";
/// What apps may ask for.
const SCOPE: &str = "openid offline_access photos.read";
/// What an app asks for itself.
pub(super) const OWN_SCOPE: &str = "photos.read";

/// Why an answer that is not a success contradicts the history.
pub(super) fn refused(call: &Call) -> Option<String> {
    match (&call.reply, call.success()) {
        (Reply::Answered { status, body }, None) => {
            let said = body.get("error").and_then(Value::as_str).unwrap_or("no error named");
            Some(format!("refused with {status} ({said})"))
        }
        _ => None,
    }
}

/// Whether the answer says that it does not know the grant, which is all that a chain that was given up may be told.
fn is_unknown_grant(call: &Call) -> bool {
    matches!(&call.reply, Reply::Answered { body, .. } if body.get("error").is_some_and(|error| error == "invalid_grant"))
}

/// The tokens of an answer.
fn tokens(call: &Call) -> Option<Tokens> {
    let body = call.success()?;
    let access = body.get("access_token")?.as_str()?.to_owned();
    let refresh = body.get("refresh_token").and_then(Value::as_str).map(str::to_owned);
    let seconds = body.get("expires_in").and_then(Value::as_u64).unwrap_or(3600);
    // Ten seconds of margin: the engine's clock starts before the answer arrives.
    let expires_us = call.start_us + seconds.saturating_sub(10) * 1_000_000;
    Some(Tokens { access, refresh, expires_us, born: call.origin() })
}

impl Prober {
    /// A request to the token endpoint with the app's own credential.
    pub(super) fn token_request(&self, path: &str, app: usize, form: &[(&str, &str)]) -> RequestBuilder {
        let (id, secret) = {
            let state = self.history.lock();
            let app = &state.ledger.apps[app];
            (app.id.clone(), app.secret.clone())
        };
        let url = format!("{}{path}", self.client.doors.public);
        self.client.http.post(url).basic_auth(id, Some(secret)).form(form)
    }
}

/// An app asks for a token of its own.
pub(super) async fn issue(prober: &Prober) -> Option<()> {
    let app = {
        let mut state = prober.history.lock();
        if state.ledger.is_full() { None } else { state.ledger.use_app() }
    }?;
    let form = [("grant_type", "client_credentials"), ("scope", OWN_SCOPE)];
    let call = prober.call(Kind::Issue, prober.token_request("/oauth2/token", app, &form)).await;
    keep(prober, app, None, &call);
    prober.history.lock().ledger.leave(app);
    Some(())
}

/// Enters the answer of a token endpoint as a new chain; a code that the way back gave up may be unknown.
fn keep(prober: &Prober, app: usize, consent: Option<usize>, call: &Call) -> Option<usize> {
    let got = tokens(call);
    let given_up = consent.is_some_and(|consent| prober.history.lock().ledger.is_consent_given_up(consent));
    let allowed = got.is_some() || (given_up && is_unknown_grant(call));
    let forbidden = if allowed { None } else { refused(call).or(Some("no token in the answer".to_owned())) };
    prober.history.enter(call, forbidden, Some(&format!("app {app}")));
    got.map(|tokens| prober.history.lock().ledger.add_chain(app, consent, tokens))
}

/// A user gives consent on the dashboard, and the app turns the code into tokens.
pub(super) async fn grant(prober: &Prober) -> Option<()> {
    let app = {
        let mut state = prober.history.lock();
        if state.ledger.is_full() { None } else { state.ledger.use_app() }
    }?;
    grant_to(prober, app, format!("user-{}", Uuid::new_v4().simple())).await;
    Some(())
}

/// A subject lets an app in, which is used already and left afterwards.
pub(super) async fn grant_to(prober: &Prober, app: usize, subject: String) {
    let verifier = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    if let Some((consent, code)) = give_consent(prober, app, &subject, &verifier).await {
        let spent = Spent { code, verifier };
        let call = exchange(prober, app, &spent).await;
        prober.history.lock().ledger.exchanged(consent, call.origin());
        let chain = keep(prober, app, Some(consent), &call);
        let mut state = prober.history.lock();
        if let Some(chain) = chain {
            state.ledger.chains[chain].code = Some(spent);
        }
        state.ledger.consents[consent].busy = false;
    }
    prober.history.lock().ledger.leave(app);
}

/// Presents a code at the token endpoint.
pub(super) async fn exchange(prober: &Prober, app: usize, spent: &Spent) -> Call {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", spent.code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", spent.verifier.as_str()),
    ];
    prober.call(Kind::Exchange, prober.token_request("/oauth2/token", app, &form)).await
}

async fn give_consent(prober: &Prober, app: usize, subject: &str, verifier: &str) -> Option<(usize, String)> {
    let (client_id, before) = {
        let state = prober.history.lock();
        (state.ledger.apps[app].id.clone(), state.ledger.turns.latest())
    };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let wish = json!({
        "subject": subject, "client_id": client_id, "scope": SCOPE, "redirect_uri": CALLBACK,
        "code_challenge": challenge, "code_challenge_method": "S256", "state": Uuid::new_v4(),
    });
    let url = format!("{}/consents", prober.client.doors.dashboard);
    let call = prober.call(Kind::GiveConsent, prober.client.http.post(url).json(&wish)).await;
    let word = |name: &str| call.success().and_then(|body| body.get(name)?.as_str()).map(str::to_owned);
    let (code, browser) = (word("code"), word("browser"));
    let forbidden = if code.is_none() { refused(&call).or(Some("no code in the answer".to_owned())) } else { None };
    prober.history.enter(&call, forbidden, Some(&format!("app {app}")));
    let mut state = prober.history.lock();
    let consent = state.ledger.add_consent(app, subject.to_owned(), before);
    let given = &mut state.ledger.consents[consent];
    (given.browser, given.uncertain) = (browser, code.is_none());
    code.map(|code| (consent, code))
}

/// An app refreshes; the old tokens are no longer used from here.
pub(super) async fn refresh(prober: &Prober) -> Option<()> {
    let (chain, app, token) = {
        let mut state = prober.history.lock();
        let chain = state.ledger.take_for_refresh()?;
        let taken = &state.ledger.chains[chain];
        (chain, taken.app, taken.refresh.clone()?)
    };
    let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    let call = prober.call(Kind::Refresh, prober.token_request("/oauth2/token", app, &form)).await;
    let got = tokens(&call);
    let (fate, given_up) = {
        let state = prober.history.lock();
        (state.ledger.chains[chain].fate, state.ledger.is_given_up(chain))
    };
    let certain = !(given_up && is_unknown_grant(&call));
    let ruling = rule(fate, call.start_us, call.end_us, got.is_some(), certain);
    let forbidden =
        (ruling == Ruling::Forbidden).then(|| refused(&call).unwrap_or("no token in the answer".to_owned()));
    prober.history.enter(&call, forbidden, Some(&format!("chain {chain}")));
    let mut state = prober.history.lock();
    if ruling == Ruling::RevokedAccepted {
        state.ended_accepted(chain, || format!("chain {chain} was refreshed after its revocation"));
    }
    let kept = &mut state.ledger.chains[chain];
    match got {
        Some(tokens) => kept.rotate(tokens),
        None => kept.uncertain = true,
    }
    state.ledger.give_back(chain);
    Some(())
}

/// A thief tries the refresh token of a revoked chain.
pub(super) async fn refresh_revoked(prober: &Prober) -> Option<()> {
    let chain = prober.history.lock().ledger.revoked_with_refresh()?;
    try_revoked_refresh(prober, chain).await
}

/// Tries a refresh token of one revoked chain, used or not; a success is the worst that can happen.
pub(super) async fn try_revoked_refresh(prober: &Prober, chain: usize) -> Option<()> {
    let (app, token) = {
        let state = prober.history.lock();
        (state.ledger.chains[chain].app, state.ledger.any_refresh_token(chain)?)
    };
    let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    let call = prober.call(Kind::Refresh, prober.token_request("/oauth2/token", app, &form)).await;
    let accepted = call.success().is_some();
    let fate = prober.history.lock().ledger.chains[chain].fate;
    prober.history.enter_try(&call, &format!("revoked chain {chain}"));
    if rule(fate, call.start_us, call.end_us, accepted, false) == Ruling::RevokedAccepted {
        let mut state = prober.history.lock();
        // A gateway that keeps answers for a while has given out what died with the chain, and nothing new.
        if state.ledger.chains[chain].ended_by == THEFT && doors::is_nothing_new(&state.ledger.chains[chain], &call) {
            return Some(());
        }
        let about = state.ledger.about(chain, &token);
        state.ended_accepted(chain, || format!("chain {chain} was refreshed after its revocation ({about})"));
    }
    Some(())
}

/// A resource server asks about a token.
pub(super) async fn introspect(prober: &Prober) -> Option<()> {
    let (chain, token) = {
        let state = prober.history.lock();
        let chain = state.ledger.any_chain()?;
        (chain, state.ledger.token_to_show(chain))
    };
    ask_about(prober, chain, &token, Asked::UnderLoad).await;
    Some(())
}

/// When a question about a token is asked: what a wrong "inactive" is called depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// By the load: an answer that the history forbids.
    UnderLoad,
    /// By the end check: the acknowledged write is not on the live side.
    AtTheEnd,
}

/// Introspects one token of a chain and rules on the answer; true when the token was found lost.
pub(super) async fn ask_about(prober: &Prober, chain: usize, token: &str, asked: Asked) -> bool {
    let certain_before = prober.history.lock().ledger.is_certain(chain, token, prober.client.now_us());
    let call = prober.introspect(token).await;
    let active = call.success().and_then(|body| body.get("active")?.as_bool());
    let (fate, certain) = {
        let state = prober.history.lock();
        let certain = state.ledger.is_certain(chain, token, prober.client.now_us());
        (state.ledger.fate_of(chain, token), certain && certain_before)
    };
    let ruling = active.map(|active| rule(fate, call.start_us, call.end_us, active, certain));
    let lost = ruling == Some(Ruling::Forbidden);
    let forbidden = match ruling {
        None => refused(&call).or(Some("no word on the token".to_owned())),
        Some(Ruling::Forbidden) if asked == Asked::UnderLoad => Some("a live token was called inactive".to_owned()),
        _ => None,
    };
    prober.history.enter(&call, forbidden, Some(&format!("chain {chain}")));
    if ruling == Some(Ruling::RevokedAccepted) {
        let mut state = prober.history.lock();
        let about = state.ledger.about(chain, token);
        state.ended_accepted(chain, || format!("chain {chain} was called active after its revocation ({about})"));
    }
    lost
}

/// Introspects a token that was revoked or that a refresh has replaced: it is dead, on whichever side it was issued.
pub(super) async fn ask_dead(prober: &Prober, chain: usize, token: String) {
    let call = prober.introspect(&token).await;
    let active = call.success().and_then(|body| body.get("active")?.as_bool());
    let fate = prober.history.lock().ledger.chains[chain].fate;
    let ruling = active.map(|active| rule(fate, call.start_us, call.end_us, active, false));
    let forbidden = match (active, ruling) {
        (None, _) => refused(&call).or(Some("no word on the token".to_owned())),
        _ => None,
    };
    prober.history.enter(&call, forbidden, Some(&format!("chain {chain}")));
    if active != Some(true) {
        return;
    }
    let mut state = prober.history.lock();
    let about = state.ledger.about(chain, &token);
    match ruling {
        Some(Ruling::RevokedAccepted) => {
            state.ended_accepted(chain, || format!("chain {chain} was called active after its revocation ({about})"));
        }
        _ => {
            state.over_accepted(|| format!("of chain {chain} was called active what a refresh had replaced ({about})"))
        }
    }
}

/// An app asks who the user is.
pub(super) async fn userinfo(prober: &Prober) -> Option<()> {
    let (chain, token, certain_before) = {
        let state = prober.history.lock();
        let chain = state.ledger.any_chain().filter(|chain| state.ledger.chains[*chain].consent.is_some())?;
        let token = state.ledger.chains[chain].access.clone();
        let certain = state.ledger.is_certain(chain, &token, prober.client.now_us());
        (chain, token, certain)
    };
    let url = format!("{}/userinfo", prober.client.doors.public);
    let call = prober.call(Kind::Userinfo, prober.client.http.get(url).bearer_auth(&token)).await;
    let mut state = prober.history.lock();
    let certain = certain_before && state.ledger.is_certain(chain, &token, prober.client.now_us());
    let fate = state.ledger.fate_of(chain, &token);
    let ruling = rule(fate, call.start_us, call.end_us, call.success().is_some(), certain);
    if ruling == Ruling::RevokedAccepted {
        state.ended_accepted(chain, || format!("chain {chain} was answered by userinfo after its revocation"));
    }
    drop(state);
    let forbidden = if ruling == Ruling::Forbidden { refused(&call) } else { None };
    prober.history.enter(&call, forbidden, Some(&format!("chain {chain}")));
    Some(())
}

/// An app revokes one of its tokens: the refresh token when there is one.
pub(super) async fn revoke_token(prober: &Prober) -> Option<()> {
    let (chain, app, token) = {
        let mut state = prober.history.lock();
        let chain = state.ledger.take_for_revoke(prober.client.now_us())?;
        let taken = &state.ledger.chains[chain];
        // An access token that was ended before is unknown to the engine, and revoking it revokes nothing (RFC 7009, 2.2).
        let is_refresh = taken.cut.is_doomed() || rand::random::<bool>();
        let token = taken.refresh.clone().filter(|_| is_refresh).unwrap_or_else(|| taken.access.clone());
        (chain, taken.app, token)
    };
    let request = prober.token_request("/oauth2/revoke", app, &[("token", token.as_str())]);
    let call = prober.call(Kind::RevokeToken, request).await;
    prober.history.enter(&call, refused(&call), Some(&format!("chain {chain}")));
    let mut state = prober.history.lock();
    if call.success().is_some() {
        state.ledger.chain_revoked(chain, call.end_us, "its own token's revocation");
        state.went_through(Door::Token);
    }
    state.ledger.give_back(chain);
    Some(())
}

/// A user takes an app away.
pub(super) async fn revoke_consent(prober: &Prober) -> Option<()> {
    let (consent, subject, client_id) = doors::take_consent(prober)?;
    let url = format!("{}/apps/{client_id}", prober.client.doors.dashboard);
    let request = prober.client.http.delete(url).query(&[("subject", subject)]);
    let call = prober.call(Kind::RevokeConsent, request).await;
    prober.history.enter(&call, refused(&call), Some(&format!("consent {consent}")));
    let mut state = prober.history.lock();
    if call.success().is_some() {
        state.ledger.consent_revoked(consent, call.end_us);
        state.went_through(Door::Consent);
    }
    state.ledger.give_consent_back(consent);
    Some(())
}

/// A service asks whether a user allows an app.
pub(super) async fn check(prober: &Prober) -> Option<()> {
    let consent = {
        let state = prober.history.lock();
        let len = state.ledger.consents.len();
        if len == 0 { None } else { Some(rand::random_range(0..len)) }
    }?;
    if check_consent(prober, consent).await == Some(Ruling::Forbidden) {
        tracing::debug!(consent, "a given consent is denied");
    }
    Some(())
}

/// Asks the authorization service about one consent and rules on its answer.
pub(super) async fn check_consent(prober: &Prober, consent: usize) -> Option<Ruling> {
    let (subject, client_id, certain_before) = {
        let state = prober.history.lock();
        let asked = &state.ledger.consents[consent];
        if asked.is_followed {
            return None;
        }
        (asked.subject.clone(), state.ledger.apps[asked.app].id.clone(), state.ledger.is_consent_certain(consent))
    };
    let url = format!("{}/check", prober.client.doors.authorization);
    let request = prober.client.http.get(url).query(&[("subject", subject), ("client", client_id)]);
    let call = prober.call(Kind::Check, request).await;
    let allowed = call.success().and_then(|body| body.get("allow")?.as_bool());
    let is_doomed = prober.history.lock().ledger.consents[consent].fate.is_doomed();
    if allowed == Some(false) && certain_before && !is_doomed {
        learn_side(prober).await;
    }
    let mut state = prober.history.lock();
    // Followed meanwhile: whom the answer is about cannot be told.
    let is_followed = state.ledger.consents[consent].is_followed;
    let certain = certain_before && state.ledger.is_consent_certain(consent);
    let fate = if is_followed { Fate::default() } else { state.ledger.consents[consent].fate };
    let certain = certain && !is_followed;
    let ruling = allowed.map(|allowed| rule(fate, call.start_us, call.end_us, allowed, certain));
    if ruling == Some(Ruling::RevokedAccepted) {
        state.revoked_accepted(|| format!("consent {consent} was allowed after its revocation"));
    }
    drop(state);
    let forbidden = match ruling {
        None => refused(&call).or(Some("no word on the consent".to_owned())),
        Some(Ruling::Forbidden) => Some("a given consent was denied".to_owned()),
        Some(_) => None,
    };
    prober.history.enter(&call, forbidden, Some(&format!("consent {consent}")));
    ruling
}

/// Learns from the gateway where traffic is. The authorization service asked through it and names no side: were the denial blue's, the
/// gateway's next answer cannot be of an earlier epoch.
async fn learn_side(prober: &Prober) {
    let call = prober.introspect("which.side").await;
    prober.history.enter(&call, refused(&call), Some("nothing"));
}

/// A developer creates a client.
pub(super) async fn create_app(prober: &Prober, lasting: bool) -> Option<()> {
    let name = format!("app {}", Uuid::new_v4().simple());
    let wish = json!({
        "name": name, "owner": "developer@example.com", "redirect_uris": [CALLBACK], "scope": SCOPE,
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
    });
    let url = format!("{}/clients", prober.client.doors.dashboard);
    let call = prober.call(Kind::ClientCreate, prober.client.http.post(url).json(&wish)).await;
    let word = |name: &str| call.success().and_then(|body| body.get(name)?.as_str()).map(str::to_owned);
    let made = word("client_id").zip(word("client_secret"));
    let forbidden = if made.is_none() { refused(&call).or(Some("no secret in the answer".to_owned())) } else { None };
    prober.history.enter(&call, forbidden, Some(&name));
    if let Some((id, secret)) = made {
        prober.history.lock().ledger.add_app(id, secret, name, lasting);
    }
    Some(())
}

/// A developer renames a client.
pub(super) async fn rename_app(prober: &Prober) -> Option<()> {
    let (app, id, name) = {
        let mut state = prober.history.lock();
        let app = state.ledger.take_to_rename()?;
        let taken = &state.ledger.apps[app];
        (app, taken.id.clone(), format!("app {app} renamed {}", taken.renames))
    };
    let url = format!("{}/clients/{id}", prober.client.doors.dashboard);
    let request = prober.client.http.put(url).json(&json!({"name": name}));
    let call = prober.call(Kind::ClientUpdate, request).await;
    prober.history.enter(&call, refused(&call), Some(&format!("app {app}")));
    let mut state = prober.history.lock();
    let kept = &mut state.ledger.apps[app];
    match call.success() {
        Some(_) => kept.name = name,
        None => kept.uncertain = true,
    }
    kept.busy = false;
    Some(())
}

/// A developer deletes a client, and with it everything issued to it.
pub(super) async fn delete_app(prober: &Prober) -> Option<()> {
    let (app, id) = {
        let mut state = prober.history.lock();
        let app = state.ledger.take_to_delete(prober.client.now_us())?;
        (app, state.ledger.apps[app].id.clone())
    };
    let url = format!("{}/clients/{id}", prober.client.doors.dashboard);
    let call = prober.call(Kind::ClientDelete, prober.client.http.delete(url)).await;
    prober.history.enter(&call, refused(&call), Some(&format!("app {app}")));
    let mut state = prober.history.lock();
    if call.success().is_some() {
        state.ledger.app_deleted(app, call.end_us);
        state.went_through(Door::ClientDelete);
    }
    state.ledger.apps[app].busy = false;
    Some(())
}

//! Login sessions end, by an administrator for all of a subject or by the user in one browser, and with them nothing else: consents and tokens live on.
//!
//! Judged by what a browser is told that asks to be let in without a login (`prompt=none`).

use super::Prober;
use super::actions::{CALLBACK, refused};
use super::rulings::{Ruling, rule};
use super::turns::Origin;
use super::words::{Call, Door, Kind, Reply};
use reqwest::RequestBuilder;

/// An administrator ends all login sessions of a subject.
pub(super) async fn end_all(prober: &Prober) -> Option<()> {
    let (consent, ending, subject) = {
        let mut state = prober.history.lock();
        let consent = state.ledger.take_to_log_out()?;
        let ending = state.ledger.consents_of_same_subject(consent);
        doom(&mut state.ledger.consents, &ending, prober.client.now_us());
        (consent, ending, state.ledger.consents[consent].subject.clone())
    };
    let delete = |url: String| prober.client.http.delete(url).query(&[("subject", subject.as_str())]);
    let call = prober.learnt(prober.client.admin(Kind::EndSessions, "/oauth2/auth/sessions/login", delete).await);
    prober.history.enter(&call, refused(&call), Some(&format!("login sessions of consent {consent}")));
    ended(prober, consent, &ending, call.success().map(|_| (call.end_us, Door::LoginSessions)));
    Some(())
}

/// A user logs out: the browser asks, the screen says yes, the browser comes back.
pub(super) async fn log_out(prober: &Prober) -> Option<()> {
    let (consent, browser, begun) = {
        let mut state = prober.history.lock();
        let consent = state.ledger.take_to_log_out()?;
        doom(&mut state.ledger.consents, &[consent], prober.client.now_us());
        (consent, state.ledger.consents[consent].browser.clone()?, state.ledger.turns.latest())
    };
    let done = confirmed(prober, consent, &browser, begun).await;
    ended(prober, consent, &[consent], done.map(|end_us| (end_us, Door::Logout)));
    Some(())
}

/// Every step of a logout; when the last of them was answered.
async fn confirmed(prober: &Prober, consent: usize, browser: &str, begun: Option<Origin>) -> Option<u64> {
    let logout = || browse(prober, "/oauth2/sessions/logout", browser);
    let asked = prober.call(Kind::Logout, logout()).await;
    let challenge = step(prober, consent, begun, &asked, asked.leads_to("logout_challenge"))?;
    let accept = |url: String| prober.client.http.put(url).query(&[("logout_challenge", challenge.as_str())]);
    let accepted = prober.client.admin(Kind::Logout, "/oauth2/auth/requests/logout/accept", accept).await;
    let accepted = prober.learnt(accepted);
    let verifier = step(prober, consent, begun, &accepted, accepted.leads_to("logout_verifier"))?;
    let back = prober.call(Kind::Logout, logout().query(&[("logout_verifier", &verifier)])).await;
    step(prober, consent, begun, &back, (back.status() == Some(302)).then_some(back.end_us))
}

/// Enters one step with what came of it. A logout under way begins anew on another side: nothing has to come of it there.
fn step<T>(prober: &Prober, consent: usize, begun: Option<Origin>, call: &Call, came: Option<T>) -> Option<T> {
    let must_come = call.origin() == begun && came.is_none();
    let forbidden = must_come.then(|| refused(call).unwrap_or("no way on in the answer".to_owned()));
    prober.history.enter(call, forbidden, Some(&format!("login session of consent {consent}")));
    came
}

fn doom(consents: &mut [super::ledger::Consent], ending: &[usize], now_us: u64) {
    for consent in ending {
        consents[*consent].session.doom(now_us);
    }
}

/// Notes the end of sessions when it was acknowledged, and gives the consent back that was taken for it.
fn ended(prober: &Prober, taken: usize, ending: &[usize], acknowledged: Option<(u64, Door)>) {
    let mut state = prober.history.lock();
    if let Some((ack_us, door)) = acknowledged {
        for consent in ending {
            state.ledger.consents[*consent].session.revoked(ack_us);
        }
        state.went_through(door);
    }
    state.ledger.give_consent_back(taken);
}

/// A browser comes again, maybe one that was logged out.
pub(super) async fn ask_any(prober: &Prober) -> Option<()> {
    let consent = prober.history.lock().ledger.any_browser()?;
    ask(prober, consent).await
}

/// One browser asks to be let in without a login: it is sent on to give its consent, or told to log in.
pub(super) async fn ask(prober: &Prober, consent: usize) -> Option<()> {
    let (browser, client, certain_before) = {
        let state = prober.history.lock();
        let asked = &state.ledger.consents[consent];
        let client = state.ledger.apps[asked.app].id.clone();
        (asked.browser.clone()?, client, state.ledger.is_session_certain(consent))
    };
    let wish = [
        ("response_type", "code"),
        ("client_id", client.as_str()),
        ("redirect_uri", CALLBACK),
        ("scope", "openid"),
        ("state", "a-browser-that-comes-again"),
        ("prompt", "none"),
    ];
    let call = prober.call(Kind::Session, browse(prober, "/oauth2/auth", &browser).query(&wish)).await;
    let is_answered = matches!(call.reply, Reply::Answered { status, .. } if status < 500);
    let is_let_in = call.leads_to("login_challenge").is_some();
    let mut state = prober.history.lock();
    let certain = certain_before && state.ledger.is_session_certain(consent);
    let fate = state.ledger.consents[consent].session;
    let ruling = is_answered.then(|| rule(fate, call.start_us, call.end_us, is_let_in, certain));
    if ruling == Some(Ruling::RevokedAccepted) {
        state.revoked_accepted(|| {
            format!("the browser of consent {consent} was let in after its login session had ended")
        });
    }
    drop(state);
    let forbidden = (ruling == Some(Ruling::Forbidden)).then(|| "a login that stands was not remembered".to_owned());
    prober.history.enter(&call, forbidden, Some(&format!("login session of consent {consent}")));
    Some(())
}

/// A browser's visit, with its cookies.
fn browse(prober: &Prober, path: &str, cookies: &str) -> RequestBuilder {
    prober.client.http.get(format!("{}{path}", prober.client.doors.public)).header("cookie", cookies)
}

//! A client's secret is changed for another, and whoever has kept the one before is refused for ever.

use super::Prober;
use super::actions::{OWN_SCOPE, refused};
use super::words::{Door, Kind};

/// A developer asks for another secret.
pub(super) async fn change(prober: &Prober) -> Option<()> {
    let (app, id) = {
        let mut state = prober.history.lock();
        let app = state.ledger.take_alone()?;
        (app, state.ledger.apps[app].id.clone())
    };
    let url = format!("{}/clients/{id}/secret", prober.client.doors.dashboard);
    let call = prober.call(Kind::ClientSecret, prober.client.http.post(url)).await;
    let made = call.success().and_then(|body| body.get("client_secret")?.as_str()).map(str::to_owned);
    let forbidden = if made.is_none() { refused(&call).or(Some("no secret in the answer".to_owned())) } else { None };
    prober.history.enter(&call, forbidden, Some(&format!("secret of app {app}")));
    let mut state = prober.history.lock();
    let kept = &mut state.ledger.apps[app];
    match made {
        Some(secret) => {
            kept.old_secrets.push(std::mem::replace(&mut kept.secret, secret));
            state.went_through(Door::ClientSecret);
        }
        None => kept.uncertain = true,
    }
    state.ledger.open(app);
    Some(())
}

/// Whoever has kept a secret of before asks for a token by it.
pub(super) async fn try_any_old(prober: &Prober) -> Option<()> {
    let (app, secret) = prober.history.lock().ledger.any_old_secret()?;
    try_old(prober, app, secret).await;
    Some(())
}

/// Tries one secret of before: 401 is all that it may be told, whatever has become of its client. A change travels with the client's row, and
/// so may be lost with a side that is dead.
pub(super) async fn try_old(prober: &Prober, app: usize, secret: String) {
    let id = prober.history.lock().ledger.apps[app].id.clone();
    let form = [("grant_type", "client_credentials"), ("scope", OWN_SCOPE)];
    let url = format!("{}/oauth2/token", prober.client.doors.public);
    let request = prober.client.http.post(url).basic_auth(id, Some(secret)).form(&form);
    let call = prober.call(Kind::Issue, request).await;
    let what = format!("a secret of before of app {app}");
    match call.status().filter(|status| (400..500).contains(status) && *status != 401) {
        Some(status) => {
            prober.history.enter(&call, Some(format!("refused with {status} rather than 401")), Some(&what))
        }
        None => prober.history.enter_try(&call, &what),
    }
    if call.success().is_some() {
        prober.history.lock().over_accepted(|| format!("{what} was accepted"));
    }
}

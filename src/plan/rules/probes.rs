//! What probes cannot be: without flows, with a client that cannot do what is tried, or with a key that is no secret.

use super::super::document::{Document, Flow, Probe as Typed};
use super::super::model::{OauthProbe, Plan, Probe};
use super::super::place::Place;
use super::super::problem::Problems;
use std::time::Duration;

/// The longest grace period that is waited for; Hydra 2.3 knows no longer one.
pub(super) const LONGEST_GRACE: Duration = Duration::from_secs(300);
/// A call that takes longer is no answer to a client.
const LONGEST_CALL: Duration = Duration::from_secs(60);
/// A shorter secret is guessed.
const KEY_CHARACTERS: usize = 32;

pub(super) fn check(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let place = Place::top("probes");
    let below = |index: usize| match &document.probes[index] {
        Typed::Oauth(_) => place.index(index).key("oauth"),
        Typed::Http(_) => place.index(index).key("http"),
    };
    let relied_on = plan.gateway.as_ref().and_then(|gateway| gateway.refresh?.engine_grace());
    let mut names = std::collections::BTreeMap::new();
    for (index, probe) in plan.probes.iter().enumerate() {
        let place = below(index);
        if let Some(first) = names.insert(probe.name(), place.clone()) {
            let message = format!("two probes are named `{}`: the first is `{first}`", probe.name());
            problems.value(&place.key("name"), message, "give each a name of its own");
        }
        let timeout = match probe {
            Probe::Oauth(oauth) => {
                flows(oauth, &place, problems);
                waits(oauth, relied_on, &place, problems);
                key(oauth, &place, problems);
                oauth.timeout
            }
            Probe::Http(http) => http.timeout,
        };
        if timeout > LONGEST_CALL {
            let place = place.key("timeout");
            problems.value(&place, format!("`{place}` is longer than a minute"), "a probe is as patient as a client");
        }
    }
    if !document.probes.is_empty() && document.systems.is_empty() {
        let hint =
            "a run without `systems` ends at the flip point: there is no soak, and nobody to see what green does";
        problems.key(&place, "there are `probes` but no `systems`", hint);
    }
}

fn flows(oauth: &OauthProbe, place: &Place, problems: &mut Problems<'_>) {
    if oauth.flows.is_empty() {
        let place = place.key("flows");
        problems.value(&place, format!("`{place}` is empty"), "name a flow, or leave the probe out");
    }
    let needs_user =
        |flow: &Flow| matches!(flow, Flow::CodePkce | Flow::Refresh | Flow::Reuse | Flow::Revoke | Flow::Introspect);
    if let Some(client) = &oauth.client
        && client.redirect_uri.is_none()
        && oauth.flows.iter().any(needs_user)
    {
        let place = place.key("client");
        let hint = "add `redirect_uri`, one of the client's own: a user's grant is sent back there";
        problems.key(&place, format!("`{place}` has no `redirect_uri`"), hint);
    }
    let needs_refresh = |flow: &Flow| matches!(flow, Flow::Refresh | Flow::Reuse);
    let has_offline = oauth.scope.split_whitespace().any(|scope| matches!(scope, "offline" | "offline_access"));
    if !has_offline && (oauth.flows.iter().any(needs_refresh) || oauth.canaries.is_some()) {
        let place = place.key("scope");
        problems.value(&place, format!("`{place}` asks for no refresh token"), "add `offline_access`");
    }
}

/// One that is relied on is told of where it stands.
fn waits(oauth: &OauthProbe, relied_on: Option<Duration>, place: &Place, problems: &mut Problems<'_>) {
    let place = place.key("grace");
    for (side, grace) in [("blue", oauth.grace_blue), ("green", oauth.grace_green)] {
        if grace != relied_on && grace.is_some_and(|grace| grace > LONGEST_GRACE) {
            let place = place.key(side);
            problems.value(&place, format!("`{place}` is longer than 5 minutes"), "the probe waits until it is over");
        }
    }
}

fn key(oauth: &OauthProbe, place: &Place, problems: &mut Problems<'_>) {
    let place = place.key("canaries").key("key");
    let is_short = |key: &super::super::model::Secret| key.expose().chars().count() < KEY_CHARACTERS;
    if oauth.canaries.as_ref().is_some_and(is_short) && !problems.is_spoiled(&place) {
        let message = format!("`{place}` becomes a secret of less than {KEY_CHARACTERS} characters");
        problems.value(&place, message, "such as the output of `openssl rand -hex 32`");
    }
}

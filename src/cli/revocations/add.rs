//! `revocations add`: asks the plan's gateway to revoke what came in by no door of the engine, and to keep it like any other.

use super::super::arguments::PlanArgs;
use super::super::exit::{CommandError, Ending};
use super::super::session::holder;
use super::desk::{Desk, ended};
use crate::engine::chain;
use crate::plan::Secret;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What an answer may take beyond the hold and the engine.
const MARGIN: Duration = Duration::from_secs(5);

/// Arguments of `revocations add`.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Revokes consents of this subject and all tokens of them: to one client with --client, to all without.
    #[arg(long, value_name = "ID", conflicts_with_all = ["consent", "session"], required_unless_present_any = ["client", "consent", "session"])]
    subject: Option<String>,
    /// The client; alone, all of its access tokens are revoked, as by the engine's own door.
    #[arg(long, value_name = "ID", conflicts_with_all = ["consent", "session"])]
    client: Option<String>,
    /// Revokes one consent, by its challenge.
    #[arg(long, value_name = "CHALLENGE", conflicts_with = "session")]
    consent: Option<String>,
    /// Ends one login session, by its id.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Why; kept with the revocation.
    #[arg(long, value_name = "REASON")]
    because: String,
    /// Who asks for it; this user on this machine when left out.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

pub(super) async fn run(arguments: &AddArgs) -> Ending {
    ended(&arguments.plan, async |desk| add(arguments, &desk).await).await
}

async fn add(arguments: &AddArgs, desk: &Desk<'_>) -> Result<(Ending, Value), CommandError> {
    let (control, token) = gateway(desk)?;
    let plan = &desk.world.plan;
    let limit = plan.window.hold + plan.gateway.as_ref().map_or(MARGIN, |gateway| gateway.request_timeout) + MARGIN;
    let address = format!("{}/cutover/v1/revocations", control.trim_end_matches('/'));
    let request = desk.world.http.post(&address).bearer_auth(token.expose()).timeout(limit).json(&body(arguments));
    let answer = request.send().await.map_err(|error| {
        let why = format!("ask the gateway at {control}: {}; whether it was revoked is unknown", chain(&error));
        CommandError::new(Ending::Failed, why, "run the same command again: it does no harm twice")
    })?;
    let status = answer.status().as_u16();
    let said: Value = answer.json().await.unwrap_or_default();
    let (ending, state, next) = meaning(desk, status, &said);
    if ending != Ending::Done {
        return Err(CommandError::new(ending, state, next));
    }
    let mut summary = desk.standing(state, next).await;
    if let (Some(summary), Value::Object(said)) = (summary.as_object_mut(), said) {
        summary.extend(
            said.into_iter().map(|(key, value)| (if key == "outcome" { "settled".to_owned() } else { key }, value)),
        );
    }
    Ok((ending, summary))
}

fn body(arguments: &AddArgs) -> Value {
    let named = [
        ("subject", &arguments.subject),
        ("client", &arguments.client),
        ("consent", &arguments.consent),
        ("session", &arguments.session),
    ];
    let mut body: Map<String, Value> =
        named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?)))).collect();
    body.insert("because".to_owned(), json!(arguments.because));
    body.insert("actor".to_owned(), json!(arguments.actor.clone().unwrap_or_else(holder)));
    Value::Object(body)
}

fn gateway<'a>(desk: &'a Desk<'_>) -> Result<(&'a str, &'a Secret), CommandError> {
    let control = desk.world.plan.systems.iter().flat_map(|system| system.adapter.gateways()).next();
    let control = control.map(|gateway| gateway.url.as_str());
    let token = desk.world.plan.gateway.as_ref().and_then(|gateway| gateway.revocations_token.as_ref());
    control.zip(token).ok_or_else(|| {
        let why = "the plan's gateway takes no revocations from outside: gateway.revocations is missing";
        let next = "add `gateway: { revocations: { token: \"${REVOCATIONS_TOKEN}\" } }` and start the gateway anew";
        CommandError::new(Ending::Usage, why, next)
    })
}

/// What the gateway's answer means, and what is to be done.
fn meaning(desk: &Desk<'_>, status: u16, said: &Value) -> (Ending, String, String) {
    let why = said["error"].as_str().unwrap_or("it says no more");
    let id = said["id"].as_str().unwrap_or("?");
    let show = || desk.plan.command(&format!("revocations show {id}"));
    let again = || "run the same command again".to_owned();
    match status {
        200 => (Ending::Done, format!("revoked as {id}: queued, executed, and dead on the side that serves"), show()),
        422 => (
            Ending::Refused,
            format!("queued as {id}, and refused by the engine, so nothing was revoked: {why}"),
            show(),
        ),
        502 => {
            let next = desk.plan.command(&format!("revocations replay --live {id}"));
            (
                Ending::Failed,
                format!("queued as {id}, and not known to be executed on the side that serves: {why}"),
                next,
            )
        }
        503 => (Ending::Failed, format!("nothing was revoked: {why}"), again()),
        400 => (Ending::Usage, format!("nothing was revoked: {why}"), "correct the arguments".to_owned()),
        401 => {
            let next = "give this command and the gateway the same token".to_owned();
            (Ending::Refused, "nothing was revoked: the gateway does not accept the plan's token".to_owned(), next)
        }
        404 => {
            let next = "start the gateway anew with this plan".to_owned();
            (
                Ending::Refused,
                "nothing was revoked: the gateway was started without gateway.revocations".to_owned(),
                next,
            )
        }
        other => {
            (Ending::Failed, format!("the gateway answered {other}: {why}; whether it was revoked is unknown"), again())
        }
    }
}

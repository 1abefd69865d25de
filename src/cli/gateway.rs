//! `gateway`: serves a plan's gateway until it is told to stop.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::open_files;
use super::screen::Screen;
use crate::gateway::{Config, NotTold, serve};
use crate::journal::Journal;
use crate::plan::Secret;
use crate::revocations::Install;
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Which gateway to run.
#[derive(Debug, Args)]
pub(super) struct GatewayArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Which of the plan's gateways this one is, when it has several; otherwise the one whose address is `gateway.listen.control`.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// `cutover gateway`.
pub(super) async fn run(arguments: &GatewayArgs) -> Ending {
    let screen = Screen::new(arguments.plan.json);
    let result = serve_plan(arguments, screen).await;
    if let Err(error) = &result {
        screen.error("not known to this command", error);
    }
    let ending = result.err().map_or(Ending::Done, |error| error.ending);
    screen.summary(ending, json!({}));
    ending
}

async fn serve_plan(arguments: &GatewayArgs, screen: Screen) -> Result<(), CommandError> {
    let plan = arguments.plan.load(&screen)?;
    open_files::raise();
    let config = Config::from_plan(&plan, arguments.name.as_deref(), install(plan.control.clone()));
    let config = config.map_err(|error| {
        let hint = match error {
            NotTold::NoSection => "write one, see the plan reference",
            NotTold::Which(_) | NotTold::Unknown { .. } => "say which one this is: --name NAME",
        };
        CommandError::new(Ending::Usage, error.to_string(), hint)
    })?;
    let listen = config.gateway.listen.clone();
    let text =
        format!("serving {} (public) and {} (admin), control on {}", listen.public, listen.admin, listen.control);
    screen.line(
        &text,
        &json!({ "event": "listening", "public": listen.public, "admin": listen.admin, "control": listen.control }),
    );
    let served = serve(config, told_to_stop()).await;
    served.map_err(|error| CommandError::failed("serve", &error, "see to the address or file it names"))
}

/// Makes our tables in control where they are missing.
fn install(control: Secret) -> Install {
    Arc::new(move || {
        let control = control.clone();
        Box::pin(async move { Journal::open(&control).await.map(drop).map_err(|error| crate::engine::chain(&error)) })
    })
}

async fn told_to_stop() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

//! `participant test`: whether a system keeps the participant protocol, rule by rule; only for one under test.

use super::exit::{CommandError, Ending};
use super::screen::Screen;
use crate::engine::chain;
use crate::traffic::conformance::{Finding, Trial, TrialError, Tried, conform};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Systems that move in lockstep by the participant protocol.
#[derive(Debug, Args)]
pub(super) struct ParticipantArgs {
    #[command(subcommand)]
    verb: ParticipantVerb,
}

#[derive(Debug, Subcommand)]
enum ParticipantVerb {
    /// Drives a participant under test through the protocol, rule by rule; exit 3 when it breaks one
    Test(TestArgs),
}

/// Holds, switches and releases the participant again and again under made-up epochs: for one under test, never for a live one. It ends on the side
/// that it served, at an epoch above every register's: remove its state file before it takes part in a flip.
#[derive(Debug, Args)]
struct TestArgs {
    /// Base URL of the participant, without /cutover/v1
    url: String,
    /// URL of a read-only request of a user's: who is served, held and refused is then seen by effect too
    #[arg(long, value_name = "URL")]
    ask: Option<String>,
    /// URL of the same that takes about three seconds, so that work is in flight when a hold comes
    #[arg(long, value_name = "URL")]
    slow: Option<String>,
    /// Shell command that kills the participant and starts it again over the same state file
    #[arg(long, value_name = "COMMAND")]
    restart: Option<String>,
    /// Within which it does what its own clock tells it: ends a hold, asks a resolver
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Where this test listens as the resolver that the participant asks
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    resolver: SocketAddr,
    /// Tries one that has been asked before, too: nothing depends on it
    #[arg(long)]
    yes_under_test: bool,
    /// One JSON event a line, the summary last
    #[arg(long)]
    json: bool,
}

const UNDER_TEST: &str =
    "for a participant under test, never for a live one: it is held, switched and released again and again";

/// `cutover participant test`.
pub(super) async fn run(arguments: &ParticipantArgs) -> Ending {
    let ParticipantVerb::Test(arguments) = &arguments.verb;
    let screen = Screen::new(arguments.json);
    screen.line(UNDER_TEST, &json!({ "event": "warning", "why": UNDER_TEST }));
    match test(arguments, screen).await {
        Ok(tried) => end(&tried, screen),
        Err(error) => screen.refused("not asked", &error),
    }
}

async fn test(arguments: &TestArgs, screen: Screen) -> Result<Tried, CommandError> {
    for (option, url) in
        [("URL", Some(&arguments.url)), ("--ask", arguments.ask.as_ref()), ("--slow", arguments.slow.as_ref())]
    {
        if url.is_some_and(|url| !is_http(url)) {
            let next = "give a URL such as http://127.0.0.1:9000";
            return Err(CommandError::new(Ending::Usage, format!("{option} is not the URL of an HTTP service"), next));
        }
    }
    let trial = Trial {
        base: arguments.url.clone(),
        ask: arguments.ask.clone(),
        slow: arguments.slow.clone(),
        restart: arguments.restart.clone(),
        patience: arguments.patience,
        resolver: arguments.resolver,
        is_under_test: arguments.yes_under_test,
    };
    conform(&trial, &|finding| screen.line(&line(finding), &event(finding))).await.map_err(not_tried)
}

fn is_http(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn not_tried(error: TrialError) -> CommandError {
    let (ending, next) = match &error {
        TrialError::NotIdle { .. } => (
            Ending::Refused,
            "start one of its own for the test, without a state file; or --yes-under-test when nothing depends on this one",
        ),
        TrialError::Silent { .. } => {
            (Ending::Failed, "start it, and see docs/participant.md for what it has to answer")
        }
        TrialError::Resolver { .. } => {
            (Ending::Failed, "give --resolver an address of this machine that the participant reaches")
        }
        TrialError::Client(_) => (Ending::Failed, "see to the certificates of this machine"),
    };
    CommandError::new(ending, format!("{}; nothing was tried", chain(&error)), next)
}

fn line(finding: &Finding) -> String {
    let word = match finding.ok {
        Some(true) => "ok",
        Some(false) => "BROKEN",
        None => "-",
    };
    let why = finding.why.as_deref().unwrap_or_default();
    format!("{word:<7} {:<20} {why}", finding.name).trim_end().to_owned()
}

fn event(finding: &Finding) -> Value {
    let mut event = json!({ "event": "check", "name": finding.name, "ok": finding.ok });
    if let Some(why) = &finding.why {
        event["why"] = json!(why);
    }
    event
}

fn end(tried: &Tried, screen: Screen) -> Ending {
    let names = |ok: Option<bool>| -> Vec<&str> {
        tried.findings.iter().filter(|finding| finding.ok == ok).map(|finding| finding.name).collect()
    };
    let (kept, broken, not_tried) = (names(Some(true)), names(Some(false)), names(None));
    let ending = if broken.is_empty() && tried.left_at.is_some() { Ending::Done } else { Ending::Refused };
    screen.say(&format!("\n{} kept, {} broken, {} not tried", kept.len(), broken.len(), not_tried.len()));
    let left = match tried.left_at {
        Some(epoch) => {
            format!("it serves again, at epoch {epoch}: remove its state file before it takes part in a flip")
        }
        None => "it could not be brought to serve again: see to it, and remove its state file".to_owned(),
    };
    screen.say(&left);
    let summary = json!({
        "kept": kept, "broken": broken, "not_tried": not_tried, "left_at_epoch": tried.left_at, "next": left,
    });
    screen.summary(ending, summary);
    ending
}

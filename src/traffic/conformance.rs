//! Whether a system keeps the participant protocol: driven through every order, lost answers, dead resolvers and restarts, each rule by name.
//!
//! Only for a system under test. The epochs are made up, one above the other from where the participant stands, and it ends serving the side that
//! it served; but its epoch is then higher than any register's, so that a real flip would be refused until its state file is removed.

mod holds;
mod orders;
mod resolver;
mod restarts;
mod subject;

use super::protocol::State;
use resolver::Resolver;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;
use subject::Subject;
use thiserror::Error;

/// What is tried, and by which means.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Base URL of the participant, without `/cutover/v1`.
    pub base: String,
    /// A read-only request of a user's, a whole URL: who serves is then also seen by effect.
    pub ask: Option<String>,
    /// The same that takes about three seconds, so that work is in flight when a hold comes.
    pub slow: Option<String>,
    /// Shell command that kills the participant and starts it again, over the same state file.
    pub restart: Option<String>,
    /// Within which it does what its own clock tells it: ends a hold, asks a resolver, lets go what waits.
    pub patience: Duration,
    /// Where the resolver of this trial listens; the participant must reach it.
    pub resolver: SocketAddr,
    /// Whether a participant that has been through a flip, or is in one, may be tried.
    pub is_under_test: bool,
}

/// What became of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the rule.
    pub name: &'static str,
    /// Whether the participant keeps it; none when it could not be tried.
    pub ok: Option<bool>,
    /// What was seen instead, or what is missing to try it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What became of a whole trial.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Every rule, in the order in which they were tried.
    pub findings: Vec<Finding>,
    /// The epoch at which the participant was left; none when it could not be brought to serve again.
    pub left_at: Option<i64>,
}

/// Why nothing was tried.
#[derive(Debug, Error)]
pub enum TrialError {
    /// It does not answer `GET /cutover/v1/state` in the protocol's words.
    #[error("GET {base}/cutover/v1/state: {why}")]
    Silent {
        /// The participant.
        base: String,
        /// What was answered.
        why: String,
    },
    /// It may be a live one.
    #[error(
        "the participant at {base} stands at epoch {epoch} ({state:?}): it has been asked before and may be a live one"
    )]
    NotIdle {
        /// The participant.
        base: String,
        /// Its epoch.
        epoch: i64,
        /// Its state.
        state: State,
    },
    /// The resolver of this trial cannot listen.
    #[error("listen on {address} as the resolver")]
    Resolver {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No HTTP client on this machine.
    #[error("set up an HTTP client")]
    Client(#[from] reqwest::Error),
}

/// One rule of the protocol; the order is the order of trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    WholeWay,
    LowerEpoch,
    OtherNonce,
    Repeats,
    HoldNotProlonged,
    ReleasedIsOver,
    OneHoldAtATime,
    SwitchOnlyHeld,
    LostAnswers,
    RequestsWait,
    WorkInFlight,
    HoldEnds,
    ResolverOlder,
    ResolverUndecided,
    ResolverOpen,
    RestartServing,
    RestartPrepared,
    RestartHolding,
    RestartSwitched,
    RestartRefusing,
}

/// What a rule cannot be tried without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Ask,
    Slow,
    Restart,
    PlainHttp,
}

const RULES: [Rule; 20] = [
    Rule::WholeWay,
    Rule::LowerEpoch,
    Rule::OtherNonce,
    Rule::Repeats,
    Rule::HoldNotProlonged,
    Rule::ReleasedIsOver,
    Rule::OneHoldAtATime,
    Rule::SwitchOnlyHeld,
    Rule::LostAnswers,
    Rule::RequestsWait,
    Rule::WorkInFlight,
    Rule::HoldEnds,
    Rule::ResolverOlder,
    Rule::ResolverUndecided,
    Rule::ResolverOpen,
    Rule::RestartServing,
    Rule::RestartPrepared,
    Rule::RestartHolding,
    Rule::RestartSwitched,
    Rule::RestartRefusing,
];

impl Rule {
    fn name(self) -> &'static str {
        match self {
            Self::WholeWay => "whole-way",
            Self::LowerEpoch => "lower-epoch",
            Self::OtherNonce => "other-nonce",
            Self::Repeats => "repeats",
            Self::HoldNotProlonged => "hold-not-prolonged",
            Self::ReleasedIsOver => "released-is-over",
            Self::OneHoldAtATime => "one-hold-at-a-time",
            Self::SwitchOnlyHeld => "switch-only-held",
            Self::LostAnswers => "lost-answers",
            Self::RequestsWait => "requests-wait",
            Self::WorkInFlight => "work-in-flight",
            Self::HoldEnds => "hold-ends",
            Self::ResolverOlder => "resolver-older",
            Self::ResolverUndecided => "resolver-undecided",
            Self::ResolverOpen => "resolver-open",
            Self::RestartServing => "restart-serving",
            Self::RestartPrepared => "restart-prepared",
            Self::RestartHolding => "restart-holding",
            Self::RestartSwitched => "restart-switched",
            Self::RestartRefusing => "restart-refusing",
        }
    }

    fn needs(self) -> Needs {
        match self {
            Self::RequestsWait => Needs::Ask,
            Self::WorkInFlight => Needs::Slow,
            Self::LostAnswers => Needs::PlainHttp,
            Self::RestartServing
            | Self::RestartPrepared
            | Self::RestartHolding
            | Self::RestartSwitched
            | Self::RestartRefusing => Needs::Restart,
            _ => Needs::Nothing,
        }
    }

    async fn hold_to(self, subject: &mut Subject) -> Result<(), String> {
        match self {
            Self::WholeWay => orders::whole_way(subject).await,
            Self::LowerEpoch => orders::lower_epoch(subject).await,
            Self::OtherNonce => orders::other_nonce(subject).await,
            Self::Repeats => orders::repeats(subject).await,
            Self::HoldNotProlonged => holds::not_prolonged(subject).await,
            Self::ReleasedIsOver => orders::released_is_over(subject).await,
            Self::OneHoldAtATime => orders::one_hold_at_a_time(subject).await,
            Self::SwitchOnlyHeld => orders::switch_only_held(subject).await,
            Self::LostAnswers => orders::lost_answers(subject).await,
            Self::RequestsWait => holds::requests_wait(subject).await,
            Self::WorkInFlight => holds::work_in_flight(subject).await,
            Self::HoldEnds => holds::ends(subject).await,
            Self::ResolverOlder => holds::resolver_older(subject).await,
            Self::ResolverUndecided => holds::resolver_undecided(subject).await,
            Self::ResolverOpen => holds::resolver_open(subject).await,
            Self::RestartServing => restarts::serving(subject).await,
            Self::RestartPrepared => restarts::prepared(subject).await,
            Self::RestartHolding => restarts::holding(subject).await,
            Self::RestartSwitched => restarts::switched(subject).await,
            Self::RestartRefusing => restarts::refusing(subject).await,
        }
    }
}

/// Tries every rule and tells each finding as it comes. Each rule begins with the participant released to the side that it served at first.
///
/// # Errors
/// When nothing was tried: no participant there, or one that may be live. Nothing was asked of it then but where it stands.
pub async fn conform(trial: &Trial, tell: &(dyn Fn(&Finding) + Sync)) -> Result<Tried, TrialError> {
    let http = super::http_client()?;
    let resolver = Resolver::start(trial.resolver)
        .await
        .map_err(|source| TrialError::Resolver { address: trial.resolver, source })?;
    let base = trial.base.trim_end_matches('/').to_owned();
    let mut subject = Subject::new(trial, base.clone(), http, resolver);
    let first = subject.standing().await.map_err(|why| TrialError::Silent { base: base.clone(), why })?;
    let is_idle = first.epoch == 0 && first.state == State::Serving;
    if !is_idle && !trial.is_under_test {
        return Err(TrialError::NotIdle { base, epoch: first.epoch, state: first.state });
    }
    subject.begin_at(&first);
    let mut findings = Vec::new();
    for rule in RULES {
        let finding = find(rule, trial, &mut subject).await;
        tell(&finding);
        findings.push(finding);
    }
    let left_at = subject.settle().await.ok().map(|()| subject.epoch());
    Ok(Tried { findings, left_at })
}

async fn find(rule: Rule, trial: &Trial, subject: &mut Subject) -> Finding {
    let missing = match rule.needs() {
        Needs::Ask if trial.ask.is_none() => Some("not tried: --ask, a request of a user's, is missing"),
        Needs::Slow if trial.slow.is_none() => {
            Some("not tried: --slow, a request that takes three seconds, is missing")
        }
        Needs::Restart if trial.restart.is_none() => Some("not tried: --restart, a command, is missing"),
        Needs::PlainHttp if !trial.base.starts_with("http://") => {
            Some("not tried: a connection is broken only over plain HTTP")
        }
        _ => None,
    };
    if let Some(why) = missing {
        return Finding { name: rule.name(), ok: None, why: Some(why.to_owned()) };
    }
    let kept = match subject.settle().await {
        Ok(()) => rule.hold_to(subject).await,
        Err(why) => Err(format!("before it: {why}")),
    };
    Finding { name: rule.name(), ok: Some(kept.is_ok()), why: kept.err() }
}

//! The prober's words: what kinds of request there are, one call as the client saw it, and the summary.
//!
//! Pure data; times are microseconds since the prober's start.

use super::turns::Origin;
use crate::plan::Side;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A token by client credentials.
    Issue,
    /// A code for tokens.
    Exchange,
    /// A refresh token for new tokens.
    Refresh,
    /// Is this token active?
    Introspect,
    /// Who is the subject of this token?
    Userinfo,
    /// Revoke one token and its chain.
    RevokeToken,
    /// End all access tokens of a client.
    RevokeAccess,
    /// End all login sessions of a subject.
    EndSessions,
    /// A user logs out: one of the steps on the way.
    Logout,
    /// A system tells the gateway of a revocation.
    AddRevocation,
    /// Let this browser in without a login.
    Session,
    /// A user gives consent on the dashboard.
    GiveConsent,
    /// A user takes an app away on the dashboard.
    RevokeConsent,
    /// A developer creates a client.
    ClientCreate,
    /// A developer renames a client.
    ClientUpdate,
    /// A developer asks for another secret of a client.
    ClientSecret,
    /// A developer deletes a client.
    ClientDelete,
    /// Does the authorization service allow this app?
    Check,
}

impl Kind {
    /// Whether a success changes what the live side holds.
    pub(super) fn is_write(self) -> bool {
        !matches!(self, Self::Introspect | Self::Userinfo | Self::Check | Self::Session)
    }
}

/// By what something that was good for access has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// A token, revoked by its client.
    Token,
    /// A consent, taken away by its user.
    Consent,
    /// All consents of a subject, taken away by an administrator.
    Subject,
    /// All access tokens of a client.
    ClientTokens,
    /// A client, deleted.
    ClientDelete,
    /// The secret of a client, changed.
    ClientSecret,
    /// All login sessions of a subject.
    LoginSessions,
    /// The login session of one browser, by its user.
    Logout,
    /// Consents, by a system that told the gateway and not the engine.
    Added,
    /// A refresh token, used twice.
    Reuse,
    /// A code, exchanged twice.
    CodeReplay,
}

/// What came back, or did not.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// A whole answer.
    Answered {
        /// HTTP status.
        status: u16,
        /// Body, null when it is no JSON; of a redirect where it leads, as `redirect_to`.
        body: serde_json::Value,
    },
    /// Time-out, reset or refused connection.
    Lost(String),
}

/// One request as the client saw it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    pub(super) reply: Reply,
    /// The side that the answer names, when it went through the gateway.
    pub(super) side: Option<Side>,
    /// The epoch that the answer names.
    pub(super) epoch: Option<i64>,
    /// The highest epoch that any answer had named when this call began.
    pub(super) epoch_at_start: i64,
}

impl Call {
    /// The body of a success.
    pub(super) fn success(&self) -> Option<&serde_json::Value> {
        match &self.reply {
            Reply::Answered { status, body } if (200..300).contains(status) => Some(body),
            _ => None,
        }
    }

    /// A parameter of the address that the answer sends the browser to.
    pub(super) fn leads_to(&self, parameter: &str) -> Option<String> {
        let Reply::Answered { body, .. } = &self.reply else { return None };
        let address = url::Url::parse(body.get("redirect_to")?.as_str()?).ok()?;
        address.query_pairs().find(|(name, _)| name == parameter).map(|(_, value)| value.into_owned())
    }

    /// Where the answer came from, when it says so.
    pub(super) fn origin(&self) -> Option<Origin> {
        Some(Origin { side: self.side?, epoch: self.epoch? })
    }

    /// The status, when there was an answer.
    pub(super) fn status(&self) -> Option<u16> {
        match self.reply {
            Reply::Answered { status, .. } => Some(status),
            Reply::Lost(_) => None,
        }
    }
}

/// What is kept of every call for the latency of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) kind: Kind,
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    pub(super) side: Option<Side>,
    /// An acknowledged write.
    pub(super) acked_write: bool,
}

/// What the prober saw, in the words of the demo's summary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Requests sent.
    pub requests: u64,
    /// Time-outs, resets, 5xx and answers that the history forbids.
    pub failed: u64,
    /// Writes that were acknowledged.
    pub acked_writes: u64,
    /// Acknowledged writes that the live side does not hold.
    pub lost_writes: u64,
    /// Chains whose revocation was acknowledged.
    pub revoked: u64,
    /// Times that a revoked chain was accepted afterwards, or a login session that was ended.
    pub revoked_accepted: u64,
    /// Times that something was accepted that was over without a revocation: a token or code that had been used, a chain of which one was
    /// used twice, a secret that had been changed. No queue has heard of it, and the side where it happened alone knows: it may be lost
    /// with a green that is dead, and is forbidden anywhere else.
    #[serde(default)]
    pub ended_accepted: u64,
    /// How often each door was used, and the answer said that it was done.
    #[serde(default)]
    pub doors: BTreeMap<Door, u64>,
    /// Milliseconds during which both databases accepted writes of the application.
    pub two_writer_ms: u64,
    /// Chains that a return to blue gave up, by the plan's own word: born on green, or last refreshed there, and revoked by nobody. Not
    /// among `lost_writes`; what was born on blue and not refreshed on green is never counted here.
    pub given_up: u64,
    /// Consents given on green that a return gave up, likewise.
    pub given_up_consents: u64,
}

/// What clients felt of one move of the traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FlipSeen {
    /// Median latency added to held requests, in milliseconds; none when nothing was held.
    pub hold_ms_p50: Option<f64>,
    /// 99th percentile of the same.
    pub hold_ms_p99: Option<f64>,
    /// The longest.
    pub hold_ms_max: Option<f64>,
    /// From the last write accepted on the side left to the first on the other.
    pub write_gap_ms: Option<f64>,
}

/// One move of the traffic, there or back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// The side that took over.
    pub to: Side,
    /// Requests held.
    pub held: u64,
    /// What clients felt.
    #[serde(flatten)]
    pub felt: FlipSeen,
}

/// The whole report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The side that accepts writes now.
    pub live: Option<Side>,
    /// The judge's counts.
    pub prober: Seen,
    /// What clients felt of the last switch.
    pub flip: FlipSeen,
    /// Requests held by it.
    pub held: u64,
    /// Switches seen, there and back.
    pub flips: u64,
    /// Each of them, in order.
    pub switches: Vec<Switch>,
    /// Requests not sent because too many were outstanding.
    pub shed: u64,
    /// Whether the end check could be made; false means that the counts of lost writes are not complete.
    pub settled: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled_because: Option<String>,
    /// The first things that were wrong, in words.
    pub examples: Vec<String>,
}

impl Report {
    /// Whether everything that must be zero is zero, and was looked at.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let seen = &self.prober;
        let accepted = seen.revoked_accepted + seen.ended_accepted;
        self.settled && seen.failed + seen.lost_writes + accepted + seen.two_writer_ms == 0
    }
}

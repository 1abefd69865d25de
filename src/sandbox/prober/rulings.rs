//! The judge of answers: what a client's own history allows and forbids. Pure.

use super::words::{Call, Reply};

/// What is known of a chain's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// Start of the first request that may revoke it; from here an inactive answer is allowed.
    pub(super) doomed_us: Option<u64>,
    /// Earliest acknowledgement of a revocation; from here an active answer is forbidden.
    pub(super) revoked_us: Option<u64>,
}

impl Fate {
    /// Notes that a revocation is about to be sent.
    pub(super) fn doom(&mut self, now_us: u64) {
        self.doomed_us.get_or_insert(now_us);
    }

    /// Notes an acknowledgement; true when it is the first.
    pub(super) fn revoked(&mut self, ack_us: u64) -> bool {
        let first = self.revoked_us.is_none();
        self.revoked_us = Some(self.revoked_us.map_or(ack_us, |before| before.min(ack_us)));
        first
    }

    /// The end that comes first of both.
    pub(super) fn or(self, other: Self) -> Self {
        let earlier = |one: Option<u64>, two: Option<u64>| one.into_iter().chain(two).min();
        Self {
            doomed_us: earlier(self.doomed_us, other.doomed_us),
            revoked_us: earlier(self.revoked_us, other.revoked_us),
        }
    }

    pub(super) fn is_doomed(self) -> bool {
        self.doomed_us.is_some()
    }
}

/// What the judge says of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Allowed.
    Fine,
    /// A live credential was refused.
    Forbidden,
    /// A credential was accepted after its revocation had been acknowledged (I1).
    RevokedAccepted,
}

/// Rules on an answer about a credential, from its times and what it said.
///
/// `certain` is false when the credential may rightly be dead for a reason other than a revocation: it was rotated, it has expired,
/// or an answer about it was lost.
pub(super) fn rule(fate: Fate, start_us: u64, end_us: u64, accepted: bool, certain: bool) -> Ruling {
    match (accepted, fate) {
        (true, Fate { revoked_us: Some(ack_us), .. }) if ack_us < start_us => Ruling::RevokedAccepted,
        (false, Fate { doomed_us: Some(doomed_us), .. }) if doomed_us <= end_us => Ruling::Fine,
        (false, _) if certain => Ruling::Forbidden,
        _ => Ruling::Fine,
    }
}

/// Why a call failed on its face: lost, 5xx, or served by an older epoch than one already seen.
pub(super) fn plain_failure(call: &Call) -> Option<String> {
    match &call.reply {
        Reply::Lost(error) => Some(format!("no answer: {error}")),
        Reply::Answered { status, .. } if *status >= 500 => Some(format!("status {status}")),
        Reply::Answered { .. } => match call.epoch {
            Some(epoch) if epoch < call.epoch_at_start => {
                Some(format!("answered at epoch {epoch} after one at {} had answered", call.epoch_at_start))
            }
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::prober::words::Kind;

    const REVOKED: Fate = Fate { doomed_us: Some(100), revoked_us: Some(200) };

    #[test]
    fn a_resurrected_revocation_is_seen_and_a_race_is_not() {
        assert_eq!(rule(REVOKED, 201, 210, true, true), Ruling::RevokedAccepted);
        assert_eq!(rule(REVOKED, 201, 210, true, false), Ruling::RevokedAccepted);
        assert_eq!(rule(REVOKED, 150, 300, true, true), Ruling::Fine, "began before the acknowledgement");
        assert_eq!(rule(REVOKED, 150, 300, false, true), Ruling::Fine);
    }

    #[test]
    fn a_live_credential_must_not_be_refused() {
        assert_eq!(rule(Fate::default(), 10, 20, false, true), Ruling::Forbidden);
        assert_eq!(rule(Fate::default(), 10, 20, false, false), Ruling::Fine, "rotated or expired");
        assert_eq!(rule(REVOKED, 10, 99, false, true), Ruling::Forbidden, "refused before anybody revoked it");
    }

    #[test]
    fn the_earliest_acknowledgement_counts() {
        let mut fate = Fate::default();
        fate.doom(10);
        fate.doom(30);
        assert!(fate.revoked(50));
        assert!(!fate.revoked(40));
        assert_eq!(fate, Fate { doomed_us: Some(10), revoked_us: Some(40) });
    }

    #[test]
    fn lost_answers_5xx_and_older_epochs_are_failures() {
        let call = |reply, epoch| Call {
            kind: Kind::Introspect,
            start_us: 0,
            end_us: 1,
            reply,
            side: None,
            epoch,
            epoch_at_start: 4,
        };
        let answered = |status| Reply::Answered { status, body: serde_json::Value::Null };
        assert!(plain_failure(&call(Reply::Lost("reset".into()), None)).is_some());
        assert!(plain_failure(&call(answered(503), Some(4))).is_some(), "an honest refusal is still a failure");
        assert!(plain_failure(&call(answered(200), Some(3))).is_some(), "a stale side answered");
        assert_eq!(plain_failure(&call(answered(401), Some(4))), None);
    }
}

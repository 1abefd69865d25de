//! Snapshots as the server prints them, and what is visible in them.
//!
//! Owns the arithmetic of transaction ids. Pure.

use std::fmt;
use thiserror::Error;

/// A snapshot's text that is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a snapshot")]
pub struct NotASnapshot {
    /// What was given.
    pub text: String,
}

/// What `pg_current_snapshot()` said, with 64-bit transaction ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All below it had ended.
    pub xmin: u64,
    /// It and all above it had not begun, or had not ended.
    pub xmax: u64,
    in_progress: Vec<u64>,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.in_progress.iter().map(u64::to_string).collect();
        write!(f, "{}:{}:{}", self.xmin, self.xmax, list.join(","))
    }
}

impl std::str::FromStr for Snapshot {
    type Err = NotASnapshot;

    /// Reads `xmin:xmax:id,id,…`.
    fn from_str(text: &str) -> Result<Self, NotASnapshot> {
        parse(text).ok_or_else(|| NotASnapshot { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Snapshot> {
    let mut parts = text.split(':');
    let (xmin, xmax, list) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
    let in_progress: Option<Vec<u64>> = list.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().ok()).collect();
    let mut in_progress = in_progress?;
    in_progress.sort_unstable();
    (parts.next().is_none() && xmin <= xmax).then_some(Snapshot { xmin, xmax, in_progress })
}

impl Snapshot {
    /// Whether a transaction that is known to have committed had done so for this snapshot.
    #[must_use]
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// The 64-bit id of a 32-bit one that was alive near this snapshot: of all that share its low half, the nearest.
    #[must_use]
    pub fn widen(&self, xid: u32) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is compared")]
        let distance = xid.wrapping_sub(self.xmax as u32).cast_signed();
        self.xmax.wrapping_add_signed(i64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().expect("a snapshot")
    }

    #[test]
    fn sees_what_had_ended() {
        let seen = snapshot("10:20:12,10");
        let visible: Vec<u64> = (8..22).filter(|xid| seen.sees(*xid)).collect();
        assert_eq!(visible, [8, 9, 11, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!(seen.to_string(), "10:20:10,12");
        assert!(snapshot("10:10:").sees(9));
        assert!(!snapshot("10:10:").sees(10));
    }

    #[test]
    fn widens_across_the_epoch() {
        let epoch = 1u64 << 32;
        let after = Snapshot { xmin: 5 * epoch + 3, xmax: 5 * epoch + 7, in_progress: vec![] };
        assert_eq!(after.widen(6), 5 * epoch + 6);
        assert_eq!(after.widen(u32::MAX), 5 * epoch - 1, "older than the turn");
        let before = Snapshot { xmin: 5 * epoch - 9, xmax: 5 * epoch - 2, in_progress: vec![] };
        assert_eq!(before.widen(4), 5 * epoch + 4, "younger than the turn");
        assert!(!before.sees(before.widen(4)));
        assert!(after.sees(after.widen(u32::MAX)));
    }

    #[test]
    fn refuses_what_is_no_snapshot() {
        for text in ["", "1", "1:2", "1:2:x", "3:2:", "1:2::", "a:2:"] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn widening_finds_the_neighbour(xmax in (1u64 << 32)..(1u64 << 40), offset in -(1i64 << 30)..(1i64 << 30)) {
            let snapshot = Snapshot { xmin: xmax, xmax, in_progress: vec![] };
            let xid = xmax.checked_add_signed(offset).expect("in range");
            prop_assert_eq!(snapshot.widen((xid & 0xffff_ffff) as u32), xid);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Snapshot>();
        }
    }
}

//! The gates before a flip: the window, green's fence, the capture, and each system.

use super::Verdict;
use crate::database::refusal::RefusalStanding;
use crate::plan::{Side, TableName, Window};
use jiff::Timestamp;

/// Whether the plan's window is open.
#[must_use]
pub fn window(window: &Window, now: Timestamp) -> Verdict {
    match (window.opens, window.closes) {
        (Some(opens), _) if now < opens => Verdict::NoGo(format!("the window opens at {opens}")),
        (_, Some(closes)) if now > closes => Verdict::NoGo(format!("the window closed at {closes}")),
        _ => Verdict::Go,
    }
}

/// Whether green refuses every writer but us.
#[must_use]
pub fn green_closed(standing: &RefusalStanding) -> Verdict {
    match standing {
        RefusalStanding::Refusing => Verdict::Go,
        RefusalStanding::Partial(bare) => Verdict::NoGo(format!("{} tables of green have no fence", bare.len())),
        RefusalStanding::Absent => Verdict::NoGo("green has no fence".to_owned()),
        RefusalStanding::Lifted => Verdict::NoGo("green's fence lets everybody pass".to_owned()),
        RefusalStanding::Foreign => Verdict::NoGo("green's fence is another run's".to_owned()),
    }
}

/// Whether a write as the application was refused on every table: `accepting` are those that took one.
#[must_use]
pub fn refused_everywhere(accepting: &[TableName]) -> Verdict {
    match accepting.first() {
        None => Verdict::Go,
        Some(first) => {
            Verdict::NoGo(format!("{} tables of green take writes of the application, {first} first", accepting.len()))
        }
    }
}

/// Whether the capture on a side can still deliver what was written there; `lost` is why not.
#[must_use]
pub fn captured(side: Side, lost: Option<String>) -> Verdict {
    lost.map_or(Verdict::Go, |why| Verdict::NoGo(format!("the capture on {side} is lost: {why}")))
}

/// Whether queue and tables agree: `alive` revocations were executed, the engine on `side` said, and live there; `named` are the first.
#[must_use]
pub fn witness(side: Side, alive: usize, named: &[String]) -> Verdict {
    match alive {
        0 => Verdict::Go,
        n => Verdict::NoGo(format!(
            "{n} revocations were executed, says {side}'s engine, and live there: {}",
            named.join("; ")
        )),
    }
}

/// What a system answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemReading {
    /// It serves this side.
    Serves(Side),
    /// It refuses requests.
    Refuses,
    /// It did not answer, and why.
    Silent(String),
}

/// Whether a system serves `from`, the side to be left, and so can move.
#[must_use]
pub fn system(name: &str, from: Side, reading: SystemReading) -> Verdict {
    match reading {
        SystemReading::Serves(side) if side == from => Verdict::Go,
        SystemReading::Serves(side) => Verdict::NoGo(format!("{name} is on {side}")),
        SystemReading::Refuses => Verdict::NoGo(format!("{name} refuses requests")),
        SystemReading::Silent(why) => Verdict::Unclear(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn gates_before_a_flip_say_no_to_what_is_not_ready() {
        assert_eq!(captured(Side::Blue, None), Verdict::Go);
        assert!(
            matches!(captured(Side::Blue, Some("the slot is gone".to_owned())), Verdict::NoGo(why) if why.contains("blue"))
        );
        assert_eq!(green_closed(&RefusalStanding::Refusing), Verdict::Go);
        for standing in [RefusalStanding::Absent, RefusalStanding::Lifted, RefusalStanding::Foreign] {
            assert!(matches!(green_closed(&standing), Verdict::NoGo(_)), "{standing:?}");
        }
        assert_eq!(system("a", Side::Blue, SystemReading::Serves(Side::Blue)), Verdict::Go);
        assert!(matches!(system("a", Side::Blue, SystemReading::Serves(Side::Green)), Verdict::NoGo(_)));
        assert!(matches!(system("a", Side::Blue, SystemReading::Refuses), Verdict::NoGo(_)));
        assert!(matches!(system("a", Side::Blue, SystemReading::Silent("late".into())), Verdict::Unclear(_)));
    }

    #[test]
    fn gates_before_a_move_hear_the_second_witness() {
        assert_eq!(witness(Side::Blue, 0, &[]), Verdict::Go);
        let verdict = witness(Side::Blue, 2, &["e1: consent c1 stands".to_owned()]);
        assert!(matches!(verdict, Verdict::NoGo(why) if why.contains("2 revocations") && why.contains("e1")));
    }

    #[test]
    fn gates_keep_the_window_to_the_instant() {
        let text = "version: 1\nname: w\ncontrol: postgres://c@control/c\ndatabases:\n  blue: { url: \"postgres://c@blue/b\", role: r }\n  green: { url: \"postgres://c@green/g\", role: r }\nwindow: { opens: 2026-12-02T02:00:00Z, closes: 2026-12-02T06:00:00Z }\n";
        let plan = crate::plan::parse(text, std::path::Path::new("."), &|_| None).expect("a plan");
        let verdict = |now| super::window(&plan.window, at(now));
        assert!(matches!(verdict("2026-12-02T01:59:59Z"), Verdict::NoGo(_)));
        assert_eq!(verdict("2026-12-02T02:00:00Z"), Verdict::Go);
        assert_eq!(verdict("2026-12-02T06:00:00Z"), Verdict::Go);
        assert!(matches!(verdict("2026-12-02T06:00:01Z"), Verdict::NoGo(_)));
    }
}

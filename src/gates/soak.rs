//! The gates before a run is finalized.

use super::Verdict;
use std::time::Duration;

/// Whether green serves and has done so for the planned time; `served_s` is by green's own clock.
#[must_use]
pub fn soaked(green_register: &str, served_s: Option<f64>, soak: Duration) -> Verdict {
    match served_s {
        _ if green_register != "open" => {
            Verdict::NoGo(format!("green's register is {green_register}: it does not serve"))
        }
        None => Verdict::Unclear("it is not known since when green serves".to_owned()),
        Some(served) if served < soak.as_secs_f64() => {
            let soak = humantime::format_duration(soak);
            Verdict::NoGo(format!("green has served for {served:.1} s, and window.soak is {soak}"))
        }
        Some(_) => Verdict::Go,
    }
}

/// Whether no engine is connected to blue any more.
#[must_use]
pub fn left_alone(sessions: i64) -> Verdict {
    match sessions {
        0 => Verdict::Go,
        _ => Verdict::NoGo(format!(
            "{sessions} sessions of the application's role are open on blue: end its engine first"
        )),
    }
}

/// Whether every revocation was understood.
#[must_use]
pub fn no_dead_letters(dead: usize) -> Verdict {
    match dead {
        0 => Verdict::Go,
        _ => Verdict::NoGo(format!("{dead} revocations could not be read or replayed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_let_nobody_finalize_too_early_or_beside_a_running_engine() {
        let soak = Duration::from_secs(60);
        assert_eq!(soaked("open", Some(60.0), soak), Verdict::Go);
        assert!(matches!(soaked("open", Some(59.9), soak), Verdict::NoGo(_)));
        assert!(matches!(soaked("sealed", Some(60.0), soak), Verdict::NoGo(_)), "green was left");
        assert!(matches!(soaked("open", None, soak), Verdict::Unclear(_)));
        assert_eq!((left_alone(0), no_dead_letters(0)), (Verdict::Go, Verdict::Go));
        assert!(matches!(left_alone(1), Verdict::NoGo(_)));
        assert!(matches!(no_dead_letters(1), Verdict::NoGo(_)));
    }
}

//! The gates of the soak: whether green does as well as blue did, and whether a run may be finalized.

use super::Verdict;
use crate::database::refusal::RefusalStanding;
use crate::plan::Soak;
use crate::traffic::figures::{Answers, Refreshes, Share};
use std::collections::BTreeMap;
use std::time::Duration;

/// A difference in time that no client notices.
const UNNOTICED_MS: f64 = 50.0;
/// Refreshes are rarer than requests: one fifth of `soak.least` is enough to take a share of them.
const REFRESHES: u64 = 5;

/// A share of green's counts as larger only when it lies more than so many standard deviations above what is allowed: about one look in a thousand
/// finds a difference of this size where there is none.
const BEYOND_CHANCE: f64 = 3.0;
/// The same for one of many clients or systems: each look asks a hundred times, and shall be wrong no more often.
const BEYOND_CHANCE_OF_MANY: f64 = 4.5;

/// Whether green does as well now as blue did before the flip, as far as the plan asks. With too few requests it cannot be told.
#[must_use]
pub fn as_good(blue: &Answers, green: &Answers, soak: &Soak) -> Verdict {
    for (side, answers) in [("green has", green), ("before the flip blue had", blue)] {
        if answers.requests < soak.least {
            let (seen, least) = (answers.requests, soak.least);
            return Verdict::Unclear(format!("{side} answered {seen} requests, and soak.least is {least}"));
        }
    }
    let failed = larger("requests failed", blue.failed(), green.failed(), soak.failed);
    let is_enough = green.refreshes >= soak.least.div_ceil(REFRESHES);
    let refused = is_enough
        .then(|| larger("refreshes were refused", blue.refused(), green.refused(), soak.refused_refreshes))
        .flatten();
    let forbidden = larger("requests were answered by 401 or 403", blue.forbidden(), green.forbidden(), soak.forbidden);
    let reasons: Vec<String> = [failed, forbidden, refused, slower(blue, green, soak)].into_iter().flatten().collect();
    no_go(reasons)
}

/// Whether no single client's refreshes are refused more often than on blue. One that never refreshed there, or too rarely on either side to take
/// a share of, says nothing.
#[must_use]
pub fn clients_as_good(blue: &[Refreshes], green: &[Refreshes], soak: &Soak) -> Verdict {
    let least = soak.least.div_ceil(REFRESHES);
    let reasons = green.iter().filter_map(|now| {
        let before = blue.iter().find(|before| before.client == now.client)?;
        let is_enough = now.refreshes >= least && before.refreshes >= least;
        let what = format!("refreshes of client {} were refused", now.client);
        let beyond = BEYOND_CHANCE_OF_MANY;
        is_enough.then(|| beyond_chance(&what, before.refused(), now.refused(), soak.refused_refreshes, beyond))?
    });
    no_go(reasons.collect())
}

/// Whether no system that stands on the engine has to turn away more of its callers than before.
#[must_use]
pub fn dependants_as_good(blue: &BTreeMap<String, Answers>, green: &BTreeMap<String, Answers>, soak: &Soak) -> Verdict {
    let reasons = green.iter().filter_map(|(name, now)| {
        let before = blue.get(name)?;
        let is_enough = now.requests >= soak.least && before.requests >= soak.least;
        let what = format!("requests to {name} were answered by 401 or 403");
        let beyond = BEYOND_CHANCE_OF_MANY;
        is_enough.then(|| beyond_chance(&what, before.forbidden(), now.forbidden(), soak.forbidden, beyond))?
    });
    no_go(reasons.collect())
}

fn no_go(reasons: Vec<String>) -> Verdict {
    if reasons.is_empty() { Verdict::Go } else { Verdict::NoGo(reasons.join("; ")) }
}

/// Why green's share is too large, if it is: above blue's by more percentage points than `allowed`, and by more than chance explains.
fn larger(what: &str, blue: Share, green: Share, allowed: f64) -> Option<String> {
    beyond_chance(what, blue, green, allowed, BEYOND_CHANCE)
}

fn beyond_chance(what: &str, blue: Share, green: Share, allowed: f64, deviations: f64) -> Option<String> {
    let (before, now) = (blue.percent(), green.percent());
    let most = before + allowed;
    (now > most + deviations * deviation(most, blue, green)).then(|| {
        format!("{now:.1} % of {what} on green, {before:.1} % on blue before, at most {allowed} more are allowed")
    })
}

/// Standard deviation, in percentage points, of the difference of two shares that were both taken where the true one is `percent`.
fn deviation(percent: f64, one: Share, other: Share) -> f64 {
    let spread = (percent * (100.0 - percent)).max(0.0);
    let samples = |share: Share| 1.0 / share.whole.max(1) as f64;
    (spread * (samples(one) + samples(other))).sqrt()
}

fn slower(blue: &Answers, green: &Answers, soak: &Soak) -> Option<String> {
    let (before, now) = blue.p95_ms.zip(green.p95_ms)?;
    let most = (before * soak.slower).max(before + UNNOTICED_MS);
    (now > most).then(|| {
        let slower = soak.slower;
        format!("95 of 100 answers took up to {now:.0} ms on green, {before:.0} ms on blue before, at most {slower} times as long is allowed")
    })
}

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

/// Whether blue, which was left, refuses every write still: what is written there now is on no other side.
#[must_use]
pub fn blue_sealed(seal: &RefusalStanding) -> Verdict {
    let where_ = match seal {
        RefusalStanding::Refusing => return Verdict::Go,
        RefusalStanding::Partial(tables) => {
            let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
            format!("on {}", names.join(", "))
        }
        RefusalStanding::Absent | RefusalStanding::Lifted | RefusalStanding::Foreign => "at all".to_owned(),
    };
    Verdict::NoGo(format!(
        "blue refuses no write {where_}: somebody has taken the seal away since the flip; see what was written there, it is on no other side"
    ))
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

    fn soak() -> Soak {
        let over = Duration::from_secs(60);
        Soak { failed: 1.0, forbidden: 5.0, refused_refreshes: 2.0, slower: 3.0, over, least: 50, returns: false }
    }

    fn answers(failed: u64, refused_refreshes: u64, p95_ms: f64) -> Answers {
        Answers { requests: 1000, failed, forbidden: 0, refreshes: 100, refused_refreshes, p95_ms: Some(p95_ms) }
    }

    #[test]
    fn gates_compare_green_with_blue_before_the_flip() {
        let judge = |blue, green| as_good(&blue, &green, &soak());
        assert_eq!(judge(answers(5, 3, 20.0), answers(5, 3, 20.0)), Verdict::Go);
        assert_eq!(judge(answers(0, 0, 20.0), answers(10, 2, 69.0)), Verdict::Go, "as much as the plan allows");
        assert_eq!(judge(answers(0, 0, 20.0), answers(20, 7, 69.0)), Verdict::Go, "chance explains as much");
        for (green, word) in
            [(answers(30, 0, 20.0), "failed"), (answers(0, 9, 20.0), "refused"), (answers(0, 0, 71.0), "answers took")]
        {
            let verdict = judge(answers(0, 0, 20.0), green);
            assert!(matches!(&verdict, Verdict::NoGo(why) if why.contains(word)), "{word}: {verdict:?}");
        }
        assert_eq!(judge(answers(500, 90, 400.0), answers(505, 90, 1100.0)), Verdict::Go, "blue was no better");
    }

    #[test]
    fn gates_see_a_small_difference_once_there_are_enough_requests() {
        let of = |refreshes, refused_refreshes| Answers { refreshes, refused_refreshes, ..answers(0, 0, 1.0) };
        let blue = of(2000, 490);
        assert_eq!(as_good(&blue, &of(18, 6), &soak()), Verdict::Go, "33 % of 18 beside 24.5 % is chance");
        assert!(matches!(as_good(&blue, &of(1800, 600), &soak()), Verdict::NoGo(_)), "of 1800 it is not");
    }

    #[test]
    fn gates_see_one_client_and_one_system_among_many() {
        let of = |client: &str, refreshes, refused| Refreshes { client: client.into(), refreshes, refused };
        let blue = [of("app", 500, 5), of("rare", 9, 0), of("gone", 500, 0)];
        let judge = |green: &[Refreshes]| clients_as_good(&blue, green, &soak());
        assert_eq!(judge(&[of("app", 500, 10), of("rare", 9, 9), of("new", 500, 500)]), Verdict::Go);
        let verdict = judge(&[of("app", 500, 60)]);
        assert!(matches!(&verdict, Verdict::NoGo(why) if why.contains("refreshes of client app")), "{verdict:?}");
        let system = |forbidden| BTreeMap::from([("authz".to_owned(), Answers { forbidden, ..answers(0, 0, 1.0) })]);
        assert_eq!(dependants_as_good(&system(10), &system(80), &soak()), Verdict::Go, "as much as is allowed");
        let verdict = dependants_as_good(&system(10), &system(150), &soak());
        assert!(matches!(&verdict, Verdict::NoGo(why) if why.contains("authz")), "{verdict:?}");
        assert_eq!(dependants_as_good(&BTreeMap::new(), &system(900), &soak()), Verdict::Go, "nothing to compare with");
        let forbidden = |forbidden| Answers { forbidden, ..answers(0, 0, 1.0) };
        let verdict = as_good(&forbidden(10), &forbidden(150), &soak());
        assert!(matches!(&verdict, Verdict::NoGo(why) if why.contains("401 or 403")), "{verdict:?}");
    }

    #[test]
    fn gates_tell_nothing_from_too_few_requests() {
        let few = Answers { requests: 49, failed: 49, ..answers(0, 0, 1.0) };
        for (blue, green) in [(answers(0, 0, 1.0), few), (few, answers(0, 0, 1.0))] {
            assert!(matches!(as_good(&blue, &green, &soak()), Verdict::Unclear(_)));
        }
        let rare = Answers { refreshes: 9, refused_refreshes: 9, ..answers(0, 0, 1.0) };
        assert_eq!(as_good(&answers(0, 0, 1.0), &rare, &soak()), Verdict::Go, "nine refreshes are no share");
    }

    #[test]
    fn gates_let_nobody_finalize_too_early_or_beside_a_running_engine() {
        let soak = Duration::from_secs(60);
        assert_eq!(soaked("open", Some(60.0), soak), Verdict::Go);
        assert!(matches!(soaked("open", Some(59.9), soak), Verdict::NoGo(_)));
        assert!(matches!(soaked("sealed", Some(60.0), soak), Verdict::NoGo(_)), "green was left");
        assert!(matches!(soaked("open", None, soak), Verdict::Unclear(_)));
        assert_eq!((left_alone(0), no_dead_letters(0)), (Verdict::Go, Verdict::Go));
        assert!(matches!(left_alone(1), Verdict::NoGo(_)));
        assert_eq!(blue_sealed(&RefusalStanding::Refusing), Verdict::Go);
        assert!(matches!(blue_sealed(&RefusalStanding::Lifted), Verdict::NoGo(why) if why.contains("at all")));
        assert!(matches!(no_dead_letters(1), Verdict::NoGo(_)));
    }
}

//! The plan's probes as the steps ask them: all of them at one moment, and rounds of them and of the run's canaries in the background.

use super::flock::Flock;
use super::world::World;
use crate::engine::Facts;
use crate::gates::probes::{HttpProbe, OauthProbe};
use crate::gates::{Finding, Probe, Reading};
use crate::plan::{self, Side, When};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// For all flows of a round, without the grace periods that they wait for.
const ROUND: Duration = Duration::from_secs(120);
/// So many rounds in a row must fail before it counts.
const FAILED: u32 = 3;
/// How often somebody who does not answer is asked, and the pause in between.
const ASKED: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How often a round of a plan without flows is made.
const EVERY: Duration = Duration::from_secs(30);

/// One probe, ready to be asked.
#[derive(Debug, Clone)]
enum Asked {
    Oauth(Box<OauthProbe>),
    Http(HttpProbe),
}

/// The probes of a plan.
#[derive(Debug, Clone)]
pub(super) struct Probes {
    all: Vec<Asked>,
    bound: Duration,
}

/// The longest that one round of a plan's probes may take.
pub(super) fn bound(plan: &plan::Plan) -> Duration {
    let graces = plan.probes.iter().filter_map(|probe| match probe {
        plan::Probe::Oauth(oauth) => oauth.grace_blue.max(oauth.grace_green),
        plan::Probe::Http(_) => None,
    });
    ROUND + graces.sum::<Duration>()
}

impl Probes {
    pub(super) fn of(world: &World) -> Self {
        let one = |probe: &plan::Probe| match probe {
            plan::Probe::Oauth(oauth) => Asked::Oauth(Box::new(OauthProbe {
                plan: (**oauth).clone(),
                plan_name: world.plan.name.clone(),
                http: world.http.clone(),
            })),
            plan::Probe::Http(http) => Asked::Http(HttpProbe { plan: http.clone(), http: world.http.clone() }),
        };
        Self { all: world.plan.probes.iter().map(one).collect(), bound: bound(&world.plan) }
    }

    pub(super) fn oauth(&self) -> impl Iterator<Item = &OauthProbe> {
        self.all.iter().filter_map(|probe| match probe {
            Asked::Oauth(oauth) => Some(&**oauth),
            Asked::Http(_) => None,
        })
    }

    /// Every probe, one after the other.
    pub(super) async fn ask(&self, when: When) -> Vec<Reading> {
        let mut readings = Vec::new();
        for probe in &self.all {
            readings.extend(match probe {
                Asked::Oauth(oauth) => oauth.ask(when).await,
                Asked::Http(http) => http.ask(when).await,
            });
        }
        readings
    }
}

/// Asks the probes, and green for the canaries of `flock`, until nothing is silent, a few times: a call that was late once says nothing of a
/// side.
pub(super) async fn until_clear(probes: &Probes, when: When, flock: Option<&Flock>) -> Vec<Reading> {
    let mut readings = Vec::new();
    for asked in 0..ASKED {
        if asked > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        readings = probes.ask(when).await;
        if let Some(flock) = flock {
            readings.extend(flock.look(Side::Green).await);
        }
        if !readings.iter().any(|reading| matches!(reading.finding, Finding::Silent(_))) {
            break;
        }
    }
    readings
}

/// What of a list of readings did not hold, in words.
pub(super) fn broken(readings: &[Reading]) -> Vec<String> {
    let why = |reading: &Reading| match &reading.finding {
        Finding::Held => None,
        Finding::Broken(why) | Finding::Silent(why) => Some(format!("{}, {}: {why}", reading.probe, reading.question)),
    };
    readings.iter().filter_map(why).collect()
}

/// Rounds of all probes and canaries on green, in the background of what else is watched.
pub(super) struct Rounds {
    probes: Probes,
    flock: Flock,
    every: Duration,
    due: Instant,
    under_way: Option<JoinHandle<Vec<Reading>>>,
    seen: Vec<String>,
    rounds: u32,
    failed: u32,
}

impl Rounds {
    pub(super) fn new(world: &World, run: Uuid, facts: &Facts) -> Self {
        let probes = Probes::of(world);
        let every = probes.oauth().map(|probe| probe.plan.every).min().unwrap_or(EVERY);
        let flock = Flock::of(world, run, facts);
        let due = Instant::now();
        Self { probes, flock, every, due, under_way: None, seen: Vec::new(), rounds: 0, failed: 0 }
    }

    /// Takes up a round that has ended, begins the next when it is due, and says what did not hold so many times in a row that it counts.
    pub(super) async fn look(&mut self) -> Option<String> {
        if self.probes.all.is_empty() {
            return None;
        }
        if self.under_way.as_ref().is_some_and(JoinHandle::is_finished) {
            self.settle().await;
        }
        if self.under_way.is_none() && Instant::now() >= self.due {
            let (probes, flock) = (self.probes.clone(), self.flock.clone());
            self.under_way = Some(tokio::spawn(async move { round(&probes, &flock).await }));
        }
        (self.failed >= FAILED).then(|| self.seen.join("; "))
    }

    /// What did not hold in the last round.
    pub(super) fn broken(&self) -> &[String] {
        &self.seen
    }

    /// Whether enough was asked, and the last of it held.
    pub(super) fn is_content(&self) -> bool {
        self.probes.all.is_empty() || (self.rounds > 0 && self.failed == 0)
    }

    /// Waits for a round that is under way, so that nothing of it is left behind.
    pub(super) async fn settle(&mut self) {
        let Some(round) = self.under_way.take() else { return };
        let readings = round.await.unwrap_or_else(|error| {
            vec![Reading::new("all", "round", Finding::Silent(format!("a round of probes broke off: {error}")))]
        });
        self.seen = broken(&readings);
        self.rounds += 1;
        // One that failed is made again at once.
        let (failed, pause) = if self.seen.is_empty() { (0, self.every) } else { (self.failed + 1, Duration::ZERO) };
        (self.failed, self.due) = (failed, Instant::now() + pause);
    }

    /// How many rounds there were, and what the last one found.
    pub(super) fn words(&self) -> String {
        match (self.probes.all.is_empty(), self.rounds, self.seen.first()) {
            (true, ..) => String::new(),
            (_, 0, _) => ", probes under way".to_owned(),
            (_, rounds, None) => format!(", probes held {rounds} times"),
            (_, _, Some(first)) => format!(", probe {first}"),
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.rounds
    }
}

async fn round(probes: &Probes, flock: &Flock) -> Vec<Reading> {
    let all = async {
        let mut readings = probes.ask(When::Soak).await;
        readings.extend(flock.look(Side::Green).await);
        readings
    };
    let late = || Finding::Silent(format!("not done within {}", humantime::format_duration(probes.bound)));
    tokio::time::timeout(probes.bound, all).await.unwrap_or_else(|_| vec![Reading::new("all", "round", late())])
}

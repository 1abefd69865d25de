//! What `status` shows beside the journal: how far green is behind, the log kept, the queue of revocations, the systems. Reads only;
//! whatever does not answer is left out.

use super::world::World;
use crate::database::capture::Kept;
use crate::database::catalog;
use crate::database::client::connect;
use crate::engine::chain;
use crate::plan::Side;
use crate::revocations::{Counts, Overview, unconfirmed};
use crate::traffic::Lockstep;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for one system's answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest look at what waits to be consumed.
const GLANCE: Duration = Duration::from_secs(1);
/// Changes that are counted at most.
const COUNTED: i32 = 100_000;

/// A system and where it stands.
#[derive(Debug, Clone, Serialize)]
pub struct SystemStanding {
    /// Its name in the plan.
    pub name: String,
    /// The side it serves, when it answered.
    pub side: Option<Side>,
    /// What it does, or why it did not answer.
    pub state: String,
}

/// Everything `status` shows beside the journal.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Details {
    /// Seconds that green is behind blue: the age of the snapshot of blue that it equals, when a capture stands.
    pub lag_s: Option<f64>,
    /// Changed rows on blue that wait to be consumed, counted up to a bound; none when a run is at work, or they could
    /// not be counted at once.
    pub lag_keys: Option<i64>,
    /// What the capture keeps on blue, when it stands.
    #[serde(skip)]
    pub kept: Option<Kept>,
    /// Digest of each side's schema, by side.
    pub fingerprints: Value,
    /// Version of this program, and of each server that answers.
    pub versions: Value,
    /// Counts of the queue of revocations.
    pub revocations: Value,
    /// Gateways that do not deny everything that was revoked yet, each in a sentence.
    pub undenied: Vec<String>,
    /// The systems, from the innermost to the outermost.
    pub systems: Vec<SystemStanding>,
}

impl Details {
    /// Plain lines for a person.
    #[must_use]
    pub fn words(&self) -> String {
        let mut lines = Vec::new();
        if let Some(lag) = self.lag_s {
            let keys = match self.lag_keys {
                Some(keys) if keys >= i64::from(COUNTED) => format!(", more than {COUNTED} changed rows"),
                Some(keys) => format!(", {keys} changed rows"),
                None => String::new(),
            };
            lines.push(format!("green is {lag:.1} s{keys} behind blue"));
        }
        if let Some(kept) = &self.kept {
            lines.push(format!("{} on blue", kept.words()));
        }
        if let Some(counts) = self.revocations.as_object() {
            lines.push(format!("revocations: {}", counted(counts)));
        }
        lines.extend(self.undenied.iter().cloned());
        for system in &self.systems {
            let side = system.side.map_or("?", Side::as_str);
            lines.push(format!("{}: {side}, {}", system.name, system.state));
        }
        lines.join("\n")
    }
}

/// Counts for a person; the age of the oldest that nobody has proved yet at the end.
fn counted(counts: &Map<String, Value>) -> String {
    let (ages, numbers): (Vec<_>, Vec<_>) = counts.iter().partition(|(name, _)| name.ends_with("_s"));
    let mut words: Vec<String> = numbers.iter().map(|(name, count)| format!("{count} {name}")).collect();
    words.extend(ages.iter().filter_map(|(_, age)| Some(format!("the oldest unproved is {:.0} s old", age.as_f64()?))));
    words.join(", ")
}

/// Asks everybody, at the same time where it can; `is_at_work` when a process is moving the run along.
pub async fn standing(world: &World, run: Option<Uuid>, is_at_work: bool) -> Details {
    let (systems, undenied, captured, revocations, blue, green) = tokio::join!(
        systems(world),
        undenied(world),
        capture(world, run, is_at_work),
        revocations(world),
        schema(world, Side::Blue),
        schema(world, Side::Green)
    );
    let fingerprints = json!({ "blue": blue.0, "green": green.0 });
    let versions = json!({ "cutover": env!("CARGO_PKG_VERSION"), "blue": blue.1, "green": green.1 });
    Details { fingerprints, versions, revocations, systems, undenied, ..captured }
}

async fn systems(world: &World) -> Vec<SystemStanding> {
    let lockstep = Lockstep::new(&world.plan, &world.http, Uuid::nil(), 0, Uuid::nil());
    let asked = lockstep.systems().iter().map(async |system| {
        let answer = system.standing(PATIENCE).await;
        let name = system.name().to_owned();
        match answer {
            Ok(standing) => {
                let state = json!(standing.state).as_str().unwrap_or_default().to_owned();
                SystemStanding { name, side: Some(standing.side), state }
            }
            Err(error) => SystemStanding { name, side: None, state: chain(&error) },
        }
    });
    futures_util::future::join_all(asked).await
}

/// How far green is behind, and what the capture keeps.
async fn capture(world: &World, run: Option<Uuid>, is_at_work: bool) -> Details {
    let Some(run) = run.filter(|_| !world.plan.databases.is_in_place) else { return Details::default() };
    let (Ok(blue), Ok(green)) = (world.side(Side::Blue).await, world.side(Side::Green).await) else {
        return Details::default();
    };
    let capture = world.capture(run, Side::Blue);
    let kept = capture.kept(&blue).await.ok().filter(|kept| kept.lost.is_none());
    let lag_s = crate::database::level::age_s(&green).await.ok().flatten();
    // Only one at a time can read the slot, and whoever levels under a hold must not wait for somebody who only looks.
    let lag_keys = match is_at_work {
        true => None,
        false => capture.glance_at_pending(&blue, COUNTED, GLANCE).await.ok().flatten(),
    };
    Details { lag_s, lag_keys, kept, ..Details::default() }
}

/// A side's schema fingerprint and its server's version, when it answers.
async fn schema(world: &World, side: Side) -> (Option<String>, Option<String>) {
    let Ok(client) = world.side(side).await else { return (None, None) };
    let catalog = catalog::read(&client).await.ok();
    let version = catalog::server_version(&client).await.ok();
    (catalog.map(|catalog| catalog::fingerprint(&catalog)), version)
}

/// Nothing when control does not answer, as everywhere here.
async fn undenied(world: &World) -> Vec<String> {
    if world.plan.gateway.is_none() || world.ledger(Side::Blue).is_none() {
        return Vec::new();
    }
    let Ok(control) = connect(&world.plan.control, "control").await else { return Vec::new() };
    unconfirmed(&control, &world.plan.name).await.unwrap_or_default()
}

/// Counts of what was made on blue; and of what was made on green once a way back has replayed it.
async fn revocations(world: &World) -> Value {
    // In place none is replayed, and none is proved on another database.
    if world.plan.databases.is_in_place {
        return Value::Null;
    }
    let mut all = Counts::default();
    for side in [Side::Blue, Side::Green] {
        let Some(ledger) = world.ledger(side) else { return Value::Null };
        let Ok(counts) = ledger.counts().await else { return Value::Null };
        if side == Side::Blue || counts.replayed > 0 {
            all.captured += counts.captured;
            all.replayed += counts.replayed;
            all.proved += counts.proved;
        }
        all.dead = counts.dead;
    }
    let mut said =
        json!({ "captured": all.captured, "replayed": all.replayed, "proved": all.proved, "dead": all.dead });
    let overview = Overview::new(&world.plan.control, &world.plan.name, PATIENCE);
    if let Ok(totals) = overview.totals().await {
        said["waived"] = json!(totals.waived);
        said["unsettled"] = json!(totals.unsettled);
        said["oldest_unproved_s"] = json!(totals.oldest_unproved_s);
    }
    said
}

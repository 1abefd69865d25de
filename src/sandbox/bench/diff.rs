//! Comparing both sides: how long it takes beside the copy that filled green, and that one changed column of one row is found and named, also under writes.

use super::figures::{Figures, Goal, rounded};
use super::lag::{ENOUGH, Load, RATE};
use super::ours::{FILLED, Ours, Verb};
use super::place::{Place, ask, connect};
use super::transfer::versions;
use super::{BenchError, BenchOptions};
use crate::sandbox::servers::Server;
use serde_json::{Value, json};

/// At most a quarter of the copy's time is at least four times as fast.
const GOALS: [Goal; 1] = [Goal { peer: "copy", at_least: 4.0 }];
/// The step of a copy in which rows move; shown beside all of it.
const ROWS: &str = "copy-rows";
/// Letters of it that a diff shows.
const SHOWN: usize = 6;
/// One row in the middle of a large table, found again by its key.
const PICK: &str = "select signature::text from hydra_oauth2_refresh order by signature offset (select count(*) / 2 from hydra_oauth2_refresh) limit 1";

/// Measures, and gives the last line.
pub(super) async fn diff(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    let place = Place::up(options, "place", options.rows, options.deadline(), tell).await?;
    let mut figures = Figures { rows_total: place.seeded.total(), bytes: place.bytes, ..Figures::default() };
    for _ in 0..options.repetitions {
        let green = place.green("green").await?;
        let ours = Ours::towards(&place, &green)?;
        let filled = ours.run(FILLED).await?;
        let rows = filled.stages.iter().find(|(step, _)| step == ROWS).map_or(0.0, |(_, seconds)| *seconds);
        tell(&format!("copy: {:.1} s, its rows {rows:.1} s", filled.ran.seconds));
        let same = ours.diff().await?;
        require("rows that differ", "0", &differing(&same))?;
        let key = plant(&green).await?;
        let found = ours.diff().await?;
        require("the one row that was changed", &wanted(&key), &named(&found))?;
        tell(&format!("diff: {:.1} s, with one row changed {:.1} s", same.ran.seconds, found.ran.seconds));
        let busy = under_writes(&place, &ours, &mut figures).await?;
        require("the one row that was changed, and nothing else under writes", &wanted(&key), &named(&busy))?;
        let stages = [("same", &same), ("one_row_changed", &found), ("under_writes", &busy)];
        let stages = stages.map(|(name, verb)| (name.to_owned(), verb.ran.seconds)).to_vec();
        figures.ours.add(found.ran.seconds, stages, same.ran.peak_kb.max(found.ran.peak_kb));
        figures.peers.entry("copy").or_default().add(filled.ran.seconds, filled.stages.clone(), 0);
        figures.peers.entry("copy_rows").or_default().add(rows, Vec::new(), 0);
        ours.back().await?;
        green.remove().await?;
    }
    figures.versions = versions(&place).await;
    place.down().await?;
    Ok(figures.line(options, &GOALS))
}

/// The same while clients write blue at their rate.
async fn under_writes(place: &Place, ours: &Ours<'_>, figures: &mut Figures) -> Result<Verb, BenchError> {
    let load = Load::start(place).await?;
    let busy = ours.diff().await;
    let per_s = load.end();
    if per_s < f64::from(RATE) * ENOUGH {
        figures.not_reached.push(format!("only {per_s:.0} writes a second came about under a diff, wanted {RATE}"));
    }
    figures.more.insert("writes_per_s".to_owned(), json!(rounded(per_s)));
    busy
}

/// Changes one column of one row behind everybody's back; gives its key.
async fn plant(green: &Server) -> Result<String, BenchError> {
    let client = connect(green).await?;
    let key: String = ask(&client, PICK).await?;
    let planted = async {
        client.batch_execute("set session_replication_role = replica").await?;
        let change = "update hydra_oauth2_refresh set subject = subject || '.' where signature::text = $1";
        client.execute(change, &[&key]).await
    };
    planted.await.map_err(BenchError::sql("change one row of green"))?;
    Ok(key)
}

fn differing(verb: &Verb) -> String {
    let count = |name: &str| verb.last[name].as_u64().map_or_else(|| "?".to_owned(), |count| count.to_string());
    let counts = ["missing", "extra", "changed"].map(count);
    if counts.iter().all(|count| count == "0") { "0".to_owned() } else { counts.join(" ") }
}

/// Of a signature only how it begins is said.
fn wanted(key: &str) -> String {
    let key = format!("{}…", key.chars().take(SHOWN).collect::<String>());
    json!([{ "table": "public.hydra_oauth2_refresh", "key": key, "class": "changed", "columns": ["subject"] }])
        .to_string()
}

fn named(verb: &Verb) -> String {
    verb.last["rows"].to_string()
}

/// A comparison that is wrong was not fast.
fn require(what: &'static str, wanted: &str, found: &str) -> Result<(), BenchError> {
    if wanted == found {
        return Ok(());
    }
    Err(BenchError::Differs { contestant: "ours", what, wanted: wanted.to_owned(), found: found.to_owned() })
}

//! Bringing green level: the same backlog taken over by ours and by a native subscription, and how far each is behind under load.

use super::backlog::{Backlog, changes};
use super::figures::{Figures, Goal, exponent, median, rounded};
use super::lag::{self, Lag};
use super::ours::{BACKLOG, BEFORE_BACKLOG, Ours, Verb};
use super::peers::{LOOK, NATIVE, Peer};
use super::place::{Place, ask, connect};
use super::transfer::versions;
use super::{BenchError, BenchOptions};
use crate::sandbox::servers::Server;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The peer's word.
const PEER: &str = "native";
const GOALS: [Goal; 1] = [Goal { peer: PEER, at_least: 1.0 }];
const BACKLOGS: [Backlog; 2] = [Backlog::Distinct, Backlog::Hot];
/// The whole table, in one value that does not depend on where its rows lie.
const CONTENT: &str = "select count(*) || ' rows, ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from hydra_oauth2_access t";

/// Seconds of one backlog.
struct Drained {
    ours_s: f64,
    native_s: f64,
}

/// Measures both backlogs and the lag, and gives the last line.
pub(super) async fn level(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    let until = options.deadline();
    let small = if options.scale { Some(small(options, until, tell).await?) } else { None };
    let place = Place::up(options, "place", options.rows, until, tell).await?;
    let mut figures = Figures { rows_total: place.seeded.total(), bytes: place.bytes, ..Figures::default() };
    let drained = drain_all(options, &place, &mut figures, tell).await?;
    let ours = lag::ours(options, &place, tell).await?;
    let native = lag::native(options, &place, tell).await?;
    figures.not_reached.extend(ours.short());
    figures.versions = versions(&place).await;
    if let (Some((before, seconds)), Some(ours)) = (small, figures.ours.median()) {
        figures.exponent = exponent((before, f64::from(changes(options.rows))), (seconds, ours));
    }
    tell_backlogs(&mut figures, &drained, options.rows);
    tell_lag(&mut figures, &ours, &native);
    place.down().await?;
    Ok(figures.line(options, &GOALS))
}

/// Ours alone, on a tenth of rows and changes: how many changes, and its time.
async fn small(options: &BenchOptions, until: Instant, tell: &(dyn Fn(&str) + Sync)) -> Result<(f64, f64), BenchError> {
    let rows = options.rows / 10;
    let place = Place::up(options, "small", rows, until, tell).await?;
    let mut totals = Vec::new();
    for repetition in 0..options.repetitions {
        let mut total = 0.0;
        for backlog in BACKLOGS {
            let green = place.green("green").await?;
            let ours = Ours::towards(&place, &green)?;
            ours.run(BEFORE_BACKLOG).await?;
            let count = changes(options.rows) / 10;
            backlog.write(&place, count, &format!("{}-{repetition}", backlog.word())).await?;
            total += ours.run(BACKLOG).await?.ran.seconds;
            ours.back().await?;
            green.remove().await?;
        }
        totals.push(total);
    }
    place.down().await?;
    Ok((f64::from(changes(options.rows)) / 10.0, median(&totals).unwrap_or_default()))
}

async fn drain_all(
    options: &BenchOptions,
    place: &Place,
    figures: &mut Figures,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Vec<(Backlog, Vec<Drained>)>, BenchError> {
    let mut all: Vec<(Backlog, Vec<Drained>)> = BACKLOGS.map(|backlog| (backlog, Vec::new())).into();
    for repetition in 0..options.repetitions {
        let (mut ours_s, mut native_s, mut stages, mut peak_kb) = (0.0, 0.0, Vec::new(), 0);
        for (backlog, drained) in &mut all {
            tell(&format!("a backlog of {} changes, {}", changes(options.rows), backlog.word()));
            let (one, verb) = drain(place, *backlog, changes(options.rows), repetition).await?;
            tell(&format!("ours: {:.1} s, {PEER}: {:.1} s", one.ours_s, one.native_s));
            (ours_s, native_s) = (ours_s + one.ours_s, native_s + one.native_s);
            stages.extend(verb.stages.into_iter().map(|(step, took)| (format!("{}: {step}", backlog.word()), took)));
            peak_kb = peak_kb.max(verb.ran.peak_kb);
            drained.push(one);
        }
        figures.ours.add(ours_s, stages, peak_kb);
        figures.peers.entry(PEER).or_default().add(native_s, Vec::new(), 0);
    }
    Ok(all)
}

/// One backlog, taken over by both from the same blue; who begins changes with each repetition.
async fn drain(place: &Place, backlog: Backlog, changes: u32, repetition: u32) -> Result<(Drained, Verb), BenchError> {
    let green = place.green("green").await?;
    let ours = Ours::towards(place, &green)?;
    ours.run(BEFORE_BACKLOG).await?;
    let other = place.green(PEER).await?;
    let native = Peer { place, green: &other };
    native.native().await?;
    native.hold().await?;
    let mark = format!("{}-{repetition}", backlog.word());
    backlog.write(place, changes, &mark).await?;
    let (verb, native_s) = if repetition.is_multiple_of(2) {
        let verb = ours.run(BACKLOG).await?;
        (verb, native.take_over(&mark).await?)
    } else {
        let native_s = native.take_over(&mark).await?;
        (ours.run(BACKLOG).await?, native_s)
    };
    same(place, &green, "ours").await?;
    same(place, &other, PEER).await?;
    native.unsubscribe().await?;
    ours.back().await?;
    other.remove().await?;
    green.remove().await?;
    Ok((Drained { ours_s: verb.ran.seconds, native_s }, verb))
}

impl Peer<'_> {
    /// Stops the subscription and waits until blue sees nobody reading its slot.
    pub(super) async fn hold(&self) -> Result<(), BenchError> {
        let refused = BenchError::sql("hold the subscription");
        let (blue, green) = (connect(&self.place.blue).await?, connect(self.green).await?);
        green.batch_execute(&format!("alter subscription {NATIVE} disable")).await.map_err(&refused)?;
        let reading = format!("select active from pg_replication_slots where slot_name = '{NATIVE}'");
        while ask::<bool>(&blue, &reading).await? {
            self.wait("the subscription's end").await?;
        }
        Ok(())
    }

    /// Lets the subscription go on, and gives the seconds until the row `last` is seen on its side.
    async fn take_over(&self, last: &str) -> Result<f64, BenchError> {
        let green = connect(self.green).await?;
        let seen = format!("select exists (select from hydra_oauth2_access where signature = '{last}')");
        let begun = Instant::now();
        self.go_on().await?;
        while !ask::<bool>(&green, &seen).await? {
            self.wait("the subscription").await?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Lets the subscription go on.
    pub(super) async fn go_on(&self) -> Result<(), BenchError> {
        let green = connect(self.green).await?;
        let enable = format!("alter subscription {NATIVE} enable");
        green.batch_execute(&enable).await.map_err(BenchError::sql("enable the subscription"))
    }

    async fn wait(&self, what: &str) -> Result<(), BenchError> {
        if Instant::now() >= self.place.until {
            return Err(BenchError::Late { what: what.to_owned() });
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }
}

/// Who has not taken over everything was not fast.
async fn same(place: &Place, green: &Server, contestant: &'static str) -> Result<(), BenchError> {
    let wanted: String = ask(&connect(&place.blue).await?, CONTENT).await?;
    let found: String = ask(&connect(green).await?, CONTENT).await?;
    if wanted == found {
        return Ok(());
    }
    Err(BenchError::Differs { contestant, what: "the content of hydra_oauth2_access", wanted, found })
}

/// Both backlogs by themselves; the ratio that counts is the worse of the two.
fn tell_backlogs(figures: &mut Figures, drained: &[(Backlog, Vec<Drained>)], rows: u32) {
    let mut backlogs = json!({});
    let mut worst: Option<f64> = None;
    for (backlog, all) in drained {
        let middle = |of: fn(&Drained) -> f64| median(&all.iter().map(of).collect::<Vec<_>>()).unwrap_or_default();
        let (ours_s, native_s) = (middle(|one| one.ours_s), middle(|one| one.native_s));
        let ratio = native_s / ours_s;
        worst = Some(worst.map_or(ratio, |worst| worst.min(ratio)));
        backlogs[backlog.word()] = json!({
            "changes": changes(rows), "ours_s": rounded(ours_s), "native_s": rounded(native_s), "ratio": rounded(ratio),
        });
    }
    figures.ratios.extend(worst.map(|worst| (PEER, worst)));
    figures.more.insert("backlogs".to_owned(), backlogs);
}

fn tell_lag(figures: &mut Figures, ours: &Lag, native: &Lag) {
    figures.more.insert("lag_ms".to_owned(), json!({ "ours": ours.words(), PEER: native.words() }));
}

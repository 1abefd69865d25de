//! Filling an empty green, with another schema or with the same: ours and its peers, each into a fresh server, in turn.

use super::figures::{Figures, Goal, Measured, exponent};
use super::ours::{COPIED, FILLED, Ours};
use super::peers::{Peer, Stages, version};
use super::place::{Place, ask, connect};
use super::{BenchError, BenchOptions, Kind};
use crate::sandbox::servers::Server;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;

/// Who fills green.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Ours,
    RestoreMigrate,
    PlainCopy,
    Pgcopydb,
    DumpRestore,
    Native,
}

const CARRY: [Contestant; 3] = [Contestant::Ours, Contestant::PlainCopy, Contestant::RestoreMigrate];
const COPY: [Contestant; 4] = [Contestant::Ours, Contestant::Pgcopydb, Contestant::DumpRestore, Contestant::Native];
/// At most 1.1 times the plain copy is at least this of its time.
const CARRY_GOALS: [Goal; 2] =
    [Goal { peer: "restore_migrate", at_least: 10.0 }, Goal { peer: "plain_copy", at_least: 1.0 / 1.1 }];
const COPY_GOALS: [Goal; 2] = [Goal { peer: "pgcopydb", at_least: 1.1 }, Goal { peer: "dump_restore", at_least: 1.2 }];
/// Rows that no cleanup rule leaves behind and every contestant must bring.
const WITNESS: &str = "select count(*) from hydra_oauth2_refresh";

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::RestoreMigrate => "restore_migrate",
            Self::PlainCopy => "plain_copy",
            Self::Pgcopydb => "pgcopydb",
            Self::DumpRestore => "dump_restore",
            Self::Native => "native",
        }
    }
}

/// Measures every contestant and gives the last line.
pub(super) async fn transfer(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    let until = options.deadline();
    let (contestants, goals): (&[Contestant], &[Goal]) = match options.kind {
        Kind::Carry => (&CARRY, &CARRY_GOALS),
        _ => (&COPY, &COPY_GOALS),
    };
    let small = if options.scale { Some(small(options, until, tell).await?) } else { None };
    let place = Place::up(options, "place", options.rows, until, tell).await?;
    let mut figures = measure_all(options, &place, contestants, tell).await?;
    figures.versions = versions(&place).await;
    (figures.rows_total, figures.bytes) = (place.seeded.total(), place.bytes);
    if let (Some((rows, seconds)), Some(ours)) = (small, figures.ours.median()) {
        figures.exponent = exponent((rows, float(place.seeded.total())), (seconds, ours));
    }
    place.down().await?;
    Ok(figures.line(options, goals))
}

/// Ours alone, on a tenth of the rows: their number, and its time.
async fn small(options: &BenchOptions, until: Instant, tell: &(dyn Fn(&str) + Sync)) -> Result<(f64, f64), BenchError> {
    let place = Place::up(options, "small", options.rows / 10, until, tell).await?;
    let figures = measure_all(options, &place, &[Contestant::Ours], tell).await?;
    let found = (float(place.seeded.total()), figures.ours.median().unwrap_or_default());
    place.down().await?;
    Ok(found)
}

/// Every contestant once a repetition, each time another one first, so that none always has the warmest caches.
async fn measure_all(
    options: &BenchOptions,
    place: &Place,
    contestants: &[Contestant],
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Figures, BenchError> {
    let mut figures = Figures::default();
    for repetition in 0..options.repetitions as usize {
        let turns = (0..contestants.len()).map(|at| contestants[(at + repetition) % contestants.len()]);
        for contestant in turns {
            let name = contestant.name();
            if figures.not_measured.contains_key(name) {
                continue;
            }
            let measured = measure(options.kind, place, contestant).await;
            let into = match contestant {
                Contestant::Ours => &mut figures.ours,
                _ => figures.peers.entry(name).or_default(),
            };
            match measured {
                Ok((seconds, stages, peak_kb)) => {
                    tell(&format!("{name}: {seconds:.1} s"));
                    into.add(seconds, stages, peak_kb);
                }
                Err(error) if contestant != Contestant::Ours && error.excuse().is_some() => {
                    excuse(&mut figures, name, error.excuse().unwrap_or_default(), tell);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(figures)
}

/// A peer that was measured once needs no excuse for not being measured again.
fn excuse(figures: &mut Figures, name: &'static str, why: &'static str, tell: &(dyn Fn(&str) + Sync)) {
    tell(&format!("{name}: {why}"));
    if figures.peers.get(name).is_none_or(|measured: &Measured| measured.seconds.is_empty()) {
        figures.peers.remove(name);
        figures.not_measured.insert(name, why);
    }
}

/// One contestant into a fresh green: its seconds, its stages, its memory.
async fn measure(kind: Kind, place: &Place, contestant: Contestant) -> Result<(f64, Stages, u64), BenchError> {
    if Instant::now() >= place.until {
        return Err(BenchError::Late { what: contestant.name().to_owned() });
    }
    let green = place.green("green").await?;
    let measured = match contestant {
        Contestant::Ours => ours(kind, place, &green).await?,
        peer => {
            let stages = race(place, &green, peer).await?;
            (stages.iter().map(|(_, seconds)| seconds).sum(), stages, 0)
        }
    };
    if contestant != Contestant::Ours {
        witness(place, &green, contestant.name()).await?;
    }
    if contestant == Contestant::Native {
        Peer { place, green: &green }.unsubscribe().await?;
    }
    green.remove().await?;
    Ok(measured)
}

async fn race(place: &Place, green: &Server, contestant: Contestant) -> Result<Stages, BenchError> {
    let peer = Peer { place, green };
    match contestant {
        Contestant::RestoreMigrate => peer.restore_migrate().await,
        Contestant::PlainCopy => peer.plain_copy().await,
        Contestant::Pgcopydb => peer.pgcopydb().await,
        Contestant::DumpRestore => peer.dump_restore().await,
        Contestant::Native | Contestant::Ours => peer.native().await,
    }
}

async fn ours(kind: Kind, place: &Place, green: &Server) -> Result<(f64, Stages, u64), BenchError> {
    let ours = Ours::towards(place, green)?;
    let through = if kind == Kind::Carry { FILLED } else { COPIED };
    let verb = ours.run(through).await?;
    witness(place, green, "ours").await?;
    ours.back().await?;
    Ok((verb.ran.seconds, verb.stages, verb.ran.peak_kb))
}

/// A contestant that has not brought the rows was not fast.
async fn witness(place: &Place, green: &Server, contestant: &'static str) -> Result<(), BenchError> {
    let wanted: i64 = ask(&connect(&place.blue).await?, WITNESS).await?;
    let found: i64 = ask(&connect(green).await?, WITNESS).await?;
    if wanted == found {
        return Ok(());
    }
    let (wanted, found) = (wanted.to_string(), found.to_string());
    Err(BenchError::Differs { contestant, what: "rows of hydra_oauth2_refresh", wanted, found })
}

/// Who took part.
pub(super) async fn versions(place: &Place) -> Value {
    json!({
        "cutover": env!("CARGO_PKG_VERSION"),
        "postgres": place.binaries.version(),
        "pg_dump": version(Command::new(place.binaries.program("pg_dump"))).await,
        "pgcopydb": version(Command::new("pgcopydb")).await,
    })
}

fn float(count: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a number of rows needs no more than 52 bits")]
    let float = count as f64;
    float
}

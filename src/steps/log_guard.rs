//! Beside a step that fills green: what the capture keeps on blue meanwhile, told in time, and stopped for blue's sake.
//!
//! The database that serves comes first: a disk that is full of kept log stops it. So the run is parked at the plan's limit, or gives the
//! capture up where the plan says so; green must be copied anew then, and nobody continues from another.

use super::failure::fail;
use super::world::World;
use crate::database::capture::{Room, WalLimits, room};
use crate::engine::{Context, StepError, chain};
use crate::plan::{CaptureMethod, Side, Window};
use std::time::Duration;
use tokio::time::Instant;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// A warning is told again after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// How often a capture that somebody has still in use is tried.
const DROPS: u32 = 10;
const DROP_PAUSE: Duration = Duration::from_secs(1);

/// What a step does about a log that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// It keeps the log: stop it.
    Fills,
    /// It takes the log up: stopping it would make things worse.
    Levels,
}

/// Why the watch ended the work.
enum End {
    Stop(StepError),
    GiveUp(String),
}

pub(super) fn limits(window: &Window) -> WalLimits {
    WalLimits { keep_bytes: window.wal_keep_bytes, drop_bytes: window.wal_drop_bytes }
}

/// Does the work, and stops it as a crash would when blue has no room for what the slot keeps meanwhile.
pub(super) async fn beside<T>(
    world: &World,
    context: &Context,
    kind: Work,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    let mut told = None;
    let begun = judge(world, context, kind, &mut told).await;
    let end = match begun {
        Some(end) => end,
        None => tokio::select! {
            done = work => return done,
            end = watch(world, context, kind, &mut told) => end,
        },
    };
    // The work is cut by now, so that nobody of us reads the list.
    match end {
        End::Stop(error) => Err(error),
        End::GiveUp(why) => Err(give_up(world, context, &why).await),
    }
}

async fn watch(world: &World, context: &Context, kind: Work, told: &mut Option<Instant>) -> End {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Some(end) = judge(world, context, kind, told).await {
            return end;
        }
    }
}

/// One look: why the work must end, or nothing after a warning at most.
async fn judge(world: &World, context: &Context, kind: Work, told: &mut Option<Instant>) -> Option<End> {
    // A server that does not answer is the work's own affair.
    let (room, oldest) = look(world, context).await.ok()?;
    let why = match (room, kind) {
        (Room::Ample, _) => return None,
        (Room::GiveUp(why), _) => return Some(End::GiveUp(why)),
        (Room::Lost(why), _) => return Some(End::Stop(lost(&why))),
        (Room::Passed(why), Work::Fills) => return Some(End::Stop(parked(&why, oldest))),
        (Room::Short(why) | Room::Passed(why), _) => why,
    };
    if told.is_none_or(|told| told.elapsed() >= AGAIN) {
        *told = Some(Instant::now());
        tracing::warn!("{why}{}", named(oldest));
        context.progress(0, None, "bytes", format!("{why}; the run goes on"));
    }
    None
}

async fn look(world: &World, context: &Context) -> Result<(Room, Option<String>), StepError> {
    let blue = world.side(Side::Blue).await?;
    let capture = world.capture(context.run(), Side::Blue);
    let kept = capture.kept(&blue).await.map_err(|error| fail("measure what the capture keeps on blue", error))?;
    let oldest = capture.oldest_writer(&blue).await.ok().flatten();
    Ok((room(&kept, limits(&world.plan.window)), oldest))
}

fn named(oldest: Option<String>) -> String {
    oldest.map(|oldest| format!("; {oldest}")).unwrap_or_default()
}

fn parked(why: &str, oldest: Option<String>) -> StepError {
    let why = format!("parked for blue's sake: {why}{}; it grows with every write", named(oldest));
    let hint = "free it with cutover rollback PLAN, or see that blue's disk has room and go on with cutover run PLAN --set window.wal_keep=SIZE";
    StepError::parked(why, hint)
}

fn lost(why: &str) -> StepError {
    let why = format!("what was written on blue since is unknown: {why}; green must be copied anew");
    StepError::refused(why, "begin anew: cutover rollback PLAN, then cutover run PLAN")
}

async fn give_up(world: &World, context: &Context, why: &str) -> StepError {
    let capture = world.capture(context.run(), Side::Blue);
    let mut last = String::new();
    for _ in 0..DROPS {
        let dropped = match world.side(Side::Blue).await {
            Ok(mut blue) => {
                capture.give_up(&mut blue, &context.term()).await.map_err(|error| fail("give the capture up", error))
            }
            Err(error) => Err(error),
        };
        match dropped {
            Ok(()) => {
                return lost(&format!(
                    "{why}, so the capture was given up, as the plan says, before blue's disk is full"
                ));
            }
            Err(error) => last = chain(&error),
        }
        tokio::time::sleep(DROP_PAUSE).await;
    }
    let hint = match capture.method {
        CaptureMethod::Slot => "drop it by hand (pg_drop_replication_slot), or: cutover rollback PLAN",
        CaptureMethod::Triggers => "drop the triggers cutover_touch_… by hand, or: cutover rollback PLAN",
    };
    StepError::stuck(format!("{why}, and the capture could not be given up: {last}"), hint)
}

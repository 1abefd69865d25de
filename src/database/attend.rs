//! Beside a statement: who is in its way, how far an index build is, whom it keeps waiting, and which locks it holds meanwhile.
//!
//! On a connection of its own: the session itself can say nothing while it waits, and a snapshot of the guard's would be waited for by
//! a concurrent build. May cut a statement off for those whom it keeps waiting.

use super::blockers::{in_the_way, kept_waiting};
use super::measured::Locks;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

const PROGRESS: &str = "
select format('%s%s%s', phase, case when blocks_total > 0 then format(', %s %%', blocks_done * 100 / blocks_total) else '' end,
         case when lockers_total > 0 then format(', %s of %s transactions before it have ended', lockers_done, lockers_total) else '' end)
  from pg_catalog.pg_stat_progress_create_index where pid = $1";
const CANCEL: &str = "select pg_catalog.pg_cancel_backend($1)";
/// Often enough to see a wait before it is given up.
const LOOK: Duration = Duration::from_millis(100);
/// Lines about an index build come no faster.
const PROGRESS_PACE: Duration = Duration::from_secs(1);

/// Where to look, and whom to tell.
pub(super) struct Watch<'a> {
    /// The connection to look through.
    pub(super) watcher: &'a Client,
    /// The session that works.
    pub(super) pid: i32,
    /// For the beginning of each line.
    pub(super) file: &'a str,
    /// How long others may wait for it.
    pub(super) block: Option<Duration>,
    /// Longest wait for one lock.
    pub(super) lock_timeout: Duration,
    /// Hears the lines.
    pub(super) tell: &'a (dyn Fn(&str) + Sync),
}

/// What was seen beside one attempt.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Who was in the way when one looked last, in words; empty when nobody was.
    pub(super) blockers: String,
    /// How long others had waited when it was cut off for them.
    pub(super) cut: Option<Duration>,
    /// Locks that it held.
    pub(super) locks: Locks,
}

/// Does `work` and looks on.
pub(super) async fn attend<T>(watch: &Watch<'_>, seen: &mut Seen, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let (mut told, mut next_progress, mut progress) = (String::new(), Instant::now(), String::new());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep(LOOK.min(watch.lock_timeout / 3)) => {}
        }
        // An answer that does not come is no reason to stop: the statement itself will tell.
        if let Ok(blockers) = in_the_way(watch.watcher, watch.pid).await
            && !blockers.is_empty()
        {
            let pids: Vec<String> = blockers.iter().map(|blocker| blocker.pid.to_string()).collect();
            seen.blockers = blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            if told != pids.join(" ") {
                told = pids.join(" ");
                (watch.tell)(&format!("{}: waiting; in the way: {}", watch.file, seen.blockers));
            }
        }
        if watch.block.is_some() {
            relieve(watch, seen).await;
        }
        let _ = seen.locks.sample(watch.watcher, watch.pid).await;
        if Instant::now() >= next_progress
            && let Ok(Some(row)) = watch.watcher.query_opt(PROGRESS, &[&watch.pid]).await
        {
            let now: String = row.get(0);
            if now != progress {
                (watch.tell)(&format!("{}: {now}", watch.file));
                (progress, next_progress) = (now, Instant::now() + PROGRESS_PACE);
            }
        }
    }
}

/// Cuts the session off once others have waited for it too long.
async fn relieve(watch: &Watch<'_>, seen: &mut Seen) {
    let Some(block) = watch.block else { return };
    let Ok((sessions, longest)) = kept_waiting(watch.watcher, watch.pid).await else { return };
    if sessions == 0 || longest < block || seen.cut.is_some() {
        return;
    }
    if watch.watcher.execute(CANCEL, &[&watch.pid]).await.is_ok() {
        seen.cut = Some(longest);
        let (file, longest) = (watch.file, longest.as_millis());
        (watch.tell)(&format!("{file}: cut off: {sessions} sessions have waited for it, the first for {longest} ms"));
    }
}

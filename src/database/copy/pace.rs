//! How fast a copy may go: bytes in a second, all workers together; and whether it must wait, or let its snapshot go.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What the watch says to the workers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::database) enum Signal {
    /// Go on.
    #[default]
    Go,
    /// Begin no chunk until this passes.
    Wait(String),
    /// Begin no chunk any more: the snapshot must go.
    Leave(String),
}

/// Bytes in a second. Each taker is told when its bytes are due; one that comes late has no credit.
pub(super) struct Rate {
    per_second: Option<u64>,
    due: Mutex<Instant>,
}

impl Rate {
    pub(super) fn new(per_second: Option<u64>) -> Self {
        Self { per_second, due: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may have passed.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(per_second) = self.per_second else { return };
        tokio::time::sleep_until(self.due_after(bytes, per_second)).await;
    }

    fn due_after(&self, bytes: usize, per_second: u64) -> Instant {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*due).max(Instant::now());
        *due = begin + Duration::from_secs_f64(bytes as f64 / per_second.max(1) as f64);
        begin
    }
}

/// Waits while the watch says so; the reason when the snapshot must go.
pub(in crate::database) async fn may_go(signal: &mut watch::Receiver<Signal>) -> Result<(), String> {
    loop {
        match &*signal.borrow_and_update() {
            Signal::Go => return Ok(()),
            Signal::Leave(why) => return Err(why.clone()),
            Signal::Wait(_) => {}
        }
        if signal.changed().await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_takers_together_keep_to_the_rate() {
        let rate = Rate::new(Some(1000));
        let begun = Instant::now();
        let taker = || async {
            for _ in 0..10 {
                rate.take(100).await;
            }
        };
        tokio::join!(taker(), taker());
        assert_eq!(begun.elapsed().as_millis() / 100, 19, "2000 bytes, the last of which begin after 1.9 s");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        rate.take(1000).await;
        rate.take(1).await;
        assert_eq!(begun.elapsed().as_secs(), 1, "nothing is saved up");
        Rate::new(None).take(usize::MAX).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_it_is_over_and_a_leave_does_not() {
        let (say, mut hear) = watch::channel(Signal::Wait("a standby is behind".to_owned()));
        let (passed, ()) = tokio::join!(may_go(&mut hear), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            say.send_replace(Signal::Go);
        });
        assert_eq!(passed, Ok(()));
        say.send_replace(Signal::Leave("old".to_owned()));
        assert_eq!(may_go(&mut hear).await, Err("old".to_owned()));
    }
}

//! The gateway's own collecting: what it has published goes on into control at once, and what others left behind within a second.

use super::collector::Collector;
use super::queue::Queue;
use crate::plan::Secret;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Nothing lies longer in a queue than this while a gateway runs and control answers.
const EVERY: Duration = Duration::from_secs(1);
/// Pause between two calls on a queue that is asked over a network and counts them.
const CALM: Duration = Duration::from_millis(250);

/// A task that collects; it ends with this.
pub(super) struct Collecting {
    wake: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Collecting {
    /// Starts to take messages of `plan` from `queue` into `control`.
    pub(super) fn start(queue: Arc<dyn Queue>, control: &Secret, plan: &str, limit: Duration) -> Self {
        let wake = Arc::new(Notify::new());
        let collector = Collector::new(queue, control, plan, limit);
        let task = tokio::spawn(collect(collector, Arc::clone(&wake)));
        Self { wake, task }
    }

    /// Something was published.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn collect(collector: Collector, wake: Arc<Notify>) {
    let mut is_failing = false;
    loop {
        // Woken or not, it is time to look.
        let _ = timeout(EVERY, wake.notified()).await;
        match collector.collect().await {
            Ok(_) => is_failing = false,
            // Said once, not once a second.
            Err(error) if !is_failing => {
                tracing::warn!(%error, "messages stay in the queue for now");
                is_failing = true;
            }
            Err(_) => {}
        }
        if collector.queue().is_outside() {
            sleep(CALM).await;
        }
    }
}

//! The request to stop: asked by whoever may (a signal, `cutover pause`), looked at by the engine and by long steps.

use tokio::sync::watch;

/// How often the stop was asked for, and by whom last.
#[derive(Debug, Clone, Default)]
struct Request {
    times: u32,
    by: String,
}

/// The asking end.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Request>);

impl Stopper {
    /// Asks for the stop; whoever asks again is told again where it will be.
    pub fn ask(&self, by: impl Into<String>) {
        let by = by.into();
        self.0.send_modify(|request| *request = Request { times: request.times + 1, by });
    }
}

/// A request to stop at the next safe point (SIGINT before the decision, `cutover pause`).
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Request>);

impl Stop {
    /// Who can ask for the stop, and the request that everybody can look at.
    #[must_use]
    pub fn channel() -> (Stopper, Self) {
        let (sender, receiver) = watch::channel(Request::default());
        (Stopper(sender), Self(receiver))
    }

    /// A request that never comes.
    #[must_use]
    pub fn never() -> Self {
        Self::channel().1
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.borrow().times > 0
    }

    /// Returns when the stop is asked for; never, if nobody can ask any more.
    pub async fn requested(&self) {
        self.asked_beyond(0).await;
    }

    /// Who asked last; empty before anybody did.
    #[must_use]
    pub fn by(&self) -> String {
        self.0.borrow().by.clone()
    }

    /// Returns how often the stop was asked for, as soon as that is more than `times`; never, if nobody can ask any more.
    pub(super) async fn asked_beyond(&self, times: u32) -> u32 {
        let mut receiver = self.0.clone();
        match receiver.wait_for(|request| request.times > times).await {
            Ok(request) => request.times,
            Err(_) => std::future::pending().await,
        }
    }
}

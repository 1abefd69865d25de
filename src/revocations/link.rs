//! A connection that comes back: opened when first needed, opened again when lost, never waited for longer than its bound.

use super::RevocationError;
use crate::database::client::connect;
use crate::plan::Secret;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

/// After a failed attempt the next callers fail at once for this long, so that a dead server costs one wait, not one each.
const COOLING: Duration = Duration::from_millis(300);

/// A connection to one database that is opened again whenever it was lost.
pub struct Link {
    url: Secret,
    what: String,
    limit: Duration,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    client: Option<Arc<Client>>,
    failed: Option<Instant>,
}

impl Link {
    /// A link to `what` (`blue`, `green`, `control`); nothing is opened yet. No single call on it takes longer than `limit`.
    #[must_use]
    pub fn new(url: Secret, what: impl Into<String>, limit: Duration) -> Self {
        Self { url, what: what.into(), limit, slot: Mutex::default() }
    }

    /// The connection, opened if there is none.
    ///
    /// # Errors
    /// When the server refuses or does not answer in time.
    pub async fn client(&self, act: &'static str) -> Result<Arc<Client>, RevocationError> {
        match timeout(self.limit, self.open(act)).await {
            Ok(result) => result,
            Err(_) => Err(self.slow(act)),
        }
    }

    /// Runs `work` on the connection; a connection that was lost or kept us waiting is thrown away.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses the statement or does not answer in time. After the last two what was asked may
    /// or may not have been done.
    pub async fn run<T, F, W>(&self, act: &'static str, work: W) -> Result<T, RevocationError>
    where
        W: FnOnce(Arc<Client>) -> F,
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let client = self.client(act).await?;
        match timeout(self.limit, work(client)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => {
                if source.as_db_error().is_none() {
                    self.drop_client().await;
                }
                Err(RevocationError::Query { what: self.what.clone(), act, source })
            }
            Err(_) => {
                self.drop_client().await;
                Err(self.slow(act))
            }
        }
    }

    /// Forgets the connection, so that the next caller opens a new one.
    pub async fn drop_client(&self) {
        self.slot.lock().await.client = None;
    }

    async fn open(&self, act: &'static str) -> Result<Arc<Client>, RevocationError> {
        let mut slot = self.slot.lock().await;
        if let Some(client) = slot.client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        slot.client = None;
        if slot.failed.is_some_and(|at| at.elapsed() < COOLING) {
            return Err(self.slow(act));
        }
        // Set before the attempt: a caller whose bound ends inside it leaves the mark behind.
        slot.failed = Some(Instant::now());
        match connect(&self.url, &self.what).await {
            Ok(client) => {
                // The server stops working when nobody waits any more: on tables without their indexes calls would pile up.
                // What is written is durable when its commit returns, whatever the server's or the role's own setting.
                let limit = self.limit.as_millis().max(1);
                let limit = format!("set statement_timeout = {limit}; set synchronous_commit = on");
                let limited = client.batch_execute(&limit).await;
                limited.map_err(|source| RevocationError::Query { what: self.what.clone(), act, source })?;
                let client = Arc::new(client);
                *slot = Slot { client: Some(Arc::clone(&client)), failed: None };
                Ok(client)
            }
            Err(source) => {
                slot.failed = Some(Instant::now());
                Err(RevocationError::Unreachable { what: self.what.clone(), act, source })
            }
        }
    }

    /// The bound of one call.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn slow(&self, act: &'static str) -> RevocationError {
        RevocationError::Slow { what: self.what.clone(), act, limit_ms: self.limit.as_millis() }
    }
}

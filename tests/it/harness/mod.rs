//! What many tests share: throw-away servers, databases of their own, patience.
//!
//! [`Pair::shared`] gives three fresh databases in one cluster that the whole test process shares; [`Pair::separate`] gives three
//! servers that a test may kill. Everything ends with the process, even when that is killed.

pub(crate) mod fill;
pub(crate) mod relay;
pub(crate) mod sandbox;
pub(crate) mod signer;
pub(crate) mod stage;
pub(crate) mod standby;
pub(crate) mod underway;

use cutover::plan::Secret;
use cutover::sandbox::servers::{Binaries, Server, ServerOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The application's role in every database made here.
pub(crate) const APPLICATION: &str = "hydra";

static NUMBER: AtomicU32 = AtomicU32::new(0);
static SHARED: OnceCell<Arc<Server>> = OnceCell::const_new();
static SEPARATE: OnceCell<Arc<Semaphore>> = OnceCell::const_new();

/// Where servers of tests live: a folder that the server's account can enter.
pub(crate) fn folder() -> PathBuf {
    let base = std::env::var_os("CUTOVER_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    base.join("cutover-tests")
}

/// A folder of its own for one test, under [`folder`].
pub(crate) fn fresh_folder(name: &str) -> PathBuf {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    folder().join(format!("{name}-{}-{number}", std::process::id()))
}

/// Starts one server with the application's role.
pub(crate) async fn server(name: &str) -> Server {
    server_with(name, &[]).await
}

/// The same with settings of its own.
pub(crate) async fn server_with(name: &str, settings: &[(&str, &str)]) -> Server {
    let bin = std::env::var_os("CUTOVER_PG_BIN").map(PathBuf::from);
    let binaries = Binaries::find(bin.as_deref()).expect("PostgreSQL's programs are installed");
    let mut options = ServerOptions::new(name, fresh_folder(name));
    options.templates = Some(folder());
    options.fsync = false;
    options.shared_buffers_mb = 64;
    options.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let server = Server::start(&binaries, &options).await.expect("a throw-away server starts");
    server.create_role(APPLICATION, "").await.expect("the application's role is created");
    server
}

/// One database on one server.
pub(crate) struct Place {
    /// Its server.
    pub(crate) server: Arc<Server>,
    /// Its name.
    pub(crate) database: String,
}

#[allow(dead_code, reason = "a harness serves tests that come and go")]
impl Place {
    /// A fresh database, owned by the application's role.
    pub(crate) async fn fresh(server: Arc<Server>, name: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = format!("{name}_{number}");
        server.create_database(&database, APPLICATION).await.expect("a database is created");
        Self { server, database }
    }

    /// A fresh database in the shared cluster.
    pub(crate) async fn shared(name: &str) -> Self {
        Self::fresh(shared_server().await, name).await
    }

    /// URL of our own login.
    pub(crate) fn url(&self) -> Secret {
        self.server.login_url(&self.database)
    }

    /// URL of the application's role.
    pub(crate) fn application_url(&self) -> Secret {
        self.server.url(APPLICATION, &self.database)
    }

    /// A connection of our own login.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        cutover::database::client::connect(&self.url(), &self.database).await.expect("our login connects")
    }

    /// A connection of the application's role.
    pub(crate) async fn application(&self) -> tokio_postgres::Client {
        cutover::database::client::connect(&self.application_url(), &self.database).await.expect("the role connects")
    }

    /// Runs statements as our login.
    pub(crate) async fn execute(&self, statements: &str) {
        self.server.execute(&self.database, statements).await.expect("the statements run");
    }

    /// One value, as our login.
    pub(crate) async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, query: &str) -> T {
        self.client().await.query_one(query, &[]).await.expect("the query has one row").get(0)
    }
}

/// The cluster that the whole test process shares; nobody stops or kills it.
pub(crate) async fn shared_server() -> Arc<Server> {
    SHARED.get_or_init(|| async { Arc::new(server("shared").await) }).await.clone()
}

/// Control, blue and green.
#[allow(dead_code, reason = "a harness serves tests that come and go")]
pub(crate) struct Pair {
    /// The control database.
    pub(crate) control: Place,
    /// Serving now.
    pub(crate) blue: Place,
    /// To come.
    pub(crate) green: Place,
    _permit: Option<OwnedSemaphorePermit>,
}

#[allow(dead_code, reason = "a harness serves tests that come and go")]
impl Pair {
    /// Three databases in the shared cluster: cheap, but other tests' transactions are seen by slots and snapshots.
    pub(crate) async fn shared() -> Self {
        let server = shared_server().await;
        Self {
            control: Place::fresh(server.clone(), "control").await,
            blue: Place::fresh(server.clone(), "blue").await,
            green: Place::fresh(server, "green").await,
            _permit: None,
        }
    }

    /// Three servers of this test's own; at most two such sets live at a time.
    pub(crate) async fn separate() -> Self {
        let permits = SEPARATE.get_or_init(|| async { Arc::new(Semaphore::new(2)) }).await.clone();
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let (control, blue, green) = tokio::join!(server("control"), server("blue"), server("green"));
        Self {
            control: Place::fresh(Arc::new(control), "control").await,
            blue: Place::fresh(Arc::new(blue), "hydra").await,
            green: Place::fresh(Arc::new(green), "hydra").await,
            _permit: Some(permit),
        }
    }
}

/// Asks `question` until it answers `Some`, for at most `bound`; then the test fails with `what`.
#[track_caller]
pub(crate) fn eventually<T, F, Q>(bound: Duration, what: &'static str, mut question: Q) -> impl Future<Output = T>
where
    Q: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let place = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + bound;
        loop {
            if let Some(answer) = question().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "{place}: not within {bound:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

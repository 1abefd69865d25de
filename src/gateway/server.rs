//! The gateway's listeners and its parts put together. Ends when told, after the requests under way, within a bound.

use super::added::{self, Added};
use super::capture::Capture;
use super::config::Config;
use super::control;
use super::counters::Counters;
use super::error::GatewayError;
use super::figures::Tallies;
use super::flows::Flows;
use super::gate::Gate;
use super::metrics::Metrics;
use super::overlay::{Overlay, Retirement, follow};
use super::participant::Participant;
use super::proxy::Proxy;
use super::refresh::Refreshes;
use super::registers::Registers;
use super::routes::Routes;
use super::state::StateFile;
use super::totals::LastTotals;
use super::upstream::Upstreams;
use super::waiting::Bounds;
use super::workers::{self, Waits, Workers, until_true};
use crate::plan::{Gateway, Refresh};
use crate::revocations::chain::Lookups;
use crate::revocations::doors::Doors;
use crate::revocations::hydra::Listener;
use crate::revocations::{Follower, Identities, Install, Producer, Retiring, Setup, queue};
use crate::traffic::protocol::State;
use crate::traffic::stand::Stand;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use url::Url;

/// Requests under way at the end are given this long.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Where a gateway listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The engine's public API.
    pub public: SocketAddr,
    /// The engine's admin API.
    pub admin: SocketAddr,
    /// The gateway's own API.
    pub control: SocketAddr,
}

/// A gateway whose listeners are open and which serves nothing yet.
pub struct Bound {
    public: TcpListener,
    admin: TcpListener,
    control: TcpListener,
    addresses: Addresses,
    participant: Arc<Participant>,
    /// One for each thread that speaks with clients.
    proxies: Vec<Arc<Proxy>>,
    tallies: Arc<Tallies>,
    added: Arc<Added>,
    metrics: Arc<Metrics>,
    follower: Follower,
    retirement: Retirement,
    install: Install,
    waits: Waits,
}

/// Runs a gateway until `shutdown` is ready.
///
/// # Errors
/// When an address or the state file cannot be used; see [`bind`].
pub async fn serve(config: Config, shutdown: impl Future<Output = ()> + Send) -> Result<(), GatewayError> {
    bind(config).await?.serve(shutdown).await
}

/// Opens the listeners and puts the parts together.
///
/// # Errors
/// When an address cannot be used, or the state file cannot be read: it says whether a flip is under way.
pub async fn bind(config: Config) -> Result<Bound, GatewayError> {
    let gateway = &config.gateway;
    let file = StateFile::new(gateway.state.clone());
    let stand = file.load()?.unwrap_or_else(|| Stand::first(State::Refusing));
    let upstreams = Arc::new(Upstreams::new(gateway)?);
    let public = listen("the public listener", &gateway.listen.public).await?;
    let admin = listen("the admin listener", &gateway.listen.admin).await?;
    let control = listen("the control listener", &gateway.listen.control).await?;
    let addresses = Addresses { public: address(&public)?, admin: address(&admin)?, control: address(&control)? };

    let gate = Gate::new(Bounds { requests: gateway.held_requests, bytes: gateway.held_bytes as u64 });
    let lookups = Lookups::new(&config.blue, &config.green, config.patience);
    let counters = Arc::new(Counters::default());
    let identities = Identities::new(&config.blue, &config.green, config.patience);
    let overlay = Overlay::new(gateway.overlay_entries, identities, Arc::clone(&counters));
    let refreshes = match &gateway.refresh {
        Some(Refresh::Coalesce(coalesce)) => Some(Arc::new(Refreshes::new(coalesce))),
        Some(Refresh::EngineGrace(_)) | None => None,
    };
    let flows = gateway.flows.as_ref().map(|flows| Arc::new(Flows::new(flows)));
    let queue = queue::open(&config.queue, &config.control, &config.plan, config.patience);
    let follower = Follower::new(queue, &config.control, &config.plan, &config.name, config.patience);
    let capture = Arc::new(Capture::new(lookups, producer(&config), Arc::clone(&overlay), Arc::clone(&counters)));
    let added = Added::new(&config, Arc::clone(&gate), Arc::clone(&capture))?;
    let registers = Registers::new(&config.blue, &config.green, config.patience);
    let tallies = Tallies::new(Instant::now());
    let proxy = Proxy {
        gate: Arc::clone(&gate),
        doors: Doors::new(gateway.doors.clone()),
        routes: Routes::new(gateway.routes.clone()),
        upstreams: Arc::clone(&upstreams),
        capture: Arc::clone(&capture),
        tallies: Arc::clone(&tallies),
        overlay: Arc::clone(&overlay),
        refreshes: refreshes.clone(),
        flows: flows.clone(),
        counters: Arc::clone(&counters),
        request_timeout: gateway.request_timeout,
    };
    let proxies = proxies(&proxy, gateway)?;
    let totals = LastTotals::new(&config);
    let metrics = Arc::new(Metrics { gate: Arc::clone(&gate), overlay, refreshes, flows, counters, totals });
    let participant = Participant::new(gate, registers, upstreams, capture, file, stand, config.hold);
    let urls = [&config.blue, &config.green, &config.control];
    let retiring = Retiring::new(urls, &config.plan, config.replay.as_ref(), config.patience);
    let retirement = Retirement::new(retiring, Arc::clone(&participant), config.denied);
    let waits = Waits { head: config.head, taking: gateway.request_timeout };
    let install = config.install;
    Ok(Bound {
        public,
        admin,
        control,
        addresses,
        participant,
        proxies,
        tallies,
        added,
        metrics,
        follower,
        retirement,
        install,
        waits,
    })
}

/// Each with connections of its own to the engines.
fn proxies(first: &Proxy, gateway: &Gateway) -> Result<Vec<Arc<Proxy>>, GatewayError> {
    let own = || Ok(Arc::new(Proxy { upstreams: Arc::new(Upstreams::new(gateway)?), ..first.clone() }));
    (0..workers::count()).map(|_| own()).collect()
}

/// The spool file stands beside the state file: whoever keeps the one keeps the other.
fn producer(config: &Config) -> Producer {
    let queue = queue::open(&config.queue, &config.control, &config.plan, config.patience);
    Producer::over(Setup {
        control: config.control.clone(),
        plan: config.plan.clone(),
        gateway: config.name.clone(),
        limit: config.patience,
        install: Arc::clone(&config.install),
        queue,
        spool: Some(config.gateway.state.with_extension("spool")),
    })
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Finds out which side serves and what was revoked, then serves until `shutdown` is ready.
    ///
    /// # Errors
    /// When the control listener fails.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), GatewayError> {
        let (overlay, metrics) = (Arc::clone(&self.metrics.overlay), self.metrics);
        let following = follow(overlay, self.follower, self.install, self.retirement).await;
        self.participant.start().await;
        let mut beside = JoinSet::new();
        beside.spawn(following);
        beside.spawn(Arc::clone(&metrics).sweep());
        beside.spawn(Arc::clone(&self.participant.upstreams).sweep());
        let (end, ended) = watch::channel(false);
        let workers = Workers::start(self.proxies, self.waits, &ended)?;
        let router = control::router(self.participant, self.tallies, metrics).merge(added::router(self.added));
        let own = axum::serve(self.control, router).with_graceful_shutdown(until_true(ended.clone()));
        let own = tokio::spawn(async move { own.await });
        let shutdown = async {
            shutdown.await;
            // No receiver left means that everything has ended already.
            let _ = end.send(true);
        };
        tokio::join!(
            shutdown,
            workers.accept(self.public, Listener::Public, ended.clone()),
            workers.accept(self.admin, Listener::Admin, ended),
        );
        let _ = timeout(LAST_REQUESTS, workers.idle()).await;
        beside.abort_all();
        workers.close().await;
        match timeout(LAST_REQUESTS, own).await {
            Ok(Ok(Err(error))) => Err(GatewayError::Failed(error.to_string())),
            _ => Ok(()),
        }
    }
}

async fn listen(what: &str, url: &str) -> Result<TcpListener, GatewayError> {
    let wrong = |why: &str| GatewayError::Address { what: what.to_owned(), url: url.to_owned(), why: why.to_owned() };
    let parsed = Url::parse(url).map_err(|_| wrong("not an address"))?;
    let host = parsed.host_str().ok_or_else(|| wrong("it names no host"))?;
    let port = parsed.port_or_known_default().ok_or_else(|| wrong("it names no port"))?;
    let address = format!("{host}:{port}");
    TcpListener::bind(&address).await.map_err(|source| GatewayError::Listen { address, source })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, GatewayError> {
    listener.local_addr().map_err(|error| GatewayError::Failed(error.to_string()))
}

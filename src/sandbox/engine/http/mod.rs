//! The engine's two listeners: who may ask what, where.
//!
//! Public: `/oauth2/*`, `/userinfo`, `/.well-known/*`. Admin: without a prefix in version 1, under `/admin` alone in version 2. Both
//! answer `/version` and `/health/*`. Handlers turn requests into words of the store and answers into JSON; they hold no SQL.

mod admin;
mod authorize;
mod challenges;
mod clients;
mod credentials;
mod health;
mod jwts;
mod keys;
mod logout;
mod tokens;

use super::fault::Fault;
use super::store::Store;
use super::{EngineError, EngineOptions, EngineVersion};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::serve::ListenerExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longest an answer may take; a database that says nothing is answered for with 503.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// Longest that requests under way may go on after the engine was told to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What every handler is given.
pub(super) struct Engine {
    pub(super) store: Store,
    pub(super) options: EngineOptions,
}

type Shared = Arc<Engine>;

/// Serves both listeners until `shutdown` resolves, then lets requests under way end.
///
/// # Errors
/// When a port is taken or the database URL cannot be read; a database that is down is no error.
pub async fn serve(options: EngineOptions, shutdown: impl Future<Output = ()> + Send) -> Result<(), EngineError> {
    let public = listen(options.public).await?;
    let admin = listen(options.admin).await?;
    let version = options.version;
    let engine = Arc::new(Engine { store: Store::new(&options)?, options });
    let (end, ended) = watch::channel(false);
    let warming = tokio::spawn({
        let engine = engine.clone();
        async move { engine.store.warm().await }
    });
    let public = tokio::spawn(run(public, public_router(engine.clone()), ended.clone()));
    let admin = tokio::spawn(run(admin, admin_router(engine, version), ended));
    tracing::info!(version = version.full(), "engine serves");
    shutdown.await;
    warming.abort();
    end.send_replace(true);
    let both = async { tokio::join!(public, admin) };
    if tokio::time::timeout(END_WITHIN, both).await.is_err() {
        tracing::warn!("requests were still under way when the engine ended");
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, EngineError> {
    TcpListener::bind(address).await.map_err(|source| EngineError::Listen { address, source })
}

async fn run(listener: TcpListener, router: Router, mut ended: watch::Receiver<bool>) {
    let listener = listener.tap_io(|stream| {
        // Small answers must not wait for more bytes.
        let _ = stream.set_nodelay(true);
    });
    let end = async move {
        let _ = ended.wait_for(|ended| *ended).await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
        tracing::error!(%error, "a listener of the engine ended");
    }
}

async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Fault::Unavailable("the database did not answer in time".into()).into_response(),
    }
}

async fn nowhere() -> Fault {
    Fault::not_found("this path")
}

fn common() -> Router<Shared> {
    Router::new()
        .route("/version", get(health::version))
        .route("/health/alive", get(health::alive))
        .route("/health/ready", get(health::ready))
}

fn public_router(engine: Shared) -> Router {
    common()
        .route("/oauth2/auth", get(authorize::authorize).post(authorize::authorize))
        .route("/oauth2/sessions/logout", get(logout::logout).post(logout::logout))
        .route("/oauth2/token", post(tokens::token))
        .route("/oauth2/revoke", post(tokens::revoke))
        .route("/userinfo", get(tokens::userinfo).post(tokens::userinfo))
        .route("/.well-known/openid-configuration", get(health::discovery))
        .route("/.well-known/jwks.json", get(keys::public))
        .fallback(nowhere)
        .layer(from_fn(bounded))
        .with_state(engine)
}

fn admin_router(engine: Shared, version: EngineVersion) -> Router {
    let admin = Router::new()
        .route("/oauth2/introspect", post(admin::introspect))
        .route("/oauth2/tokens", delete(admin::delete_tokens))
        .route("/oauth2/auth/sessions/consent", get(admin::list_consents).delete(admin::delete_consents))
        .route("/oauth2/auth/sessions/login", delete(admin::delete_sessions))
        .route("/oauth2/auth/requests/login", get(challenges::login))
        .route("/oauth2/auth/requests/login/accept", put(challenges::accept_login))
        .route("/oauth2/auth/requests/login/reject", put(challenges::reject_login))
        .route("/oauth2/auth/requests/consent", get(challenges::consent))
        .route("/oauth2/auth/requests/consent/accept", put(challenges::accept_consent))
        .route("/oauth2/auth/requests/consent/reject", put(challenges::reject_consent))
        .route("/oauth2/auth/requests/logout/accept", put(logout::accept))
        .route("/clients", get(clients::list).post(clients::create))
        .route("/clients/{id}", get(clients::show).put(clients::change).delete(clients::delete))
        .route("/clients/{id}/lifespans", put(clients::set_lifespans))
        .route("/keys/{set}", get(keys::list).delete(keys::delete_set))
        .route("/keys/{set}/{kid}", put(keys::put).delete(keys::delete_key));
    let router = match version {
        EngineVersion::V1 => common().merge(admin),
        EngineVersion::V2 => common().nest("/admin", admin),
    };
    router.fallback(nowhere).layer(from_fn(bounded)).with_state(engine)
}

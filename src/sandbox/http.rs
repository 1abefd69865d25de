//! The sandbox's HTTP client: plain HTTP on 127.0.0.1, kept connections, no redirects followed unasked.

use std::time::Duration;

/// A client for the parts of one sandbox.
///
/// # Panics
/// Never in practice: the client is built from constants.
pub(crate) fn client() -> reqwest::Client {
    // The client wants a provider of cryptography even where every URL is plain HTTP; a second installation is refused, and harmless.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(2))
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(64)
        .tcp_nodelay(true)
        .build()
        .expect("a client made from constants")
}

//! Connections to PostgreSQL: from a plan's URL to a client with its connection task.
//!
//! Owns connection settings and the bound on connecting; TLS is `tls`'s. May call `plan` for [`Secret`]. Never logs a URL with its
//! password. Every session says the same things in the same words: what is printed as text on one side means the same on the other.

mod libpq;
mod tls;

pub use libpq::variables;

use crate::plan::Secret;
use std::time::Duration;
use thiserror::Error;
use tls::Encryption;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};

/// Longest time until a server has let us in.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time until a server's port has answered.
const PORT_PATIENCE: Duration = Duration::from_secs(5);
/// What a role or database may have set otherwise. Row security is off so that a reader who may not see every row is refused, not
/// shown fewer; the server's own bounds are off because ours apply. A
/// server on a system that is known to be able to (another would refuse the setting) looks every second whether we are still there, so
/// that what a killed or parked process left under way does not hold its term and its locks for longer.
const SESSION: &str = "select set_config(s.name, v.value, false) from (values
  ('search_path', 'public'), ('row_security', 'off'), ('TimeZone', 'UTC'), ('DateStyle', 'ISO, MDY'), ('IntervalStyle', 'postgres'),
  ('extra_float_digits', '1'), ('bytea_output', 'hex'), ('lc_monetary', 'C'), ('standard_conforming_strings', 'on'),
  ('statement_timeout', '0'), ('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'),
  ('transaction_timeout', '0'), ('client_connection_check_interval', '1s')) as v (name, value)
join pg_catalog.pg_settings s on s.name = v.name
where s.name <> 'client_connection_check_interval' or pg_catalog.version() ~* '(linux|darwin|bsd)'";

/// The last of these alone, for a session in which everything else is to be as the role and the database have it.
pub(super) const LOOKS_FOR_US: &str = "select pg_catalog.set_config('client_connection_check_interval', '1s', false)
where pg_catalog.version() ~* '(linux|darwin|bsd)'";

/// Why a connection could not be had; nothing was changed on any server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The URL cannot be understood.
    #[error("connect to {what}: the URL cannot be read")]
    Url {
        /// Which server, in the plan's words.
        what: String,
        /// What the parser said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The URL asks for what we cannot do, or names a certificate that cannot be read.
    #[error("connect to {what}: {reason}")]
    Unusable {
        /// Which server, in the plan's words.
        what: String,
        /// What is wrong with it, without the URL.
        reason: String,
    },
    /// The server did not answer or refused.
    #[error("connect to {what}: the server refused or did not answer")]
    Refused {
        /// Which server, in the plan's words.
        what: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server took the connection and then said nothing.
    #[error("connect to {what}: the server took the connection and said nothing for {waited_s} s")]
    Silent {
        /// Which server, in the plan's words.
        what: String,
        /// How long we waited, in seconds.
        waited_s: u64,
    },
}

/// Opens one direct connection to `what` (`blue`, `green`, `control`, for messages) and drives it in a task of its own.
///
/// Without `sslmode` in the URL, a server that is not on this machine must prove who it is (`verify-full`).
///
/// # Errors
/// When the URL cannot be read or used, or the server refuses or stays silent.
pub async fn connect(url: &Secret, what: &str) -> Result<Client, ConnectError> {
    let (rest, wanted) = tls::lift(url.expose()).map_err(|reason| unusable(what, reason))?;
    let mut config: Config = rest.parse().map_err(|source| ConnectError::Url { what: what.to_owned(), source })?;
    config.application_name("cutover").connect_timeout(PORT_PATIENCE);
    let encryption = wanted.settle(&mut config).map_err(|reason| unusable(what, reason))?;
    let opened = async {
        let client = match encryption {
            Encryption::None => open(&config, NoTls).await?,
            Encryption::Rustls(connector) => open(&config, *connector).await?,
        };
        client.execute(SESSION, &[]).await?;
        Ok(client)
    };
    match timeout(PATIENCE, opened).await {
        Ok(opened) => opened.map_err(|source| ConnectError::Refused { what: what.to_owned(), source }),
        Err(_) => Err(ConnectError::Silent { what: what.to_owned(), waited_s: PATIENCE.as_secs() }),
    }
}

async fn open<T>(config: &Config, tls: T) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
    Ok(client)
}

fn unusable(what: &str, reason: String) -> ConnectError {
    ConnectError::Unusable { what: what.to_owned(), reason }
}

//! One long-running part of a sandbox, in this very process: an engine, an internal system, the prober.
//!
//! Takes everything it needs from the sandbox's folder, so that no secret stands on a command line.

use super::engine::{self, AccessTokens, EngineError, EngineOptions, EngineVersion, TokenLives};
use super::environment::{EnvironmentError, Layout, Variables};
use super::prober::{self, Doors, ProberError};
use super::system::{SystemError, SystemSettings};
use super::{authorization, dashboard};
use crate::plan::{Secret, Side};
use std::net::SocketAddr;
use thiserror::Error;

/// The variable of a sandbox in place.
pub(super) const IN_PLACE: &str = "IN_PLACE";
/// The variable by which the engines give everybody JWT access tokens: `jwt`.
const ACCESS_TOKENS: &str = "ACCESS_TOKENS";
/// What the older of two engines in place calls itself.
const OLDER: &str = "0.11.10";
/// Connections of one engine to its database.
const ENGINE_CONNECTIONS: usize = 24;

/// Why a part ended.
#[derive(Debug, Error)]
pub enum PartError {
    /// The folder.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An internal system.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The prober.
    #[error(transparent)]
    Prober(#[from] ProberError),
    /// A variable is no address.
    #[error("{0} is no address to listen on")]
    Address(String),
}

/// Which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The stand-in engine in one of its versions.
    Engine(EngineVersion),
    /// The authorization service.
    Authorization,
    /// The developer dashboard.
    Dashboard,
    /// Load and prober.
    Prober,
}

/// Runs one part until `shutdown` resolves.
///
/// # Errors
/// When it cannot start.
pub async fn run(layout: &Layout, role: Role, shutdown: impl Future<Output = ()> + Send) -> Result<(), PartError> {
    let variables = Variables::read(layout)?;
    if let Role::Engine(version) = role {
        return Ok(engine::serve(engine_options(&variables, version)?, shutdown).await?);
    }
    let served = async {
        match role {
            Role::Authorization => {
                authorization::run(system(&variables, layout, "authorization", "AUTHZ_CUTOVER")?).await?;
            }
            Role::Dashboard => dashboard::run(system(&variables, layout, "dashboard", "DASHBOARD_CUTOVER")?).await?,
            Role::Prober | Role::Engine(_) => prober::run(prober_settings(&variables, layout)?).await?,
        }
        Ok(())
    };
    tokio::select! {
        ended = served => ended,
        () = shutdown => Ok(()),
    }
}

fn engine_options(variables: &Variables, version: EngineVersion) -> Result<EngineOptions, PartError> {
    let side = if version == EngineVersion::V1 { Side::Blue } else { Side::Green };
    // In place both are engines of the one schema, and only their names tell which of the two answers.
    let (version, named) = match (is_in_place(variables), side) {
        (false, _) => (version, None),
        (true, Side::Blue) => (EngineVersion::V1, Some(OLDER)),
        (true, Side::Green) => (EngineVersion::V1, None),
    };
    let dashboard = variables.get("DASHBOARD_CUTOVER")?;
    Ok(EngineOptions {
        version,
        named,
        dsn: Secret::new(variables.of(side, "DSN")?),
        public: socket(variables, &format!("{}_PUBLIC", side.as_str().to_uppercase()))?,
        admin: socket(variables, &format!("{}_ADMIN", side.as_str().to_uppercase()))?,
        issuer: variables.get("GATEWAY_PUBLIC")?.to_owned(),
        login_url: format!("{dashboard}/login"),
        consent_url: format!("{dashboard}/consent"),
        secret: Secret::new(variables.get("SYSTEM_SECRET")?),
        connections: ENGINE_CONNECTIONS,
        lives: TokenLives::default(),
        access_tokens: access_tokens(variables),
    })
}

fn access_tokens(variables: &Variables) -> AccessTokens {
    let is_jwt = variables.get(ACCESS_TOKENS).is_ok_and(|kind| kind == "jwt");
    if is_jwt { AccessTokens::Jwt } else { AccessTokens::Opaque }
}

/// Whether both sides of the sandbox are one database.
fn is_in_place(variables: &Variables) -> bool {
    variables.get(IN_PLACE).is_ok()
}

fn socket(variables: &Variables, name: &str) -> Result<SocketAddr, PartError> {
    variables.address(name)?.parse().map_err(|_| PartError::Address(name.to_owned()))
}

fn system(variables: &Variables, layout: &Layout, name: &str, variable: &str) -> Result<SystemSettings, PartError> {
    Ok(SystemSettings {
        listen: variables.address(variable)?,
        public: variables.get("GATEWAY_PUBLIC")?.to_owned(),
        admin: variables.get("GATEWAY_ADMIN")?.to_owned(),
        state_file: layout.state(name),
        is_in_place: is_in_place(variables),
    })
}

fn prober_settings(variables: &Variables, layout: &Layout) -> Result<prober::Settings, PartError> {
    Ok(prober::Settings {
        doors: Doors {
            public: variables.get("GATEWAY_PUBLIC")?.to_owned(),
            admin: variables.get("GATEWAY_ADMIN")?.to_owned(),
            control: variables.get("GATEWAY_CONTROL")?.to_owned(),
            dashboard: variables.get("DASHBOARD_CUTOVER")?.to_owned(),
            authorization: variables.get("AUTHZ_CUTOVER")?.to_owned(),
        },
        blue: Secret::new(variables.get("BLUE_DSN")?),
        green: Secret::new(variables.get("GREEN_DSN")?),
        revocations_token: Secret::new(variables.get("REVOCATIONS_TOKEN")?),
        rate: variables.get("RATE")?.parse().unwrap_or(200),
        control: variables.address("PROBER_CONTROL")?,
        folder: layout.prober(),
        is_in_place: is_in_place(variables),
    })
}

//! The databases that these verbs look at, and the throw-away ones that they make and take away.

use crate::cli::arguments::PlanArgs;
use crate::cli::exit::{CommandError, Ending};
use crate::cli::screen::Screen;
use crate::database::client::connect;
use crate::database::migrations::compare;
use crate::database::schema::PgDump;
use crate::database::sql::ident;
use crate::plan::{Plan, Secret};
use crate::sandbox::servers::{Binaries, Server, ServerOptions, Stop};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::Client;
use url::Url;
use uuid::Uuid;

/// Longest dump of a schema.
const DUMPED: Duration = Duration::from_secs(300);

/// A plan, for these verbs an option.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PlanOption {
    /// The plan whose blue database is looked at, and whose migrations these are.
    #[arg(long, value_name = "PLAN")]
    pub(super) plan: Option<PathBuf>,
    /// A file of KEY=VALUE lines for the plan's ${…} references; goes before the process environment.
    #[arg(long, value_name = "FILE", requires = "plan")]
    pub(super) env_file: Option<PathBuf>,
}

impl PlanOption {
    /// The plan, when one is named.
    pub(super) fn load(&self, screen: Screen) -> Result<Option<Plan>, CommandError> {
        let Some(plan) = self.plan.clone() else { return Ok(None) };
        let arguments = PlanArgs { plan, env_file: self.env_file.clone(), sets: Vec::new(), json: screen.is_json() };
        arguments.load(&screen).map(Some)
    }
}

/// A URL as given: `${NAME}` is taken from the environment, a password in the arguments is refused.
pub(super) fn url(given: &str) -> Result<Secret, CommandError> {
    if let Some(name) = given.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        return std::env::var(name).map(Secret::new).map_err(|_| {
            CommandError::new(
                Ending::Usage,
                format!("the variable {name} is not set"),
                "set it to the database's URL; nothing was touched",
            )
        });
    }
    if Url::parse(given).is_ok_and(|url| url.password().is_some()) || given.contains("password") {
        let next = "put it into a variable and write --url '${NAME}'; nothing was touched";
        return Err(CommandError::new(
            Ending::Usage,
            "a password in the arguments is seen by everyone on this machine",
            next,
        ));
    }
    Ok(Secret::new(given))
}

/// A connection, or why there is none.
pub(super) async fn open(url: &Secret, what: &str) -> Result<Client, CommandError> {
    connect(url, what).await.map_err(|error| {
        CommandError::failed("look at a database", &error, "bring the server back; nothing was touched")
    })
}

/// A connection on which nothing can be written.
pub(super) async fn look(url: &Secret, what: &str) -> Result<Client, CommandError> {
    let client = open(url, what).await?;
    let set = client.batch_execute("set default_transaction_read_only = on; set statement_timeout = '60s'").await;
    set.map_err(|error| CommandError::failed("look at a database", &error, "nothing was touched"))?;
    Ok(client)
}

/// The schema of a live database as SQL.
pub(super) async fn dump(url: &Secret, client: &Client, postgres: Option<&Path>) -> Result<String, CommandError> {
    let failed = |error| {
        CommandError::failed(
            "read the schema",
            &error,
            "install pg_dump as new as the server, or give --schema; nothing was touched",
        )
    };
    let program = PgDump::find(postgres, client).await.map_err(failed)?;
    program.schema(url, DUMPED).await.map_err(failed)
}

/// Two empty databases: on a server of their own, or on one that was named.
pub(super) struct Workshop {
    server: Option<Server>,
    admin: Option<Secret>,
    /// Their names.
    names: [String; 2],
}

impl Workshop {
    /// Makes them.
    pub(super) async fn open(given: Option<&Secret>, postgres: Option<&Path>) -> Result<Self, CommandError> {
        let failed = |error: &dyn std::error::Error| {
            CommandError::failed(
                "make two empty databases",
                error,
                "install PostgreSQL, or name a server with --url; nothing else was touched",
            )
        };
        let id = Uuid::new_v4().simple().to_string();
        let names = ["first", "second"].map(|name| format!("cutover_{name}_{id}"));
        let mut made = Self { server: None, admin: given.cloned(), names };
        if given.is_none() {
            let binaries = Binaries::find(postgres).map_err(|error| failed(&error))?;
            let folder = std::env::temp_dir().join(format!("cutover-migrations-{id}"));
            let mut options = ServerOptions::new("throw-away", folder);
            options.fsync = false;
            options.shared_buffers_mb = 64;
            made.server = Some(Server::start(&binaries, &options).await.map_err(|error| failed(&error))?);
        }
        let admin = made.admin();
        let client = open(&admin, "a server for throw-away databases").await?;
        for name in &made.names {
            let made = client.batch_execute(&format!("create database {}", ident(name))).await;
            made.map_err(|error| failed(&error))?;
        }
        Ok(made)
    }

    fn admin(&self) -> Secret {
        match (&self.server, &self.admin) {
            (Some(server), _) => server.login_url("postgres"),
            (None, admin) => admin.clone().unwrap_or_else(|| Secret::new("")),
        }
    }

    /// A connection to one of them.
    pub(super) async fn client(&self, at: usize) -> Result<Client, CommandError> {
        let url = match &self.server {
            Some(server) => server.login_url(&self.names[at]),
            None => self.named(at)?,
        };
        open(&url, "a throw-away database").await
    }

    fn named(&self, at: usize) -> Result<Secret, CommandError> {
        let mut url = Url::parse(self.admin().expose()).map_err(|_| {
            CommandError::new(
                Ending::Usage,
                "--url is no URL",
                "write --url '${NAME}' with postgres://…; nothing was touched",
            )
        })?;
        url.set_path(&self.names[at]);
        Ok(Secret::new(url.to_string()))
    }

    /// Takes them away again.
    pub(super) async fn close(self) -> Result<(), CommandError> {
        let failed = |error: &dyn std::error::Error| {
            CommandError::failed(
                "take throw-away databases away",
                error,
                "drop the databases whose names begin with cutover_first_ and cutover_second_",
            )
        };
        if let Some(server) = self.server {
            server.stop(Stop::Immediate).await.map_err(|error| failed(&error))?;
            return server.remove().await.map_err(|error| failed(&error));
        }
        let client = open(&self.admin(), "a server for throw-away databases").await?;
        for name in &self.names {
            let dropped = client.batch_execute(&format!("drop database if exists {} with (force)", ident(name))).await;
            dropped.map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

/// Runs a schema's text.
pub(super) async fn lay(client: &Client, schema: &str) -> Result<(), CommandError> {
    compare::lay(client, schema).await.map_err(|error| {
        let next = "correct the schema's file; nothing else was touched";
        CommandError::failed("lay the schema on a throw-away database", &error, next)
    })
}

//! Where a bench takes place: a control server, a seeded blue, and a fresh green for every contestant.
//!
//! Owns the folder's files and how programs reach the servers: passwords stand in files of their owner's, never in arguments.

use super::program;
use super::{BenchError, BenchOptions, Kind};
use crate::database::client;
use crate::sandbox::engine::{EngineVersion, prepare_wrapper};
use crate::sandbox::environment::{Layout, Variables};
use crate::sandbox::plan_files;
use crate::sandbox::seed::{self, SeedSize, Seeded};
use crate::sandbox::servers::{Binaries, Server, ServerOptions};
use std::path::PathBuf;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_postgres::Client;

/// The application's role and its database, on every side.
pub(super) const APPLICATION: &str = "hydra";
/// Our own login and the control database.
pub(super) const OURS: &str = "cutover";
/// Every bench of one size measures the same rows.
const SEED: u32 = 1;
/// Shared buffers of blue and of every green, in mebibytes.
const BUFFERS_MB: u32 = 512;
/// The plan of copies and levelling: nothing changes.
const UNCHANGED: &str = include_str!("unchanged.yaml");
/// The plan of migrations: one database.
const IN_PLACE: &str = include_str!("in_place.yaml");
/// The plan of a sweep: the same database, and nothing to migrate.
const CLEANUP: &str = include_str!("in_place_cleanup.yaml");
/// What a person's environment may say to the programs of PostgreSQL.
const STRAY: [&str; 8] =
    ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSERVICE", "PGOPTIONS", "PGSSLMODE"];

/// The servers that stand through a bench, and their folder.
pub(super) struct Place {
    pub(super) layout: Layout,
    pub(super) program: PathBuf,
    pub(super) binaries: Binaries,
    pub(super) blue: Server,
    /// What blue holds.
    pub(super) seeded: Seeded,
    /// The size of blue's database.
    pub(super) bytes: u64,
    /// When the bench's time is over.
    pub(super) until: Instant,
    control: Server,
}

impl Place {
    /// Starts control and blue, and fills blue with `rows` token rows; `name` is a folder below the bench's.
    pub(super) async fn up(
        options: &BenchOptions,
        name: &str,
        rows: u32,
        until: Instant,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, BenchError> {
        let layout = Layout::new(&options.dir.join(name));
        layout.create()?;
        layout.write(&layout.dir().join("scratch/README"), 0o644, "Files of one measurement.\n")?;
        let binaries = Binaries::find(options.postgres.as_deref())?;
        tell(&format!("seeding blue with {rows} token rows"));
        let control = start(&layout, &binaries, "control").await?;
        control.create_database(OURS, OURS).await?;
        let blue = side(&layout, &binaries, "blue").await?;
        let program = options.program.clone();
        prepare_wrapper(&layout.bin("hydra"), &program, EngineVersion::V2)?;
        prepare_wrapper(&layout.bin("hydra-1x"), &program, EngineVersion::V1)?;
        match options.kind {
            Kind::Carry | Kind::Diff | Kind::Flip | Kind::Gateway | Kind::Revocations => {
                plan_files::write_without_probes(&layout)?
            }
            Kind::Copy | Kind::Level => layout.write(&layout.plan(), 0o644, UNCHANGED)?,
            Kind::Migrations => layout.write(&layout.plan(), 0o644, IN_PLACE)?,
            Kind::Cleanup => layout.write(&layout.plan(), 0o644, CLEANUP)?,
        }
        let mut place = Self { layout, program, binaries, blue, seeded: Seeded::default(), bytes: 0, until, control };
        place.migrate(&place.blue, EngineVersion::V1).await?;
        place.seeded =
            seed::fill(&place.blue.login_url(APPLICATION), SeedSize { token_rows: rows, seed: SEED }).await?;
        let size: i64 = ask(&connect(&place.blue).await?, "select pg_database_size(current_database())").await?;
        place.bytes = size.unsigned_abs();
        Ok(place)
    }

    /// A fresh, empty server for one contestant. Blue has written everything back before, so that nobody waits for what the one before
    /// has left.
    pub(super) async fn green(&self, name: &str) -> Result<Server, BenchError> {
        let green = side(&self.layout, &self.binaries, name).await?;
        self.blue.execute(APPLICATION, "checkpoint").await?;
        self.write_passwords(&green)?;
        Ok(green)
    }

    /// Gives a database the schema of one version of the engine, by the engine's own program and as the application.
    pub(super) async fn migrate(&self, server: &Server, version: EngineVersion) -> Result<(), BenchError> {
        let name = if version == EngineVersion::V1 { "hydra-1x" } else { "hydra" };
        let mut command = Command::new(self.layout.bin(name));
        command.args(["migrate", "sql", "-e", "--yes"]).env("DSN", server.url(APPLICATION, APPLICATION).expose());
        program::run(command, name, self.until).await?.succeeded(name).map(drop)
    }

    /// A program of PostgreSQL on one server's application database, as our login.
    pub(super) fn client(&self, name: &str, server: &Server) -> Command {
        let mut command = self.clean(Command::new(self.binaries.program(name)));
        command.args(["-h", "127.0.0.1", "-U", OURS, "-d", APPLICATION, "-p", &server.port().to_string()]);
        command
    }

    /// A program that finds passwords in our file, and nothing of a person's settings.
    pub(super) fn clean(&self, mut command: Command) -> Command {
        for name in STRAY {
            command.env_remove(name);
        }
        command.env("PGPASSFILE", self.pass_file());
        command
    }

    /// A name for a file or folder of one measurement.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.layout.dir().join("scratch").join(name)
    }

    /// Ends everything and removes the folder's servers.
    pub(super) async fn down(self) -> Result<(), BenchError> {
        self.blue.remove().await?;
        Ok(self.control.remove().await?)
    }

    fn pass_file(&self) -> PathBuf {
        self.layout.dir().join("passwords")
    }

    fn write_passwords(&self, green: &Server) -> Result<(), BenchError> {
        let line = |server: &Server| {
            let url = url::Url::parse(server.login_url(APPLICATION).expose()).ok();
            let password = url.as_ref().and_then(url::Url::password).unwrap_or_default().to_owned();
            format!("127.0.0.1:{}:*:{OURS}:{password}\n", server.port())
        };
        let known = std::fs::read_to_string(self.pass_file()).unwrap_or_default();
        // Two greens of one time both stay known; a port that is used again gets its newest password.
        let port = format!("127.0.0.1:{}:", green.port());
        let kept: String =
            known.lines().filter(|known| !known.starts_with(&port)).map(|line| format!("{line}\n")).collect();
        let blue = if known.is_empty() { line(&self.blue) } else { String::new() };
        Ok(self.layout.write(&self.pass_file(), 0o600, &format!("{blue}{kept}{}", line(green)))?)
    }

    /// Writes the variables of the plan for a run towards `green`.
    pub(super) fn write_variables(&self, green: &Server) -> Result<(), BenchError> {
        let mut variables = Variables::new(&self.layout);
        variables.set("CONTROL_URL", self.control.login_url(OURS).expose());
        for (name, server) in [("BLUE", &self.blue), ("GREEN", green)] {
            variables.set(&format!("{name}_URL"), server.login_url(APPLICATION).expose());
            variables.set(&format!("{name}_DSN"), server.url(APPLICATION, APPLICATION).expose());
        }
        // Nobody listens there: no traffic moves in a bench.
        variables.set_urls(&[
            "BLUE_PUBLIC",
            "BLUE_ADMIN",
            "GREEN_PUBLIC",
            "GREEN_ADMIN",
            "GATEWAY_PUBLIC",
            "GATEWAY_ADMIN",
            "GATEWAY_CONTROL",
            "AUTHZ_CUTOVER",
            "DASHBOARD_CUTOVER",
        ])?;
        variables.set("GATEWAY_STATE", self.layout.state("gateway").display().to_string());
        variables.set("HYDRA_BIN", self.layout.bin("hydra").display().to_string());
        variables.set("REVOCATIONS_TOKEN", uuid::Uuid::new_v4().simple().to_string());
        Ok(variables.write(&self.layout)?)
    }
}

async fn start(layout: &Layout, binaries: &Binaries, name: &str) -> Result<Server, BenchError> {
    let mut options = ServerOptions::new(name, layout.server(name));
    options.templates = Some(layout.dir().join("templates"));
    options.shared_buffers_mb = if name == "control" { 64 } else { BUFFERS_MB };
    Ok(Server::start(binaries, &options).await?)
}

async fn side(layout: &Layout, binaries: &Binaries, name: &str) -> Result<Server, BenchError> {
    let server = start(layout, binaries, name).await?;
    server.create_role(APPLICATION, "").await?;
    server.create_database(APPLICATION, APPLICATION).await?;
    Ok(server)
}

/// Our login on a server's application database.
pub(super) async fn connect(server: &Server) -> Result<Client, BenchError> {
    Ok(client::connect(&server.login_url(APPLICATION), &server.name()).await?)
}

/// One value.
pub(super) async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    client: &Client,
    query: &str,
) -> Result<T, BenchError> {
    let row = client.query_one(query, &[]).await.map_err(BenchError::sql("ask a server"))?;
    row.try_get(0).map_err(BenchError::sql("ask a server"))
}

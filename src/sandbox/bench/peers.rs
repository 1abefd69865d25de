//! The peers of a copy: dump and restore, with the engine's migrations after it or without, pgcopydb, and a native subscription.
//!
//! Each is run as its own manual says, with as many workers as ours.

use super::place::{APPLICATION, OURS, Place, connect};
use super::program;
use super::{BenchError, WORKERS, plain};
use crate::database::sql::literal;
use crate::sandbox::engine::EngineVersion;
use crate::sandbox::servers::Server;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// Name of the native publication, subscription and slot.
pub(super) const NATIVE: &str = "bench_native";
/// How often a native subscription is asked how far it is.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// Stages of one measurement, by name, in order.
pub(super) type Stages = Vec<(String, f64)>;

/// Everything a peer works with.
pub(super) struct Peer<'a> {
    pub(super) place: &'a Place,
    pub(super) green: &'a Server,
}

impl Peer<'_> {
    /// `pg_dump` into a folder, `pg_restore` from it.
    pub(super) async fn dump_restore(&self) -> Result<Stages, BenchError> {
        let dump = self.place.scratch("dump");
        let mut stages = Stages::new();
        let done = self.dump_and_restore(&dump, &mut stages).await;
        remove(&dump);
        done.map(|()| stages)
    }

    async fn dump_and_restore(&self, dump: &Path, stages: &mut Stages) -> Result<(), BenchError> {
        let jobs = format!("-j{WORKERS}");
        let mut command = self.place.client("pg_dump", &self.place.blue);
        command.args(["-Fd", &jobs, "-f"]).arg(dump);
        self.stage("pg_dump", command, stages).await?;
        let mut command = self.place.client("pg_restore", self.green);
        command.arg(&jobs).arg(dump);
        self.stage("pg_restore", command, stages).await
    }

    /// The same, and then what the engine's manual says: its own migrations on the filled copy, after the planner has been told what is
    /// there.
    pub(super) async fn restore_migrate(&self) -> Result<Stages, BenchError> {
        let mut stages = self.dump_restore().await?;
        let mut command = self.place.client("psql", self.green);
        command.args(["-X", "-q", "-c", "analyze"]);
        self.stage("analyze", command, &mut stages).await?;
        let begun = Instant::now();
        self.place.migrate(self.green, EngineVersion::V2).await?;
        stages.push(("migrations of the engine".to_owned(), begun.elapsed().as_secs_f64()));
        Ok(stages)
    }

    /// Plain `copy` from table to table, keys and indexes after it.
    pub(super) async fn plain_copy(&self) -> Result<Stages, BenchError> {
        plain::copy(self).await
    }

    /// `pgcopydb clone`.
    pub(super) async fn pgcopydb(&self) -> Result<Stages, BenchError> {
        let folder = self.place.scratch("pgcopydb");
        let uri = |server: &Server| format!("postgres://{OURS}@127.0.0.1:{}/{APPLICATION}", server.port());
        let mut command = self.place.clean(Command::new("pgcopydb"));
        command.arg("clone").arg("--source").arg(uri(&self.place.blue)).arg("--target").arg(uri(self.green));
        let workers = WORKERS.to_string();
        command.args(["--table-jobs", &workers, "--index-jobs", &workers, "--dir"]).arg(&folder);
        let mut stages = Stages::new();
        let done = self.stage("clone", command, &mut stages).await;
        remove(&folder);
        done.map(|()| stages)
    }

    /// A native subscription's initial copy, until every table is ready.
    pub(super) async fn native(&self) -> Result<Stages, BenchError> {
        let begun = Instant::now();
        self.schema("pre-data").await?;
        self.schema("post-data").await?;
        let mut stages = vec![("schema".to_owned(), begun.elapsed().as_secs_f64())];
        let begun = Instant::now();
        let copied = self.subscribe().await;
        stages.push(("initial copy".to_owned(), begun.elapsed().as_secs_f64()));
        copied.map(|()| stages)
    }

    /// Publishes every table of blue and waits until the subscription has copied each.
    pub(super) async fn subscribe(&self) -> Result<(), BenchError> {
        let refused = BenchError::sql("subscribe");
        let (blue, green) = (connect(&self.place.blue).await?, connect(self.green).await?);
        let publish = format!("create publication {NATIVE} for tables in schema public");
        blue.batch_execute(&publish).await.map_err(&refused)?;
        let url = self.place.blue.login_url(APPLICATION);
        let subscribe =
            format!("create subscription {NATIVE} connection {} publication {NATIVE}", literal(url.expose()));
        green.batch_execute(&subscribe).await.map_err(&refused)?;
        let left = "select count(*) from pg_subscription_rel where srsubstate <> 'r'";
        while green.query_one(left, &[]).await.map_err(&refused)?.get::<_, i64>(0) > 0 {
            if Instant::now() >= self.place.until {
                return Err(BenchError::Late { what: "the native subscription".to_owned() });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Takes the subscription, its slot and its publication away again.
    pub(super) async fn unsubscribe(&self) -> Result<(), BenchError> {
        let refused = BenchError::sql("end the subscription");
        let (blue, green) = (connect(&self.place.blue).await?, connect(self.green).await?);
        green.batch_execute(&format!("drop subscription if exists {NATIVE}")).await.map_err(&refused)?;
        blue.batch_execute(&format!("drop publication if exists {NATIVE}")).await.map_err(&refused)
    }

    /// Gives green one section of blue's schema: tables, or what stands beside their rows.
    pub(super) async fn schema(&self, section: &str) -> Result<(), BenchError> {
        let archive = self.place.scratch("schema");
        let mut command = self.place.client("pg_dump", &self.place.blue);
        // A run of ours may be under way on blue; what it made there is nobody else's.
        command.args(["-Fc", "-s", "-N", "cutover", "--no-publications", "-f"]).arg(&archive);
        self.stage("pg_dump", command, &mut Stages::new()).await?;
        let (jobs, section) = (format!("-j{WORKERS}"), format!("--section={section}"));
        let mut command = self.place.client("pg_restore", self.green);
        command.args([&jobs, &section]).arg(&archive);
        let done = self.stage("pg_restore", command, &mut Stages::new()).await;
        remove(&archive);
        done
    }

    async fn stage(&self, name: &str, command: Command, stages: &mut Stages) -> Result<(), BenchError> {
        let ran = program::run(command, name, self.place.until).await?.succeeded(name)?;
        stages.push((name.to_owned(), ran.seconds));
        Ok(())
    }
}

/// What is not there any more, or cannot be removed now, goes with the bench's folder.
fn remove(path: &Path) {
    let _gone = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// What a program says of its version, or none when it is not installed.
pub(super) async fn version(mut command: Command) -> Option<String> {
    let output = command.arg("--version").kill_on_drop(true).output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned).filter(|_| output.status.success())
}

//! The servers behind the queues: one real JetStream server for all tests, ended with the test process, and one that a test may kill.

use crate::harness::fresh_folder;
use cutover::plan::{NatsQueue as Settings, Secret};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

static SHARED: OnceCell<Nats> = OnceCell::const_new();
static STREAMS: AtomicU32 = AtomicU32::new(0);

/// A JetStream server with a folder of its own. It ends with this; the shared one ends with the process, through a watcher.
pub(super) struct Nats {
    folder: PathBuf,
    /// What it is started with besides.
    arguments: &'static [&'static str],
    port: u16,
    server: Child,
}

impl Nats {
    /// The server of the whole test process.
    pub(super) async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    pub(super) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(super) async fn start_with(arguments: &'static [&'static str]) -> Self {
        let folder = fresh_folder("nats");
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut server = launch(&folder, -1, arguments);
        let port = port(&folder, &mut server).await;
        watch(&server);
        Self { folder, arguments, port, server }
    }

    /// Kill -9, and up again on the same port and files.
    pub(super) async fn crash(&mut self) {
        self.server.kill().expect("it runs");
        self.server.wait().expect("it ended");
        self.server = launch(&self.folder, i32::from(self.port), self.arguments);
        port(&self.folder, &mut self.server).await;
        watch(&self.server);
    }

    pub(super) fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A stream that nobody else has.
    pub(super) fn settings(&self) -> Settings {
        let stream = format!("cutover-{}", STREAMS.fetch_add(1, Ordering::Relaxed));
        Settings { url: Secret::new(self.url()), stream }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(folder: &std::path::Path, port: i32, arguments: &[&str]) -> Child {
    let mut found = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"].into_iter();
    let program = found.find(|path| std::path::Path::new(path).exists()).unwrap_or("nats-server");
    let mut command = Command::new(program);
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string()]).arg("-sd").arg(folder).args(arguments);
    command.arg("--ports_file_dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("nats-server is installed (scripts/install does it)")
}

/// The port that the server has written down; it is open by then.
async fn port(folder: &std::path::Path, server: &mut Child) -> u16 {
    let file = folder.join(format!("nats-server_{}.ports", server.id()));
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(port) = std::fs::read_to_string(&file).ok().and_then(|text| written(&text)) {
            return port;
        }
        assert!(server.try_wait().expect("it can be asked").is_none(), "nats-server ended at once");
        assert!(Instant::now() < end, "nats-server does not say its port in {}", file.display());
        sleep(Duration::from_millis(20)).await;
    }
}

fn written(text: &str) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_str(text).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

/// Ends the server when this process is gone, even when that was killed: a shell waits for the end of a pipe that only we hold.
fn watch(server: &Child) {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("cat >/dev/null; kill -9 {} 2>/dev/null", server.id())]);
    let watcher = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    // Its end of the pipe stays open as long as this process lives.
    std::mem::forget(watcher.expect("a shell"));
}

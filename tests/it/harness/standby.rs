//! A physical standby of blue's server: a real one.

use super::{Pair, eventually, fresh_folder};
use cutover::database::client::connect;
use cutover::plan::Secret;
use cutover::sandbox::servers::{Account, Binaries, Stop, free_port};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A physical standby of blue's server, made from a copy of its files while it was down.
pub(crate) struct Standby {
    child: Child,
    folder: PathBuf,
    /// Its URL, with our login.
    pub(crate) url: Secret,
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Standby {
    /// Of blue's server, which is stopped for a moment.
    pub(crate) async fn of(pair: &Pair) -> Self {
        let (server, folder) = (&pair.blue.server, fresh_folder("standby"));
        server.stop(Stop::Fast).await.expect("blue stops");
        std::fs::create_dir_all(&folder).expect("a folder");
        let copied = Command::new("cp").arg("-a").arg(server.folder().join("data")).arg(&folder).status();
        assert!(copied.expect("cp runs").success());
        server.start_again().await.expect("blue starts");
        let (data, port) = (folder.join("data"), free_port().expect("a port"));
        append(&data.join("standby.signal"), "");
        let url = pair.blue.url();
        let conninfo = url.expose().replace(&format!("/{}", pair.blue.database), "/postgres");
        append(
            &data.join("postgresql.auto.conf"),
            &format!("primary_conninfo = '{conninfo}'\nport = {port}\nhot_standby = on\n"),
        );
        append(&data.join("postgresql.conf"), &format!("port = {port}\n"));
        let bin = std::env::var_os("CUTOVER_PG_BIN").map(PathBuf::from);
        let mut postgres = Command::new(Binaries::find(bin.as_deref()).expect("PostgreSQL").program("postgres"));
        postgres
            .arg("-D")
            .arg(&data)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(account) = Account::for_servers().expect("an account") {
            let owned =
                Command::new("chown").arg("-R").arg(format!("{}:{}", account.uid, account.gid)).arg(&folder).status();
            assert!(owned.expect("chown runs").success());
            postgres.uid(account.uid).gid(account.gid);
        }
        let child = postgres.spawn().expect("the standby is started");
        let url = Secret::new(url.expose().replace(&format!(":{}/", server.port()), &format!(":{port}/")));
        eventually(Duration::from_secs(30), "the standby answers", || async { connect(&url, "standby").await.ok() })
            .await;
        Self { child, folder, url }
    }
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("it is written");
}

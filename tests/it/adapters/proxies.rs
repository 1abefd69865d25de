//! The real HAProxy and nginx as throw-away processes of one test, without a service and without root.

use crate::harness::eventually;
use cutover::sandbox::servers::free_port;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};

const SOON: Duration = Duration::from_secs(20);

pub(super) fn port() -> u16 {
    free_port().expect("a port is free")
}

fn spawn(program: &str, arguments: &[&str]) -> Child {
    // Not in everybody's path.
    let installed = Path::new("/usr/sbin").join(program);
    let mut command = if installed.exists() { Command::new(installed) } else { Command::new(program) };
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.spawn().unwrap_or_else(|error| panic!("{program} is installed (scripts/install): {error}"))
}

async fn listens(port: u16) {
    eventually(SOON, "it listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
}

/// An HAProxy with two frontends over one map.
pub(super) struct Haproxy {
    pub(super) api: u16,
    pub(super) admin: u16,
    config: String,
    socket: String,
    pub(super) map: String,
    process: Child,
}

impl Haproxy {
    pub(super) async fn start(folder: &Path, blue: &str, green: &str) -> Self {
        let (api, admin) = (port(), port());
        let at = |name: &str| folder.join(name).display().to_string();
        // A socket's path has room for a hundred characters.
        let socket =
            std::env::temp_dir().join(format!("cutover-{}-{api}.sock", std::process::id())).display().to_string();
        let (config, map) = (at("haproxy.cfg"), at("route.map"));
        std::fs::write(&map, "# who goes where\nother be_other\napi be_blue\nadmin be_blue\n").expect("a map");
        let server = |url: &str| url.strip_prefix("http://").expect("an address").to_owned();
        let text = format!(
            "global\n  stats socket {socket} mode 600 level admin\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  \
             timeout server 30s\nfrontend api\n  bind 127.0.0.1:{api}\n  use_backend %[str(api),map({map})]\nfrontend admin\n  \
             bind 127.0.0.1:{admin}\n  use_backend %[str(admin),map({map})]\nbackend be_blue\n  server one {}\nbackend be_green\n  server one {}\n",
            server(blue),
            server(green)
        );
        std::fs::write(&config, text).expect("a configuration");
        let process = spawn("haproxy", &["-db", "-f", &config]);
        listens(api).await;
        Self { api, admin, config, socket, map, process }
    }

    /// The items of a plan for both of its systems.
    pub(super) fn items(&self) -> String {
        let item = |name: &str, port: u16| {
            format!(
                "  - {{ name: {name}, behind: engine, haproxy: {{ socket: \"unix:{}\", map: {}, key: {name}, backends: {{ blue: be_blue, \
                 green: be_green }}, verify: {{ url: \"http://127.0.0.1:{port}/who\" }} }}, answers: {{ blue: blue, green: green }} }}\n",
                self.socket, self.map
            )
        };
        item("api", self.api) + &item("admin", self.admin)
    }

    /// Says something to its runtime API.
    pub(super) async fn say(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.expect("it listens");
        stream.write_all(format!("{command}\n").as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    /// The backends of `api` and `admin`, as they are in use.
    pub(super) async fn routes(&self) -> (String, String) {
        let shown = self.say(&format!("show map {}", self.map)).await;
        let of = |key: &str| {
            let line = shown.lines().find(|line| line.split(' ').nth(1) == Some(key));
            line.and_then(|line| line.split(' ').nth(2)).unwrap_or_default().to_owned()
        };
        (of("api"), of("admin"))
    }

    /// Kills it and starts it again: what was only said to the process is forgotten.
    pub(super) async fn restart(&mut self) {
        self.process.kill().await.expect("it can be killed");
        self.process = spawn("haproxy", &["-db", "-f", &self.config]);
        listens(self.api).await;
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // A socket that stays is in nobody's way.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// An nginx whose every request asks a gate.
pub(super) struct Nginx {
    pub(super) port: u16,
    _process: Child,
}

impl Nginx {
    pub(super) async fn start(folder: &Path, gate: &str, blue: &str, green: &str) -> Self {
        let port = port();
        let at = |name: &str| folder.join(name).display().to_string();
        let server = |url: &str| url.strip_prefix("http://").expect("an address").to_owned();
        let docs =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adapters.md")).expect("the docs");
        let location =
            docs.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next()).expect("they show nginx");
        let location = location.replace("10.0.0.5:4446", gate);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("  {kind}_temp_path {};\n", at(&format!("nginx-{kind}"))))
            .collect();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\n  access_log off;\n{temporary}\
             upstream be_blue {{ server {}; keepalive 16; }}\nupstream be_green {{ server {}; keepalive 16; }}\n\
             server {{\n  listen 127.0.0.1:{port};\n{location}\n}}\n}}\n",
            at("nginx.pid"),
            at("nginx.log"),
            server(blue),
            server(green)
        );
        let config = at("nginx.conf");
        std::fs::write(&config, text).expect("a configuration");
        let process = spawn("nginx", &["-p", &at(""), "-c", &config, "-e", &at("nginx.log")]);
        listens(port).await;
        Self { port, _process: process }
    }
}

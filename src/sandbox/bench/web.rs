//! Programs of the web for one measurement: nginx and HAProxy with files of their own, and `wrk`, which asks as fast as it is answered.

use super::program;
use super::{BenchError, BenchOptions};
use crate::sandbox::servers::free_port;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Connections that `wrk` keeps busy, and its threads.
const CONNECTIONS: u32 = 64;
/// Bound on the start of a program.
const START: Duration = Duration::from_secs(15);

/// A program that listens; it ends when this is dropped.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    child: Child,
    _group: program::Group,
}

impl Listening {
    /// Starts a program and waits until its address takes connections; what it complains of goes into `log`.
    pub(super) async fn start(
        mut command: Command,
        program: &str,
        address: SocketAddr,
        log: &Path,
    ) -> Result<Self, BenchError> {
        let errors = std::fs::File::create(log).map_err(BenchError::machine(format!("write {}", log.display())))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        // With its group go the workers that it forks.
        let (mut child, group) = program::start(&mut command, program)?;
        let end = Instant::now() + START;
        while TcpStream::connect(address).await.is_err() {
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() >= end {
                let why = ended.map_or_else(|| "it does not listen".to_owned(), |status| status.to_string());
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let why = format!("{why}: {}", program::tail(&said));
                return Err(BenchError::Program { program: program.to_owned(), why });
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { address, child, _group: group })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Memory that it holds now, in mebibytes.
    #[expect(clippy::cast_precision_loss, reason = "kibibytes of memory need no more than 52 bits")]
    pub(super) fn resident_mb(&self) -> Option<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? as f64 / 1024.0)
    }
}

pub(super) fn free_address() -> Result<SocketAddr, BenchError> {
    Ok((Ipv4Addr::LOCALHOST, free_port()?).into())
}

/// nginx that answers a few bytes by itself: the origin of every contestant.
pub(super) async fn origin(folder: &Path) -> Result<Listening, BenchError> {
    let address = free_address()?;
    let server =
        format!("server {{ listen {address}; location / {{ default_type text/plain; return 200 \"ok\\n\"; }} }}");
    nginx(folder, "origin", address, 1, &server).await
}

/// nginx in front of the origin, with connections kept.
pub(super) async fn nginx_before(folder: &Path, origin: SocketAddr) -> Result<Listening, BenchError> {
    let address = free_address()?;
    let server = format!(
        "upstream origin {{ server {origin}; keepalive 256; }}
         server {{ listen {address}; location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}"
    );
    nginx(folder, "nginx", address, 2, &server).await
}

async fn nginx(
    folder: &Path,
    name: &str,
    address: SocketAddr,
    workers: u32,
    server: &str,
) -> Result<Listening, BenchError> {
    let own = folder.join(name);
    let file = own.join("nginx.conf");
    let dir = own.display();
    let text = format!(
        "daemon off; worker_processes {workers}; pid {dir}/pid; error_log {dir}/error.log;
         events {{ worker_connections 16384; }}
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
                 fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; {server} }}\n"
    );
    write(&file, &text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&own).arg("-e").arg(own.join("error.log")).arg("-c").arg(&file);
    Listening::start(command, "nginx", address, &own.join("stderr")).await
}

/// HAProxy in front of the origin, with connections kept.
pub(super) async fn haproxy_before(folder: &Path, origin: SocketAddr) -> Result<Listening, BenchError> {
    let address = free_address()?;
    let file = folder.join("haproxy/haproxy.cfg");
    let text = format!(
        "global\n  maxconn 4000\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  http-reuse always\n\
         frontend clients\n  bind {address}\n  default_backend origin\nbackend origin\n  server origin {origin}\n"
    );
    write(&file, &text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    Listening::start(command, "haproxy", address, &folder.join("haproxy/stderr")).await
}

fn write(file: &Path, text: &str) -> Result<(), BenchError> {
    let folder = file.parent().unwrap_or(file);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(file, text));
    written.map_err(BenchError::machine(format!("write {}", file.display())))
}

/// What `wrk` saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Asked {
    pub(super) per_second: f64,
    pub(super) p99_ms: f64,
    pub(super) failed: f64,
}

/// Asks as fast as it is answered.
pub(super) async fn wrk(options: &BenchOptions, url: &str, until: Instant) -> Result<Asked, BenchError> {
    let seconds = if options.quick { 3 } else { 15 };
    let mut command = Command::new("wrk");
    command.args(["-t2", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "--latency", url]);
    let ran = program::run(command, "wrk", until).await?.succeeded("wrk")?;
    read(&ran.said)
        .ok_or_else(|| BenchError::Program { program: "wrk".to_owned(), why: format!("it said {}", ran.said) })
}

/// The figures out of its words.
fn read(said: &str) -> Option<Asked> {
    let after = |word: &str| said.lines().find_map(|line| line.trim().strip_prefix(word)).map(str::trim);
    let errors = after("Socket errors:").unwrap_or_default();
    let socket: f64 = errors.split([' ', ',']).filter_map(|word| word.parse::<f64>().ok()).sum();
    let status = after("Non-2xx or 3xx responses:").and_then(|count| count.parse().ok()).unwrap_or(0.0);
    Some(Asked {
        per_second: after("Requests/sec:")?.parse().ok()?,
        p99_ms: milliseconds(after("99%")?)?,
        failed: socket + status,
    })
}

/// `812.00us`, `1.52ms` or `1.20s`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let each = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_wrk_are_read_with_what_went_wrong() {
        let said = "Running 2s test @ http://127.0.0.1:1/
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.59ms    2.10ms  40.11ms   80.00%
  Latency Distribution
     50%    4.20ms
     75%  812.00us
     99%    1.20s
  30000 requests in 2.00s, 4.00MB read
  Socket errors: connect 0, read 3, write 0, timeout 2
  Non-2xx or 3xx responses: 7
Requests/sec:  15000.42
Transfer/sec:      2.00MB
";
        assert_eq!(read(said), Some(Asked { per_second: 15000.42, p99_ms: 1200.0, failed: 12.0 }));
        assert_eq!((milliseconds("812.00us"), milliseconds("3 apples")), (Some(0.812), None));
        assert_eq!(read("unable to connect"), None);
    }
}

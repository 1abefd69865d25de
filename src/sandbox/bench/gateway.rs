//! The built-in gateway beside nginx and HAProxy: same cores, same origin, small bodies, with its queue and its capture as in production.

use super::figures::{median, rounded};
use super::place::Place;
use super::program;
use super::web::{self, Asked, Listening, wrk};
use super::{BenchError, BenchOptions};
use crate::sandbox::environment::Variables;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout_at;

/// Idle connections, and what the gateway may hold with them, in mebibytes.
const IDLE: usize = 10_000;
const IDLE_MB: f64 = 200.0;
/// Requests a second at which the added latency is measured, and its bound at the median, in milliseconds.
const RATE: &str = "1000";
const ADDED_MS: f64 = 0.2;
/// Equal refreshes at one time.
const REFRESHES: usize = 100;
/// How long the origin takes for a refresh: all of them are there by then.
const REFRESH_TAKES: Duration = Duration::from_millis(500);
/// Least share of nginx's throughput, and most of its p99.
const SHARE: f64 = 0.8;
const P99_TIMES: f64 = 1.5;
/// A path that is no door: passed on, and counted.
const PATH: &str = "/userinfo";

/// Measures, and gives the last line.
pub(super) async fn gateway(options: &BenchOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Value, BenchError> {
    let place = Place::up(options, "place", options.rows, options.deadline(), tell).await?;
    let green = place.green("green").await?;
    place.write_variables(&green)?;
    share_refreshes(&place)?;
    let folder = options.dir.join("web");
    let origin = web::origin(&folder).await?;
    let ours = ours(&place, origin.address).await?;
    let throughput = throughput(options, &place, &folder, (&origin, &ours), tell).await?;
    tell("added latency");
    let seconds = if options.quick { "3s" } else { "20s" };
    let direct = probed(&place, &origin.url(PATH), seconds).await?;
    let through = probed(&place, &ours.url(PATH), seconds).await?;
    tell(&format!("{IDLE} idle connections"));
    let idle_mb = idle(&place, &ours).await?;
    drop(ours);
    tell(&format!("{REFRESHES} equal refreshes"));
    let calls = refreshes(&place).await?;
    let found = Found { throughput, direct, through, idle_mb, calls };
    green.remove().await?;
    place.down().await?;
    Ok(found.line(options))
}

/// The plan, with one answer for equal refreshes.
fn share_refreshes(place: &Place) -> Result<(), BenchError> {
    let path = place.layout.plan();
    let act = format!("write {}", path.display());
    let plan = std::fs::read_to_string(&path).map_err(BenchError::machine(act.clone()))?;
    let plan = plan.replacen("\n  doors: hydra\n", "\n  doors: hydra\n  refresh: { coalesce: { ttl: 10s } }\n", 1);
    std::fs::write(&path, plan).map_err(BenchError::machine(act))
}

/// `cutover gateway`, in front of this origin as blue's engine.
async fn ours(place: &Place, origin: SocketAddr) -> Result<Listening, BenchError> {
    let mut variables = Variables::read(&place.layout)?;
    for name in ["BLUE_PUBLIC", "BLUE_ADMIN"] {
        variables.set(name, format!("http://{origin}"));
    }
    // Another one may just have ended: it shares neither ports nor memory with this one.
    variables.set_urls(&["GATEWAY_ADMIN", "GATEWAY_CONTROL"])?;
    let listens = web::free_address()?;
    let name = format!("gateway-{}", listens.port());
    variables.set("GATEWAY_STATE", place.layout.state(&name).display().to_string());
    variables.set("GATEWAY_PUBLIC", format!("http://{listens}"));
    variables.write(&place.layout)?;
    let mut command = Command::new(&place.program);
    command.arg("gateway").arg(place.layout.plan()).arg("--env-file").arg(place.layout.env_file());
    Listening::start(command, "cutover gateway", listens, &place.scratch(&name)).await
}

/// What every contestant reached, by its name, in every repetition.
type Throughput = BTreeMap<&'static str, Vec<Asked>>;

async fn throughput(
    options: &BenchOptions,
    place: &Place,
    folder: &std::path::Path,
    (origin, ours): (&Listening, &Listening),
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Throughput, BenchError> {
    let nginx = web::nginx_before(folder, origin.address).await?;
    let haproxy = web::haproxy_before(folder, origin.address).await;
    let mut contestants = vec![("ours", ours), ("nginx", &nginx), ("direct", origin)];
    match &haproxy {
        Ok(haproxy) => contestants.push(("haproxy", haproxy)),
        Err(error) if error.excuse().is_some() => {}
        Err(error) => return Err(BenchError::Program { program: "haproxy".to_owned(), why: error.to_string() }),
    }
    let mut reached = Throughput::new();
    for _ in 0..options.repetitions {
        for (name, contestant) in &contestants {
            let asked = wrk(options, &contestant.url(PATH), place.until).await?;
            tell(&format!("{name}: {:.0} requests a second, p99 {:.2} ms", asked.per_second, asked.p99_ms));
            reached.entry(name).or_default().push(asked);
        }
        // The next repetition begins with another one.
        contestants.rotate_left(1);
    }
    Ok(reached)
}

/// Median latency at a fixed rate, in milliseconds.
async fn probed(place: &Place, url: &str, seconds: &str) -> Result<Value, BenchError> {
    let mut command = Command::new(&place.program);
    command.args(["probe", "--json", "--rate", RATE, "--for", seconds, "--target", url]);
    let ran = program::run(command, "cutover probe", place.until).await?;
    let last = ran.said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let last = last.filter(|last| last["p50_ms"].is_f64());
    last.ok_or_else(|| BenchError::Program { program: "cutover probe".to_owned(), why: format!("exit {}", ran.code) })
}

/// Memory with so many connections, each of which has asked once.
async fn idle(place: &Place, ours: &Listening) -> Result<Option<f64>, BenchError> {
    let mut kept = Vec::with_capacity(IDLE);
    while kept.len() < IDLE {
        // Not all at one time: nobody's backlog is that long.
        let some = join_all((0..100).map(|_| timeout_at(place.until, asked_once(ours.address)))).await;
        for stream in some {
            let stream = stream.unwrap_or_else(|late| Err(late.into()));
            kept.push(stream.map_err(BenchError::machine(format!("keep connection {} open", kept.len() + 1)))?);
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(ours.resident_mb())
}

async fn asked_once(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {PATH} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = [0; 1024];
    if stream.read(&mut answer).await? == 0 {
        return Err(std::io::ErrorKind::ConnectionReset.into());
    }
    Ok(stream)
}

/// How many of a hundred equal refreshes the engine hears of.
async fn refreshes(place: &Place) -> Result<u64, BenchError> {
    let calls = Arc::new(AtomicU64::new(0));
    let routes = Router::new().fallback(token).with_state(Arc::clone(&calls));
    let engine =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::machine("listen as an engine"))?;
    let address = engine.local_addr().map_err(BenchError::machine("listen as an engine"))?;
    let serving = tokio::spawn(async move { axum::serve(engine, routes).await });
    let ours = ours(place, address).await?;
    let http = crate::sandbox::http::client();
    let form = [("grant_type", "refresh_token"), ("refresh_token", "one-and-the-same")];
    let url = ours.url("/oauth2/token");
    let sent = (0..REFRESHES).map(|_| http.post(&url).basic_auth("an-app", Some("its secret")).form(&form).send());
    let answered = join_all(sent).await;
    serving.abort();
    if let Some(error) = answered.into_iter().find_map(Result::err) {
        return Err(BenchError::Program {
            program: "cutover gateway".to_owned(),
            why: error.without_url().to_string(),
        });
    }
    Ok(calls.load(Ordering::SeqCst))
}

async fn token(State(calls): State<Arc<AtomicU64>>, request: axum::extract::Request) -> axum::response::Response {
    if request.method() == axum::http::Method::POST {
        calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(REFRESH_TAKES).await;
    }
    let body = json!({ "access_token": "a", "refresh_token": "b", "token_type": "bearer", "expires_in": 3600 });
    axum::Json(body).into_response()
}

/// Everything that was measured.
struct Found {
    throughput: Throughput,
    direct: Value,
    through: Value,
    idle_mb: Option<f64>,
    calls: u64,
}

impl Found {
    fn middle(&self, name: &str, of: fn(&Asked) -> f64) -> Option<f64> {
        median(&self.throughput.get(name)?.iter().map(of).collect::<Vec<_>>())
    }

    fn ratio(&self, peer: &str, of: fn(&Asked) -> f64) -> Option<f64> {
        Some(self.middle("ours", of)? / self.middle(peer, of)?)
    }

    fn line(&self, options: &BenchOptions) -> Value {
        let p50 = |seen: &Value| seen["p50_ms"].as_f64().unwrap_or(f64::INFINITY);
        let added = p50(&self.through) - p50(&self.direct);
        let share = self.ratio("nginx", |asked| asked.per_second).unwrap_or(0.0);
        let times = self.ratio("nginx", |asked| asked.p99_ms).unwrap_or(f64::INFINITY);
        let failed: f64 = self.throughput.values().flatten().map(|asked| asked.failed).sum();
        let goals = [
            (failed == 0.0, format!("failed: {failed}, wanted 0")),
            (share >= SHARE, format!("ratio.nginx: {share:.2}, wanted at least {SHARE}")),
            (times <= P99_TIMES, format!("p99 beside nginx: {times:.2} times, wanted at most {P99_TIMES}")),
            (added <= ADDED_MS, format!("added_ms_p50: {added:.2}, wanted at most {ADDED_MS}")),
            (
                self.idle_mb.is_some_and(|mb| mb <= IDLE_MB),
                format!("idle_mb: {:?}, wanted at most {IDLE_MB}", self.idle_mb),
            ),
            (self.calls == 1, format!("upstream calls of {REFRESHES} equal refreshes: {}, wanted 1", self.calls)),
        ];
        let short: Vec<&String> = goals.iter().filter(|(is_reached, _)| !is_reached).map(|(_, what)| what).collect();
        let of = |of: fn(&Asked) -> f64| -> BTreeMap<&str, Option<f64>> {
            self.throughput.keys().map(|name| (*name, self.middle(name, of).map(rounded))).collect()
        };
        let mut line = json!({
            "event": "summary", "bench": options.kind.word(), "repetitions": options.repetitions,
            "requests_per_s": of(|asked| asked.per_second), "p99_ms": of(|asked| asked.p99_ms), "failed": failed,
            "ratio": {
                "nginx": rounded(share),
                "haproxy": self.ratio("haproxy", |asked| asked.per_second).map(rounded),
            },
            "added_ms_p50": rounded(added), "direct_ms_p50": p50(&self.direct), "idle_connections": IDLE,
            "idle_mb": self.idle_mb.map(rounded), "equal_refreshes": REFRESHES, "upstream_calls": self.calls,
            "pass": short.is_empty(), "not_reached": short,
        });
        if options.quick {
            line["pass"] = Value::Null;
        }
        line
    }
}

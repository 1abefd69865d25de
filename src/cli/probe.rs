//! `probe`: requests at a fixed rate beside any flip, and what clients felt of it: failures, worst latency, and whether two sides ever answered.

use super::exit::{CommandError, Ending};
use super::sandbox::interrupted;
use super::screen::Screen;
use crate::engine::chain;
use crate::prober::{Probe, Second, Seen, Target, line, probe, svg};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Characters of the chart.
const COLUMNS: usize = 72;

/// Asks each target so many times a second, whatever the answers do, and judges by the answers alone; exit 3 when a request failed or was not sent, or
/// two sides answered at one time. Ends with its report on SIGINT too.
#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// URL that is asked by GET, or NAME=URL; may be given more than once
    #[arg(long = "target", value_name = "URL", required = true)]
    targets: Vec<String>,
    /// Requests a second to each target
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// How long, such as 60s or 10m [default: until SIGINT]
    #[arg(long = "for", value_name = "LENGTH", value_parser = humantime::parse_duration)]
    length: Option<Duration>,
    /// A request that takes longer has failed; longer than the plan's hold
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Header of an answer that names who answered
    #[arg(long, default_value = "x-cutover-side", value_name = "NAME")]
    side_header: String,
    /// JSON pointer into an answer's body that names who answered, such as /version; instead of the header
    #[arg(long, value_name = "POINTER")]
    side_pointer: Option<String>,
    /// Statuses that are right, comma-separated [default: every one below 500]
    #[arg(long, value_delimiter = ',', value_name = "STATUS")]
    expect_status: Vec<u16>,
    /// File for the chart, an SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// One JSON event a line, the summary last
    #[arg(long)]
    json: bool,
}

/// `cutover probe`.
pub(super) async fn run(arguments: &ProbeArgs) -> Ending {
    let screen = Screen::new(arguments.json);
    match probed(arguments, screen).await {
        Ok(seen) => end(&seen, screen),
        Err(error) => screen.refused("not asked", &error),
    }
}

async fn probed(arguments: &ProbeArgs, screen: Screen) -> Result<Seen, CommandError> {
    let given = Probe {
        targets: arguments.targets.iter().map(|target| target_of(target)).collect::<Result<_, _>>()?,
        rate: arguments.rate,
        length: arguments.length,
        timeout: arguments.timeout,
        side_header: arguments.side_header.clone(),
        side_pointer: arguments.side_pointer.clone(),
        expected: arguments.expect_status.clone(),
    };
    if reqwest::header::HeaderName::from_bytes(given.side_header.as_bytes()).is_err() {
        return Err(usage("--side-header is no name of a header", "such as x-cutover-side"));
    }
    if given.side_pointer.as_ref().is_some_and(|pointer| !pointer.starts_with('/')) {
        return Err(usage("--side-pointer is no JSON pointer", "such as /version"));
    }
    // Before a minute of probing, not after it.
    write_chart(arguments, "")?;
    let seen = probe(given, interrupted(), &|second| tell(screen, second)).await;
    let seen =
        seen.map_err(|error| CommandError::new(Ending::Failed, chain(&error), "see to this machine's certificates"))?;
    write_chart(arguments, &svg(&seen))?;
    Ok(seen)
}

fn usage(why: &str, next: &str) -> CommandError {
    CommandError::new(Ending::Usage, format!("{why}; nothing was asked"), next)
}

/// `NAME=URL`, or a URL that is its own name without its query.
fn target_of(text: &str) -> Result<Target, CommandError> {
    let (name, url) = match text.split_once('=') {
        Some((name, url)) if !name.contains(['/', ':', '?']) => (Some(name), url),
        _ => (None, text),
    };
    match url::Url::parse(url) {
        Ok(parsed)
            if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() && parsed.password().is_none() =>
        {
            let name = name.map_or_else(|| url[..url.find('?').unwrap_or(url.len())].to_owned(), str::to_owned);
            Ok(Target { name, url: url.to_owned() })
        }
        _ => Err(usage(
            "a --target is not the URL of an HTTP service",
            "give http://HOST:PORT/PATH, or NAME=http://HOST:PORT/PATH, without credentials",
        )),
    }
}

fn write_chart(arguments: &ProbeArgs, picture: &str) -> Result<(), CommandError> {
    let Some(file) = &arguments.chart else { return Ok(()) };
    std::fs::write(file, picture).map_err(|error| {
        CommandError::failed(
            &format!("write the chart to {}", file.display()),
            &error,
            "give --chart a file that can be written",
        )
    })
}

fn tell(screen: Screen, second: Second) {
    let Second { at_s, requests, failed, worst_ms } = second;
    let words = format!("{at_s:>5} s  {requests:>9} requests  {failed:>6} failed  worst {worst_ms:>9.2} ms");
    screen.line(
        &words,
        &json!({"event": "progress", "at_s": at_s, "requests": requests, "failed": failed, "worst_ms": worst_ms}),
    );
}

fn end(seen: &Seen, screen: Screen) -> Ending {
    let ending = if seen.is_clean() { Ending::Done } else { Ending::Refused };
    say(seen, screen);
    screen.summary(ending, json!(seen));
    ending
}

fn say(seen: &Seen, screen: Screen) {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let asked = &seen.asked;
    screen.say("");
    for line in line(seen, COLUMNS) {
        screen.say(&line);
    }
    screen.say(&format!(
        "\nrequests: {} in {:.1} s, {} failed, {} not sent",
        asked.requests, seen.seconds, asked.failed, asked.not_sent
    ));
    screen.say(&format!("latency:  p50 {}, p99 {}, worst {}", ms(asked.p50_ms), ms(asked.p99_ms), ms(asked.worst_ms)));
    if seen.targets.len() > 1 {
        for one in &seen.targets {
            let (p50, p99, worst) = (ms(one.asked.p50_ms), ms(one.asked.p99_ms), ms(one.asked.worst_ms));
            screen.say(&format!(
                "  {}: {} requests, {} failed, p50 {p50}, p99 {p99}, worst {worst}",
                one.name, one.asked.requests, one.asked.failed
            ));
        }
    }
    if seen.held > 0 {
        let (p50, p99, max) = (ms(seen.hold_ms_p50), ms(seen.hold_ms_p99), ms(seen.hold_ms_max));
        screen.say(&format!("held:     {} requests, added p50 {p50}, p99 {p99}, max {max}", seen.held));
    }
    let sides: Vec<String> =
        seen.sides.iter().map(|side| format!("{} ({} answers)", side.side, side.answers)).collect();
    let named = if sides.is_empty() { "no answer named one".to_owned() } else { sides.join(", ") };
    screen.say(&format!("sides:    {named}; {} changes, two at one time for {} ms", seen.changed, seen.mixed_side_ms));
    for change in seen.changes.iter().take(10) {
        screen.say(&format!("  at {:.3} s from {} to {}", change.at_ms / 1000.0, change.from, change.to));
    }
    for (why, count) in &seen.reasons {
        screen.say(&format!("failed:   {count} times: {why}"));
    }
}

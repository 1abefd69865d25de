//! `rehearse`: run, flip, soak and the way back, against staging servers or throw-away ones, with a record.

use super::exit::Ending;
use super::sandbox::interrupted;
use super::screen::Screen;
use crate::database::migrations::lint::Lock;
use crate::engine::chain;
use crate::plan::env_file;
use crate::sandbox::environment::Layout;
use crate::sandbox::rehearsal::{RehearsalOptions, rehearse};
use crate::sandbox::up::down;
use crate::sandbox::verbs::{Heard, exit_code};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use url::Url;

/// The production environment file that is looked for beside the plan when none is named.
const PRODUCTION: &str = "production.env";

/// Arguments of `rehearse`.
#[derive(Debug, clap::Args)]
pub(super) struct RehearseArgs {
    /// The plan's file.
    plan: PathBuf,
    /// The staging servers' variables; without it throw-away servers are started, seeded and ended.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Production's variables: nothing that they name is touched (default: production.env beside the plan, if there is one).
    #[arg(long, value_name = "FILE")]
    production: Option<PathBuf>,
    /// How long green serves before the way back.
    #[arg(long, value_name = "LENGTH", default_value = "5s")]
    soak: humantime::Duration,
    /// Also proves the mapping: the engine's own migrations run on a copy of blue beside green, and what they make of it is compared with what
    /// the mapping makes, row by row. Differences that the plan does not declare under `proof:` stop the rehearsal.
    #[arg(long)]
    prove_mapping: bool,
    /// Where the record is written, as JSON.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Token rows of throw-away servers.
    #[arg(long, default_value_t = 20_000)]
    rows: u32,
    /// Requests a second of the load on throw-away servers.
    #[arg(long, value_name = "RPS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// One JSON event a line, the summary last: the record.
    #[arg(long)]
    json: bool,
    /// Lets this repair of the plan change rows of green, as `run` takes it.
    #[arg(long = "allow-repair", value_name = "NAME")]
    allow_repairs: Vec<String>,
}

/// `cutover rehearse`; returns the exit code of the verb that it stopped at, 0 when it went there and back.
pub(super) async fn run(arguments: &RehearseArgs) -> u8 {
    let screen = Screen::new(arguments.json);
    let options = match options(arguments) {
        Ok(options) => options,
        Err(why) => return refuse(screen, &why),
    };
    let hear = |heard: Heard| tell(screen, &heard);
    let mut record = tokio::select! {
        done = rehearse(&options, &hear) => done.unwrap_or_else(|error| failed(&chain(&error))),
        () = interrupted() => json!({"event": "summary", "outcome": "parked", "why": "interrupted"}),
    };
    if options.env_file.is_none()
        && let Err(error) = down(&Layout::new(&options.dir), &options.program, false).await
    {
        record = failed(&format!("end the throw-away servers in {}: {}", options.dir.display(), chain(&error)));
    }
    if let Some(file) = &arguments.record
        && let Err(error) = std::fs::write(file, format!("{record:#}\n"))
    {
        record = failed(&format!("write the record to {}: {error}", file.display()));
    }
    screen.say(&words(&record));
    screen.event(&record);
    exit_code(record["outcome"].as_str().unwrap_or("failed"))
}

fn refuse(screen: Screen, why: &str) -> u8 {
    let error = super::exit::CommandError::new(Ending::Refused, why, "name staging servers only; nothing was touched");
    screen.error("not asked (nothing was touched)", &error);
    screen.summary(Ending::Refused, json!({ "why": why, "next": error.next }));
    Ending::Refused.code()
}

fn failed(why: &str) -> Value {
    json!({"event": "summary", "outcome": "failed", "why": why})
}

fn options(arguments: &RehearseArgs) -> Result<RehearsalOptions, String> {
    let name = format!("cutover-rehearsal-{}", uuid::Uuid::new_v4().simple());
    let dir = std::path::absolute(std::env::temp_dir().join(name)).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    keep_off_production(arguments)?;
    Ok(RehearsalOptions {
        program,
        plan: arguments.plan.clone(),
        env_file: arguments.env_file.clone(),
        dir,
        rows: arguments.rows,
        rate: arguments.rate,
        soak: arguments.soak.into(),
        prove_mapping: arguments.prove_mapping,
        allow_repairs: arguments.allow_repairs.clone(),
    })
}

/// Refuses staging variables that name a server or listener of production's, by any name that leads to the same address.
fn keep_off_production(arguments: &RehearseArgs) -> Result<(), String> {
    let Some(staging) = &arguments.env_file else { return Ok(()) };
    let beside = arguments.plan.with_file_name(PRODUCTION);
    let production = arguments.production.clone().or_else(|| beside.is_file().then_some(beside));
    let Some(production) = production else { return Ok(()) };
    let (ours, theirs) = (places(&variables(staging)?), places(&variables(&production)?));
    let theirs: BTreeMap<&Place, &String> =
        theirs.iter().flat_map(|(name, places)| places.iter().map(move |p| (p, name))).collect();
    for (name, places) in &ours {
        if let Some(same) = places.iter().find_map(|place| theirs.get(place)) {
            let file = production.display();
            return Err(format!("{name} leads to the same server as {same} in {file}: that is production"));
        }
    }
    Ok(())
}

fn variables(file: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("read {}: {error}", file.display()))?;
    env_file::parse(&text).map_err(|problems| {
        let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{}: {}", file.display(), words.join("; "))
    })
}

/// A host by name or by address, and its port.
type Place = (String, u16);

/// Where each variable that is a URL leads: the name as typed, and every address it resolves to.
fn places(variables: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<Place>> {
    let led = |(name, value): (&String, &String)| {
        let url = Url::parse(value).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_lowercase();
        let port = url.port_or_known_default().unwrap_or(5432);
        let mut places = BTreeSet::from([(host.clone(), port)]);
        let resolved = (host.as_str(), port).to_socket_addrs().into_iter().flatten();
        places.extend(resolved.map(|address| (canonical(address.ip()), port)));
        Some((name.clone(), places))
    };
    variables.iter().filter_map(led).collect()
}

/// This machine has many addresses and is one place.
fn canonical(address: IpAddr) -> String {
    if address.is_loopback() { "127.0.0.1".to_owned() } else { address.to_canonical().to_string() }
}

fn tell(screen: Screen, heard: &Heard) {
    match heard {
        Heard::Verb(verb) => screen.line(&format!("\n$ cutover {verb}"), &json!({"event": "verb", "verb": verb})),
        Heard::Event(event) => {
            let mut passed = event.clone();
            if passed["event"] == "summary" {
                passed["event"] = Value::from("verb_summary");
            }
            screen.event(&passed);
            if event["event"] == "step_done" {
                let (step, ms) = (event["step"].as_str().unwrap_or_default(), event["took_ms"].as_u64().unwrap_or(0));
                screen.say(&format!("  {step:22}  {}", crate::report::words::millis(ms)));
                let files = event["receipt"]["files"].as_array().map(Vec::as_slice).unwrap_or_default();
                lines_of(files).iter().for_each(|line| screen.say(&format!("    {line}")));
            }
        }
    }
}

/// What files of migrations did: each that clients would feel, or where lint was wrong, with what lint had said; the others in sum.
fn lines_of(files: &[Value]) -> Vec<String> {
    let (mut lines, mut quiet) = (Vec::new(), Vec::new());
    for file in files {
        let told = lines_of_one(file);
        if told.is_empty() { quiet.push(file) } else { lines.extend(told) }
    }
    if !quiet.is_empty() {
        let sum = |name: &str| quiet.iter().map(|file| file[name].as_u64().unwrap_or(0)).sum();
        let words = figures(sum("ms"), sum("wal_bytes"), sum("temp_bytes"));
        let more = if lines.is_empty() { "" } else { " more" };
        lines.push(format!("{}{more} of which clients feel nothing  {words}", quiet.len()));
    }
    lines
}

/// What one file did to tables that were there before it, and what lint had said of it.
fn lines_of_one(file: &Value) -> Vec<String> {
    let locks = file["locks"].as_object().map(|locks| locks.iter().filter(|(_, mode)| is_felt(mode)));
    let mut did: Vec<String> =
        locks.into_iter().flatten().map(|(table, mode)| format!("{table} {}", of(mode))).collect();
    let rewritten = file["rewritten"].as_array().into_iter().flatten();
    did.extend(rewritten.map(|table| format!("{} written anew", of(table))));
    let otherwise = file["otherwise"].as_array().into_iter().flatten();
    let otherwise: Vec<String> = otherwise.map(|one| format!("not as lint said: {}", of(one))).collect();
    if did.is_empty() && otherwise.is_empty() {
        return otherwise;
    }
    let number = |name: &str| file[name].as_u64().unwrap_or(0);
    let words = figures(number("ms"), number("wal_bytes"), number("temp_bytes"));
    let mut lines = vec![format!("{}  {words}: {}", of(&file["file"]), did.join(", ")), foretold(&file["foretold"])];
    lines.extend(otherwise);
    lines
}

fn figures(ms: u64, wal: u64, temp: u64) -> String {
    let bytes = crate::report::words::bytes;
    format!("{}, log {}, temporary {}", crate::report::words::millis(ms), bytes(wal), bytes(temp))
}

/// What lint had said of a file, as far as clients would feel it. Of a command it cannot say anything.
fn foretold(said: &Value) -> String {
    let Some(locks) = said["locks"].as_object() else {
        return "lint could not read it before: it is a command, or no SQL that is understood".to_owned();
    };
    let is_felt = |(_, lock): &(&String, &Value)| Lock::of(of(lock)).is_some_and(Lock::stops_writers);
    let mut words: Vec<String> =
        locks.iter().filter(is_felt).map(|(table, lock)| format!("{table} {}", of(lock))).collect();
    words.extend(said["rewritten"].as_array().into_iter().flatten().map(|table| format!("{} written anew", of(table))));
    if words.is_empty() {
        "lint said: nothing that clients feel".to_owned()
    } else {
        format!("lint said: {}", words.join(", "))
    }
}

fn of(text: &Value) -> &str {
    text.as_str().unwrap_or_default()
}

/// Whether clients of a table that serves would feel the lock.
fn is_felt(mode: &Value) -> bool {
    !["AccessShare", "RowShare", "RowExclusive", "ShareUpdateExclusive"].contains(&of(mode))
}

fn words(record: &Value) -> String {
    let word = |name: &str| record[name].as_str().map_or_else(|| record[name].to_string(), str::to_owned);
    let mut lines = vec![String::new(), format!("live:  {}", word("live")), format!("state: {}", word("outcome"))];
    match record.get("stopped_at") {
        Some(_) => lines.push(format!("why:   {} stopped: {}", word("stopped_at"), word("why"))),
        None if record["outcome"] == "done" => {
            if let Some(mapping) = record["mapping"].as_object() {
                let (rows, declared) = (&mapping["rows"], &mapping["declared"]);
                lines.push(format!("proof: {rows} rows as the engine's migrations make them, {declared} of them but for declared differences"));
            }
            lines.push(format!("hold:  p99 {} ms", word("hold_ms_p99")));
            lines.push(format!("back:  {:.1} s", record["rollback_s"].as_f64().unwrap_or(0.0)));
        }
        None => lines.push(format!("why:   {}", word("why"))),
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> BTreeSet<Place> {
        let variables = BTreeMap::from([("A".to_owned(), url.to_owned())]);
        places(&variables).remove("A").unwrap_or_default()
    }

    #[test]
    fn a_file_is_told_beside_what_lint_said_when_clients_would_have_felt_it_or_lint_was_wrong() {
        let quiet = json!({"file": "1_a", "ms": 4, "locks": {"public.a": "RowExclusive"}, "rewritten": [], "wal_bytes": 1024, "temp_bytes": 0});
        let told = lines_of(&[quiet.clone(), quiet.clone()]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("2 of which clients feel nothing  8 ms, log "), "{told:?}");
        let mut loud = json!({
            "file": "2_b", "ms": 40, "locks": {"public.a": "AccessExclusive"}, "rewritten": ["public.a"],
            "wal_bytes": 2048, "temp_bytes": 0, "otherwise": ["a: written anew, lint said no"],
            "foretold": {"locks": {"a": "access exclusive", "b": "row exclusive"}, "rewritten": []},
        });
        let lines = lines_of(&[loud.clone(), quiet]);
        assert!(
            lines[0].starts_with("2_b  40 ms") && lines[0].ends_with("public.a AccessExclusive, public.a written anew")
        );
        assert_eq!(lines[1], "lint said: a access exclusive");
        assert_eq!(lines[2], "not as lint said: a: written anew, lint said no");
        assert!(lines[3].starts_with("1 more of which"), "{lines:?}");
        loud["foretold"]["rewritten"] = json!(["a"]);
        assert_eq!(lines_of(&[loud.clone()])[1], "lint said: a access exclusive, a written anew");
        loud["locks"] = json!({});
        loud["rewritten"] = json!([]);
        assert_eq!(lines_of(&[loud.clone()]).len(), 3, "what lint said and did not come is told too");
        let command = json!({"file": "engine", "ms": 4, "locks": {"public.a": "Share"}, "rewritten": []});
        assert!(lines_of(&[command])[1].starts_with("lint could not read it before"));
    }

    #[test]
    fn rehearse_knows_one_server_under_its_many_names() {
        assert!(of("postgres://me@localhost:5432/a").intersection(&of("postgres://you:p@127.0.0.1/b")).count() > 0);
        assert!(of("http://[::1]:4444/x").intersection(&of("http://127.0.0.1:4444")).count() > 0);
        assert!(of("postgres://me@DB.example/a").intersection(&of("postgres://me@db.example:5432/b")).count() > 0);
        assert_eq!(
            of("postgres://me@db.example:5432/a").intersection(&of("postgres://me@db.example:5433/a")).count(),
            0
        );
        assert!(of("/opt/hydra").is_empty(), "a path is no place");
    }
}

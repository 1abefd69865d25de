//! `rehearse`: run, flip, soak and the way back, against staging servers or throw-away ones, with a record.

use super::exit::Ending;
use super::sandbox::interrupted;
use super::screen::Screen;
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
            }
        }
    }
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

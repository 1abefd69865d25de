//! `migrations lint`: what each statement locks, whom it blocks, and the form that hurts nobody; touches nothing.

use super::place::{self, PlanOption};
use super::{read, refused, tell, to_come};
use crate::cli::exit::{CommandError, Ending};
use crate::cli::screen::Screen;
use crate::database::migrations::lint::{Finding, Known, Linter, Phase, Severity, advice, is_in_the_way};
use crate::database::migrations::{Folder, MigrationFile, live};
use crate::database::pending;
use crate::plan::Plan;
use crate::report::words::count;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

/// What is at the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PhaseWord {
    /// Users are on it: every wait is an outage.
    Live,
    /// Nobody is: a green database before it opens.
    Empty,
}

/// Arguments of `migrations lint`.
#[derive(Debug, clap::Args)]
pub(super) struct LintArgs {
    /// A folder of migrations, or one file (default: the plan's folders).
    path: Option<PathBuf>,
    #[command(flatten)]
    plan: PlanOption,
    /// A live database for real sizes and types: a URL without a password, or '${NAME}' of a variable that holds one.
    #[arg(long, value_name = "URL", conflicts_with = "plan")]
    url: Option<String>,
    /// What is at the database while they run (default: empty with a plan that has a green, live otherwise).
    #[arg(long, value_enum)]
    phase: Option<PhaseWord>,
    /// Shows harmless statements too.
    #[arg(long)]
    all: bool,
    /// One JSON event a line, the summary last.
    #[arg(long)]
    json: bool,
}

impl LintArgs {
    pub(super) fn screen(&self) -> Screen {
        Screen::new(self.json)
    }
}

/// `cutover migrations lint`; refused when something would block, or nobody can tell.
pub(super) async fn run(arguments: &LintArgs) -> Result<Ending, CommandError> {
    let screen = arguments.screen();
    let plan = arguments.plan.load(screen)?;
    let files = files(screen, arguments, plan.as_ref())?;
    let phase = match arguments.phase {
        Some(PhaseWord::Live) => Phase::Live,
        Some(PhaseWord::Empty) => Phase::Empty,
        // In place the plan's one database serves while it is migrated.
        None if plan.as_ref().is_some_and(|plan| !plan.databases.is_in_place) => Phase::Empty,
        None => Phase::Live,
    };
    let before = files.len();
    let (known, files) = looked(arguments, plan.as_ref(), screen, files).await?;
    let skipped = before - files.len();
    let findings = judged(screen, &files, known, phase)?;
    show(arguments, screen, &files, &findings, phase);
    advise(screen, &files);
    Ok(conclude(screen, &files, skipped, &findings, phase))
}

/// Every file that is named, or that the plan names; a folder of a plan's may be empty.
fn files(screen: Screen, arguments: &LintArgs, plan: Option<&Plan>) -> Result<Vec<MigrationFile>, CommandError> {
    if let Some(path) = &arguments.path {
        return read(screen, path);
    }
    let mut files = Vec::new();
    for path in folders(plan)? {
        let folder = Folder::read(&path).map_err(|error| refused(screen, error))?;
        files.extend(folder.versions.into_iter().map(|version| version.up));
    }
    Ok(files)
}

fn folders(plan: Option<&Plan>) -> Result<Vec<PathBuf>, CommandError> {
    let found: Vec<PathBuf> = plan
        .iter()
        .flat_map(|plan| &plan.migrate)
        .filter_map(|one| one.source.folder())
        .map(Path::to_path_buf)
        .collect();
    if found.is_empty() {
        let next = "name a folder or file: cutover migrations lint PATH; nothing was touched";
        return Err(CommandError::new(Ending::Usage, "no migrations are named, and no plan names a folder", next));
    }
    Ok(found)
}

/// What the live database says, and the files that it lacks.
async fn looked(
    arguments: &LintArgs,
    plan: Option<&Plan>,
    screen: Screen,
    files: Vec<MigrationFile>,
) -> Result<(Known, Vec<MigrationFile>), CommandError> {
    let given = arguments.url.as_deref().map(place::url).transpose()?;
    let Some(url) = given.or_else(|| plan.map(|plan| plan.databases.blue.url.clone())) else {
        return Ok((Known::default(), files));
    };
    let client = place::look(&url, "blue").await?;
    let failed =
        |error: tokio_postgres::Error| CommandError::failed("read what blue holds", &error, "nothing was touched");
    let known = live::read(&client).await.map_err(failed)?;
    let before = files.len();
    let files = match (&arguments.path, plan) {
        (None, Some(plan)) => to_come::in_run(screen, plan, &client).await?,
        (Some(path), _) if path.is_dir() => {
            let folder = Folder::read(path).map_err(|error| refused(screen, error))?;
            pending::lacking(&client, folder).await.map_err(|error| {
                CommandError::failed("see what blue lacks", &error, "correct the folder; nothing was touched")
            })?
        }
        _ => files,
    };
    screen.say(&format!(
        "judged by the live database: {} tables; {} of {before} files are not applied yet",
        known.tables.len(),
        files.len()
    ));
    Ok((known, files))
}

fn judged(screen: Screen, files: &[MigrationFile], known: Known, phase: Phase) -> Result<Vec<Finding>, CommandError> {
    let mut linter = Linter::new(known, phase);
    let (mut findings, mut broken) = (Vec::new(), 0);
    for file in files {
        match linter.file(file) {
            Ok(found) => findings.extend(found),
            Err(problem) => {
                broken += 1;
                tell(screen, &problem);
            }
        }
    }
    if broken > 0 {
        let why = format!("{broken} file{} SQL that is not understood", if broken == 1 { " holds" } else { "s hold" });
        return Err(CommandError::new(
            Ending::Usage,
            why,
            "correct the files and run the same command again; nothing was touched",
        ));
    }
    Ok(findings)
}

fn show(arguments: &LintArgs, screen: Screen, files: &[MigrationFile], findings: &[Finding], phase: Phase) {
    for finding in findings {
        screen.event(&event(finding));
        let is_told = arguments.all || finding.severity > Severity::Harmless;
        let text = files.iter().find(|file| file.path == finding.path).map(|file| file.text.as_str());
        if let Some(text) = text.filter(|_| is_told && !screen.is_json()) {
            screen.say(&format!("{}\n", annotated(finding, text, phase)));
        }
    }
}

/// What costs no lock and may still break those who use the old schema.
fn advise(screen: Screen, files: &[MigrationFile]) {
    for one in files.iter().flat_map(advice) {
        let event = json!({
            "event": "advice", "file": one.file, "line": one.line, "rule": one.rule, "message": one.message, "help": one.help,
        });
        screen.line(&format!("advice: {}:{} {}: {}", one.file, one.line, one.rule, one.message), &event);
    }
}

fn event(finding: &Finding) -> Value {
    let mut event = json!({ "event": "statement" });
    if let (Some(fields), Ok(Value::Object(said))) = (event.as_object_mut(), serde_json::to_value(finding)) {
        fields.extend(said);
    }
    event
}

/// The statement in its file, with what is said of it.
fn annotated(finding: &Finding, text: &str, phase: Phase) -> String {
    let level = if is_in_the_way(finding, phase) { Level::ERROR } else { Level::WARNING };
    let on = finding.table.as_deref().map(|table| format!(" on {table}")).unwrap_or_default();
    let lock = finding.lock.map(|lock| format!(": {lock}{on}, {}", finding.work.words())).unwrap_or_default();
    let title = format!("{} ({}){lock}", finding.severity.word(), finding.rule);
    let (start, end) = finding.bytes;
    let line_end = text[start..end].find(['\r', '\n']).map_or(end, |at| start + at);
    let annotation = AnnotationKind::Primary.span(start..line_end).label(finding.why.clone());
    let path = finding.path.display().to_string();
    let snippet = Snippet::source(text).path(path.as_str()).annotation(annotation);
    let mut group = level.primary_title(title.as_str()).element(snippet);
    let size = finding.size.map(|size| {
        let time = finding.estimate_ms.map(|estimate| format!(", about {estimate} ms")).unwrap_or_default();
        format!("about {} rows, {} MB{time}", count(size.rows), size.bytes / 1_000_000)
    });
    group = group.elements(size.as_deref().map(|size| Level::NOTE.message(size)));
    let accepted = finding.ignored.as_deref().map(|because| format!("accepted, because {because}"));
    group = group.elements(accepted.as_deref().map(|accepted| Level::NOTE.message(accepted)));
    let safe = finding.safe.as_deref().unwrap_or_default();
    if !safe.is_empty() {
        group = group.element(Level::HELP.message(safe));
    }
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

fn conclude(screen: Screen, files: &[MigrationFile], skipped: usize, findings: &[Finding], phase: Phase) -> Ending {
    let of = |severity| findings.iter().filter(|one| one.severity == severity).count();
    let in_the_way = findings.iter().filter(|one| is_in_the_way(one, phase)).count();
    let ignored = findings.iter().filter(|one| one.ignored.is_some()).count();
    let ending = if in_the_way == 0 { Ending::Done } else { Ending::Refused };
    let next = if in_the_way == 0 {
        "nothing would block; compare what a rehearsal measures"
    } else {
        "cutover migrations rewrite PATH --out DIR writes the safe form; what it leaves needs a person"
    };
    screen.say(&format!(
        "{} files: {} block, {} unknown, {} brief, {} harmless, {ignored} accepted\nnext:  {next}",
        files.len(),
        of(Severity::Blocks),
        of(Severity::Unknown),
        of(Severity::Brief),
        of(Severity::Harmless)
    ));
    screen.summary(
        ending,
        json!({
            "files": files.len(), "already_applied": skipped, "blocks": of(Severity::Blocks), "unknown": of(Severity::Unknown),
            "brief": of(Severity::Brief), "harmless": of(Severity::Harmless), "ignored": ignored, "in_the_way": in_the_way, "next": next,
        }),
    );
    ending
}

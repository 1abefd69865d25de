//! `migrations compat`: which statements of the running engine break or change their meaning on the new schema.

use super::folder;
use super::place::{self, PlanOption, Workshop};
use crate::cli::exit::{CommandError, Ending};
use crate::cli::screen::Screen;
use crate::database::migrations::compat::{self, Asked, CompatError, Fate, Judged, check, is_in_the_way};
use crate::database::migrations::{MigrationFile, compare};
use crate::database::pending;
use crate::plan::Plan;
use serde_json::{Value, json};
use std::path::PathBuf;
use tokio_postgres::Client;

/// Arguments of `migrations compat`.
#[derive(Debug, clap::Args)]
pub(super) struct CompatArgs {
    /// Files with the engine's statements: `.go`, or SQL (default: `pg_stat_statements` of the old database).
    files: Vec<PathBuf>,
    #[command(flatten)]
    plan: PlanOption,
    /// The old database: a URL without a password, or '${NAME}'; with a plan its blue one.
    #[arg(long, value_name = "URL", conflicts_with_all = ["plan", "schema"])]
    old: Option<String>,
    /// The old schema as SQL, laid on a throw-away database.
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    schema: Option<PathBuf>,
    /// A database with the new schema: a URL without a password, or '${NAME}'.
    #[arg(long, value_name = "URL")]
    new: Option<String>,
    /// The folder that makes the new schema out of the old one, on a throw-away database (default: the plan's folders).
    #[arg(long, value_name = "DIR", conflicts_with = "new")]
    migrations: Vec<PathBuf>,
    /// PostgreSQL's bin folder.
    #[arg(long, value_name = "BIN")]
    postgres: Option<PathBuf>,
    /// One JSON event a line, the summary last.
    #[arg(long)]
    json: bool,
}

impl CompatArgs {
    pub(super) fn screen(&self) -> Screen {
        Screen::new(self.json)
    }
}

/// `cutover migrations compat`; refused when a statement breaks or changes.
pub(super) async fn run(arguments: &CompatArgs) -> Result<Ending, CommandError> {
    let screen = arguments.screen();
    let plan = arguments.plan.load(screen)?;
    is_there_a_new_one(arguments, plan.as_ref())?;
    let workshop = match arguments.new.is_some() && arguments.schema.is_none() {
        true => None,
        false => Some(Workshop::open(None, arguments.postgres.as_deref()).await?),
    };
    let judged = judged(arguments, plan.as_ref(), workshop.as_ref(), screen).await;
    let closed = match workshop {
        Some(workshop) => workshop.close().await,
        None => Ok(()),
    };
    let judged = judged?;
    closed?;
    Ok(conclude(screen, &judged))
}

/// Whether anything says what the new schema is.
fn is_there_a_new_one(arguments: &CompatArgs, plan: Option<&Plan>) -> Result<(), CommandError> {
    let has_folders = plan.is_some_and(|plan| plan.migrate.iter().any(|one| one.source.folder().is_some()));
    if arguments.new.is_some() || !arguments.migrations.is_empty() || has_folders {
        return Ok(());
    }
    let next = "give --new URL or --migrations DIR; nothing was touched";
    Err(CommandError::new(Ending::Usage, "nothing says what the new schema is", next))
}

/// The files that turn the old schema into the new one: those that the old database lacks, or all where it is only a text.
async fn to_come(
    arguments: &CompatArgs,
    plan: Option<&Plan>,
    old: &Client,
    screen: Screen,
) -> Result<Vec<MigrationFile>, CommandError> {
    if let (true, Some(plan)) = (arguments.migrations.is_empty(), plan) {
        return super::to_come::on_blue(screen, plan, old).await;
    }
    let mut files = Vec::new();
    for path in &arguments.migrations {
        let lacking = pending::lacking(old, folder(screen, path)?).await;
        files.extend(lacking.map_err(|error| {
            CommandError::failed("see what the old database lacks", &error, "correct the folder; nothing was touched")
        })?);
    }
    Ok(files)
}

async fn judged(
    arguments: &CompatArgs,
    plan: Option<&Plan>,
    workshop: Option<&Workshop>,
    screen: Screen,
) -> Result<Vec<Judged>, CommandError> {
    let given = arguments.old.as_deref().map(place::url).transpose()?;
    let old_url = given.or_else(|| plan.map(|plan| plan.databases.blue.url.clone()));
    let mut schema = match &arguments.schema {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            CommandError::new(
                Ending::Usage,
                format!("read {}: {error}", path.display()),
                "name a file that can be read; nothing was touched",
            )
        })?),
        None => None,
    };
    let old = match (&old_url, &schema, workshop) {
        (Some(url), _, _) => place::look(url, "the old database").await?,
        (None, Some(schema), Some(workshop)) => {
            let client = workshop.client(0).await?;
            place::lay(&client, schema).await?;
            client
        }
        _ => {
            return Err(CommandError::new(
                Ending::Usage,
                "nothing says what the old schema is",
                "give --plan, --old URL or --schema FILE; nothing was touched",
            ));
        }
    };
    let new = match (&arguments.new, workshop) {
        (Some(url), _) => place::look(&place::url(url)?, "the new database").await?,
        (None, Some(workshop)) => {
            if let (Some(url), None) = (&old_url, &schema) {
                schema = Some(place::dump(url, &old, arguments.postgres.as_deref()).await?);
            }
            let files = to_come(arguments, plan, &old, screen).await?;
            made(workshop, schema.as_deref().unwrap_or_default(), &files).await?
        }
        (None, None) => {
            return Err(CommandError::new(
                Ending::Usage,
                "nothing says what the new schema is",
                "give --new URL or --migrations DIR",
            ));
        }
    };
    let asked = asked(arguments, &old).await?;
    check(&old, &new, &asked).await.map_err(failed)
}

fn failed(error: CompatError) -> CommandError {
    let ending = if matches!(error, CompatError::Unreadable { .. }) { Ending::Usage } else { Ending::Failed };
    CommandError::new(ending, crate::engine::chain(&error), "correct it and run again; no statement was run")
}

/// The new schema: the old one with the migrations that it does not have yet.
async fn made(workshop: &Workshop, schema: &str, files: &[MigrationFile]) -> Result<Client, CommandError> {
    let mut client = workshop.client(1).await?;
    place::lay(&client, schema).await?;
    for file in files {
        compare::run_file(&mut client, file).await.map_err(|error| {
            CommandError::failed(
                "make the new schema on a throw-away database",
                &error,
                "give --new URL of a database that has it; nothing else was touched",
            )
        })?;
    }
    Ok(client)
}

async fn asked(arguments: &CompatArgs, old: &Client) -> Result<Vec<Asked>, CommandError> {
    if arguments.files.is_empty() {
        let found = compat::from_statistics(old).await.map_err(failed)?;
        return found.ok_or_else(|| {
            let next =
                "create the extension pg_stat_statements on it, or name files with statements; nothing was touched";
            CommandError::new(Ending::Refused, "the old database keeps no statistics of statements", next)
        });
    }
    let mut found = Vec::new();
    for file in &arguments.files {
        found.extend(compat::from_file(file).map_err(failed)?);
    }
    if found.is_empty() {
        return Err(CommandError::new(
            Ending::Usage,
            "the files hold no statement",
            "name files that do; nothing was touched",
        ));
    }
    Ok(found)
}

fn conclude(screen: Screen, judged: &[Judged]) -> Ending {
    for one in judged {
        screen.event(&event(one));
        if one.fate > Fate::Same {
            screen.say(&line(one));
        }
    }
    let of = |fate| judged.iter().filter(|one| one.fate == fate).count();
    let is_refused = judged.iter().any(is_in_the_way);
    let ending = if is_refused { Ending::Refused } else { Ending::Done };
    screen.say(&format!(
        "{} statements: {} break, {} change, {} cannot be judged, {} stay",
        judged.len(),
        of(Fate::Breaks),
        of(Fate::Changes),
        of(Fate::Unjudged),
        of(Fate::Same)
    ));
    screen.summary(
        ending,
        json!({ "statements": judged.len(), "breaks": of(Fate::Breaks), "changes": of(Fate::Changes), "unjudged": of(Fate::Unjudged), "same": of(Fate::Same) }),
    );
    ending
}

fn event(judged: &Judged) -> Value {
    let mut event = json!({ "event": "statement" });
    if let (Some(fields), Ok(Value::Object(said))) = (event.as_object_mut(), serde_json::to_value(judged)) {
        fields.extend(said);
    }
    event
}

fn line(judged: &Judged) -> String {
    let fate = match judged.fate {
        Fate::Same => "stays",
        Fate::Unjudged => "cannot be judged",
        Fate::Changes => "changes",
        Fate::Breaks => "breaks",
    };
    let place = judged.line.map(|line| format!(":{line}")).unwrap_or_default();
    let explicit = judged.explicit.as_deref().map(|form| format!("\n  write: {form}")).unwrap_or_default();
    let sql = judged.statement.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{fate}: {}{place}: {sql}\n  {}{explicit}", judged.from, judged.why.join("; "))
}

//! `migrations compare`: two folders run on two empty throw-away databases, and what these then hold, compared.

use super::folder;
use super::place::{self, Workshop};
use crate::cli::exit::{CommandError, Ending};
use crate::cli::screen::Screen;
use crate::database::migrations::Folder;
use crate::database::migrations::compare::{self, Difference};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `migrations compare`.
#[derive(Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// The first folder.
    first: PathBuf,
    /// The second folder.
    second: PathBuf,
    /// A schema on which both build, as SQL.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Lets columns stand in another order.
    #[arg(long)]
    any_column_order: bool,
    /// A server on which two databases may be made and dropped, instead of a throw-away one: a URL without a password, or '${NAME}'.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// PostgreSQL's bin folder for the throw-away server.
    #[arg(long, value_name = "BIN")]
    postgres: Option<PathBuf>,
    /// One JSON event a line, the summary last.
    #[arg(long)]
    json: bool,
}

impl CompareArgs {
    pub(super) fn screen(&self) -> Screen {
        Screen::new(self.json)
    }
}

/// `cutover migrations compare`; refused when they are not identical.
pub(super) async fn run(arguments: &CompareArgs) -> Result<Ending, CommandError> {
    let screen = arguments.screen();
    let folders = [folder(screen, &arguments.first)?, folder(screen, &arguments.second)?];
    let schema = arguments.schema.as_ref().map(|path| {
        std::fs::read_to_string(path).map_err(|error| {
            CommandError::new(
                Ending::Usage,
                format!("read {}: {error}", path.display()),
                "name a file that can be read; nothing was touched",
            )
        })
    });
    let schema = schema.transpose()?;
    let given = arguments.url.as_deref().map(place::url).transpose()?;
    let workshop = Workshop::open(given.as_ref(), arguments.postgres.as_deref()).await?;
    let compared = compared(&workshop, &folders, schema.as_deref(), !arguments.any_column_order).await;
    let closed = workshop.close().await;
    let differences = compared?;
    closed?;
    for one in &differences {
        let event = json!({ "event": "difference", "object": one.object, "first": one.first, "second": one.second });
        let said = |side: &Option<String>| side.clone().unwrap_or_else(|| "is not there".to_owned());
        screen
            .line(&format!("{}\n  first:  {}\n  second: {}", one.object, said(&one.first), said(&one.second)), &event);
    }
    let is_identical = differences.is_empty();
    let ending = if is_identical { Ending::Done } else { Ending::Refused };
    screen.say(if is_identical { "identical" } else { "not identical" });
    screen.summary(ending, json!({ "identical": is_identical, "differences": differences.len() }));
    Ok(ending)
}

async fn compared(
    workshop: &Workshop,
    folders: &[Folder; 2],
    schema: Option<&str>,
    is_order_kept: bool,
) -> Result<Vec<Difference>, CommandError> {
    let failed = |error| {
        CommandError::failed(
            "compare migrations",
            &error,
            "correct the file and run again; only throw-away databases were touched",
        )
    };
    let mut catalogs = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        let mut client = workshop.client(at).await?;
        if let Some(schema) = schema {
            place::lay(&client, schema).await?;
        }
        compare::run(&mut client, folder).await.map_err(failed)?;
        catalogs.push(compare::catalog(&client, is_order_kept).await.map_err(failed)?);
    }
    Ok(compare::differences(&catalogs[0], &catalogs[1]))
}

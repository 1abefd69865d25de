//! Which files of a plan's folders are still to come: each folder has a record of its own of what was applied.

use super::refused;
use crate::cli::exit::CommandError;
use crate::cli::screen::Screen;
use crate::database::client::connect;
use crate::database::migrate::Source;
use crate::database::migrations::{Folder, MigrationFile};
use crate::database::pending;
use crate::plan::{Migration, MigrationSource, Plan, Secret};
use tokio_postgres::Client;

/// What a run would still apply, in the plan's order: of an engine's folder what its table on blue lacks, of a refinery folder what its history
/// lacks, which is on blue in place and on green otherwise.
pub(super) async fn in_run(screen: Screen, plan: &Plan, blue: &Client) -> Result<Vec<MigrationFile>, CommandError> {
    let mut files = Vec::new();
    for migration in &plan.migrate {
        files.extend(match &migration.source {
            MigrationSource::Refinery { folder, .. } if !plan.databases.is_in_place => {
                let history = Source { name: &migration.name, folder, history: None };
                match history_of(&plan.databases.green.url).await {
                    Some(green) => pending::pending_in(&green, migration, &history.history()).await.map_err(unread)?,
                    None => {
                        let name = &migration.name;
                        screen.say(&format!(
                            "green does not answer, so that every file of {name} is taken as not applied"
                        ));
                        whole(screen, migration)?
                    }
                }
            }
            _ => pending::pending(blue, migration).await.map_err(unread)?,
        });
    }
    Ok(files)
}

/// What has to be added to blue's schema for the engine that is there already to meet the one to come. What contracts the schema is left out:
/// that comes when the older engine is gone.
pub(super) async fn on_blue(screen: Screen, plan: &Plan, blue: &Client) -> Result<Vec<MigrationFile>, CommandError> {
    let mut files = Vec::new();
    for migration in plan.migrate.iter().filter(|migration| !migration.contract) {
        files.extend(match &migration.source {
            MigrationSource::Refinery { .. } if !plan.databases.is_in_place => whole(screen, migration)?,
            _ => pending::pending(blue, migration).await.map_err(unread)?,
        });
    }
    Ok(files)
}

/// Green, when it answers; nothing is written there.
async fn history_of(green: &Secret) -> Option<Client> {
    let client = connect(green, "green").await.ok()?;
    pending::look(&client).await.ok()?;
    Some(client)
}

fn whole(screen: Screen, migration: &Migration) -> Result<Vec<MigrationFile>, CommandError> {
    let Some(path) = migration.source.folder() else { return Ok(Vec::new()) };
    let folder = Folder::read(path).map_err(|error| refused(screen, error))?;
    Ok(folder.versions.into_iter().map(|version| version.up).collect())
}

fn unread(error: crate::database::migrate::MigrateError) -> CommandError {
    CommandError::failed("see which migrations were applied", &error, "correct the plan; nothing was touched")
}

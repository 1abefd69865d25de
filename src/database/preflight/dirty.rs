//! What should be known of blue's rows before they are copied: those that would break or change unseen, and whether the plan deals with them.

use super::Findings;
use crate::database::dirty::ask;
use crate::plan::Dirty;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// For one question; a person waits.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn examine(blue: &mut Client, questions: &[Dirty]) -> Findings {
    let mut findings = Findings { server: "blue", all: Vec::new() };
    for dirty in questions {
        match ask(blue, dirty, PATIENCE).await {
            Ok(found) if found.rows == 0 => {}
            Ok(found) => {
                let why = "such rows would break, or change unseen, on their way to green";
                let named = found.words();
                match &found.handled_by {
                    Some(by) => findings.warning(named, why, format!("nothing, if {by} does what you want with them")),
                    None => {
                        let next = "mend them on blue, or write what deals with them in handled_by: of this question";
                        findings.error(named, why, next);
                    }
                }
            }
            Err(error) => {
                let said =
                    error.source.as_db_error().map_or_else(|| error.source.to_string(), |db| db.message().to_owned());
                let what = format!("the question {} could not be asked: {said}", error.name);
                if error.source.code() == Some(&SqlState::QUERY_CANCELED) {
                    findings.warning(
                        what,
                        "it took longer than a check may",
                        "the run asks it again, with window.migrate for a bound",
                    );
                } else {
                    findings.error(what, "what is not known is not assumed", "correct find: in the plan");
                }
            }
        }
    }
    findings
}

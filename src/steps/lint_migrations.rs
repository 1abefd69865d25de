//! `lint-migrations`: the gate before the database that serves is migrated in a way that keeps its clients waiting. Nothing is run.

use super::failure::fail;
use super::world::World;
use crate::database::migrations::lint::Finding;
use crate::database::pending::{self, PendingError};
use crate::engine::{Context, Limits, Receipt, Reversal, Standing, Step, StepError, StepId};
use crate::plan::Side;
use serde_json::{Value, json};
use std::time::Duration;

/// The gate's name, as `--waive` says it.
pub const ID: StepId = StepId::new("lint-migrations");
/// Statements that are told of in an error, and kept in the journal.
const TOLD: usize = 8;

/// Judges the plan's folders on the database that serves.
#[derive(Debug, Clone)]
pub struct LintMigrations;

impl Step for LintMigrations {
    type World = World;

    fn id(&self) -> StepId {
        ID
    }

    fn summary(&self) -> String {
        "gate: judge every migration that blue lacks at the size of its tables; stop when one would keep clients waiting, or nobody can tell"
            .to_owned()
    }

    fn undo_summary(&self) -> String {
        "nothing: it only reads".to_owned()
    }

    fn reversal(&self) -> Reversal {
        Reversal::ReadOnly
    }

    fn is_gate(&self) -> bool {
        true
    }

    fn limits(&self) -> Limits {
        Limits::retried(Duration::from_secs(120), 3, Duration::from_secs(2))
    }

    async fn verify(&self, _world: &World, _context: &Context) -> Result<Standing, StepError> {
        Ok(Standing::Absent)
    }

    async fn forward(&self, world: &World, context: &Context) -> Result<Receipt, StepError> {
        let blue = world.side(Side::Blue).await?;
        let judged = pending::lint(&blue, &world.plan.migrate).await.map_err(unjudged)?;
        for one in judged.later.iter().take(TOLD) {
            context.progress(0, None, "statements", format!("at the end, in `finalize`: {}", words(one)));
        }
        let listed = |found: &[Finding]| -> Vec<Value> { found.iter().take(TOLD).map(|one| json!(one)).collect() };
        let body = json!({
            "files": judged.files, "in_the_way": judged.in_the_way.len(), "later": judged.later.len(),
            "statements": listed(&judged.in_the_way), "statements_later": listed(&judged.later),
        });
        if judged.in_the_way.is_empty() {
            return Ok(body.into());
        }
        context.note(body).await?;
        Err(StepError::refused(told(&judged.in_the_way), HINT))
    }

    async fn undo(&self, _world: &World, _context: &Context) -> Result<(), StepError> {
        Ok(())
    }
}

const HINT: &str = "see all of it: cutover migrations lint --plan PLAN; write the safe form: cutover migrations rewrite PATH --out DIR, name its \
                    folder in the plan and begin anew: cutover rollback PLAN; or answer for it: cutover run PLAN --waive lint-migrations \
                    --because 'why'; blue is as it was";

fn told(found: &[Finding]) -> String {
    let first: Vec<String> = found.iter().take(TOLD).map(words).collect();
    let more = found.len().saturating_sub(TOLD);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("migrations would keep blue's clients waiting: {}{more}", first.join("; "))
}

fn words(one: &Finding) -> String {
    let (file, line, statement) = (&one.file, one.line, &one.statement);
    let on = one.table.as_deref().map(|table| format!(" on {table}")).unwrap_or_default();
    let lock = one.lock.map(|lock| format!(" ({lock}{on})")).unwrap_or_default();
    let safe = one.safe.as_deref().map(|safe| format!("; write: {safe}")).unwrap_or_default();
    format!("{file}:{line} {}{lock}: {statement}: {}{safe}", one.severity.word(), one.why)
}

fn unjudged(error: PendingError) -> StepError {
    let is_text = matches!(error, PendingError::Broken(_));
    let failed = fail("judge the migrations by blue", error);
    let hint = "correct the file, or answer for it: cutover run PLAN --waive lint-migrations --because 'why'; blue is as it was";
    if is_text { StepError::refused(failed.why(), hint) } else { failed.retry() }
}

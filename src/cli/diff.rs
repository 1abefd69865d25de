//! `diff`: what green holds against what the mapping makes of blue, row by row; brings green level and changes nothing else.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::{Screen, Standing};
use super::session::{Asked, Session, prepare};
use super::standing;
use crate::database::diff::{DiffProgress, Found};
use crate::engine::Halt;
use crate::steps::diff::{self, DiffSides};
use crate::steps::live;
use serde_json::{Value, json};
use uuid::Uuid;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Takes the lease over from the process that holds it; the error of a locked run names it.
    #[arg(long, value_name = "LEASE")]
    take_over: Option<Uuid>,
}

/// `cutover diff`; refused when something differs that nothing explains.
pub(super) async fn run(arguments: &DiffArgs) -> Ending {
    let (plan, screen) = (&arguments.plan, Screen::new(arguments.plan.json));
    let prepared = match plan.load(&screen).and_then(prepare) {
        Ok(prepared) => prepared,
        Err(error) => return unasked(plan, screen, "not asked", &error),
    };
    let (world, runbook) = prepared;
    let asked =
        Asked { verb: "diff", sets: &plan.sets, take_over: arguments.take_over, may_begin: false, waiver: None };
    let session = match Session::open(world, runbook, &asked, screen).await {
        Ok(session) => session,
        Err((world, error)) => return unasked(plan, screen, &live::live(&world).await.words(), &error),
    };
    let live = live::live(&session.world).await.words();
    let compared = compare(&session, screen).await;
    let ending = match compared {
        Ok((found, at)) => tell(plan, screen, &live, (&session, &found, at)).await,
        Err(error) => unasked(plan, screen, &live, &error),
    };
    session.close().await;
    ending
}

/// Nothing was compared, or not all.
fn unasked(plan: &PlanArgs, screen: Screen, live: &str, error: &CommandError) -> Ending {
    let error = CommandError { next: plan.fill(&error.next), ..error.clone() };
    screen.error(live, &error);
    screen.summary(error.ending, json!({ "live": live, "why": error.why, "next": error.next }));
    error.ending
}

/// What was found, and where the run stands.
async fn compare(session: &Session, screen: Screen) -> Result<(Found, String), CommandError> {
    let (survey, state) = session.survey().await?;
    if let Some(why) = diff::obstacle(&session.world.plan, &state) {
        let next = "cutover status PLAN; nothing was changed";
        return Err(CommandError::new(Ending::Refused, format!("nothing can be compared: {why}"), next));
    }
    let sides = DiffSides::of(&session.world.plan);
    let tell = |told: DiffProgress<'_>| {
        let line = format!("{} of {} parts, {} rows differ: {}", told.done, told.parts, told.differences, told.table);
        screen.line(&line, &progress(session.run(), &told));
    };
    let found = session.beside(diff::ID, &state, async |context| sides.compare(&session.world, context, &tell).await);
    let found = found.await.map_err(Halt::from)?;
    Ok((found, standing::words(Some(&survey))))
}

fn progress(run: Uuid, told: &DiffProgress<'_>) -> Value {
    json!({
        "event": "diff_progress", "run": run, "table": told.table.to_string(), "done": told.done, "parts": told.parts,
        "differences": told.differences,
    })
}

async fn tell(plan: &PlanArgs, screen: Screen, live: &str, (session, found, at): (&Session, &Found, String)) -> Ending {
    let (ending, next) = if found.differences() == 0 {
        let next = match session.survey().await {
            Ok((survey, _)) => standing::next_command(plan, &survey),
            Err(error) => error.next,
        };
        (Ending::Done, next)
    } else {
        (Ending::Refused, plan.fill("see to the rows; to begin anew: cutover rollback PLAN; blue serves as before"))
    };
    let mut summary = diff::body(found);
    for row in summary["rows"].as_array().into_iter().flatten() {
        let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let columns: Vec<&str> = row["columns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let line = format!("{:9} {} {} {}", word("class"), word("table"), word("key"), columns.join(", "));
        screen.say(line.trim_end());
    }
    for (name, value) in [("run", json!(session.run())), ("live", json!(live)), ("next", json!(next))] {
        summary[name] = value;
    }
    screen.say("");
    screen.standing(&Standing { live: live.to_owned(), state: format!("{at}; {}", diff::words(found)), next });
    screen.summary(ending, summary);
    ending
}

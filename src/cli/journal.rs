//! `journal show` and `journal check`: the records of a plan's last run, and whether they are what this tool wrote. Looks only.

use super::arguments::PlanArgs;
use super::exit::{CommandError, Ending};
use super::screen::{Screen, Standing};
use super::session::{journal_failed, prepare};
use super::standing;
use crate::database::by_hand::TAKE_BACK;
use crate::engine::{Runbook, Survey};
use crate::journal::{Corruption, Journal, JournalError, RunInfo, RunState, Stored, end_by_hand};
use crate::plan::Side;
use crate::report::words::{one_line, receipt};
use crate::steps::{Action, World, live};
use clap::Subcommand;
use serde_json::{Value, json};

/// Characters of a record's body that a line shows; `--json` gives all of it.
const SHOWN: usize = 120;

/// Arguments of `journal`.
#[derive(Debug, clap::Args)]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    verb: JournalVerb,
}

#[derive(Debug, Subcommand)]
enum JournalVerb {
    /// Prints every record of the plan's last run, as it is stored.
    Show(PlanArgs),
    /// Says whether the last run's journal is whole; when it is damaged, where, and the way out.
    Check(PlanArgs),
}

/// `cutover journal`; `stuck` when the journal is damaged.
pub(super) async fn run(arguments: &JournalArgs) -> Ending {
    let (plan, shows) = match &arguments.verb {
        JournalVerb::Show(plan) => (plan, true),
        JournalVerb::Check(plan) => (plan, false),
    };
    let screen = Screen::new(plan.json);
    let ended = async {
        let (world, runbook) = prepare(plan.load(&screen)?)?;
        let live = live::live(&world).await;
        Look { plan, screen, world, runbook, live }.look(shows).await
    };
    match ended.await {
        Ok(ending) => ending,
        Err(error) => {
            let error = CommandError { next: plan.fill(&error.next), ..error };
            screen.refused("not asked (nothing was touched)", &error)
        }
    }
}

/// One look at a journal, and the screen it is told on.
struct Look<'a> {
    plan: &'a PlanArgs,
    screen: Screen,
    world: World,
    runbook: Runbook<Action>,
    live: live::Live,
}

impl Look<'_> {
    async fn look(&self, shows: bool) -> Result<Ending, CommandError> {
        let Some((journal, run)) = self.last_run().await.map_err(journal_failed)? else {
            self.whole(None, &[]);
            return Ok(Ending::Done);
        };
        let stored = if shows { journal.stored(&run).await.map_err(journal_failed)? } else { Vec::new() };
        match journal.state(&run).await {
            Ok(state) => {
                self.whole(Some((&run, &state)), &stored);
                Ok(Ending::Done)
            }
            Err(JournalError::Corrupt(corruption)) => {
                self.damaged(&run, &corruption, &stored);
                Ok(Ending::Stuck)
            }
            Err(error) => Err(journal_failed(error)),
        }
    }

    async fn last_run(&self) -> Result<Option<(Journal, RunInfo)>, JournalError> {
        let Some(journal) = Journal::look(&self.world.plan.control).await? else { return Ok(None) };
        let run = journal.last_run(&self.world.plan.name).await?;
        Ok(run.map(|run| (journal, run)))
    }

    fn tell_records(&self, run: Option<&RunInfo>, stored: &[Stored]) {
        if !stored.is_empty() {
            self.screen.say("");
        }
        for record in stored {
            self.screen.line(&line(record), &event(run, record));
        }
    }

    fn whole(&self, run: Option<(&RunInfo, &RunState)>, stored: &[Stored]) {
        let survey = run.map(|(_, state)| Survey::of(&self.runbook, state));
        let (records, words) = (run.map_or(0, |(_, state)| state.seq), standing::words(survey.as_ref()));
        let (live, next) = (self.live.words(), standing::next_after(self.plan, survey.as_ref()));
        let state = format!("{records} records, whole; {words}");
        self.screen.standing(&Standing { live: live.clone(), state, next: next.clone() });
        self.tell_records(run.map(|(run, _)| run), stored);
        let (run, state) = (run.map(|(run, _)| run.id), survey.map(|survey| survey.phase));
        let summary = json!({ "run": run, "records": records, "state": state, "live": live, "next": next });
        self.screen.summary(Ending::Done, summary);
    }

    /// The place of the damage, and what a person can do.
    fn damaged(&self, run: &RunInfo, corruption: &Corruption, stored: &[Stored]) {
        let next = "nothing runs or rolls back on it: take the way out below".to_owned();
        let why = format!("the journal of run {} is {corruption}", run.id);
        let live = self.live.words();
        self.screen.error(&live, &CommandError::new(Ending::Stuck, why.clone(), next.clone()));
        self.tell_records(Some(run), stored);
        let way_out = self.way_out();
        for (place, step) in way_out.iter().enumerate() {
            self.screen.say(&format!("{}. {}", place + 1, step["do"].as_str().unwrap_or_default()));
            if let Some(sql) = step["sql"].as_str() {
                self.screen.say(sql);
            }
        }
        let summary = json!({
            "run": run.id, "live": live, "why": why, "next": next, "damaged_at": corruption.seq, "way_out": way_out,
        });
        self.screen.summary(Ending::Stuck, summary);
    }

    /// What a person can do about a damaged journal. While blue is live the run can be taken back by hand; later it cannot.
    fn way_out(&self) -> Vec<Value> {
        let (check, run, pause) =
            (self.plan.command("journal check"), self.plan.command("run"), self.plan.command("pause"));
        let backup = format!(
            "traffic goes on: the registers say which side is live, never the journal. With a backup of the control database from before \
             the damage, restore its tables cutover.run and cutover.record and no others (revocations are captured beside them), then: {check}"
        );
        let mut steps = vec![json!({ "do": backup })];
        if self.live.side == Some(Side::Blue) {
            let end = end_by_hand(&self.world.plan.name);
            let take_back = format!(
                "without one, see that nothing is at work ({pause}), then take back what the run made. On blue, as our own login:"
            );
            steps.extend([
                json!({ "do": take_back, "on": "blue", "sql": TAKE_BACK }),
                json!({ "do": "on green the same, and then empty it, or drop its database and create it anew:", "on": "green", "sql": TAKE_BACK }),
                json!({ "do": "on control, end the run:", "on": "control", "sql": end }),
                json!({ "do": format!("begin anew: {run}") }),
            ]);
        }
        steps
    }
}

fn line(record: &Stored) -> String {
    let step = record.step.as_deref().unwrap_or("");
    let body: Value = serde_json::from_str(&record.body).unwrap_or_default();
    let words = body["why"].as_str().map_or_else(|| receipt(&body), one_line);
    let words: String = words.chars().take(SHOWN).collect();
    let line = format!("{:>4}  {}  {:11}  {step:22}  {words}", record.seq, record.at.strftime("%FT%TZ"), record.kind);
    line.trim_end().to_owned()
}

fn event(run: Option<&RunInfo>, record: &Stored) -> Value {
    let body: Value = serde_json::from_str(&record.body).unwrap_or_else(|_| json!(record.body));
    json!({
        "event": "record", "run": run.map(|run| run.id), "seq": record.seq, "at": record.at, "term": record.term, "kind": record.kind, "step": record.step,
        "body": body,
    })
}

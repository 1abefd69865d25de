//! One event as one line of text, for screens and logs. Pure; owns the marks and their colours.

use super::pace::Pace;
use super::words;
use crate::engine::{Event, StepId, StopPoint};

/// A width in which most step names fit, so that what follows them is aligned.
const NAME_WIDTH: usize = 22;

/// The words of lines, in colour or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wording {
    /// Whether escape codes for colour may be written.
    pub(super) colour: bool,
}

#[derive(Debug, Clone, Copy)]
enum Ink {
    Green,
    Red,
    Yellow,
    Dim,
}

impl Wording {
    /// The line about an event; nothing for a step's progress, which [`progress`] words, and for a step that was done before: those
    /// are counted and told together by [`Wording::kept`].
    pub(super) fn line(self, event: &Event) -> Option<String> {
        Some(match event {
            Event::StepProgress { .. } | Event::StepKept { .. } => return None,
            Event::StepStarted { step, summary, attempt, .. } if *attempt > 1 => {
                self.say("→", Ink::Dim, step, [summary.as_str(), &format!("attempt {attempt}")])
            }
            Event::StepStarted { step, summary, .. } => self.say("→", Ink::Dim, step, [summary.as_str()]),
            Event::StepDone { step, took_ms, found, receipt, .. } => {
                let end = if *found { "found in place".to_owned() } else { words::millis(*took_ms) };
                self.say("✓", Ink::Green, step, [words::receipt(receipt).as_str(), &end])
            }
            Event::StepFailed { step, why, hint, .. } => self.failed(step, why, hint),
            Event::UndoFailed { step, why, hint, .. } => self.failed(step, &format!("undo: {why}"), hint),
            Event::Retrying { step, attempt, attempts, pause_ms, why } => {
                let plan = format!("attempt {attempt} of {attempts} in {}", words::millis(*pause_ms));
                self.say("↻", Ink::Yellow, step, [plan.as_str(), why])
            }
            Event::Stopping { step, by, stops } => {
                self.say("‖", Ink::Yellow, step, [format!("asked to park by {by}: {}", stop_words(*stops)).as_str()])
            }
            Event::Note { step, body, .. } => self.say("·", Ink::Dim, step, [words::receipt(body).as_str()]),
            Event::Unwinding { steps, .. } => {
                format!(
                    "{} going back: {} to look at",
                    self.ink("←", Ink::Yellow),
                    words::amount(*steps as u64, "steps")
                )
            }
            Event::Undoing { step, summary, .. } => self.say("←", Ink::Yellow, step, [summary.as_str()]),
            Event::Undone { step, found: true, .. } => self.say("✓", Ink::Green, step, ["nothing to undo"]),
            Event::Undone { step, .. } => self.say("✓", Ink::Green, step, ["undone"]),
        })
    }

    /// The line about steps that were done before.
    pub(super) fn kept(self, steps: u64) -> String {
        let were = if steps == 1 { "was" } else { "were" };
        format!("{} {} {were} done before", self.ink("·", Ink::Dim), words::amount(steps, "steps"))
    }

    /// The line about a step's progress, for places without bars.
    pub(super) fn progress_line(self, step: &StepId, text: &str) -> String {
        self.say("…", Ink::Dim, step, [text])
    }

    fn failed(self, step: &StepId, why: &str, hint: &str) -> String {
        let line = self.say("✗", Ink::Red, step, [why]);
        if hint.is_empty() { line } else { format!("{line}\n  next: {}", words::one_line(hint)) }
    }

    fn say<const N: usize>(self, mark: &str, ink: Ink, step: &StepId, parts: [&str; N]) -> String {
        let parts: Vec<String> =
            parts.iter().map(|part| words::one_line(part)).filter(|part| !part.is_empty()).collect();
        let line = format!("{} {:NAME_WIDTH$}  {}", self.ink(mark, ink), step.as_str(), parts.join("  "));
        line.trim_end().to_owned()
    }

    fn ink(self, text: &str, ink: Ink) -> String {
        let code = match ink {
            Ink::Green => "32",
            Ink::Red => "31",
            Ink::Yellow => "33",
            Ink::Dim => "2",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn stop_words(stops: StopPoint) -> &'static str {
    match stops {
        StopPoint::Here => "it is cut here, and the next run does the rest",
        StopPoint::AfterStep => "it parks when this step has ended",
        StopPoint::UnlessDecided => "it goes back to blue, unless it is decided: then it is finished",
    }
}

/// How far a step is: `120,000 of 200,000 rows (60 %)  65,000 rows/s  1.2 s left  hydra_client`. One that counts nothing has only
/// its words.
pub(super) fn progress(done: u64, total: Option<u64>, unit: &str, detail: &str, pace: &Pace) -> String {
    if done == 0 && total.is_none() {
        return words::one_line(detail);
    }
    let mut parts = vec![match total.filter(|total| *total > 0) {
        Some(total) => {
            // Estimates may be passed; more than all of it is never shown.
            let percent = u128::from(done.min(total)) * 100 / u128::from(total);
            format!("{} of {} ({percent} %)", words::amount(done, part_of(unit)), words::amount(total, unit))
        }
        None => words::amount(done, unit),
    }];
    parts.extend(pace.per_second().map(|rate| format!("{}/s", words::amount(rate, unit))));
    parts.extend(total.and_then(|total| pace.left(done, total)).map(|left| format!("{} left", words::duration(left))));
    parts.push(words::one_line(detail));
    parts.retain(|part| !part.is_empty());
    parts.join("  ")
}

/// In "120 of 200 rows" only the whole names the unit; bytes always need it, since both may be scaled apart.
fn part_of(unit: &str) -> &str {
    if unit == "bytes" { unit } else { "" }
}

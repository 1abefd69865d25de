//! The follower of a run: takes the engine's events and shows them as bars, as plain lines or as JSON.
//!
//! May look at `engine`'s events. Never prints by itself (the caller gives the writer), never makes the work wait for the screen's
//! sake: a writer that fails is written to no more, and the events are taken on.

use super::bars::Bars;
use super::lines::{Wording, progress};
use super::pace::Pace;
use crate::engine::{Event, Stamped, StepId};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Plain progress of one step is shown at most this often.
const PLAIN_PROGRESS: Duration = Duration::from_secs(1);
/// Counts of one step are told to programs at most this often; words, such as a command's output, always.
const JSON_COUNTS: Duration = Duration::from_millis(250);
/// How often spinners turn.
const TICK: Duration = Duration::from_millis(120);

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bars for the steps under way and lines for what ended.
    Terminal,
    /// Lines only; progress at most once a second and step.
    Plain,
    /// One event a line; a step's counts at most four times a second.
    Json,
}

/// Shows what a run tells.
#[derive(Debug, Clone, Copy)]
pub struct Follower {
    style: Style,
    colour: bool,
}

impl Follower {
    /// A follower of one run. `colour` is for terminals of people who did not ask for `NO_COLOR`; JSON never has any.
    #[must_use]
    pub fn new(style: Style, colour: bool) -> Self {
        Self { style, colour }
    }

    /// Takes events until the last sender is gone, and shows them on `out`.
    pub async fn follow(self, mut receiver: UnboundedReceiver<Stamped>, out: impl Write + Send + 'static) {
        let mut screen = Screen::new(self, out);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = receiver.recv() => match event {
                    Some(event) => screen.tell(&event),
                    None => break,
                },
                _ = tick.tick(), if screen.is_moving() => screen.tick(),
            }
        }
        screen.end();
    }
}

enum Screen<W> {
    Bars(Bars),
    Plain(Plain<W>),
    Json(Json<W>),
}

impl<W: Write + Send + 'static> Screen<W> {
    fn new(follower: Follower, out: W) -> Self {
        let wording = Wording { colour: follower.colour };
        match follower.style {
            Style::Terminal => Self::Bars(Bars::new(wording, out)),
            Style::Plain => Self::Plain(Plain { wording, out: Output(Some(out)), kept: 0, steps: BTreeMap::new() }),
            Style::Json => Self::Json(Json { out: Output(Some(out)), told: BTreeMap::new() }),
        }
    }

    fn tell(&mut self, stamped: &Stamped) {
        match self {
            Self::Bars(bars) => bars.tell(stamped),
            Self::Plain(plain) => plain.tell(&stamped.event),
            Self::Json(json) => json.tell(stamped),
        }
    }

    fn is_moving(&self) -> bool {
        matches!(self, Self::Bars(bars) if bars.are_moving())
    }

    fn tick(&self) {
        if let Self::Bars(bars) = self {
            bars.tick();
        }
    }

    fn end(&mut self) {
        match self {
            Self::Bars(bars) => bars.clear(),
            Self::Plain(plain) => plain.tell_kept(),
            Self::Json(_) => {}
        }
    }
}

/// The writer, until it fails: a closed pipe or a full disk must not stop a run.
struct Output<W>(Option<W>);

impl<W: Write> Output<W> {
    fn line(&mut self, line: &str) {
        let Some(out) = &mut self.0 else { return };
        let written: io::Result<()> = writeln!(out, "{line}").and_then(|()| out.flush());
        if let Err(error) = written {
            tracing::warn!(%error, "progress cannot be shown any more; the run goes on");
            self.0 = None;
        }
    }
}

struct Json<W> {
    out: Output<W>,
    /// When counts of a step were last told: a large copy counts thousands of times a second.
    told: BTreeMap<StepId, Instant>,
}

impl<W: Write> Json<W> {
    fn tell(&mut self, stamped: &Stamped) {
        if !self.is_too_soon(&stamped.event) {
            self.out.line(&serde_json::to_string(stamped).expect("an event has text keys and serialises"));
        }
    }

    fn is_too_soon(&mut self, event: &Event) -> bool {
        let Event::StepProgress { step, done, total, .. } = event else { return false };
        let is_words = *done == 0 && total.is_none();
        let now = Instant::now();
        let is_soon = self.told.get(step).is_some_and(|last| now.saturating_duration_since(*last) < JSON_COUNTS);
        if !is_words && !is_soon {
            self.told.insert(step.clone(), now);
        }
        !is_words && is_soon
    }
}

struct Plain<W> {
    wording: Wording,
    out: Output<W>,
    /// Steps that were done before and are not told yet.
    kept: u64,
    steps: BTreeMap<StepId, Shown>,
}

struct Shown {
    pace: Pace,
    last: Instant,
}

impl<W: Write> Plain<W> {
    fn tell(&mut self, event: &Event) {
        if matches!(event, Event::StepKept { .. }) {
            self.kept += 1;
            return;
        }
        self.tell_kept();
        match event {
            Event::StepProgress { step, done, total, unit, detail } => {
                self.progress(step, *done, |pace| progress(*done, *total, unit, detail, pace));
            }
            Event::StepStarted { step, .. } => {
                let now = Instant::now();
                self.steps.insert(step.clone(), Shown { pace: Pace::new(now, 0), last: now });
            }
            _ => {}
        }
        if let Some(line) = self.wording.line(event) {
            self.out.line(&line);
        }
    }

    fn tell_kept(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        if kept > 0 {
            self.out.line(&self.wording.kept(kept));
        }
    }

    fn progress(&mut self, step: &StepId, done: u64, text: impl Fn(&Pace) -> String) {
        let now = Instant::now();
        let fresh = || Shown { pace: Pace::new(now, done), last: now };
        let shown = self.steps.entry(step.clone()).or_insert_with(fresh);
        shown.pace.take(now, done);
        if now.saturating_duration_since(shown.last) >= PLAIN_PROGRESS {
            shown.last = now;
            let line = self.wording.progress_line(step, &text(&shown.pace));
            self.out.line(&line);
        }
    }
}

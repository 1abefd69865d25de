//! Bars on a terminal: one per running step, whole lines above them. Owns the drawing; the words are `lines`'.

use super::lines::{Wording, progress};
use super::pace::Pace;
use crate::engine::{Event, Stamped, StepId};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Columns to assume when the terminal does not say.
const COLUMNS: u16 = 80;
/// Drawings a second, at most.
const DRAWINGS: u8 = 15;
const WITH_TOTAL: &str = "{spinner} {prefix} {bar:24} {wide_msg}";
const WITHOUT_TOTAL: &str = "{spinner} {prefix} {wide_msg}";

/// The bars of the steps under way.
#[derive(Debug)]
pub(super) struct Bars {
    wording: Wording,
    all: MultiProgress,
    /// Steps that were done before and are not told yet.
    kept: u64,
    running: BTreeMap<StepId, Running>,
}

#[derive(Debug)]
struct Running {
    bar: ProgressBar,
    pace: Pace,
    has_total: bool,
}

impl Bars {
    /// Bars drawn on `out`, which is a terminal.
    pub(super) fn new(wording: Wording, out: impl Write + Send + 'static) -> Self {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Screen(Mutex::new(out))), DRAWINGS);
        Self { wording, all: MultiProgress::with_draw_target(target), kept: 0, running: BTreeMap::new() }
    }

    /// Whether something on the screen moves with time.
    pub(super) fn are_moving(&self) -> bool {
        !self.running.is_empty()
    }

    /// Turns the spinners on.
    pub(super) fn tick(&self) {
        self.running.values().for_each(|running| running.bar.tick());
    }

    /// Shows an event: a bar that begins, moves or ends, or a line above the bars.
    pub(super) fn tell(&mut self, stamped: &Stamped) {
        if matches!(stamped.event, Event::StepKept { .. }) {
            self.kept += 1;
            return;
        }
        self.tell_kept();
        match &stamped.event {
            Event::StepStarted { step, summary, .. } | Event::Undoing { step, summary, .. } => {
                self.begin(step, summary);
            }
            Event::StepProgress { step, done, total, unit, detail } => {
                let running = self.running_step(step);
                running.show(*done, *total, unit, detail);
            }
            event => {
                if let Some(step) = ended(event) {
                    self.end(step);
                }
                self.print(event);
            }
        }
    }

    /// Clears what still moves; the lines stay.
    pub(super) fn clear(&mut self) {
        self.tell_kept();
        for (_, running) in std::mem::take(&mut self.running) {
            running.bar.finish_and_clear();
        }
    }

    fn tell_kept(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        if kept > 0 {
            self.print_line(&self.wording.kept(kept));
        }
    }

    fn print(&self, event: &Event) {
        for line in self.wording.line(event).iter().flat_map(|text| text.lines()) {
            self.print_line(line);
        }
    }

    fn print_line(&self, line: &str) {
        // A screen that went away is no reason to stop the work.
        let _ = self.all.println(line);
    }

    fn begin(&mut self, step: &StepId, summary: &str) {
        let running = self.running_step(step);
        running.bar.set_message(super::words::one_line(summary));
        running.bar.tick();
    }

    fn running_step(&mut self, step: &StepId) -> &mut Running {
        let all = &self.all;
        self.running.entry(step.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::no_length().with_prefix(step.to_string()));
            bar.set_style(style(WITHOUT_TOTAL));
            Running { bar, pace: Pace::new(Instant::now(), 0), has_total: false }
        })
    }

    fn end(&mut self, step: &StepId) {
        if let Some(running) = self.running.remove(step) {
            running.bar.finish_and_clear();
            self.all.remove(&running.bar);
        }
    }
}

impl Running {
    fn show(&mut self, done: u64, total: Option<u64>, unit: &str, detail: &str) {
        self.pace.take(Instant::now(), done);
        let total = total.filter(|total| *total > 0);
        if total.is_some() != self.has_total {
            self.has_total = total.is_some();
            self.bar.set_style(style(if self.has_total { WITH_TOTAL } else { WITHOUT_TOTAL }));
        }
        if let Some(total) = total {
            self.bar.set_length(total.max(done));
        }
        self.bar.set_position(done);
        self.bar.set_message(progress(done, total, unit, detail, &self.pace));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is ours").progress_chars("━╸ ")
}

/// The step whose bar an event ends.
fn ended(event: &Event) -> Option<&StepId> {
    match event {
        Event::StepDone { step, .. }
        | Event::StepFailed { step, .. }
        | Event::Undone { step, .. }
        | Event::UndoFailed { step, .. } => Some(step),
        _ => None,
    }
}

/// A writer as indicatif sees a terminal: the few escape codes that bars need.
struct Screen<W>(Mutex<W>);

impl<W: Write> Screen<W> {
    fn out(&self) -> MutexGuard<'_, W> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self, by: usize, letter: char) -> io::Result<()> {
        if by == 0 { Ok(()) } else { write!(self.out(), "\u{1b}[{by}{letter}") }
    }
}

impl<W> fmt::Debug for Screen<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Screen")
    }
}

/// Rows and columns of the terminal that this process has, if it has one.
fn size() -> Option<(u16, u16)> {
    console::Term::stdout().size_checked().or_else(|| console::Term::stderr().size_checked())
}

impl<W: Write + Send> TermLike for Screen<W> {
    fn width(&self) -> u16 {
        size().map_or(COLUMNS, |(_, columns)| columns)
    }

    fn height(&self) -> u16 {
        size().map_or(24, |(rows, _)| rows)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        writeln!(self.out(), "{s}")
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        write!(self.out(), "{s}")
    }

    fn clear_line(&self) -> io::Result<()> {
        write!(self.out(), "\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        self.out().flush()
    }
}

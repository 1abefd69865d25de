//! What a person and a program see of a run's events.

use cutover::engine::{Effect, Event, FailureKind, Stamped, StepId, StopPoint};
use cutover::report::{Follower, Style};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use uuid::Uuid;

/// A writer that can be read afterwards.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("nobody panicked").clone()).expect("text")
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader has gone.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

const COPY: StepId = StepId::new("copy-rows");
const FLIP: StepId = StepId::new("flip");

fn started() -> Event {
    Event::StepStarted { seq: 3, step: COPY, summary: "carry the rows of 12 tables".to_owned(), attempt: 1 }
}

fn progress(done: u64) -> Event {
    let (total, unit, detail) = (Some(200_000), "rows", "hydra_client".to_owned());
    Event::StepProgress { step: COPY, done, total, unit, detail }
}

fn done() -> Event {
    Event::StepDone { seq: 4, step: COPY, took_ms: 3_100, found: false, receipt: json!({ "rows": 200_000 }) }
}

fn failed() -> Event {
    Event::StepFailed {
        seq: 6,
        step: FLIP,
        kind: FailureKind::Returned,
        effect: Effect::NotApplied,
        why: "the authorization service\ndid not hold".to_owned(),
        hint: "cutover flip PLAN".to_owned(),
    }
}

fn stamped(events: impl IntoIterator<Item = Event>) -> mpsc::UnboundedReceiver<Stamped> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for event in events {
        send(&sender, event);
    }
    receiver
}

fn send(sender: &mpsc::UnboundedSender<Stamped>, event: Event) {
    let told = Stamped { event, run: Uuid::nil(), at: jiff::Timestamp::UNIX_EPOCH };
    assert!(sender.send(told).is_ok(), "the follower went away");
}

async fn shown(style: Style, colour: bool, events: impl IntoIterator<Item = Event>) -> String {
    let paper = Paper::default();
    Follower::new(style, colour).follow(stamped(events), paper.clone()).await;
    paper.text()
}

#[tokio::test]
async fn report_plain_says_what_began_what_ended_and_what_next() {
    let text = shown(Style::Plain, false, [started(), done(), failed()]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "→ copy-rows               carry the rows of 12 tables",
            "✓ copy-rows               200,000 rows  3.1 s",
            "✗ flip                    the authorization service did not hold",
            "  next: cutover flip PLAN",
        ]
    );
}

#[tokio::test]
async fn report_says_where_a_stop_will_be() {
    let stopping = |stops| Event::Stopping { step: COPY, by: "SIGINT".to_owned(), stops };
    let text = shown(Style::Plain, false, [stopping(StopPoint::Here), stopping(StopPoint::AfterStep)]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "‖ copy-rows               asked to park by SIGINT: it is cut here, and the next run does the rest",
            "‖ copy-rows               asked to park by SIGINT: it parks when this step has ended",
        ]
    );
    let json = shown(Style::Json, false, [stopping(StopPoint::UnlessDecided)]).await;
    assert!(json.contains(r#""event":"stopping""#) && json.contains(r#""stops":"unless_decided""#), "{json}");
}

#[tokio::test]
async fn report_plain_thins_progress_out() {
    let events = std::iter::once(started()).chain((0..5_000).map(|n| progress(n * 40))).chain([done()]);
    let text = shown(Style::Plain, false, events).await;
    assert!(text.lines().count() < 50, "5,000 events of one moment gave {} lines", text.lines().count());
    assert!(text.contains("✓ copy-rows"), "{text}");
}

#[tokio::test]
async fn report_plain_progress_has_rate_and_time_left() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let paper = Paper::default();
    let follower = tokio::spawn(Follower::new(Style::Plain, false).follow(receiver, paper.clone()));
    send(&sender, started());
    for n in 1..200 {
        send(&sender, progress(n * 1_000));
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        if paper.text().contains('…') {
            break;
        }
    }
    drop(sender);
    follower.await.expect("followed to the end");
    let text = paper.text();
    let line = text.lines().find(|line| line.starts_with('…')).unwrap_or_else(|| panic!("no progress in {text}"));
    assert!(line.contains(" of 200,000 rows (") && line.contains(" rows/s") && line.contains(" left"), "{line}");
    assert!(line.ends_with("hydra_client"), "{line}");
}

#[tokio::test]
async fn report_colour_is_only_written_when_asked_for() {
    for style in [Style::Plain, Style::Json] {
        let text = shown(style, false, [started(), progress(1), done(), failed()]).await;
        assert!(!text.contains('\u{1b}'), "{style:?}: {text}");
    }
    let text = shown(Style::Plain, true, [done()]).await;
    assert!(text.starts_with("\u{1b}[32m✓\u{1b}[0m copy-rows"), "{text}");
    let text = shown(Style::Json, true, [done()]).await;
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn report_json_is_every_event_on_a_line_of_its_own() {
    let text = shown(Style::Json, false, [started(), progress(120_000), done(), failed()]).await;
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("one JSON a line")).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["step_started", "step_progress", "step_done", "step_failed"]);
    assert_eq!(events[1]["done"], 120_000);
    assert_eq!(events[1]["unit"], "rows");
    assert_eq!(events[2]["receipt"]["rows"], 200_000);
    assert!(events.iter().all(|event| event["run"].is_string() && event["at"].is_string()), "{text}");
}

#[tokio::test]
async fn report_json_thins_counts_out_and_keeps_words() {
    let says = |n| {
        let (unit, detail) = ("lines", format!("statement {n}"));
        Event::StepProgress { step: FLIP, done: 0, total: None, unit, detail }
    };
    let events = (0..5_000).map(|n| progress(n * 40)).chain((0..20).map(says)).chain([done()]);
    let text = shown(Style::Json, false, events).await;
    assert!(text.lines().count() < 80, "5,000 counts of one moment gave {} lines", text.lines().count());
    assert_eq!(text.lines().filter(|line| line.contains("statement ")).count(), 20, "{text}");
}

#[tokio::test]
async fn report_terminal_draws_a_bar_and_leaves_lines() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let paper = Paper::default();
    let follower = tokio::spawn(Follower::new(Style::Terminal, false).follow(receiver, paper.clone()));
    send(&sender, started());
    send(&sender, progress(100_000));
    for _ in 0..100 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        if paper.text().contains("100,000 of 200,000 rows (50 %)") {
            break;
        }
    }
    assert!(paper.text().contains('━'), "no bar in {:?}", paper.text());
    assert!(paper.text().contains("100,000 of 200,000 rows (50 %)"), "{:?}", paper.text());
    send(&sender, done());
    drop(sender);
    follower.await.expect("followed to the end");
    let text = paper.text();
    let last_line = text.rfind("✓ copy-rows").unwrap_or_else(|| panic!("no line about the end in {text:?}"));
    assert!(!text[last_line..].contains('━'), "the bar outlives its step: {text:?}");
}

#[tokio::test]
async fn report_goes_on_taking_events_when_the_screen_is_gone() {
    for style in [Style::Plain, Style::Json, Style::Terminal] {
        let (sender, receiver) = mpsc::unbounded_channel();
        let follower = tokio::spawn(Follower::new(style, false).follow(receiver, Broken));
        for event in [started(), progress(5), done()] {
            send(&sender, event);
        }
        drop(sender);
        follower.await.unwrap_or_else(|error| panic!("{style:?}: {error}"));
    }
}

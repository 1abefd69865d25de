//! One process of the binary under way: its events are waited for, it gets signals, it is killed.

use super::sandbox::summary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A verb under way; killed when dropped.
pub(crate) struct Underway {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: String,
}

impl Underway {
    /// Starts a command whose output is one JSON event a line.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines, said: String::new() }
    }

    /// The next event that `moment` recognises; none when the process ended before.
    pub(crate) async fn until(&mut self, moment: impl Fn(&Value) -> bool) -> Option<Value> {
        while let Some(line) = self.lines.next_line().await.expect("a line") {
            self.said.push_str(&line);
            self.said.push('\n');
            let event = serde_json::from_str(&line).unwrap_or_default();
            if moment(&event) {
                return Some(event);
            }
        }
        None
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it is running");
        kill_process(pid, signal).expect("it gets the signal");
    }

    /// Kills it with -9; false when it had ended before.
    pub(crate) async fn kill(mut self) -> bool {
        let is_running = self.child.try_wait().expect("it can be asked").is_none();
        self.child.kill().await.expect("it can be killed");
        is_running
    }

    /// Lets it come to its end: exit code and summary.
    pub(crate) async fn end(mut self) -> (i32, Value) {
        assert_eq!(self.until(|_| false).await, None);
        let mut stderr = Vec::new();
        let mut errors = self.child.stderr.take().expect("its errors");
        errors.read_to_end(&mut stderr).await.expect("its errors can be read");
        let status = self.child.wait().await.expect("it ends");
        let output = Output { status, stdout: self.said.into_bytes(), stderr };
        (output.status.code().unwrap_or(-1), summary(&output))
    }
}

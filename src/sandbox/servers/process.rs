//! Signals to a server's processes, found by their parent in `/proc`.
//!
//! Never signals a process group by name or a process it has not just seen to belong to the server.

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// The server's own process as `postmaster.pid` says, when that process lives and works in this data folder.
pub(super) fn postmaster(data: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = String::from_utf8_lossy(&command).contains(&*data.to_string_lossy());
    (ours && alive(pid)).then_some(pid)
}

/// Whether the process exists and has not ended; one that nobody has waited for yet counts as ended.
pub(super) fn alive(pid: u32) -> bool {
    !matches!(stat(pid), None | Some(('Z' | 'X', _)))
}

/// Whether the process has been stopped by a signal.
pub(super) fn stopped(pid: u32) -> bool {
    matches!(stat(pid), Some(('T', _)))
}

/// State letter and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Processes whose parent is `parent`: the server's backends and workers.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(_, found)| found == parent))
        .collect()
}

/// Sends a signal; a process that has just ended is no error.
pub(super) fn send(pid: u32, signal: Signal) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, ?pid, ?signal, "signal not delivered");
    }
}

/// Stops the server and everything it has started; connections stay open and silent.
pub(super) fn freeze(postmaster: u32) {
    send(postmaster, Signal::STOP);
    for child in children(postmaster) {
        send(child, Signal::STOP);
    }
}

/// Lets a frozen server go on.
pub(super) fn thaw(postmaster: u32) {
    for child in children(postmaster) {
        send(child, Signal::CONT);
    }
    send(postmaster, Signal::CONT);
}

/// Ends the server and everything it has started without a chance to say goodbye, as a power cut would.
/// Returns the processes that were killed, the server's own last.
pub(super) fn destroy(postmaster: u32) -> Vec<u32> {
    send(postmaster, Signal::STOP);
    let mut killed = children(postmaster);
    killed.push(postmaster);
    for pid in &killed {
        send(*pid, Signal::KILL);
    }
    killed
}

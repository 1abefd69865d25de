//! HAProxy's runtime API: one connection a command, its answer read to the end, each call with a bound.

use crate::plan::Socket;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Bytes of an answer that are read.
const ANSWER_BYTES: u64 = 4 << 20;

/// The runtime API, for one map.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    socket: Socket,
    map: String,
}

/// What is told of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    /// `UP`, `DOWN`, …
    pub(super) status: String,
    /// Requests that it has not answered, also those that wait for a server.
    pub(super) in_flight: u64,
}

impl Runtime {
    pub(super) fn new(socket: Socket, map: String) -> Self {
        Self { socket, map }
    }

    /// The map's entries as they are in use.
    pub(super) async fn entries(&self, bound: Duration) -> Result<Vec<(String, String)>, String> {
        let answer = self.ask(&format!("show map {}", self.map), bound).await?;
        // Each line begins with an address inside the process.
        let entry = |line: &str| {
            let (_, rest) = line.split_once(' ')?;
            let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
            Some((key.to_owned(), value.to_owned()))
        };
        let (entries, others): (Vec<&str>, Vec<&str>) =
            answer.lines().filter(|line| !line.is_empty()).partition(|line| line.starts_with("0x"));
        match others.first() {
            Some(said) => Err(format!("show map {}: HAProxy said: {said}", self.map)),
            None => Ok(entries.into_iter().filter_map(entry).collect()),
        }
    }

    /// Begins a transaction: a new version of the map, empty, that nobody looks at.
    pub(super) async fn prepare(&self, bound: Duration) -> Result<u64, String> {
        let answer = self.ask(&format!("prepare map {}", self.map), bound).await?;
        let version = answer.trim().rsplit_once(' ').and_then(|(_, version)| version.parse().ok());
        version.ok_or_else(|| format!("prepare map {}: HAProxy said: {}", self.map, answer.trim()))
    }

    /// Adds entries to a version.
    pub(super) async fn add(&self, version: u64, entries: &[(String, String)], bound: Duration) -> Result<(), String> {
        let lines: String = entries.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        self.tell(&format!("add map @{version} {} <<\n{lines}", self.map), bound).await
    }

    /// Puts a version in use, all entries at once.
    pub(super) async fn commit(&self, version: u64, bound: Duration) -> Result<(), String> {
        self.tell(&format!("commit map @{version} {}", self.map), bound).await
    }

    /// Every backend.
    pub(super) async fn backends(&self, bound: Duration) -> Result<BTreeMap<String, Backend>, String> {
        let answer = self.ask("show stat -1 2 -1", bound).await?;
        backends(&answer).ok_or_else(|| "show stat: HAProxy's answer cannot be read".to_owned())
    }

    /// A command whose answer is empty when all is well.
    async fn tell(&self, command: &str, bound: Duration) -> Result<(), String> {
        let answer = self.ask(command, bound).await?;
        let first = command.lines().next().unwrap_or_default().trim_end_matches(" <<");
        if answer.trim().is_empty() { Ok(()) } else { Err(format!("{first}: HAProxy said: {}", answer.trim())) }
    }

    async fn ask(&self, command: &str, bound: Duration) -> Result<String, String> {
        let exchanged = async {
            match &self.socket {
                Socket::Unix(path) => exchange(UnixStream::connect(path).await?, command).await,
                Socket::Tcp(at) => exchange(TcpStream::connect(at).await?, command).await,
            }
        };
        let at = match &self.socket {
            Socket::Unix(path) => path.display().to_string(),
            Socket::Tcp(at) => at.clone(),
        };
        match timeout(bound, exchanged).await {
            Ok(answer) => answer.map_err(|error| format!("ask HAProxy at {at}: {error}")),
            Err(_) => Err(format!("ask HAProxy at {at}: no answer within {} ms", bound.as_millis())),
        }
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, command: &str) -> std::io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The rows of `show stat`, whose columns have their names in the first line.
fn backends(answer: &str) -> Option<BTreeMap<String, Backend>> {
    let mut lines = answer.lines().filter(|line| !line.is_empty());
    let names: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let at = |name: &str| names.iter().position(|found| *found == name);
    let (name, current, waiting, status) = (at("pxname")?, at("scur")?, at("qcur")?, at("status")?);
    let mut found = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
        // A session that waits for a server is counted among the current ones too.
        let in_flight = number(current)?.max(number(waiting).unwrap_or(0));
        found.insert((*fields.get(name)?).to_owned(), Backend { status: (*fields.get(status)?).to_owned(), in_flight });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_read_by_the_names_of_the_columns() {
        let answer = "# pxname,svname,qcur,qmax,scur,smax,status,\nbe_blue,BACKEND,0,0,3,9,UP,\nbe_green,BACKEND,2,0,0,9,DOWN,\n\n";
        let found = backends(answer).expect("an answer");
        assert_eq!(found["be_blue"], Backend { status: "UP".to_owned(), in_flight: 3 });
        assert_eq!(found["be_green"], Backend { status: "DOWN".to_owned(), in_flight: 2 });
        assert_eq!(backends("Permission denied\n"), None);
    }
}

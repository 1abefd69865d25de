//! An HAProxy that chooses its backend by a map: all systems that share socket and map are switched in one transaction.
//!
//! The map's version is the fence. `prepare map` gives a version, and `commit map` of one is refused by HAProxy once a later one was committed; so
//! an orchestrator that stood still between the two cannot undo what another did meanwhile. The file is written after the commit, since a
//! reload reads the file and forgets what was only said to the process.

mod file;
mod runtime;

use crate::plan::{Haproxy, Side};
use runtime::Runtime;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Pause between two looks at what is in flight.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Systems of one map.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Each with its name in the plan; the socket and the map are the same.
    pub(super) systems: Vec<(String, Haproxy)>,
    runtime: Runtime,
}

/// A transaction that has not been committed.
#[derive(Debug)]
pub(super) struct Staged {
    version: u64,
    entries: Vec<(String, String)>,
}

impl Group {
    pub(super) fn new(name: String, haproxy: Haproxy) -> Self {
        let runtime = Runtime::new(haproxy.socket.clone(), haproxy.map.clone());
        Self { systems: vec![(name, haproxy)], runtime }
    }

    /// Whether another system is of the same map.
    pub(super) fn is_of(&self, other: &Haproxy) -> bool {
        self.systems.iter().all(|(_, one)| one.socket == other.socket && one.map == other.map)
    }

    /// The names of its systems, one after the other.
    pub(super) fn name(&self) -> String {
        self.systems.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("+")
    }

    /// The map and its file say `serving`, and every backend of `to` is up.
    pub(super) async fn ready(&self, serving: Side, to: Side, bound: Duration) -> Result<(), String> {
        let entries = self.runtime.entries(bound).await?;
        let stats = self.runtime.backends(bound).await?;
        for (name, one) in &self.systems {
            let found = value(&entries, &one.key);
            if found != one.backends.get(&serving).map(String::as_str) {
                let found = found.unwrap_or("nothing");
                return Err(format!("{name} serves {serving}, and the map has {found} for `{}`", one.key));
            }
            let written = file::read(&one.file)?;
            if value(&written, &one.key) != found {
                let path = one.file.display();
                return Err(format!(
                    "the map in HAProxy and its file {path} differ for `{}`: a reload would move {name}",
                    one.key
                ));
            }
            let backend = &one.backends[&to];
            match stats.get(backend) {
                None => return Err(format!("HAProxy has no backend {backend}")),
                Some(stat) if !stat.status.starts_with("UP") => {
                    return Err(format!("backend {backend} is {}", stat.status));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Waits until no request of `side` is in flight, seen twice.
    pub(super) async fn drained(&self, side: Side, bound: Duration) -> Result<(), String> {
        let until = Instant::now() + bound;
        let mut quiet = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let stats = self.runtime.backends(left).await?;
            // Two systems may share a backend.
            let backends: BTreeSet<&String> = self.systems.iter().map(|(_, one)| &one.backends[&side]).collect();
            let in_flight: u64 = backends.iter().filter_map(|name| stats.get(*name)).map(|stat| stat.in_flight).sum();
            quiet = if in_flight == 0 { quiet + 1 } else { 0 };
            if quiet == 2 {
                return Ok(());
            }
            if Instant::now() + LOOK_AGAIN >= until {
                return Err(format!("{in_flight} requests are still in flight on {side}'s backends"));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Stages a transaction that turns every system to `side` and leaves the map's other entries as they are. Also when the map says so already:
    /// its commit is what an older transaction that somebody has staged is refused by.
    pub(super) async fn stage(&self, side: Side, bound: Duration) -> Result<Staged, String> {
        let version = self.runtime.prepare(bound).await?;
        let entries = self.turned(self.runtime.entries(bound).await?, side);
        self.runtime.add(version, &entries, bound).await?;
        Ok(Staged { version, entries })
    }

    /// Commits what was staged: refused by HAProxy when a later version was committed meanwhile.
    pub(super) async fn commit(&self, staged: Staged, bound: Duration) -> Result<(), String> {
        self.runtime.commit(staged.version, bound).await?;
        let found = self.runtime.entries(bound).await?;
        let (mut found, mut wanted) = (found, staged.entries);
        found.sort();
        wanted.sort();
        if found == wanted { Ok(()) } else { Err("the map was changed by somebody else meanwhile".to_owned()) }
    }

    /// Makes the file of the map say the same of these systems.
    pub(super) fn write_file(&self, side: Side) -> Result<(), String> {
        let mut keys: BTreeMap<&std::path::Path, Vec<(String, String)>> = BTreeMap::new();
        for (_, one) in &self.systems {
            keys.entry(&one.file).or_default().push((one.key.clone(), one.backends[&side].clone()));
        }
        keys.into_iter().try_for_each(|(path, entries)| file::write(path, &entries))
    }

    fn turned(&self, mut entries: Vec<(String, String)>, side: Side) -> Vec<(String, String)> {
        for (_, one) in &self.systems {
            let backend = one.backends[&side].clone();
            match entries.iter_mut().find(|(key, _)| *key == one.key) {
                Some((_, value)) => *value = backend,
                None => entries.push((one.key.clone(), backend)),
            }
        }
        entries
    }
}

fn value<'e>(entries: &'e [(String, String)], key: &str) -> Option<&'e str> {
    entries.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
}

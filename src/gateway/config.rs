//! What a gateway needs to know, taken from a plan.

use crate::plan::{Control, Gateway, Plan, Queue, Replay, Secret};
use crate::revocations::Install;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Longer than clients usually keep an idle connection.
const HEAD: Duration = Duration::from_secs(75);
/// Shortest time for which a revocation is denied.
const DENIED: Duration = Duration::from_secs(60);

/// Everything a gateway runs by.
#[derive(Clone)]
pub struct Config {
    /// Name of the plan; revocations are queued under it.
    pub plan: String,
    /// Name of this gateway: its system's, or its own among several; it registers as a producer under it.
    pub name: String,
    /// The control database.
    pub control: Secret,
    /// Where captured revocations go.
    pub queue: Queue,
    /// How revocations take effect, as the plan says it.
    pub replay: Option<Replay>,
    /// Blue's database, for registers and lookups.
    pub blue: Secret,
    /// Green's database, for registers and lookups.
    pub green: Secret,
    /// The plan's `gateway:` section.
    pub gateway: Gateway,
    /// Longest hold of the plan; a flip that nobody has finished after it is written against.
    pub hold: Duration,
    /// Bound of one lookup, one append and one reading of a register.
    pub patience: Duration,
    /// Longest time for the head of a request, and so for an idle connection.
    pub head: Duration,
    /// How long a revocation is denied at least; no request and no kept answer outlives it.
    pub denied: Duration,
    /// Makes our tables in control where they are missing.
    pub install: Install,
}

/// Why a plan does not say what a gateway is to run by.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotTold {
    /// There is no `gateway:` section.
    #[error("the plan has no gateway: section")]
    NoSection,
    /// Several gateways, and nothing says which of them this one is.
    #[error("the plan has several gateways ({}), and none has the address of gateway.listen.control", .0.join(", "))]
    Which(Vec<String>),
    /// A name that the plan does not have.
    #[error("the plan has no gateway {name}: it has {}", .known.join(", "))]
    Unknown {
        /// The name that was given.
        name: String,
        /// Those that the plan has.
        known: Vec<String>,
    },
}

impl Config {
    /// One gateway of a plan: the one of that `name`, or the only one, or the one whose control address is `gateway.listen.control`.
    ///
    /// # Errors
    /// When the plan has no gateway, or not one that can be told.
    pub fn from_plan(plan: &Plan, name: Option<&str>, install: Install) -> Result<Self, NotTold> {
        let mut gateway = plan.gateway.clone().ok_or(NotTold::NoSection)?;
        let known: Vec<&Control> = plan.systems.iter().flat_map(|system| system.adapter.gateways()).collect();
        let name = one_of(&known, name, &gateway.listen.control)?;
        if known.len() > 1 {
            gateway.state = own_file(&gateway.state, &name);
        }
        Ok(Self {
            plan: plan.name.clone(),
            name,
            control: plan.control.clone(),
            queue: plan.revocations.as_ref().map_or(Queue::Postgres, |revocations| revocations.queue.clone()),
            replay: plan.revocations.as_ref().map(|revocations| revocations.replay.clone()),
            blue: plan.databases.blue.url.clone(),
            green: plan.databases.green.url.clone(),
            head: HEAD,
            denied: denied(&gateway),
            gateway,
            hold: plan.window.hold,
            patience: plan.window.hold.clamp(Duration::from_millis(500), Duration::from_secs(2)),
            install,
        })
    }
}

/// A request that was under way when a revocation was captured has ended by then, with time to spare, and an answer to a refresh is kept no more.
fn denied(gateway: &Gateway) -> Duration {
    DENIED.max(gateway.request_timeout * 2)
}

fn one_of(known: &[&Control], name: Option<&str>, listens: &str) -> Result<String, NotTold> {
    let names = || known.iter().map(|gateway| gateway.name.clone()).collect();
    match (name, known) {
        (None, []) => Ok("gateway".to_owned()),
        (None, [only]) => Ok(only.name.clone()),
        (None, several) => {
            let here = several.iter().find(|gateway| gateway.url == listens);
            here.map(|gateway| gateway.name.clone()).ok_or_else(|| NotTold::Which(names()))
        }
        (Some(name), known) if known.iter().any(|gateway| gateway.name == name) => Ok(name.to_owned()),
        (Some(name), _) => Err(NotTold::Unknown { name: name.to_owned(), known: names() }),
    }
}

/// Two gateways on one machine must not share a memory.
fn own_file(path: &Path, name: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{name}{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(name: &str, url: &str) -> Control {
        Control { name: name.to_owned(), url: url.to_owned() }
    }

    #[test]
    fn a_gateway_is_told_by_its_name_or_its_address() {
        let (a, b) = (gateway("a", "http://10.0.0.1:1"), gateway("b", "http://10.0.0.2:1"));
        let both = [&a, &b];
        assert_eq!(one_of(&both, Some("b"), "http://10.0.0.1:1").as_deref(), Ok("b"));
        assert_eq!(one_of(&both, None, "http://10.0.0.2:1").as_deref(), Ok("b"));
        assert_eq!(one_of(&[&a], None, "http://0.0.0.0:1").as_deref(), Ok("a"), "the only one");
        let names = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(one_of(&both, None, "http://0.0.0.0:1"), Err(NotTold::Which(names.clone())));
        assert_eq!(one_of(&both, Some("c"), ""), Err(NotTold::Unknown { name: "c".to_owned(), known: names }));
    }

    #[test]
    fn two_gateways_keep_two_files() {
        assert_eq!(own_file(Path::new("/p/gateway-state.json"), "a"), Path::new("/p/gateway-state-a.json"));
        assert_eq!(own_file(Path::new("state"), "b"), Path::new("state-b"));
    }
}

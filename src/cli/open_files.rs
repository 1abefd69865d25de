//! How many files and connections this process may hold open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as the system grants without asking; children inherit it. A shell's usual 1,024 would be some five hundred clients, each with a
/// connection to an engine, and is so low for the sake of `select`, which nothing here calls.
pub(super) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, limit = ?limit.current, "the limit of open files stays as it is");
    }
}

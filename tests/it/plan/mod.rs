//! Plans as people write them: the examples load, every mistake is told with its place, and nothing secret is shown.

mod diff;
mod hot_queries;
mod in_place;
mod invariants;
mod keeping_level;
mod meaning;
mod mistakes;
mod prepare;
mod probes;
mod replay;
mod routes;
mod systems;

use cutover::plan;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A value that no reference may leak.
const SENTINEL: &str = "s3ntinel";

/// A plan with every section, and nothing wrong.
pub(crate) fn whole() -> &'static str {
    include_str!("whole.yaml")
}

/// An environment in which everything but `UNSET…` is set: URLs by the look of the name, distinct for each.
pub(crate) fn anything(name: &str) -> Option<String> {
    if name.starts_with("UNSET") {
        return None;
    }
    let url = name.to_lowercase();
    Some(match name {
        _ if name.ends_with("_DSN") || matches!(name, "CONTROL_URL" | "BLUE_URL" | "GREEN_URL") => {
            format!("postgres://login:{SENTINEL}@127.0.0.1:5432/{url}")
        }
        "HYDRA_BIN" => "/usr/local/bin/hydra".to_owned(),
        "GATEWAY_STATE" => "/tmp/gateway-state.json".to_owned(),
        _ => format!("http://{}.test:4444", url.replace('_', "-")),
    })
}

#[test]
fn every_example_plan_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut loaded = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let plan = plan::load(&path, &anything);
            let problems: Vec<String> = plan.err().into_iter().flatten().map(|problem| problem.to_string()).collect();
            assert!(problems.is_empty(), "{}:\n{}", path.display(), problems.join("\n"));
            loaded += 1;
        }
    }
    assert!(loaded > 0, "there are example plans");
}

#[test]
fn the_whole_plan_has_no_mistake() {
    let problems = plan::parse(whole(), Path::new("."), &anything).err().unwrap_or_default();
    assert!(problems.is_empty(), "{}", problems.iter().map(ToString::to_string).collect::<String>());
}

/// A folder of one test's own, removed with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

fn tempdir() -> Folder {
    let folder = std::env::temp_dir().join(format!("cutover-plan-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
    Folder(folder)
}

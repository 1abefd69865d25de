//! The example plan that every sandbox runs and the files it names, embedded in the binary.

use super::environment::{EnvironmentError, Layout};

/// A file below `plans/`: its place beside the plan, and its text.
macro_rules! plan_file {
    ($name:literal) => {
        ($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plans/", $name)))
    };
}

const PLAN: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plans/hydra-1x-to-2x.yaml"));
const FILES: &[(&str, &str)] = &[
    plan_file!("hydra-1x-to-2x/flow.sql"),
    plan_file!("hydra-1x-to-2x/after_copy/V1__refresh_by_subject.sql"),
    plan_file!("hydra-1x-to-2x/hot/login_1x.sql"),
    plan_file!("hydra-1x-to-2x/hot/login_used_2x.sql"),
    plan_file!("hydra-1x-to-2x/hot/consent_1x.sql"),
    plan_file!("hydra-1x-to-2x/hot/consent_by_verifier_1x.sql"),
    plan_file!("hydra-1x-to-2x/hot/consents_1x.sql"),
    plan_file!("hydra-1x-to-2x/hot/consents_2x.sql"),
];

/// Writes `plan.yaml` and the files it names into the sandbox's folder.
pub(super) fn write(layout: &Layout) -> Result<(), EnvironmentError> {
    layout.write(&layout.plan(), 0o644, PLAN)?;
    for (name, text) in FILES {
        layout.write(&layout.dir().join(name), 0o644, text)?;
    }
    Ok(())
}

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
    plan_file!("hydra-1x-to-2x/invariants/grants_1x.sql"),
    plan_file!("hydra-1x-to-2x/invariants/grants_2x.sql"),
    plan_file!("hydra-1x-to-2x/invariants/states_1x.sql"),
    plan_file!("hydra-1x-to-2x/invariants/live_tokens.sql"),
    plan_file!("hydra-1x-to-2x/invariants/chains.sql"),
];

/// The plan that lets the engine's own migrations run over the rows.
const LOGICAL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plans/hydra-logical.yaml"));
const LOGICAL_FILES: &[(&str, &str)] = &[
    plan_file!("hydra-logical/before/V1__repair_requests.sql"),
    plan_file!("hydra-logical/after/V1__states_of_flows.sql"),
    plan_file!("hydra-logical/repairs/subjects.sql"),
];
/// The entry of its `migrate` that mends the states of flows afterwards.
const MENDING: &str = "  - refinery: { name: states, folder: hydra-logical/after }\n";

/// Writes, in place of the sandbox's plan and under its name, the plan of method `logical` without what mends the engine's faults afterwards.
pub(super) fn write_engine_bug(layout: &Layout) -> Result<(), EnvironmentError> {
    layout.write(&layout.plan(), 0o644, &careless())?;
    for (name, text) in LOGICAL_FILES {
        layout.write(&layout.dir().join(name), 0o644, text)?;
    }
    Ok(())
}

const IN_PLACE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plans/hydra-0x-to-1x.yaml"));
const IN_PLACE_FILES: &[(&str, &str)] = &[
    plan_file!("hydra-0x-to-1x/old_engine.sql"),
    plan_file!("hydra-0x-to-1x/rewritten/20190201000001000000_access_expiry.autocommit.up.sql"),
    plan_file!("hydra-0x-to-1x/rewritten/20190201000002000000_access_by_subject.autocommit.up.sql"),
    plan_file!("hydra-0x-to-1x/rewritten/20190201000003000000_fill_audience.autocommit.up.sql"),
    plan_file!("hydra-0x-to-1x/rewritten/20190201000004000000_sqlite_only.up.sql"),
    plan_file!("hydra-0x-to-1x/rewritten/20190201000005000000_client_metadata.up.sql"),
    plan_file!("hydra-0x-to-1x/rewritten/20190201000006000000_audience_is_known.autocommit.up.sql"),
    plan_file!("hydra-0x-to-1x/contract/20190301000001000000_old_listing.autocommit.up.sql"),
];

/// Writes the example plan in place as `plan.yaml`, and the files it names.
pub(super) fn write_in_place(layout: &Layout) -> Result<(), EnvironmentError> {
    layout.write(&layout.plan(), 0o644, IN_PLACE)?;
    for (name, text) in IN_PLACE_FILES {
        layout.write(&layout.dir().join(name), 0o644, text)?;
    }
    Ok(())
}

fn careless() -> String {
    let renamed = LOGICAL.replace("\nname: hydra-logical\n", "\nname: hydra-1x-to-2x\n");
    renamed.replace(MENDING, "")
}

/// Writes `plan.yaml` and the files it names into the sandbox's folder.
pub(super) fn write(layout: &Layout) -> Result<(), EnvironmentError> {
    write_as(layout, PLAN)
}

/// The same for a place where rows are copied and no engine runs: without probes.
pub(super) fn write_without_probes(layout: &Layout) -> Result<(), EnvironmentError> {
    write_as(layout, &without("probes:", PLAN))
}

/// The text without the section that begins with this line.
fn without(section: &str, text: &str) -> String {
    let mut is_inside = false;
    let kept = text.lines().filter(|line| {
        is_inside = *line == section || (is_inside && line.starts_with(' '));
        !is_inside
    });
    kept.map(|line| format!("{line}\n")).collect()
}

fn write_as(layout: &Layout, plan: &str) -> Result<(), EnvironmentError> {
    layout.write(&layout.plan(), 0o644, plan)?;
    for (name, text) in FILES {
        layout.write(&layout.dir().join(name), 0o644, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_careless_plan_has_another_name_and_one_line_less() {
        let careless = careless();
        assert!(careless.contains("\nname: hydra-1x-to-2x\n") && !careless.contains(MENDING));
        assert_eq!(LOGICAL.lines().count() - careless.lines().count(), 1);
        assert!(careless.contains("name: states-of-flows"), "the repair that is to be allowed");
    }

    #[test]
    fn a_plan_loses_one_section_and_keeps_the_rest() {
        let text = "a: 1\n# why\nprobes:\n  - oauth:\n      # one\n      name: b\n\n# next\nsystems: []\n";
        assert_eq!(without("probes:", text), "a: 1\n# why\n\n# next\nsystems: []\n");
        let bare = without("probes:", PLAN);
        assert!(PLAN.contains("- oauth:") && !bare.contains("- oauth:") && bare.contains("\nsystems:"));
    }
}

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

const IN_PLACE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plans/hydra-0x-to-1x.yaml"));
const IN_PLACE_FILES: &[(&str, &str)] = &[
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

/// Writes `plan.yaml` and the files it names into the sandbox's folder.
pub(super) fn write(layout: &Layout) -> Result<(), EnvironmentError> {
    layout.write(&layout.plan(), 0o644, PLAN)?;
    for (name, text) in FILES {
        layout.write(&layout.dir().join(name), 0o644, text)?;
    }
    Ok(())
}

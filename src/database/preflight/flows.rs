//! Whether logins in progress outlive the flip: from Hydra 2.2 on another side's engine cannot end them. Says it, and stops nothing.

use super::Findings;
use crate::plan::{Plan, Side};

/// The first version that keeps them elsewhere than in its tables, major and minor.
const ENCRYPTED: (u32, u32) = (2, 2);
const WHY: &str = "from 2.2 on Hydra keeps a login or consent in progress in its challenge and in cookies, encrypted, and not in its tables: no other side's engine can end it, so that whoever logs in during the flip, or a way back, ends at an error page";

pub(super) fn examine(plan: &Plan) -> Findings {
    let mut findings = Findings { server: "green", all: Vec::new() };
    let Some(gateway) = plan.gateway.as_ref().filter(|gateway| gateway.flows.is_none()) else { return findings };
    let engines = plan.systems.iter().filter(|system| !system.adapter.gateways().is_empty());
    let mut versions = engines.filter_map(|system| system.answers.get(&Side::Green));
    let is_hydra = gateway.doors.patterns.iter().any(|door| door.is_hydras);
    if let Some(version) = versions.find(|version| is_hydra && is_encrypting(version)) {
        let what = format!("logins in progress are carried to an engine that answers {version}");
        let next = "let them begin anew: `gateway.flows.restart`, the engine's public address as browsers see it";
        findings.warning(what, WHY, next);
    }
    findings
}

/// Whether a version, such as `v2.2.0` or the beginning of one, is late enough; what cannot be read says nothing.
fn is_encrypting(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    numbers.next().is_some_and(|major| (major, numbers.next().unwrap_or(0)) >= ENCRYPTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_green_that_cannot_end_blues_logins_is_told() {
        let told = |green: &str, more: &str| {
            let text = include_str!("../../../plans/hydra-1x-to-2x.yaml")
                .replace("green: \"2.2.0\" }", &format!("green: \"{green}\" }}"))
                .replace("  doors: hydra\n", &format!("  doors: hydra\n{more}"));
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
            let lookup = |name: &str| {
                let is_database = name.ends_with("_DSN") || matches!(name, "CONTROL_URL" | "BLUE_URL" | "GREEN_URL");
                let (scheme, name) =
                    (if is_database { "postgres" } else { "http" }, name.to_lowercase().replace('_', "-"));
                Some(format!("{scheme}://{name}.test:1/{name}"))
            };
            let plan = crate::plan::parse(&text, &folder, &lookup).unwrap_or_else(|problems| panic!("{problems:?}"));
            examine(&plan).all.iter().map(|finding| finding.what.clone()).collect::<Vec<_>>()
        };
        let what = |version: &str| vec![format!("logins in progress are carried to an engine that answers {version}")];
        assert_eq!(told("2.2.0", ""), what("2.2.0"));
        assert_eq!(told("v26.2", ""), what("v26.2"));
        for (version, more) in
            [("2.1.2", ""), ("2.0.3", ""), ("green", ""), ("2.2.0", "  flows: { restart: \"https://a.test\" }\n")]
        {
            assert!(told(version, more).is_empty(), "{version}");
        }
    }
}

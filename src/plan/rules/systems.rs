//! What systems cannot be: unheld, unverified, twice at one address, or behind somebody who cannot hold for them.

use super::super::document::Document;
use super::super::model::{Adapter, Plan, Side, System};
use super::super::place::Place;
use super::super::problem::Problems;
use super::unique;
use std::collections::BTreeMap;

pub(super) fn check(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let place = Place::top("systems");
    unique(problems, &place, "name", "systems", document.systems.iter().map(|system| system.name.as_str()));
    addresses(plan, document, problems);
    for system in &plan.systems {
        let place = place_of(document, system);
        held(plan, system, &place, problems);
        named(system, &place, problems);
        several(system, &place, problems);
    }
    let Some(first) = document.systems.first() else { return };
    let is_other =
        first.participant.is_some() || first.command.is_some() || first.haproxy.is_some() || first.nginx.is_some();
    if first.gateway.is_none() && is_other {
        let hint = "the first system is the engine, which cannot hold its clients by itself: put it behind the gateway with \
                    `gateway: { control: … }`";
        problems.key(&place.index(0), "the first system is not behind a gateway", hint);
    }
    if document.revocations.is_none() && !plan.databases.is_in_place {
        let hint = "add `revocations: { queue: { postgres: {} }, replay: { hydra: {} } }`: without them a token revoked during the run \
                    would live on green";
        problems.key(&place, "there are `systems` but no `revocations`", hint);
    }
    let behind = plan.systems.iter().any(|system| matches!(system.adapter, Adapter::Gateway { .. }));
    if behind && document.gateway.is_none() {
        let hint = "add `gateway: { listen: …, blue: …, green: …, doors: hydra }`";
        problems.key(&place, "a system is behind the gateway, but there is no `gateway`", hint);
    }
}

fn place_of(document: &Document, system: &System) -> Place {
    let index = document.systems.iter().rposition(|typed| typed.name == system.name).unwrap_or_default();
    Place::top("systems").index(index)
}

/// Each system answers for itself, and each gateway for one.
fn addresses(plan: &Plan, document: &Document, problems: &mut Problems<'_>) {
    let mut addresses: BTreeMap<String, &str> = BTreeMap::new();
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for system in &plan.systems {
        let place = place_of(document, system);
        let own: Vec<String> = match &system.adapter {
            Adapter::Participant { url } => vec![url.clone()],
            Adapter::Haproxy(haproxy) => vec![format!("{:?} {} {}", haproxy.socket, haproxy.map, haproxy.key)],
            other => other.gateways().iter().map(|gateway| gateway.url.clone()).collect(),
        };
        for address in own {
            if let Some(first) = addresses.insert(address, &system.name) {
                let message = match first == system.name {
                    true => format!("two gateways of `{first}` have the same address"),
                    false => format!("`{}` and `{first}` have the same address", system.name),
                };
                problems.key(&place, message, "each system answers for itself");
            }
        }
        for gateway in system.adapter.gateways() {
            if let Some(first) = names.insert(&gateway.name, &system.name) {
                let message = format!("`{first}` and `{}` both have a gateway `{}`", system.name, gateway.name);
                problems.key(&place, message, "each gateway writes its revocations under a name of its own");
            }
        }
    }
}

/// Clients of a system that cannot hold reach it only through one that can.
fn held(plan: &Plan, system: &System, place: &Place, problems: &mut Problems<'_>) {
    let name = &system.name;
    let Some(front) = &system.behind else {
        if !system.adapter.can_hold() {
            let hint = "say with `behind: NAME` which system its clients come through and which holds them; a command can hold when it has a `hold`";
            problems.key(place, format!("`{name}` cannot hold its clients"), hint);
        }
        return;
    };
    let place = place.key("behind");
    if system.adapter.can_hold() {
        let hint = "leave `behind` out: it is for systems that cannot hold by themselves";
        problems.value(&place, format!("`{name}` holds by itself"), hint);
        return;
    }
    match plan.systems.iter().find(|other| other.name == *front) {
        None => problems.value(&place, format!("there is no system `{front}`"), "name one of `systems`"),
        Some(other) if !other.adapter.can_hold() => {
            let hint = "name the system that holds, such as the gateway";
            problems.value(&place, format!("`{front}` cannot hold either"), hint);
        }
        Some(other) if matches!(system.adapter, Adapter::Nginx(_)) && other.adapter.gateways().is_empty() => {
            let hint = "nginx asks a gateway's gate: name the system with `gateway`";
            problems.value(&place, format!("`{front}` has no gate"), hint);
        }
        Some(_) => {}
    }
}

/// Where nobody but the answer itself can say which side answered, the plan must say how both sides' answers differ.
fn named(system: &System, place: &Place, problems: &mut Problems<'_>) {
    if !matches!(system.adapter, Adapter::Command(_) | Adapter::Haproxy(_) | Adapter::Nginx(_)) {
        return;
    }
    let (blue, green) = (system.answers.get(&Side::Blue), system.answers.get(&Side::Green));
    let overlap = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
    let hint = "how the answer to `verify` begins on each side, such as `answers: { blue: \"1.\", green: \"2.\" }`";
    match (blue, green) {
        (Some(blue), Some(green)) if overlap(blue, green) => {
            let place = place.key("answers");
            problems.key(&place, format!("`{place}` does not tell the sides apart"), hint);
        }
        (Some(_), Some(_)) => {}
        _ => problems.key(place, format!("`{place}` does not say what each side answers"), hint),
    }
    if let Adapter::Haproxy(haproxy) = &system.adapter
        && haproxy.backends.get(&Side::Blue) == haproxy.backends.get(&Side::Green)
    {
        let place = place.key("haproxy").key("backends");
        problems.key(&place, format!("`{place}` are the same backend"), "one backend for each side");
    }
}

fn several(system: &System, place: &Place, problems: &mut Problems<'_>) {
    let Adapter::Gateway(gateways) = &system.adapter else { return };
    if gateways.count_out.is_some() && gateways.controls.len() < 2 {
        let place = place.key("gateway").key("count_out");
        let hint = "leave it out: without its only gateway the system serves nobody";
        problems.key(&place, "the only gateway cannot be counted out", hint);
    }
}

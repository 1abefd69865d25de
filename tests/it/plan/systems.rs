//! What a plan says about systems that flip together: one adapter each, held by itself or by another, told apart by what it answers.

use super::{anything, whole};
use cutover::plan::{self, Adapter, Socket};
use std::path::Path;

const DASHBOARD: &str = "    participant: { url: \"${DASHBOARD_CUTOVER}\" }\n";
const ENGINE: &str = "{ control: \"${GATEWAY_CONTROL}\" }";
const ANSWERS: &str = "    answers: { blue: a, green: b }\n";
const PROGRAMS: &str = "    command: { drain: [d], switch: [s], verify: [v] }\n";
const HAPROXY: &str = "    haproxy: { socket: \"unix:/run/h.sock\", map: /etc/h.map, key: dash, backends: { blue: b1, green: b2 }, verify: { url: \"${DASH_URL}\" } }\n";
const NGINX: &str = "    nginx: { verify: { url: \"${DASH_URL}\" } }\n";

/// `path: message` of each mistake, when the dashboard is this instead.
fn dashboard(item: &str) -> Vec<String> {
    told(&whole().replacen(DASHBOARD, item, 1))
}

fn told(text: &str) -> Vec<String> {
    assert_ne!(text, whole(), "something is changed");
    let problems = plan::parse(text, Path::new("."), &anything).err().unwrap_or_default();
    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn who_cannot_hold_is_behind_one_that_can_or_the_plan_is_refused() {
    let behind = "    behind: engine\n";
    for item in [PROGRAMS, HAPROXY, NGINX] {
        let unheld = dashboard(&format!("{item}{ANSWERS}"));
        assert_eq!(unheld, ["systems[1]: `dashboard` cannot hold its clients"], "{item}");
        assert_eq!(dashboard(&format!("{item}{ANSWERS}{behind}")), [""; 0], "{item}");
        let nobody = dashboard(&format!("{item}{ANSWERS}    behind: nobody\n"));
        assert_eq!(nobody, ["systems[1].behind: there is no system `nobody`"], "{item}");
        let itself = dashboard(&format!("{item}{ANSWERS}    behind: dashboard\n"));
        assert_eq!(itself, ["systems[1].behind: `dashboard` cannot hold either"], "{item}");
    }
    let holds = PROGRAMS.replace("drain", "hold: [h], drain");
    assert_eq!(dashboard(&format!("{holds}{ANSWERS}")), [""; 0], "it has a hold");
    let both = ["systems[1].behind: `dashboard` holds by itself"];
    assert_eq!(dashboard(&format!("{holds}{ANSWERS}{behind}")), both);
    assert_eq!(dashboard(&format!("{DASHBOARD}{behind}")), both);
    // A gate is what nginx asks, and a participant has none.
    let two = format!("{DASHBOARD}  - name: web\n{NGINX}{ANSWERS}    behind: dashboard\n");
    assert_eq!(dashboard(&two), ["systems[2].behind: `dashboard` has no gate"]);
}

#[test]
fn only_the_answer_says_who_answered_so_both_sides_answers_differ() {
    let none = ["systems[1]: `systems[1]` does not say what each side answers"];
    for item in [PROGRAMS, HAPROXY, NGINX] {
        assert_eq!(dashboard(&format!("{item}    behind: engine\n")), none, "{item}");
        let one = dashboard(&format!("{item}    behind: engine\n    answers: {{ blue: a }}\n"));
        assert_eq!(one, none, "{item}");
        let alike = dashboard(&format!("{item}    behind: engine\n    answers: {{ blue: \"1\", green: \"1.2\" }}\n"));
        assert_eq!(alike, ["systems[1].answers: `systems[1].answers` does not tell the sides apart"], "{item}");
    }
    let same = HAPROXY.replace("b2", "b1") + ANSWERS + "    behind: engine\n";
    let same_backend = "systems[1].haproxy.backends: `systems[1].haproxy.backends` are the same backend";
    assert_eq!(dashboard(&same), [same_backend]);
}

#[test]
fn words_for_haproxy_are_words_and_nothing_more() {
    let held = format!("{ANSWERS}    behind: engine\n");
    for (from, to, mistake) in [
        ("unix:/run/h.sock", "/run/h.sock", "systems[1].haproxy.socket: `systems[1].haproxy.socket` is no socket"),
        ("unix:/run/h.sock", "tcp:host", "systems[1].haproxy.socket: `systems[1].haproxy.socket` is no socket"),
        (
            "key: dash",
            "key: \"dash; shutdown\"",
            "systems[1].haproxy.key: `systems[1].haproxy.key` is no word that HAProxy takes",
        ),
        (
            "green: b2",
            "green: \"b2\\nset\"",
            "systems[1].haproxy.backends.green: `systems[1].haproxy.backends.green` is no word that HAProxy takes",
        ),
    ] {
        let item = HAPROXY.replace(from, to) + &held;
        assert_eq!(dashboard(&item), [mistake], "{to}");
    }
    let text = whole().replacen(DASHBOARD, &(HAPROXY.replace("unix:/run/h.sock", "tcp:10.0.0.1:9999") + &held), 1);
    let plan = plan::parse(&text, Path::new("/plans"), &anything).expect("a plan");
    let Adapter::Haproxy(haproxy) = &plan.systems[1].adapter else { panic!("{:?}", plan.systems[1]) };
    assert_eq!(haproxy.socket, Socket::Tcp("10.0.0.1:9999".to_owned()));
    assert_eq!(haproxy.file, Path::new("/etc/h.map"), "the map's own path");
}

#[test]
fn several_gateways_have_names_and_addresses_of_their_own() {
    let engine = |gateway: &str| told(&whole().replacen(ENGINE, gateway, 1));
    let cut = "count_out: { run: [cut] }";
    let two = "controls: { east: \"${EAST}\", west: \"${WEST}\" }";
    assert_eq!(engine(&format!("{{ {two}, {cut} }}")), [""; 0]);
    let one_of = ["systems[0].gateway: `systems[0].gateway` must have exactly one of `control` and `controls`"];
    assert_eq!(engine("{}"), one_of);
    assert_eq!(engine(&format!("{{ control: \"${{EAST}}\", {two} }}")), one_of);
    let only = ["systems[0].gateway.count_out: the only gateway cannot be counted out"];
    assert_eq!(engine(&format!("{{ control: \"${{EAST}}\", {cut} }}")), only);
    let alike = ["systems[0]: two gateways of `engine` have the same address"];
    assert_eq!(engine("{ controls: { east: \"${EAST}\", west: \"${EAST}\" } }"), alike);
}

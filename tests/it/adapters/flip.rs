//! Every kind of system in one flip over two databases, and in the way back: programs, the real HAProxy and nginx, participants, the gateway.

use super::proxies::{Haproxy, Nginx};
use crate::harness::fresh_folder;
use crate::harness::sandbox::Sandbox;
use std::os::unix::fs::PermissionsExt;

const BLUE: &str = r#"{"version":"1.11.10"}"#;
const GREEN: &str = r#"{"version":"2.2.0"}"#;
/// Says which side answers it; its other verbs have nothing to do.
const REPORTS: &str = r#"#!/bin/sh
echo "$CUTOVER_VERB $CUTOVER_SIDE" >> "$(dirname "$0")/log"
[ "$CUTOVER_VERB" = verify ] && echo "on-$CUTOVER_SIDE"
exit 0
"#;

async fn answers(port: u16) -> String {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/version")).await.expect("it answers");
    answer.text().await.expect("text").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systems_of_every_kind_go_over_and_come_back_as_one() {
    let sandbox = Sandbox::up("kinds", 1000, 30).await;
    let folder = fresh_folder("kinds-of-systems");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (blue, green) = (sandbox.variable("BLUE_ADMIN"), sandbox.variable("GREEN_ADMIN"));
    let gate = sandbox.variable("GATEWAY_CONTROL").replace("http://", "");
    let haproxy = Haproxy::start(&folder, &blue, &green).await;
    let nginx = Nginx::start(&folder, &gate, &blue, &green).await;
    let script = folder.join("reports");
    std::fs::write(&script, REPORTS).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
    let (run, web) = (script.display(), nginx.port);
    let verbs: String = ["prepare", "hold", "drain", "switch", "verify", "release"]
        .map(|verb| format!("{verb}: [\"{run}\"], "))
        .concat();
    let who = "answers: { blue: blue, green: green }";
    let versions = format!("answers: {{ blue: '{BLUE}', green: '{GREEN}' }}");
    let proxies = haproxy.items().replace("/who", "/version").replace(who, &versions);
    let last = "  - name: dashboard\n    participant: { url: \"${DASHBOARD_CUTOVER}\" }\n    answers: { blue: \"1.11.10\", green: \"2.2.0\" }\n";
    sandbox.change_plan(
        last,
        &format!(
            "{last}{proxies}  - {{ name: web, behind: engine, nginx: {{ verify: {{ url: \"http://127.0.0.1:{web}/version\" }} }}, {versions} }}\n  \
             - {{ name: reports, command: {{ {verbs} }}, answers: {{ blue: on-blue, green: on-green }} }}\n"
        ),
    );
    let (code, said) = sandbox.run("run").await;
    assert_eq!(code, 0, "{said}");
    for (verb, side, version) in [("flip", "green", GREEN), ("rollback --yes", "blue", BLUE)] {
        let (code, said) = sandbox.run(verb).await;
        assert_eq!((code, said["live"].as_str()), (0, Some(side)), "{said}");
        for port in [haproxy.api, haproxy.admin, nginx.port] {
            assert_eq!(answers(port).await, version, "after {verb}");
        }
        let log = std::fs::read_to_string(folder.join("log")).expect("the script was called");
        assert_eq!(log.lines().last(), Some(format!("release {side}").as_str()), "{log}");
    }
    let report = sandbox.verb(&["report"]).await;
    for word in ["failed", "lost_writes", "revoked_accepted", "two_writer_ms"] {
        assert_eq!(report["prober"][word], 0, "{word} in {report}");
    }
    let _ = std::fs::remove_dir_all(&folder);
}

//! Two gateways of one engine: they go over as one, and one that has died is cut off and counted out, or nothing moves; back again, it asks first.

use crate::gateway::world::Engine;
use crate::harness::eventually;
use crate::harness::stage::Stage;
use crate::harness::underway::Underway;
use cutover::plan::Side;
use cutover::sandbox::servers::free_port;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway's file of variables: where it listens.
fn variables(stage: &Stage, name: &str, control: &str) -> String {
    let [public, admin] = [(); 2].map(|()| format!("http://127.0.0.1:{}", free_port().expect("a port")));
    stage.write_file(&format!("{name}.env"), &format!("PUBLIC={public}\nADMIN={admin}\nCONTROL={control}\n"));
    public
}

async fn started(stage: &Stage, name: &str) -> Underway {
    let file = stage.path(&format!("{name}.env")).display().to_string();
    let mut gateway = stage.start(&["gateway", "--env-file", &file]);
    gateway.until(|event| event["event"] == "listening").await.expect("the gateway listens");
    gateway
}

async fn serves(public: &str, side: &str) {
    let http = cutover::traffic::http_client().expect("a client");
    let answers = || async {
        let answer = http.get(format!("{public}/")).send().await.ok()?.text().await.ok()?;
        (answer == side).then_some(())
    };
    eventually(PATIENCE, "the gateway serves the side", answers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_go_over_as_one_and_a_dead_one_is_cut_off_or_nothing_moves() {
    let stage = Stage::with_accounts(50).await;
    stage.write_file("expand/20200101000001_kind.up.sql", "alter table note add column kind text;");
    let control = stage.pair.control.url();
    let engines = [Engine::start(Side::Blue, control.clone()).await, Engine::start(Side::Green, control).await];
    let own = [(); 2].map(|()| format!("http://127.0.0.1:{}", free_port().expect("a port")));
    let upstream = |engine: &Engine| format!("{{ public: \"{0}\", admin: \"{0}/\" }}", engine.url);
    // Succeeds once somebody has made the file `may-cut`.
    stage.write_file("cut", "test -e may-cut && echo \"$CUTOVER_GATEWAY\" >> was-cut\n");
    stage.write_file(
        "plan.yaml",
        &format!(
            "version: 1\nname: stage\ncontrol: ${{CONTROL_URL}}\ndatabases:\n  blue: {{ url: \"${{BLUE_URL}}\", role: hydra }}\nwindow: {{ hold: 10s, soak: 1s }}\n\
             migrate:\n  - engine: {{ folder: expand }}\nsystems:\n  - name: engine\n    gateway:\n      controls: {{ east: \"{}\", west: \"{}\" }}\n      \
             count_out: {{ run: [sh, ./cut] }}\n    answers: {{ blue: \"1.11.10\", green: \"2.2.0\" }}\n\
             gateway:\n  listen: {{ public: \"${{PUBLIC}}\", admin: \"${{ADMIN}}\", control: \"${{CONTROL}}\" }}\n  blue: {}\n  green: {}\n  doors: hydra\n  state: gateway.json\n",
            own[0],
            own[1],
            upstream(&engines[0]),
            upstream(&engines[1]),
        ),
    );
    let (east, west) = (variables(&stage, "east", &own[0]), variables(&stage, "west", &own[1]));
    let (_east, dying) = (started(&stage, "east").await, started(&stage, "west").await);
    let file = stage.path("east.env").display().to_string();
    let said = async |words: &[&str]| stage.verb(&[words, &["--env-file", &file]].concat()).await;
    assert_eq!(said(&["run"]).await.0, 0);

    // Both alive: both go over, there and back.
    for (words, side) in [(&["flip"][..], "green"), (&["rollback", "--yes"], "blue")] {
        let (code, summary) = said(words).await;
        assert_eq!((code, summary["live"].as_str()), (0, Some(side)), "{summary}");
        serves(&east, side).await;
        serves(&west, side).await;
    }
    assert!(stage.path("gateway-east.json").exists() && stage.path("gateway-west.json").exists());

    // One has died, and could not be cut off for certain: nothing moves.
    assert!(dying.kill().await, "it was running");
    let (code, summary) = said(&["flip"]).await;
    let why = summary["why"].as_str().unwrap_or_default();
    assert!(code != 0 && summary["live"] == "blue" && why.contains("cut the gateway west off"), "{code} {summary}");
    serves(&east, "blue").await;

    // It is cut off, and the other goes over without it.
    stage.write_file("may-cut", "");
    let (code, summary) = said(&["flip"]).await;
    assert_eq!((code, summary["live"].as_str()), (0, Some("green")), "{summary}");
    serves(&east, "green").await;
    assert_eq!(std::fs::read_to_string(stage.path("was-cut")).expect("it was cut off"), "west\n");

    // Started again it asks before it serves, and the next move has it in again.
    let _west = started(&stage, "west").await;
    serves(&west, "green").await;
    let (code, summary) = said(&["rollback", "--yes"]).await;
    assert_eq!((code, summary["live"].as_str()), (0, Some("blue")), "{summary}");
    serves(&east, "blue").await;
    serves(&west, "blue").await;
    assert_eq!(std::fs::read_to_string(stage.path("was-cut")).expect("it is there"), "west\n", "nobody else was");
}

//! A rehearsal goes there and back, writes its record and leaves no server behind; and keeps off production.

use crate::harness::fresh_folder;
use crate::harness::sandbox::summary;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::process::Command;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/hydra-1x-to-2x.yaml")
}

async fn rehearse(plan: &Path, more: &[&str]) -> (i32, String, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    let output = command.arg("rehearse").arg(plan).args(more).arg("--json").output().await.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), text, summary(&output))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_of_the_example_plan_writes_its_record_and_leaves_no_server() {
    let folder = fresh_folder("rehearsal");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("record.json");
    let more = [
        "--prove-mapping",
        "--soak",
        "500ms",
        "--rows",
        "2000",
        "--rate",
        "40",
        "--record",
        file.to_str().expect("text"),
    ];
    let (code, text, last) = rehearse(&example(), &more).await;
    assert_eq!((code, last["live"].as_str()), (0, Some("blue")), "{last}");
    let record: Value = serde_json::from_slice(&std::fs::read(&file).expect("a record")).expect("JSON");
    assert_eq!(record, last);
    for name in ["plan_digest", "fingerprints", "versions", "hold_ms_p99", "rollback_s"] {
        assert!(!record[name].is_null(), "{name} in {record}");
    }
    assert_eq!(record["mapping"]["undeclared"], 0, "{record}");
    assert!(record["mapping"]["declared"].as_u64() > Some(0), "{record}");
    assert_ne!(record["fingerprints"]["blue"], record["fingerprints"]["green"]);
    let steps = record["steps"].as_array().expect("the steps");
    let step = |id: &str| steps.iter().find(|step| step["step"] == id).unwrap_or_else(|| panic!("{id} in {record}"));
    assert!(step("copy-rows")["rows"].as_u64().is_some_and(|rows| rows >= 2000), "{record}");
    let files = steps.iter().find_map(|step| step["files"].as_array()).expect("a step that applied files");
    assert!(files[0]["file"].is_string() && files[0]["ms"].is_u64(), "{record}");
    assert!(files[0]["locks"].is_object() && files[0]["rewritten"].is_array(), "{record}");
    for id in ["flip", "return"] {
        assert!(step(id)["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{record}");
    }
    let dir = text.split("--dir ").nth(1).and_then(|rest| rest.split(' ').next()).expect("the sandbox's folder");
    assert!(!Path::new(dir).exists(), "nothing of {dir} is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes long: scripts/long"]
async fn a_plan_in_place_is_rehearsed_on_servers_of_its_own_kind() {
    let plan = example().with_file_name("hydra-0x-to-1x.yaml");
    let (code, text, last) = rehearse(&plan, &["--soak", "500ms", "--rows", "2000"]).await;
    assert_eq!((code, last["live"].as_str(), last["outcome"].as_str()), (0, Some("blue"), Some("done")), "{text}");
    let steps = last["steps"].as_array().expect("the steps");
    let file = steps.iter().find_map(|step| step["files"].as_array()).map(|files| &files[0]).expect("measured files");
    assert!(file["foretold"]["locks"].is_object() && file["otherwise"].is_array(), "{file}");
}

#[tokio::test]
async fn a_rehearsal_keeps_off_production_under_any_name() {
    let folder = fresh_folder("staging");
    std::fs::create_dir_all(&folder).expect("a folder");
    let plan = folder.join("plan.yaml");
    std::fs::copy(example(), &plan).expect("the plan");
    std::fs::write(folder.join("production.env"), "BLUE_URL=postgres://cutover:secret@127.0.0.1:6543/hydra\n")
        .expect("written");
    let staging = folder.join("staging.env");
    std::fs::write(&staging, "GREEN_URL=postgres://other@localhost:6543/copy\n").expect("written");
    let (code, text, last) = rehearse(&plan, &["--env-file", staging.to_str().expect("text")]).await;
    assert_eq!((code, last["outcome"].as_str()), (3, Some("refused")), "{last}");
    let why = last["why"].as_str().expect("a reason");
    assert!(why.contains("GREEN_URL leads to the same server as BLUE_URL"), "{why}");
    assert!(!text.contains("secret") && !text.contains("\"verb\""), "nothing was begun, and no secret told: {text}");
}

//! After the flip: invariants are asked once more of both sides as they stood still, what does not hold counts in the soak, what nobody could ask
//! is no proof; and jobs outside stand still until then.

use super::flip::NEVER;
use super::way_back::LEFT;
use crate::harness::sandbox::Sandbox;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const TOKEN: &str = "t0ken-of-the-reconciler";

/// Holds on blue while it is open, and not once it is sealed: the only thing that can be told apart from outside between the two questions.
const OPEN: &str = "  - { name: blue-is-open, blue: select count(*) from pg_trigger where tgname = 'cutover_seal', green: select 0, expect: equal }\n";

/// A job that listens: what it was asked, with its token.
#[derive(Clone, Default)]
struct Job(Arc<Mutex<Vec<String>>>);

impl Job {
    /// Answers every request with 204, but sends `/moved` elsewhere.
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = self.0.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).to_lowercase();
                let line = head.lines().next().unwrap_or_default().replace(" http/1.1", "");
                let is_known = head.contains(&format!("authorization: bearer {TOKEN}"));
                heard.lock().expect("a list").push(format!("{line} {is_known}"));
                let answer = match line.contains("/moved") {
                    true => {
                        "HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    }
                    false => "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    fn heard(&self) -> Vec<String> {
        self.0.lock().expect("a list").clone()
    }
}

/// A sandbox whose plan freezes two jobs, with one invariant more.
async fn sandbox(name: &str, (job, path): (&str, &str), invariant: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::up(name, 2000, 30).await;
    let file = sandbox.dir.join("plan.yaml");
    let plan = std::fs::read_to_string(&file).expect("the plan");
    assert!(plan.contains("\ninvariants:\n"), "the example plan has invariants");
    let plan = plan.replace("\ninvariants:\n", &format!("\ninvariants:\n{invariant}"));
    let freeze = format!(
        "freeze:
  - {{ name: janitor, command: {{ freeze: [touch, frozen], thaw: [rm, -f, frozen], verify: [test, -f, frozen] }} }}
  - {{ name: reconciler, http: {{ freeze: {{ method: POST, url: \"{job}{path}\" }}, thaw: {{ method: DELETE, url: \"{job}/pause\" }}, bearer: \"${{RECONCILER_TOKEN}}\" }} }}\n"
    );
    std::fs::write(&file, format!("{plan}{freeze}{more}")).expect("the plan is written");
    let env = sandbox.dir.join("env");
    let variables = std::fs::read_to_string(&env).expect("the variables");
    std::fs::write(&env, format!("{variables}RECONCILER_TOKEN={TOKEN}\n")).expect("they are written");
    sandbox
}

fn frozen(sandbox: &Sandbox) -> PathBuf {
    sandbox.dir.join("frozen")
}

fn failed(said: &Value) -> Vec<&str> {
    let failed = said["failed_invariants"].as_array().map(Vec::as_slice).unwrap_or_default();
    failed.iter().filter_map(|answer| answer["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_hold_after_the_flip_counts_in_the_soak_and_jobs_stand_still_until_all_is_undone() {
    let job = Job::default();
    let address = job.listen().await;
    let sandbox = sandbox("proved", (&address, "/pause?why=s3cret"), OPEN, "soak: { when_worse: return }\n").await;
    sandbox.until("revoked", 3).await;
    let (code, said) = sandbox.run("run").await;
    assert_eq!((code, said["state"].as_str()), (0, Some("at_flip_point")), "{said}");
    assert!(frozen(&sandbox).exists(), "the janitor stands still");
    assert_eq!(job.heard(), ["post /pause?why=s3cret true"]);

    std::fs::remove_file(frozen(&sandbox)).expect("somebody starts it again");
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (3, Some("blue")), "{said}");
    assert!(said["why"].as_str().is_some_and(|why| why.contains("job janitor is not frozen any more")), "{said}");
    std::fs::write(frozen(&sandbox), "").expect("by hand");

    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str(), failed(&said)), (0, Some("green"), vec!["blue-is-open"]), "{said}");
    let (code, said) = sandbox.run("run --through soak --set window.soak=1h").await;
    assert_eq!((code, said["outcome"].as_str(), said["live"].as_str()), (7, Some("returned"), Some("blue")), "{said}");
    let why = said["why"].as_str().expect("why");
    assert!(why.contains("what held on blue did not hold when green opened: blue-is-open: "), "{why}");
    assert!(frozen(&sandbox).exists() && job.heard().len() == 1, "nothing is thawed before it is undone");

    let (code, said) = sandbox.run("rollback --yes").await;
    assert_eq!((code, said["state"].as_str()), (0, Some("rolled_back")), "{said}");
    assert!(!frozen(&sandbox).exists(), "thawed");
    assert_eq!(job.heard(), ["post /pause?why=s3cret true", "delete /pause true"]);
    assert_eq!(sandbox.ask("BLUE_URL", LEFT).await, 0);
    let report = sandbox.verb(&["report"]).await;
    for word in NEVER {
        assert_eq!(super::flip::count(&report, word), 0, "{word} in {report}");
    }
    let journal = "select coalesce(string_agg(body::text, ''), '') from cutover.record";
    let journal: String = sandbox.client("CONTROL_URL").await.query_one(journal, &[]).await.expect("records").get(0);
    assert!(journal.contains("blue-is-open") && !journal.contains(TOKEN), "no token is journalled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_could_ask_is_no_proof_and_jobs_are_thawed_at_the_end() {
    let job = Job::default();
    let address = job.listen().await;
    let sandbox = sandbox("unproved", (&address, "/pause"), "", "").await;
    assert_eq!(sandbox.run("run").await.0, 0);
    let opening =
        |event: &Value| event["event"] == "note" && event["step"] == "flip" && event["body"]["phase"] == "released";
    assert!(sandbox.killed("flip", opening, Duration::ZERO).await, "killed before it could ask");
    let (code, said) = sandbox.run("flip").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    sandbox.until("requests", 300).await;
    let (code, said) = sandbox.run("run --through soak --set window.soak=1s").await;
    let why = said["why"].as_str().expect("why");
    assert!(code == 3 && why.contains("whether the invariants held when green opened is not known"), "{said}");
    let (code, said) = sandbox.run("run --through thaw --set window.soak=1s").await;
    assert!(code == 3 && frozen(&sandbox).exists(), "nothing is thawed unproved: {said}");
    for part in ["prober", "engine-blue"] {
        assert_eq!(sandbox.verb(&["fault", part, "kill"]).await["outcome"], "done", "{part}");
    }
    let (code, said) = sandbox.run("finalize --yes --set window.soak=1s --waive soak --because seen-by-hand").await;
    assert_eq!((code, said["live"].as_str()), (0, Some("green")), "{said}");
    assert!(!frozen(&sandbox).exists(), "thawed");
    assert_eq!(job.heard(), ["post /pause true", "delete /pause true"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_frozen_stops_the_run_and_its_token_follows_no_redirect() {
    let job = Job::default();
    let address = job.listen().await;
    let sandbox = sandbox("moved", (&address, "/moved?why=s3cret"), "", "").await;
    let (code, said) = sandbox.run("run").await;
    assert_eq!((code, said["outcome"].as_str(), said["live"].as_str()), (1, Some("failed"), Some("blue")), "{said}");
    let why = said["why"].as_str().expect("why");
    assert!(why.contains("freeze job reconciler") && why.contains("answered with 307"), "{why}");
    assert!(!why.contains("s3cret") && job.heard() == ["post /moved?why=s3cret true"], "{why} {:?}", job.heard());
    assert!(frozen(&sandbox).exists(), "the job before it stands still");
    let (code, said) = sandbox.run("rollback").await;
    assert_eq!((code, said["state"].as_str()), (0, Some("rolled_back")), "{said}");
    assert!(!frozen(&sandbox).exists(), "thawed");
    let heard = job.heard();
    assert_eq!(heard.last().map(String::as_str), Some("delete /pause true"), "it may have been frozen: {heard:?}");
}

//! The bench on very few rows: it ends, cleans up, and its last line has the words that are promised.

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Mutex;

/// One bench at a time: each has to end within its bound beside everything else that is tested.
static TURN: Mutex<()> = Mutex::const_new(());

async fn quick(what: &str) -> Value {
    let _turn = TURN.lock().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.args(["sandbox", "bench", what, "--quick", "--rows", "2000", "--json"]);
    let output = command.output().await.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("a last line of JSON");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&last["bench"], &last["rows"], &last["pass"]), (&what.into(), &2000.into(), &Value::Null), "{last}");
    for word in ["ours_s", "bytes", "tool_rss_mb"] {
        assert!(last[word].as_f64().is_some_and(|value| value > 0.0), "{word}: {last}");
    }
    assert!(last["versions"]["postgres"].is_string() && last["stages"]["ours"].is_object(), "{last}");
    last
}

/// The peer has a time and a ratio, or a word why not.
fn has_peer(last: &Value, peer: &str) {
    let (seconds, ratio) = (&last["peers_s"][peer], &last["ratio"][peer]);
    let is_measured = seconds.as_f64().is_some_and(|value| value > 0.0) && ratio.as_f64().is_some();
    let is_excused = seconds.is_null() && ratio.is_null() && last["not_measured"][peer].is_string();
    assert!(is_measured || is_excused, "{peer}: {last}");
    assert!(last["peers_s"].as_object().is_some_and(|peers| peers.contains_key(peer)), "{peer}: {last}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/long"]
async fn bench_carry_measures_both_peers() {
    let last = quick("carry").await;
    for peer in ["restore_migrate", "plain_copy"] {
        has_peer(&last, peer);
    }
    assert!(last["stages"]["ours"]["copy-rows"].is_f64(), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/long"]
async fn bench_copy_measures_three_peers_or_says_which_is_not_installed() {
    let last = quick("copy").await;
    for peer in ["pgcopydb", "dump_restore", "native"] {
        has_peer(&last, peer);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/long"]
async fn bench_diff_finds_the_one_row_that_was_changed_and_is_set_beside_the_copy() {
    let last = quick("diff").await;
    for peer in ["copy", "copy_rows"] {
        has_peer(&last, peer);
    }
    for stage in ["same", "one_row_changed", "under_writes"] {
        assert!(last["stages"]["ours"][stage].is_f64(), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/long"]
async fn bench_level_measures_both_backlogs_and_the_lag() {
    let last = quick("level").await;
    has_peer(&last, "native");
    for backlog in ["distinct", "hot"] {
        let one = &last["backlogs"][backlog];
        assert!(one["ours_s"].as_f64().is_some() && one["native_s"].as_f64().is_some(), "{last}");
    }
    assert!(last["lag_ms"]["ours"]["max"].as_f64().is_some(), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/long"]
async fn bench_cleanup_measures_what_statements_take_beside_a_sweep() {
    let last = quick("cleanup").await;
    for word in ["without", "with", "ratio"] {
        assert!(last["p95_ms"][word].as_f64().is_some_and(|value| value > 0.0), "{word}: {last}");
    }
    assert_eq!(last["swept"]["rows"], 200, "{last}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/long"]
async fn bench_migrations_measures_what_writers_wait() {
    let _turn = TURN.lock().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.args(["sandbox", "bench", "migrations", "--quick", "--rows", "20000", "--json"]);
    let output = command.output().await.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("a last line of JSON");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for set in ["stock", "rewritten"] {
        for word in ["blocked_ms_max", "idle_ms_max", "seconds", "writes_per_s"] {
            assert!(last[word][set].as_f64().is_some_and(|value| value > 0.0), "{word} {set}: {last}");
        }
    }
    assert_eq!(last["pass"], Value::Null, "{last}");
}

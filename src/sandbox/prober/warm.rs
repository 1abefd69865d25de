//! Before the history begins: first requests until every part answers promptly, so that cold pools and first connections are not
//! taken for failures.

use super::client::Client;
use super::words::{Call, Kind};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

/// Requests of one round, as many as a flip's release lets loose at once.
const ABREAST: usize = 24;
/// A round is good when each request took less than this.
const PROMPT_US: u64 = 400_000;
/// Good rounds in a row.
const ROUNDS: u32 = 3;
/// Longest warm-up; after it the load begins as things are.
const PATIENCE: Duration = Duration::from_secs(45);

/// Asks harmless questions everywhere until all are answered promptly.
pub(super) async fn warm_up(client: &Client) {
    let until = Instant::now() + PATIENCE;
    let mut good = 0;
    while good < ROUNDS && Instant::now() < until {
        let calls = join_all((0..ABREAST).map(|nth| ask(client, nth))).await;
        good = if calls.iter().all(is_prompt) { good + 1 } else { 0 };
    }
}

async fn ask(client: &Client, nth: usize) -> Call {
    let doors = &client.doors;
    match nth % 3 {
        0 => client.introspect("warm.up").await,
        1 => {
            let request = client.http.get(format!("{}/apps", doors.dashboard)).query(&[("subject", "warm-up")]);
            client.call(Kind::Check, request).await
        }
        _ => {
            let question = [("subject", "warm-up"), ("client", "warm-up")];
            let request = client.http.get(format!("{}/check", doors.authorization)).query(&question);
            client.call(Kind::Check, request).await
        }
    }
}

fn is_prompt(call: &Call) -> bool {
    call.success().is_some() && call.end_us - call.start_us < PROMPT_US
}

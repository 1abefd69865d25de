//! Cloudflare's API and its traps: who gets the token, when it says to come again, and how its consumer must be set up.

use super::bench::{Bench, parcel, pull_some};
use super::cloudflare_server::{Server, TOKEN, Traits};
use cutover::plan::Secret;
use cutover::revocations::queue::{CloudflareQueue, Lane, Queue, Terms};
use std::time::Duration;
use tokio::time::Instant;

async fn server(change: impl FnOnce(&mut Traits)) -> Server {
    let mut traits = Traits { max_retries: 3, ..Traits::default() };
    change(&mut traits);
    Server::start(traits).await
}

fn queue(server: &Server, limit: Duration) -> CloudflareQueue {
    CloudflareQueue::new(&server.settings(), Terms { limit, ..Bench::terms() })
}

const LIMIT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn the_token_goes_to_nobody_else_when_it_is_sent_elsewhere() {
    let other = server(|_| {}).await;
    let first = server(|traits| traits.elsewhere = Some(format!("{}/stolen", other.url))).await;
    let error = queue(&first, LIMIT).publish(Lane::Live, &[parcel(b"{}".to_vec())], None).await.expect_err("307");
    assert!(error.to_string().contains("307") && error.is_certainly_undone(), "{error}");
    assert_eq!((first.authorized(), other.authorized()), (1, 0), "the redirect is not followed");
    assert!(!error.to_string().contains(TOKEN));
}

#[tokio::test]
async fn it_comes_again_when_told_to_and_not_beyond_its_bound() {
    let server = server(|traits| (traits.too_many, traits.retry_after_s) = (1, 1)).await;
    let asked = Instant::now();
    let queue = queue(&server, LIMIT);
    queue.publish(Lane::Live, &[parcel(b"{}".to_vec())], None).await.expect("the second time");
    assert!(asked.elapsed() >= Duration::from_secs(1), "it waited as long as it was told to");
    assert_eq!(server.calls("batch"), 2);
    server.change(|traits| (traits.too_many, traits.retry_after_s) = (9, 3600));
    let asked = Instant::now();
    let error = queue.publish(Lane::Live, &[parcel(b"{}".to_vec())], None).await.expect_err("an hour");
    assert!(asked.elapsed() < LIMIT && error.is_certainly_undone(), "{error}");
    assert_eq!(server.calls("batch"), 3, "it is asked no more than once");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_and_a_server_that_is_down_leaves_doubt() {
    let server = server(|traits| traits.lost_answers = 1).await;
    let queue = queue(&server, Duration::from_secs(1));
    queue.publish(Lane::Live, &[parcel(b"{}".to_vec())], None).await.expect("published twice is published");
    assert_eq!(queue.depth().await.expect("it answers").live, 2);
    server.change(|traits| traits.is_down = true);
    let error = queue.publish(Lane::Live, &[parcel(b"{}".to_vec())], None).await.expect_err("503");
    assert!(!error.is_certainly_undone(), "what stands behind a 503 is unknown: {error}");
}

#[tokio::test]
async fn many_and_large_messages_go_in_batches_that_the_service_takes() {
    let server = server(|_| {}).await;
    let queue = queue(&server, LIMIT);
    let mut parcels: Vec<_> = (0..130).map(|_| parcel(br#"{"n":1}"#.to_vec())).collect();
    parcels.extend((0..4).map(|_| parcel(format!("{{\"n\":\"{}\"}}", "x".repeat(90_000)).into_bytes())));
    queue.publish(Lane::Live, &parcels, None).await.expect("the server is strict");
    assert_eq!(queue.depth().await.expect("it answers").live, 134);
    let huge = [parcel(format!("\"{}\"", "x".repeat(140_000)).into_bytes())];
    let error = queue.publish(Lane::Live, &huge, None).await.expect_err("more than a message may have");
    assert!(error.is_certainly_undone(), "{error}");
}

#[tokio::test]
async fn its_consumer_must_keep_dead_letters_and_let_itself_be_pulled() {
    let refused = async |change: fn(&mut Traits)| {
        let server = server(change).await;
        queue(&server, LIMIT).check().await.expect_err("it is not fit").to_string()
    };
    assert!(refused(|traits| traits.has_no_dead_letters = true).await.contains("has no dead-letter queue"));
    assert!(refused(|traits| traits.has_other_dead_letters = true).await.contains("somebody-elses"));
    assert!(refused(|traits| traits.is_pushed = true).await.contains("http_pull"));
    let mut settings = server(|_| {}).await.settings();
    settings.token = Secret::new("wrong");
    let error = CloudflareQueue::new(&settings, Bench::terms()).check().await.expect_err("a wrong token");
    assert!(error.to_string().contains("403") && !error.to_string().contains("wrong"), "{error}");
}

#[tokio::test]
async fn the_visibility_that_it_asks_for_must_be_the_one_it_gets() {
    let sound = server(|traits| traits.max_retries = 100).await;
    let bench_of = queue(&sound, LIMIT);
    bench_of.publish(Lane::Live, &[parcel(br#"{"n":1}"#.to_vec())], None).await.expect("it is published");
    let (checked, none, default) = tokio::join!(
        bench_of.check(),
        async { queue(&server(|traits| traits.visibility = Some(Duration::ZERO)).await, LIMIT).check().await },
        async { queue(&server(|traits| traits.visibility = Some(Duration::from_secs(30))).await, LIMIT).check().await },
    );
    checked.expect("it is fit");
    assert!(none.expect_err("no lease").to_string().contains("again at once"));
    assert!(default.expect_err("the default").to_string().contains("did not come back"));
    let left = pull_some(&bench_of, Lane::Live).await;
    assert_eq!(left.iter().map(|one| one.body.as_slice()).collect::<Vec<_>>(), [br#"{"n":1}"#], "the test is gone");
    assert_eq!(sound.deleted(), 0);
}

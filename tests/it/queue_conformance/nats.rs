//! A JetStream server: what it holds survives a kill, and a stream that would drop messages is refused.

use super::bench::{Bench, SOON, leases, parcel, pull_some};
use super::servers::Nats;
use crate::harness::eventually;
use crate::revocations::LIMIT;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use cutover::plan::Secret;
use cutover::revocations::queue::{Lane, NatsQueue, Queue, Stillness, Terms};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn what_is_published_survives_a_kill_of_the_server() {
    let mut server = Nats::start().await;
    let queue = NatsQueue::new(&server.settings(), Terms { limit: Duration::from_secs(3), ..Bench::terms() });
    queue.publish(Lane::Live, &[parcel(b"{}".to_vec())], None).await.expect("it is published");
    server.crash().await;
    let pulled = eventually(SOON, "it is delivered", async || {
        queue.pull(Lane::Live, 10).await.ok().filter(|pulled| !pulled.is_empty())
    })
    .await;
    assert_eq!(pulled[0].body, b"{}");
    queue.ack(Lane::Live, &leases(&pulled)).await.expect("it is acknowledged");
    assert_eq!(queue.stillness().await.expect("it answers"), Stillness::Empty);
    server.stop();
    let error = queue.publish(Lane::Live, &[parcel(b"{}".to_vec())], None).await.expect_err("it is down");
    assert!(!error.to_string().is_empty());
}

#[tokio::test]
async fn a_stream_that_may_drop_messages_is_refused() {
    let server = Nats::shared().await;
    let client = async_nats::connect(server.url()).await.expect("it is there");
    let context = async_nats::jetstream::new(client);
    let sound = |name: &str| Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.live")],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    for why in ["in memory", "max_age", "drops old messages", "workqueue"] {
        let settings = server.settings();
        let mut config = sound(&settings.stream);
        match why {
            "in memory" => config.storage = StorageType::Memory,
            "max_age" => config.max_age = Duration::from_secs(3600),
            "drops old messages" => config.discard = DiscardPolicy::Old,
            _ => config.retention = RetentionPolicy::Limits,
        }
        context.create_stream(config).await.expect("a stream of somebody's");
        let error = NatsQueue::new(&settings, Bench::terms()).check().await.expect_err(why);
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    let settings = server.settings();
    context.create_stream(sound(&settings.stream)).await.expect("a stream of somebody's");
    let queue = NatsQueue::new(&settings, Bench::terms());
    queue.check().await.expect("one that is as it must be is used");
    queue.publish(Lane::Live, &[parcel(b"1".to_vec())], None).await.expect("it is published");
    assert_eq!(pull_some(&queue, Lane::Live).await.len(), 1);
}

#[tokio::test]
async fn a_login_that_the_server_does_not_know_is_told_at_once_and_without_its_password() {
    let server = Nats::start_with(&["--user", "cutover", "--pass", "the-right-one"]).await;
    let queue = |login: &str| {
        let mut settings = server.settings();
        settings.url = Secret::new(server.url().replace("//", &format!("//{login}@")));
        NatsQueue::new(&settings, Bench::terms())
    };
    for login in ["cutover:a-wrong-one", "nobody:the-right-one"] {
        let (queue, began) = (queue(login), Instant::now());
        let checked = queue.check().await.expect_err(login);
        let published = queue.publish(Lane::Live, &[parcel(b"{}".to_vec())], None).await.expect_err(login);
        assert!(began.elapsed() < LIMIT / 2, "{login}: {:?}", began.elapsed());
        for error in [checked, published] {
            let said = error.to_string();
            assert!(error.is_certainly_undone() && said.contains("authorization violation"), "{login}: {said}");
            assert!(!said.contains("a-wrong-one") && !said.contains("the-right-one"), "{said}");
        }
    }
    queue("cutover:the-right-one").check().await.expect("a login that it knows");
}

//! Clients that are slow, silent, half gone or too large, over raw sockets: each has its answer within its bound, and keeps nobody else.

use super::origin::Origin;
use super::world::{World, to_green};
use crate::harness::eventually;
use cutover::gateway::Config;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(600);

fn impatient(config: &mut Config) {
    (config.head, config.gateway.request_timeout) = (SHORT, SHORT);
}

async fn connected(world: &World) -> TcpStream {
    TcpStream::connect(world.gateway.addresses.public).await.expect("the gateway listens")
}

/// Everything until the gateway closes the connection, and when that was.
async fn rest(stream: &mut TcpStream) -> (String, Duration) {
    let (begun, mut answer) = (Instant::now(), Vec::new());
    // A connection may end by a reset when bytes of it were not read.
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it is closed within its bound");
    (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
}

async fn told(world: &World, bytes: &[u8]) -> String {
    let mut stream = connected(world).await;
    let _ = stream.write_all(bytes).await;
    rest(&mut stream).await.0
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").map_or("", |rest| &rest[..3])
}

/// Sends pieces slowly until nobody takes them any more.
async fn trickle(stream: &mut TcpStream, piece: &[u8]) -> Duration {
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        let closed = stream.try_read(&mut [0; 1]).is_ok_and(|read| read == 0);
        if closed || stream.write_all(piece).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn gateway_closes_on_whoever_sends_no_head_or_a_slow_one() {
    let world = World::with(impatient).await;
    let mut silent = connected(&world).await;
    let (answer, took) = rest(&mut silent).await;
    assert!(answer.is_empty() && took >= SHORT / 2 && took < SHORT * 4, "{took:?}: {answer}");

    let mut slow = connected(&world).await;
    slow.write_all(b"GET /slow-head HTTP/1.1\r\nHost: a\r\n").await.expect("it listens");
    let took = trickle(&mut slow, b"x-a: b\r\n").await;
    assert!(took < SHORT * 4, "every line is in time, the head is not: {took:?}");
    assert_eq!(world.blue.count("GET /slow-head"), 0);

    let mut kept = connected(&world).await;
    kept.write_all(b"GET /work HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it listens");
    let (answer, took) = rest(&mut kept).await;
    assert!(status(&answer) == "200" && took < SHORT * 4, "idle after its answer: {took:?}");
}

#[tokio::test]
async fn gateway_tells_slow_senders_of_bodies_so_in_time() {
    let world = World::with(impatient).await;
    for (path, kind) in [
        ("/echo", "text/plain"),
        ("/oauth2/token", "application/x-www-form-urlencoded"),
        ("/oauth2/revoke", "application/x-www-form-urlencoded"),
    ] {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\ntoken=");
        let mut stream = connected(&world).await;
        stream.write_all(head.as_bytes()).await.expect("it listens");
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        let begun = Instant::now();
        let reads = async {
            let _ = timeout(SOON, reading.read_to_end(&mut answer)).await.expect("it is closed within its bound");
        };
        let writes = async {
            while writing.write_all(b"a").await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! { () = reads => {}, () = writes => {} }
        let (answer, took) = (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed());
        assert_eq!(status(&answer), "408", "{path}: {answer}");
        assert!(answer.contains("connection: close") && took < SHORT * 4, "{path} after {took:?}: {answer}");
    }
    assert_eq!(world.get("/work").await.status(), 200);
    assert_eq!(world.blue.count("POST /oauth2/revoke"), 0);
}

#[tokio::test]
async fn gateway_takes_no_body_that_is_too_large_however_it_comes() {
    let (origin, upstream) = Origin::start().await;
    let world = World::with(|config| config.gateway.blue = upstream).await;
    let declared = told(&world, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n").await;
    assert_eq!(status(&declared), "413", "{declared}");
    let mut stream = connected(&world).await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .expect("it listens");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let (mut reading, mut writing) = stream.split();
    let mut head = [0; 12];
    let writes = async {
        for _ in 0..200 {
            if writing.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        read = timeout(SOON, reading.read_exact(&mut head)) => { read.expect("in time").expect("an answer"); }
        () = writes => {}
    }
    assert_eq!(&head, b"HTTP/1.1 413");
    assert!(origin.take().is_empty(), "no part of it is a request");
}

#[tokio::test]
async fn gateway_reads_a_line_that_ends_without_cr_and_sends_it_on_with_one() {
    let (origin, upstream) = Origin::start().await;
    let world = World::with(|config| config.gateway.blue = upstream).await;
    let answer = told(&world, b"GET /bare HTTP/1.1\nHost: a\nX-A: b\nConnection: close\n\n").await;
    assert_eq!(status(&answer), "200", "{answer}");
    let arrived = origin.take();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].header("x-a"), [b"b"]);
    let chunk = b"POST /bare HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n";
    let answer = told(&world, chunk).await;
    assert_ne!(status(&answer), "200", "in a body nothing is read into it: {answer}");
    let fold = told(&world, b"GET /bare HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tc\r\n\r\n").await;
    assert_eq!(status(&fold), "400", "a folded header: {fold}");
    assert!(origin.take().is_empty() && origin.objections.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn gateway_refuses_bodies_whose_end_is_said_in_two_ways() {
    let (origin, upstream) = Origin::start().await;
    let world = World::with(|config| config.gateway.blue = upstream).await;
    let behind = "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 3",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
    ] {
        let bytes = format!("POST /two HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n0\r\n\r\n{behind}");
        let answer = told(&world, bytes.as_bytes()).await;
        assert_eq!(status(&answer), "400", "{head}: {answer}");
        assert!(origin.take().is_empty(), "{head}");
    }
    let old = format!("POST /two HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{behind}");
    assert_eq!(status(&told(&world, old.as_bytes()).await), "400", "an old client knows no chunks");

    // The one way that RFC 9112 leaves: the coding stands, the length is dropped, and nothing behind it is read.
    for head in ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"] {
        let bytes = format!("POST /both HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{behind}");
        let answer = told(&world, bytes.as_bytes()).await;
        assert_eq!((status(&answer), answer.matches("HTTP/1.1").count()), ("200", 1), "{head}: {answer}");
        let arrived = origin.take();
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        assert!(arrived[0].body == b"abc" && arrived[0].header("content-length").is_empty());
    }
    let tunnel =
        told(&world, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET /behind HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&tunnel), "405", "{tunnel}");
    assert!(origin.take().is_empty() && origin.objections.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn gateway_answers_large_heads_by_431() {
    let world = World::new().await;
    for lines in ["x-a: b\r\n".repeat(2000), format!("x-long: {}\r\n", "a".repeat(300 * 1024))] {
        let answer = told(&world, format!("GET /large HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes()).await;
        // Bytes that it did not read may turn the end into a reset that takes its answer with it.
        assert!(matches!(status(&answer), "431" | ""), "{answer}");
    }
    let target = told(
        &world,
        format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "a".repeat(40 * 1024)).as_bytes(),
    )
    .await;
    assert!(matches!(status(&target), "200" | "414" | "431"), "{target}");
    assert_eq!(world.blue.count("GET /large"), 0);
}

#[tokio::test]
async fn gateway_answers_pipelined_requests_in_their_order_and_each_by_itself() {
    let world = World::new().await;
    world.pair.blue.execute(&crate::revocations::tables::grant("r1", "t1", "app", "ann")).await;
    let form = |path: &str, form: &str, end: &str| {
        let length = form.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n{end}\r\n{form}"
        )
    };
    let bytes = [
        form("/oauth2/revoke", "token=x.t1-refresh", ""),
        form("/oauth2/token", "grant_type=refresh_token&refresh_token=x.t1-refresh", ""),
        "GET /status/404 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "HEAD /work HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        form("/oauth2/token", "grant_type=refresh_token&refresh_token=x.another", "Connection: close\r\n"),
        "GET /after-the-last HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    let answer = told(&world, bytes.concat().as_bytes()).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
    assert_eq!(statuses, ["200", "400", "404", "200", "200"], "the revoked one was denied at once: {answer}");
    assert_eq!(world.blue.count("GET /after-the-last"), 0);
}

#[tokio::test]
async fn gateway_ends_what_a_client_that_has_gone_had_asked_but_not_a_revocation() {
    let world = World::new().await;
    let in_flight = async || world.ask_control("/cutover/v1/state").await["in_flight"].as_u64();
    let mut half = connected(&world).await;
    half.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it listens");
    eventually(SOON, "the engine is asked", async || (world.blue.count("GET /slow") == 1).then_some(())).await;
    half.shutdown().await.expect("it is half open");
    drop(half);
    eventually(SOON, "nobody is waited for", async || (in_flight().await == Some(0)).then_some(())).await;

    let mut revoking = connected(&world).await;
    let form = "token=x.gone";
    let head = format!(
        "POST /oauth2/revoke HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    revoking.write_all(head.as_bytes()).await.expect("it listens");
    drop(revoking);
    eventually(SOON, "it was executed, and that was noted", async || {
        let count: i64 =
            world.pair.control.ask("select count(*) from cutover.revocation where outcome = 'executed'").await;
        (count == 1).then_some(())
    })
    .await;

    // Half a body, and gone: no whole request.
    let mut gone = connected(&world).await;
    gone.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await.expect("it listens");
    drop(gone);
    eventually(SOON, "nobody is waited for", async || (in_flight().await == Some(0)).then_some(())).await;
}

#[tokio::test]
async fn gateway_whose_client_takes_nothing_of_its_answer_still_drains() {
    let world = World::with(|config| config.gateway.request_timeout = SHORT).await;
    let mut stuck = connected(&world).await;
    stuck.write_all(b"GET /plenty HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it listens");
    eventually(SOON, "the engine is asked", async || (world.blue.count("GET /plenty") == 1).then_some(())).await;
    let standing = world.must("hold", &to_green(2, SOON)).await;
    assert_eq!(standing.in_flight, 0);
    drop(stuck);
}

#[tokio::test]
async fn gateway_never_takes_its_own_refusal_of_a_body_for_the_engines_of_a_revocation() {
    let world = World::with(|config| config.gateway.request_timeout = SHORT).await;
    let head = "DELETE /clients/app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for end in ["zz\r\n", ""] {
        let mut stream = TcpStream::connect(world.gateway.addresses.admin).await.expect("the gateway listens");
        stream.write_all(format!("{head}3\r\nabc\r\n{end}").as_bytes()).await.expect("it listens");
        let answer = rest(&mut stream).await.0;
        assert!(matches!(status(&answer), "400" | "408" | "200" | ""), "{answer}");
    }
    eventually(SOON, "both are queued", async || {
        let count: i64 = world.pair.control.ask("select count(*) from cutover.revocation").await;
        (count == 2).then_some(())
    })
    .await;
    let refused: i64 =
        world.pair.control.ask("select count(*) from cutover.revocation where outcome = 'refused'").await;
    assert_eq!(refused, 0, "the engine may have done it");
}

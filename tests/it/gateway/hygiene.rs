//! Requests that two servers could read in two ways, over raw sockets: refused, or read once; and nothing behind them reaches an engine.

use super::world::World;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends bytes as they are, and gives what comes back until the gateway closes the connection or falls silent.
async fn raw(world: &World, bytes: &str) -> String {
    let mut stream = TcpStream::connect(world.gateway.addresses.public).await.expect("the gateway listens");
    // It may refuse before it has read everything, and then our writing fails.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(Ok(read)) = timeout(Duration::from_millis(700), stream.read(&mut piece)).await {
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect()
}

#[tokio::test]
async fn gateway_lets_no_request_hide_behind_another() {
    let world = World::new().await;
    let both = format!(
        "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
    );
    assert_eq!(statuses(&raw(&world, &both).await).len(), 1, "the connection ends after it");
    let many = "x-a: b\r\n".repeat(2000);
    let long = format!("x-long: {}\r\n", "a".repeat(300 * 1024));
    let refused = [
        ("two lengths", "POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n".to_owned()),
        ("no length", "POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd".to_owned()),
        (
            "another coding",
            "POST /two HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        ("a folded header", "GET /two HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n".to_owned()),
        ("a blank in a name", "GET /two HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc".to_owned()),
        ("a nul", "GET /two HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n".to_owned()),
        ("two hosts", "GET /two HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        ("a host for a path", "GET a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("a host and another", "GET http://b/two HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("too many headers", format!("GET /two HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
        ("too long a header", format!("GET /two HTTP/1.1\r\nHost: a\r\n{long}\r\n")),
    ];
    for (what, request) in refused {
        let answer = raw(&world, &format!("{request}{SMUGGLED}")).await;
        let first = statuses(&answer).first().map(|status| (*status).to_owned());
        assert!(first.as_deref().is_none_or(|status| status.starts_with('4')), "{what}: {answer}");
        assert_eq!(world.blue.count("GET /two") + world.blue.count("POST /two"), 0, "{what}");
    }
    let chunk = "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n";
    let answer = raw(&world, &format!("{chunk}{SMUGGLED}")).await;
    assert!(!statuses(&answer).contains(&"200"), "a body that cannot be read is no request: {answer}");
    assert_eq!(world.blue.count("GET /smuggled"), 0, "{:?}", world.blue.seen.lock().expect("no panic"));

    let absolute = raw(&world, "GET http://a/whole HTTP/1.1\r\nHost: A\r\nConnection: close\r\n\r\n").await;
    assert_eq!((statuses(&absolute), world.blue.count("GET /whole")), (vec!["200"], 1), "{absolute}");
}

//! Random requests over raw sockets: what reaches the engine is what was sent, or nothing. A failure names its seed; `CUTOVER_FUZZ_SEED`
//! repeats it.

use super::origin::{Message, Origin, requests};
use super::world::World;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);
/// Longest wait for the other half of a request.
const HALF: Duration = Duration::from_millis(1500);
const CONVERSATIONS: usize = 150;

/// A small generator of its own: the same seed gives the same conversations on every machine.
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn seeded() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
        let named = std::env::var("CUTOVER_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = named.unwrap_or(u64::from(now)).max(1);
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("small")
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| u8::try_from(self.next() & 0xff).expect("a byte")).collect()
    }
}

/// A request as some client may write it, good in every part.
fn good(random: &mut Random, number: usize) -> Vec<u8> {
    let method = random.of(&["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "X-OWN"]);
    let target = random.of(&["/", "/a", "/a/b?c=d&e=%20", "/%2e%2e/a;b", "/?", "/a//b", "/~x!$'()*+,"]);
    let host = random.of(&["Host: a", "host:a:80", "HOST:  a.example \t"]);
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n{host}\r\nX-Number: {number}\r\n").into_bytes();
    for _ in 0..random.below(6) {
        let name = random.of(&["X-A", "x-b", "Cookie", "Accept", "X_Under", "X-A"]);
        let value = random.of(&["", "1", "a, b", "a\tb", "\u{e9}", "\"quoted; text\"", "0\\r\\n", "chunked"]);
        bytes.extend_from_slice(
            format!("{name}:{}{value}{}\r\n", random.of(&["", " ", "\t "]), random.of(&["", " "])).as_bytes(),
        );
    }
    let body = random.bytes(3000);
    match random.below(3) {
        0 => bytes.extend_from_slice(b"\r\n"),
        1 => {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(&body);
        }
        _ => {
            bytes.extend_from_slice(b"Transfer-Encoding: Chunked\r\n\r\n");
            let mut rest = body.as_slice();
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(1 + random.below(rest.len()));
                let extension = random.of(&["", ";a=b", ";c"]);
                bytes.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
                rest = after;
            }
            bytes.extend_from_slice(random.of(&[&b"0\r\n\r\n"[..], b"000\r\n\r\n", b"0\r\nX-Trailer: 1\r\n\r\n"]));
        }
    }
    bytes
}

/// Damages some bytes, or puts lines into the head that contradict it.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    let lines: [&[u8]; 14] = [
        b"Content-Length: 3\r\n",
        b"Content-Length: 3, 3\r\n",
        b"Content-Length: 0x3\r\n",
        b"Content-Length:\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Connection: content-length, host, transfer-encoding\r\n",
        b" folded\r\n",
        b"Host: b\r\n",
        b"Expect: 100-continue\r\n",
        b"X-A: b\nX-Hidden: c\r\n",
    ];
    for _ in 0..=random.below(3) {
        if random.below(2) == 0 {
            let end = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            bytes.splice(end..end, random.of(&lines).iter().copied());
            continue;
        }
        // The head and the first chunk are where framing is decided.
        let at = random.below(bytes.len().min(400));
        let byte = *random.of(&[&b'\r', &b'\n', &0, &b' ', &b'\t', &b':', &b',', &b'0', &b'9', &b'f', &0x85, &b';']);
        match random.below(3) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
    }
}

/// Sends bytes in pieces, and gives what comes back until there are so many answers, or the gateway closes the connection.
async fn converse(random: &mut Random, to: SocketAddr, bytes: &[u8], answers: usize) -> Vec<u8> {
    let stream = TcpStream::connect(to).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket");
    let (mut reading, mut writing) = stream.into_split();
    let mut cuts: Vec<usize> = (0..random.below(4)).map(|_| random.below(bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let pieces: Vec<Vec<u8>> = cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec()).collect();
    let sent = tokio::spawn(async move {
        for piece in pieces {
            // It may refuse before it has read everything, and then our writing fails.
            if writing.write_all(&piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        writing
    });
    let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
    while statuses(&answer).len() < answers || !answer.ends_with(b"ok") {
        match timeout(SOON, reading.read(&mut piece)).await.expect("it answers or closes within its bounds") {
            Ok(read) if read > 0 => answer.extend_from_slice(&piece[..read]),
            _ => break,
        }
    }
    drop(sent.await);
    answer
}

fn statuses(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    text.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].to_owned()).filter(|status| status != "100").collect()
}

/// What must be the same on both sides of the gateway.
fn kept(message: &Message) -> Message {
    const ENDS_HERE: [&str; 10] = [
        "connection",
        "content-length",
        "transfer-encoding",
        "host",
        "x-forwarded-for",
        "expect",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
    ];
    let named: Vec<String> = message
        .header("connection")
        .iter()
        .flat_map(|value| {
            String::from_utf8_lossy(value).split(',').map(|name| name.trim().to_ascii_lowercase()).collect::<Vec<_>>()
        })
        .collect();
    let is_kept = |name: &str| !ENDS_HERE.contains(&name) && !named.iter().any(|gone| gone == name);
    let mut headers: Vec<_> = message.headers.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    headers.sort_by(|one, other| one.0.cmp(&other.0));
    Message { headers, ..message.clone() }
}

/// A gateway that soon closes on whoever sends half a request.
async fn before_an_origin() -> (World, Origin) {
    let (origin, upstream) = Origin::start().await;
    let world = World::with(|config| {
        config.gateway.blue = upstream;
        (config.head, config.gateway.request_timeout) = (HALF, HALF);
    })
    .await;
    (world, origin)
}

#[tokio::test]
async fn gateway_fuzz_good_requests_arrive_as_they_were_sent() {
    let (world, origin) = before_an_origin().await;
    let mut random = Random::seeded();
    for number in 0..CONVERSATIONS {
        let count = 1 + random.below(4);
        let bytes: Vec<u8> = (0..count).flat_map(|_| good(&mut random, number)).collect();
        let sent: Vec<Message> = requests(&bytes).iter().map(kept).collect();
        assert_eq!(sent.len(), count, "they are good: {:?}", String::from_utf8_lossy(&bytes));
        let answer = converse(&mut random, world.gateway.addresses.public, &bytes, count).await;
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(statuses(&answer), vec!["200"; count], "seed {}: {text:?}", random.seed);
        let arrived: Vec<Message> = origin.take().iter().map(kept).collect();
        assert!(arrived == sent, "seed {}, conversation {number}: {text:?}", random.seed);
    }
    assert!(origin.objections.lock().expect("no panic").is_empty(), "{:?}", origin.objections);
}

#[tokio::test]
async fn gateway_fuzz_damaged_requests_arrive_as_they_can_be_read_or_not_at_all() {
    let (world, origin) = before_an_origin().await;
    let mut random = Random::seeded();
    let mut refused = 0;
    for number in 0..CONVERSATIONS {
        let mut bytes = good(&mut random, number);
        damage(&mut random, &mut bytes);
        bytes.extend_from_slice(b"GET /behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let sent: Vec<Message> = requests(&bytes).iter().map(kept).collect();
        let answer = converse(&mut random, world.gateway.addresses.public, &bytes, usize::MAX).await;
        let statuses = statuses(&answer);
        refused += usize::from(statuses.iter().any(|status| status.starts_with('4')));
        let arrived: Vec<Message> = origin.take().iter().map(kept).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let seed = random.seed;
        assert!(sent.starts_with(&arrived), "seed {seed}, conversation {number}: {statuses:?} to {text:?}");
        assert!(statuses.iter().all(|status| !status.starts_with('5')), "seed {seed}: {statuses:?} to {text:?}");
    }
    assert!(refused > CONVERSATIONS / 20, "damage is seen: {refused} of {CONVERSATIONS}");
    let objections = origin.objections.lock().expect("no panic");
    assert!(objections.is_empty(), "it sends on nothing that could be read in two ways: {objections:?}");
}

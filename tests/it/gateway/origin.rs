//! An engine that reads what it is sent to the letter, and a reading of what a client sent to compare with.

use cutover::plan::Upstream;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn header(&self, name: &str) -> Vec<&[u8]> {
        let named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice()).collect()
    }
}

/// Answers every whole request by 200, and remembers it; closes at the first that could be read in two ways, and remembers why.
#[derive(Clone, Default)]
pub(super) struct Origin {
    pub(super) whole: Arc<Mutex<Vec<Message>>>,
    pub(super) objections: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    pub(super) async fn start() -> (Self, Upstream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let origin = Self::default();
        let told = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(told.clone().converse(stream));
            }
        });
        (origin, Upstream { public: url.clone(), admin: url })
    }

    pub(super) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.whole.lock().expect("no panic"))
    }

    async fn converse(self, mut stream: TcpStream) {
        let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
        loop {
            match read_one(&bytes, Manners::Strict) {
                Read::Whole { message, length, .. } => {
                    bytes.drain(..length);
                    self.whole.lock().expect("no panic").push(message);
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                        return;
                    }
                }
                Read::Partial => match stream.read(&mut piece).await {
                    Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
                    _ => return,
                },
                Read::Wrong(why) => {
                    let text = format!("{why}: {:?}", String::from_utf8_lossy(&bytes));
                    return self.objections.lock().expect("no panic").push(text);
                }
            }
        }
    }
}

/// How much is read into what is not to the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Nothing.
    Strict,
    /// As much as a server may: a line may end without CR, a length beside a coding is ignored.
    Lenient,
}

/// What the beginning of some bytes is.
pub(super) enum Read {
    Whole { message: Message, length: usize, is_last: bool },
    Partial,
    Wrong(&'static str),
}

/// All requests that a client's bytes hold, up to the first that is none.
pub(super) fn requests(mut bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Read::Whole { message, length, is_last } = read_one(bytes, Manners::Lenient) {
        all.push(message);
        bytes = &bytes[length..];
        if is_last {
            break;
        }
    }
    all
}

/// Something and what follows it; none when it has not come whole.
type Begun<'a, T> = Result<Option<(T, &'a [u8])>, &'static str>;

/// A line without its end.
fn line(bytes: &[u8], manners: Manners) -> Begun<'_, &[u8]> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    let line = match line.strip_suffix(b"\r") {
        Some(line) => line,
        None if manners == Manners::Lenient => line,
        None => return Err("a line ends without CR"),
    };
    if line.contains(&b'\r') { Err("a bare CR") } else { Ok(Some((line, rest))) }
}

macro_rules! some {
    ($read:expr) => {
        match $read {
            Ok(Some(read)) => read,
            Ok(None) => return Read::Partial,
            Err(why) => return Read::Wrong(why),
        }
    };
}

pub(super) fn read_one(bytes: &[u8], manners: Manners) -> Read {
    let (mut first, mut rest) = some!(line(bytes, manners));
    while first.is_empty() && manners == Manners::Lenient {
        (first, rest) = some!(line(rest, manners));
    }
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words.as_slice() else { return Read::Wrong("no request line") };
    let is_token = |text: &[u8]| !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte));
    if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Read::Wrong("no request line");
    }
    if !matches!(*version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Read::Wrong("another version");
    }
    let mut headers = Vec::new();
    loop {
        let (text, after) = some!(line(rest, manners));
        rest = after;
        if text.is_empty() {
            break;
        }
        let Some(colon) = text.iter().position(|byte| *byte == b':') else { return Read::Wrong("no header") };
        let (name, value) = (&text[..colon], text[colon + 1..].trim_ascii());
        if !is_token(name) || value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Read::Wrong("no header");
        }
        headers.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let message = Message { method: text(method), target: text(target), headers, body: Vec::new() };
    body(message, bytes, rest, *version == b"HTTP/1.0", manners)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn body(mut message: Message, bytes: &[u8], rest: &[u8], is_old: bool, manners: Manners) -> Read {
    let codings = message.header("transfer-encoding");
    let lengths = message.header("content-length");
    let hosts = message.header("host").len();
    if hosts > 1 || (hosts == 0 && manners == Manners::Strict) {
        return Read::Wrong("not one host");
    }
    let both = !codings.is_empty() && !lengths.is_empty();
    if both && manners == Manners::Strict {
        return Read::Wrong("a length and a coding");
    }
    if !codings.is_empty() && (is_old || codings.len() > 1 || !codings[0].eq_ignore_ascii_case(b"chunked")) {
        return Read::Wrong("another coding");
    }
    let says = |word: &[u8]| {
        let mut values = message.header("connection").into_iter().flat_map(|value| value.split(|byte| *byte == b','));
        values.any(|value| value.trim_ascii().eq_ignore_ascii_case(word))
    };
    let is_last = both || says(b"close") || (is_old && !says(b"keep-alive"));
    let (body, after) = if codings.is_empty() {
        let digits = |value: &&[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !lengths.iter().all(digits) || lengths.windows(2).any(|two| two[0] != two[1]) {
            return Read::Wrong("no length");
        }
        let length = lengths.first().map(|digits| String::from_utf8_lossy(digits).parse::<usize>());
        let Ok(length) = length.unwrap_or(Ok(0)) else { return Read::Wrong("no length") };
        if rest.len() < length {
            return Read::Partial;
        }
        (rest[..length].to_vec(), &rest[length..])
    } else {
        some!(chunks(rest))
    };
    message.body = body;
    Read::Whole { message, length: bytes.len() - after.len(), is_last }
}

/// A chunked body; trailers are left out.
fn chunks(mut rest: &[u8]) -> Begun<'_, Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Some((size, after)) = line(rest, Manners::Strict)? else { return Ok(None) };
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
        let is_hex = !digits.is_empty() && digits.len() < 9 && digits.iter().all(u8::is_ascii_hexdigit);
        let size = usize::from_str_radix(&String::from_utf8_lossy(digits), 16);
        let (true, Ok(size)) = (is_hex, size) else { return Err("no chunk") };
        rest = after;
        if size == 0 {
            break;
        }
        if rest.len() < size + 2 {
            return Ok(None);
        }
        if &rest[size..size + 2] != b"\r\n" {
            return Err("a chunk without its end");
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
    loop {
        let Some((trailer, after)) = line(rest, Manners::Lenient)? else { return Ok(None) };
        rest = after;
        if trailer.is_empty() {
            return Ok(Some((body, rest)));
        }
    }
}

//! A road to a server that passes everything on until somebody says certain words: what becomes of that message, and of its answer, the test decides.
//!
//! Reads the messages of PostgreSQL's clients, so it is for connections that are not encrypted.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest wait for the words, and for an answer to them.
const PATIENCE: Duration = Duration::from_secs(60);

/// Passes conversations on to a server on this machine.
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) port: u16,
    stopped: mpsc::Receiver<Stopped>,
    accepting: JoinHandle<()>,
}

/// A conversation that came to the words: nothing of that message has arrived, and its sender waits for the answer.
pub(crate) struct Stopped {
    client: Option<TcpStream>,
    server: TcpStream,
    message: Vec<u8>,
}

impl Relay {
    /// In front of the server at `server`, and stops every message that has `words` in it.
    pub(crate) async fn before(server: u16, words: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        let (stop, stopped) = mpsc::channel(1);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let stop = stop.clone();
                tokio::spawn(async move {
                    // A conversation that breaks is its two ends' business.
                    if let Ok(Some(stopped)) = pass(client, server, words).await {
                        let _nobody_waits = stop.send(stopped).await;
                    }
                });
            }
        });
        Self { port, stopped, accepting }
    }

    /// The next conversation that comes to the words.
    pub(crate) async fn stopped(&mut self) -> Stopped {
        let stopped = timeout(PATIENCE, self.stopped.recv()).await.expect("somebody says the words in time");
        stopped.expect("the relay is at work")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stopped {
    /// Lets the message arrive. What is answered goes no further.
    pub(crate) async fn deliver(&mut self) {
        self.server.write_all(&self.message).await.expect("the server is there");
    }

    /// Ends the sender's half; the server sees nothing of it.
    pub(crate) fn cut_off(&mut self) {
        self.client = None;
    }

    /// What the server answers, up to where it waits for more.
    pub(crate) async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        let whole = async {
            while !waits_for_more(&answer) && self.server.read_buf(&mut answer).await.expect("the server is there") > 0
            {
            }
        };
        timeout(PATIENCE, whole).await.expect("it answers in time");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Passes everything on until one end is gone, or the client says the words.
async fn pass(mut client: TcpStream, server: u16, words: &str) -> io::Result<Option<Stopped>> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let message = {
        let ((mut asks, mut hears), (mut answers, mut takes)) = (client.split(), server.split());
        tokio::select! {
            message = up_to(words, &mut asks, &mut takes) => message?,
            _ = tokio::io::copy(&mut answers, &mut hears) => None,
        }
    };
    Ok(message.map(|message| Stopped { client: Some(client), server, message }))
}

/// Passes on what a client says, message by message; gives the one that has the words in it, or none when the client is gone.
async fn up_to(words: &str, asks: &mut ReadHalf<'_>, takes: &mut WriteHalf<'_>) -> io::Result<Option<Vec<u8>>> {
    // The very first message has no letter in front of its length.
    let (mut said, mut letter) = (Vec::new(), 0);
    loop {
        while let Some(length) = whole(&said, letter) {
            let message: Vec<u8> = said.drain(..length).collect();
            if message.windows(words.len()).any(|part| part == words.as_bytes()) {
                return Ok(Some(message));
            }
            takes.write_all(&message).await?;
            letter = 1;
        }
        if asks.read_buf(&mut said).await? == 0 {
            return Ok(None);
        }
    }
}

/// How long the first message is, once all of it is there.
fn whole(said: &[u8], letter: usize) -> Option<usize> {
    let length = said.get(letter..letter + 4)?.try_into().ok().map(u32::from_be_bytes)?;
    let length = letter + usize::try_from(length).ok()?;
    (said.len() >= length).then_some(length)
}

/// Whether an answer ends with the server's word that it waits for the next message: a `Z`, its length, and how the transaction stands.
fn waits_for_more(answer: &[u8]) -> bool {
    answer.len().checked_sub(6).is_some_and(|at| answer[at..].starts_with(b"Z\0\0\0\x05"))
}

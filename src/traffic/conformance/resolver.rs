//! The resolver of a trial: says which side is open, as it is told to, or nothing at all.

use crate::traffic::protocol::Resolution;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What is said, and how often it was asked for since then.
#[derive(Default)]
struct Word {
    answer: Option<Resolution>,
    asked: u32,
}

/// One that listens; it ends when it is dropped.
pub(super) struct Resolver {
    address: SocketAddr,
    word: Arc<Mutex<Word>>,
    task: JoinHandle<()>,
}

impl Resolver {
    /// Starts one that says nothing.
    pub(super) async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let word = Arc::<Mutex<Word>>::default();
        let routes = Router::new().route("/resolve", get(resolve)).with_state(Arc::clone(&word));
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        // Its end is the trial's: nobody would hear why.
        let task = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { address, word, task })
    }

    /// What participants are told to ask.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers 503 from now on.
    pub(super) fn say_nothing(&self) {
        self.set(None);
    }

    /// Answers this from now on.
    pub(super) fn say(&self, answer: Resolution) {
        self.set(Some(answer));
    }

    /// How often it was asked since it was last told what to say.
    pub(super) fn asked(&self) -> u32 {
        self.word.lock().unwrap_or_else(PoisonError::into_inner).asked
    }

    fn set(&self, answer: Option<Resolution>) {
        *self.word.lock().unwrap_or_else(PoisonError::into_inner) = Word { answer, asked: 0 };
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn resolve(State(word): State<Arc<Mutex<Word>>>) -> Response {
    let mut word = word.lock().unwrap_or_else(PoisonError::into_inner);
    word.asked += 1;
    match &word.answer {
        Some(answer) => Json(answer.clone()).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

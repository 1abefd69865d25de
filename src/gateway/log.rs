//! The access log: one event for each answered request, under the target `access`. Never a query, a header or a body.

use super::gate::Pass;
use crate::plan::Side;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use std::net::IpAddr;
use tokio::time::Instant;

/// Longest path that is written.
const PATH_BYTES: usize = 256;

/// What is written of a request.
pub(super) struct Logged {
    client: IpAddr,
    method: Method,
    path: String,
    side: Side,
    epoch: i64,
    began: Instant,
}

impl Logged {
    /// A request that was let through; none when nobody wants the log.
    pub(super) fn of(head: &Parts, client: IpAddr, pass: &Pass) -> Option<Self> {
        tracing::enabled!(target: "access", tracing::Level::INFO).then(|| Self {
            client,
            method: head.method.clone(),
            path: shortened(head.uri.path()),
            side: pass.side,
            epoch: pass.epoch,
            began: Instant::now(),
        })
    }

    /// It is answered.
    pub(super) fn answered(&self, status: StatusCode) {
        let Self { client, method, path, side, epoch, began } = self;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(target: "access", %client, %method, path, %side, epoch, status = status.as_u16(), took_ms);
    }
}

/// Paths are ASCII, so that any byte is a place to cut at.
fn shortened(path: &str) -> String {
    path.get(..PATH_BYTES).unwrap_or(path).chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::gate::Gate;
    use crate::gateway::waiting::Bounds;
    use hyper::Request;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn one_line_of_json_names_the_request_and_no_token() {
        let written = Written::default();
        let log = tracing_subscriber::fmt().json().with_writer(written.clone()).finish();
        let _guard = tracing::subscriber::set_default(log);
        let gate = Gate::new(Bounds { requests: 1, bytes: 1 });
        gate.release(Side::Blue, 7);
        let request = Request::get("/userinfo?access_token=a.secret").header("authorization", "Bearer a.secret");
        let head = request.body(()).expect("a request").into_parts().0;
        let pass = gate.glance().expect("it is open");
        let logged = Logged::of(&head, IpAddr::from([127, 0, 0, 1]), &pass).expect("it is wanted");
        logged.answered(StatusCode::UNAUTHORIZED);
        let text = String::from_utf8(written.0.lock().expect("no panic").clone()).expect("text");
        assert!(!text.contains("secret") && text.lines().count() == 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let fields = &line["fields"];
        assert_eq!((fields["path"].as_str(), fields["status"].as_u64()), (Some("/userinfo"), Some(401)), "{text}");
        assert_eq!((fields["side"].as_str(), fields["epoch"].as_i64()), (Some("blue"), Some(7)), "{text}");
    }
}

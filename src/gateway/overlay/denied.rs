//! What somebody is told who presents a revoked token: at each doorway what an engine would say of it.

use super::presented::Doorway;
use crate::gateway::answer::{Body, error, full};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

const BEARER: &str = r#"Bearer error="invalid_token", error_description="The token was revoked""#;

/// The answer at a doorway.
pub(in crate::gateway) fn answer(doorway: Doorway) -> Response<Body> {
    let mut response = match doorway {
        Doorway::Introspection => {
            let mut response = Response::new(full(r#"{"active":false}"#));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Doorway::Userinfo => {
            let mut response = error(StatusCode::UNAUTHORIZED, "invalid_token", "the token was revoked");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(BEARER));
            response
        }
        Doorway::Token => error(StatusCode::BAD_REQUEST, "invalid_grant", "the grant was revoked"),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

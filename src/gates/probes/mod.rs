//! The probes: what they ask, and whom.

mod http;
pub mod oauth;

pub use http::HttpProbe;
pub use oauth::OauthProbe;

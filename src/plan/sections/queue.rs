//! The section `revocations`: the queue that revocations wait in, and how they take effect on a closed green.

use crate::plan::document as typed;
use crate::plan::model::{CloudflareQueue, NatsQueue, Queue, Revocations, Secret};
use crate::plan::place::Place;
use crate::plan::references;
use crate::plan::resolve::Resolver;
use url::{Host, Url};

impl Resolver<'_, '_> {
    /// The queue of `plan`, whose name goes into defaults.
    pub(in crate::plan) fn revocations(&mut self, typed: &typed::Revocations, plan: &str) -> Revocations {
        let place = Place::top("revocations").key("queue");
        let queue = match &typed.queue {
            typed::Queue::Postgres(_) => Queue::Postgres,
            typed::Queue::Cloudflare(typed) => Queue::Cloudflare(self.cloudflare(&place.key("cloudflare"), typed)),
            typed::Queue::Nats(typed) => Queue::Nats(self.nats(&place.key("nats"), typed, plan)),
        };
        Revocations { queue, replay: self.replay(&typed.replay) }
    }

    fn cloudflare(&mut self, place: &Place, typed: &typed::CloudflareQueue) -> CloudflareQueue {
        let queue = self.identifier(&place.key("queue"), &typed.queue);
        let dead_letter_queue = self.identifier(&place.key("dead_letter_queue"), &typed.dead_letter_queue);
        if !queue.is_empty() && queue == dead_letter_queue {
            let place = place.key("dead_letter_queue");
            let hint = "what cannot be delivered would go round in circles: name another queue of the account";
            self.problems.value(&place, format!("`{place}` is the queue itself"), hint);
        }
        CloudflareQueue {
            api: self.api(&place.key("api"), &typed.api),
            account: self.identifier(&place.key("account"), &typed.account),
            queue,
            dead_letter_queue,
            token: self.token(&place.key("token"), &typed.token),
        }
    }

    /// The token goes with every request: over TLS, or not further than this machine.
    fn api(&mut self, place: &Place, typed: &str) -> String {
        let Some(text) = self.http_url(place, typed) else { return String::new() };
        let is_near = Url::parse(&text).is_ok_and(|url| url.scheme() == "https" || is_loopback(&url));
        if !is_near {
            let hint = "use https: the token would go over the network in the clear";
            self.problems.value(place, format!("`{place}` is plain http to another machine"), hint);
        }
        text
    }

    fn token(&mut self, place: &Place, typed: &str) -> Secret {
        if !references::has_reference(typed) {
            let hint = "write a reference such as `${QUEUES_TOKEN}`: a plan is kept in the journal and shown to people";
            self.problems.value(place, format!("`{place}` is a secret that stands in the plan"), hint);
        }
        Secret::new(self.text(place, typed).unwrap_or_default())
    }

    /// What becomes part of an address or a name elsewhere.
    fn identifier(&mut self, place: &Place, typed: &str) -> String {
        let Some(text) = self.text(place, typed) else { return String::new() };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || !text.chars().all(is_plain) {
            let hint = "letters, digits, dashes and underscores, as the service shows it";
            self.problems.value(place, format!("`{place}` is no id"), hint);
        }
        text
    }

    fn nats(&mut self, place: &Place, typed: &typed::NatsQueue, plan: &str) -> NatsQueue {
        let stream = match &typed.stream {
            Some(stream) => self.identifier(&place.key("stream"), stream),
            None => format!("cutover-{plan}"),
        };
        let place = place.key("url");
        let url = self.text(&place, &typed.url);
        if let Some(text) = &url {
            let is_server = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "nats" | "tls") && url.has_host());
            if !is_server {
                let hint = "such as `nats://127.0.0.1:4222`, or `tls://…`";
                self.problems.value(&place, format!("`{place}` is not the URL of a NATS server"), hint);
            }
            if has_typed_password(&typed.url) {
                let hint = "write the password as a reference such as `${NATS_PASSWORD}`";
                self.problems.value(&place, format!("`{place}` holds a password that stands in the plan"), hint);
            }
        }
        NatsQueue { url: Secret::new(url.unwrap_or_default()), stream }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A password between the user's name and the host, as typed and not by reference.
fn has_typed_password(typed: &str) -> bool {
    let before_host = typed.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(user, _)| user);
    let password = before_host.and_then(|user| user.split_once(':')).map(|(_, password)| password);
    password.is_some_and(|password| !password.is_empty() && !references::has_reference(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_only_where_one_stands() {
        assert!(has_typed_password("nats://user:secret@host:4222"));
        assert!(!has_typed_password("nats://user:${WORD}@host:4222"));
        assert!(!has_typed_password("nats://host:4222"));
        assert!(!has_typed_password("${NATS_URL}"));
    }
}

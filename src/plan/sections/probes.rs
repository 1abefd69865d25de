//! The section `probes`: the engines' addresses, what is tried, and secrets that come from the environment alone.

use crate::plan::document as typed;
use crate::plan::model::{HttpProbe, OauthProbe, Probe, ProbeClient, Refresh, Secret, Upstream};
use crate::plan::place::Place;
use crate::plan::references::{self, Piece};
use crate::plan::resolve::Resolver;
use std::collections::BTreeMap;
use std::time::Duration;

/// Headers that carry what lets one in.
const TELLING: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Resolver<'_, '_> {
    pub(in crate::plan) fn probes(&mut self, typed: &[typed::Probe], gateway: Option<&typed::Gateway>) -> Vec<Probe> {
        let place = Place::top("probes");
        let one = |(index, probe): (usize, &typed::Probe)| match probe {
            typed::Probe::Oauth(oauth) => {
                Probe::Oauth(Box::new(self.oauth(&place.index(index).key("oauth"), oauth, gateway)))
            }
            typed::Probe::Http(http) => Probe::Http(self.http_probe(&place.index(index).key("http"), http)),
        };
        typed.iter().enumerate().map(one).collect()
    }

    fn oauth(&mut self, place: &Place, typed: &typed::OauthProbe, gateway: Option<&typed::Gateway>) -> OauthProbe {
        let name = self.name(&place.key("name"), &typed.name);
        let green = self.engine_of_probe(place, &typed.public, &typed.admin);
        let blue = match (&typed.blue, gateway) {
            (Some(blue), _) => self.engine_of_probe(&place.key("blue"), &blue.public, &blue.admin),
            (None, Some(gateway)) => {
                let at = Place::top("gateway").key("blue");
                self.engine_of_probe(&at, &gateway.blue.public, &gateway.blue.admin)
            }
            (None, None) => {
                let hint =
                    "the same is tried on blue first: `blue: { public: \"${BLUE_PUBLIC}\", admin: \"${BLUE_ADMIN}\" }`";
                self.problems.key(place, format!("`{place}` does not say where blue's engine is"), hint);
                Upstream { public: String::new(), admin: String::new() }
            }
        };
        let mut flows = typed.flows.clone();
        flows.sort_unstable();
        flows.dedup();
        let relied_on = gateway.and_then(|gateway| gateway.refresh.as_ref()).map(|refresh| self.refresh(refresh));
        let relied_on = relied_on.and_then(Refresh::engine_grace);
        let grace = place.key("grace");
        let mut length =
            |place: &Place, typed: &typed::Length| self.length(place, typed).unwrap_or(Duration::from_secs(1));
        OauthProbe {
            flows,
            scope: typed.scope.clone(),
            grace_blue: typed.grace.blue.as_ref().map(|blue| length(&grace.key("blue"), blue)).or(relied_on),
            grace_green: typed.grace.green.as_ref().map(|green| length(&grace.key("green"), green)).or(relied_on),
            timeout: length(&place.key("timeout"), &typed.timeout),
            every: length(&place.key("every"), &typed.every),
            accepts: typed.accepts.clone(),
            may_differ: typed.may_differ.clone(),
            client: typed.client.as_ref().map(|client| self.probe_client(&place.key("client"), client)),
            canaries: typed.canaries.as_ref().map(|canaries| {
                let place = place.key("canaries").key("key");
                self.only_secret(&place, &canaries.key)
            }),
            name,
            blue,
            green,
        }
    }

    fn engine_of_probe(&mut self, place: &Place, public: &str, admin: &str) -> Upstream {
        let mut url = |key: &str, typed: &str| self.http_url(&place.key(key), typed).unwrap_or_default();
        Upstream { public: url("public", public), admin: url("admin", admin) }
    }

    fn probe_client(&mut self, place: &Place, typed: &typed::ProbeClient) -> ProbeClient {
        let id = self.text(&place.key("id"), &typed.id).unwrap_or_default();
        self.nonempty(&place.key("id"), &id);
        let redirect = typed.redirect_uri.as_ref();
        ProbeClient {
            secret: self.only_secret(&place.key("secret"), &typed.secret),
            redirect_uri: redirect.and_then(|uri| self.text(&place.key("redirect_uri"), uri)),
            id,
        }
    }

    /// A secret, written as references alone: whatever stands in the plan itself is kept in the journal's header.
    fn only_secret(&mut self, place: &Place, typed: &str) -> Secret {
        let pieces = references::pieces(typed);
        let is_reference = |piece: &Piece<'_>| match piece {
            Piece::Plain(text) => text.is_empty(),
            _ => true,
        };
        if typed.is_empty() || !pieces.iter().all(is_reference) {
            let hint = "the plan's text is kept in the journal: write `${NAME}` and set NAME in the environment";
            self.problems.value(place, format!("`{place}` is a secret and stands in the plan"), hint);
            self.problems.spoil(place.clone());
            return Secret::new("");
        }
        Secret::new(self.text(place, typed).unwrap_or_default())
    }

    fn http_probe(&mut self, place: &Place, typed: &typed::HttpProbe) -> HttpProbe {
        let name = self.name(&place.key("name"), &typed.name);
        let url = self.whole_url(&place.key("url"), &typed.url);
        let headers = self.headers(place, &typed.headers);
        if typed.when.is_empty() {
            let place = place.key("when");
            self.problems.value(&place, format!("`{place}` is empty"), "`start`, `before` or `soak`");
        }
        HttpProbe {
            name,
            url,
            headers,
            method: match typed.method {
                typed::Method::Get => "GET",
                typed::Method::Head => "HEAD",
            },
            status: typed.status,
            body_contains: typed.body_contains.clone(),
            when: typed.when.clone(),
            timeout: self.length(&place.key("timeout"), &typed.timeout).unwrap_or(Duration::from_secs(1)),
        }
    }

    /// Headers, under lower-case names; what lets one in comes from the environment alone.
    pub(in crate::plan) fn headers(
        &mut self,
        place: &Place,
        typed: &BTreeMap<String, String>,
    ) -> BTreeMap<String, Secret> {
        let mut headers = BTreeMap::new();
        for (header, value) in typed {
            let place = place.key("headers").key(header);
            if !is_header(header) {
                let hint = "letters, digits and dashes";
                self.problems.key(&place, format!("`{header}` is not the name of a header"), hint);
            }
            let value = if TELLING.contains(&header.to_lowercase().as_str()) && !value.contains("${") {
                self.only_secret(&place, value)
            } else {
                Secret::new(self.text(&place, value).unwrap_or_default())
            };
            headers.insert(header.to_lowercase(), value);
        }
        headers
    }

    /// An address with its path and query; credentials belong into a header.
    fn whole_url(&mut self, place: &Place, typed: &str) -> String {
        let Some(text) = self.text(place, typed) else { return String::new() };
        match url::Url::parse(&text) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                let hint = "give them in `headers`, by `${NAME}`";
                self.problems.value(place, format!("`{place}` holds credentials"), hint);
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") => return text,
            _ => {
                let hint = "such as `http://127.0.0.1:8080/health`";
                self.problems.value(place, format!("`{place}` is not the address of an HTTP service"), hint);
            }
        }
        self.problems.spoil(place.clone());
        String::new()
    }
}

fn is_header(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

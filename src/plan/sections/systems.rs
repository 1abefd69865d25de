//! The section `systems`: each by exactly one adapter.

use crate::plan::document as typed;
use crate::plan::model::{Adapter, AnsweredAt, Commands, Control, Gateways, Haproxy, Side, Socket, System};
use crate::plan::place::Place;
use crate::plan::resolve::Resolver;
use std::collections::BTreeMap;
use std::path::PathBuf;

impl Resolver<'_, '_> {
    pub(in crate::plan) fn systems(&mut self, typed: &[typed::System]) -> Vec<System> {
        let place = Place::top("systems");
        typed.iter().enumerate().filter_map(|(index, system)| self.system(&place.index(index), system)).collect()
    }

    fn system(&mut self, place: &Place, typed: &typed::System) -> Option<System> {
        let name = self.name(&place.key("name"), &typed.name);
        let mut answers = BTreeMap::new();
        for (side, answer) in [(Side::Blue, &typed.answers.blue), (Side::Green, &typed.answers.green)] {
            if let Some(answer) = answer {
                answers
                    .extend(self.text(&place.key("answers").key(side.as_str()), answer).map(|answer| (side, answer)));
            }
        }
        let adapter = self.adapter(place, typed)?;
        Some(System { name, adapter, behind: typed.behind.clone(), answers })
    }

    fn adapter(&mut self, place: &Place, typed: &typed::System) -> Option<Adapter> {
        match (&typed.gateway, &typed.participant, &typed.command, &typed.haproxy, &typed.nginx) {
            (Some(gateway), None, None, None, None) => self.gateways(&place.key("gateway"), &typed.name, gateway),
            (None, Some(participant), None, None, None) => {
                let url = self.http_url(&place.key("participant").key("url"), &participant.url)?;
                Some(Adapter::Participant { url })
            }
            (None, None, Some(command), None, None) => {
                Some(Adapter::Command(Box::new(self.commands(&place.key("command"), command))))
            }
            (None, None, None, Some(haproxy), None) => {
                Some(Adapter::Haproxy(Box::new(self.haproxy(&place.key("haproxy"), haproxy)?)))
            }
            (None, None, None, None, Some(nginx)) => {
                Some(Adapter::Nginx(self.answered_at(&place.key("nginx").key("verify"), &nginx.verify)?))
            }
            _ => {
                let hint = "`gateway` for a system behind the built-in gateway, `participant` for one that speaks the protocol itself, `command` \
                            for one that programs move, `haproxy` or `nginx` for one behind such a proxy";
                let keys = "`gateway`, `participant`, `command`, `haproxy` and `nginx`";
                self.problems.key(place, format!("`{place}` must have exactly one of {keys}"), hint);
                None
            }
        }
    }

    fn gateways(&mut self, place: &Place, system: &str, typed: &typed::GatewayAdapter) -> Option<Adapter> {
        let mut controls = Vec::new();
        match (&typed.control, typed.controls.is_empty()) {
            (Some(control), true) => {
                let url = self.http_url(&place.key("control"), control)?;
                controls.push(Control { name: system.to_owned(), url });
            }
            (None, false) => {
                for (name, url) in &typed.controls {
                    let place = place.key("controls").key(name);
                    let name = self.name(&place, name);
                    controls.extend(self.http_url(&place, url).map(|url| Control { name, url }));
                }
            }
            _ => {
                let hint = "`control` for one gateway, `controls` for several: a name and a URL for each";
                self.problems.key(place, format!("`{place}` must have exactly one of `control` and `controls`"), hint);
                return None;
            }
        }
        let count_out = typed.count_out.as_ref().map(|isolate| self.isolate_at(&place.key("count_out"), isolate));
        Some(Adapter::Gateway(Gateways { controls, count_out }))
    }

    fn commands(&mut self, place: &Place, typed: &typed::CommandAdapter) -> Commands {
        let nothing = BTreeMap::new();
        let (drain, env) = self.program_at(place, "drain", &typed.drain, &typed.env);
        let mut must = |key: &str, run: &[String]| self.program_at(place, key, run, &nothing).0;
        let (switch, verify) = (must("switch", &typed.switch), must("verify", &typed.verify));
        let mut may = |key: &str, run: &[String]| (!run.is_empty()).then(|| must(key, run));
        Commands {
            prepare: may("prepare", &typed.prepare),
            hold: may("hold", &typed.hold),
            release: may("release", &typed.release),
            undo: may("undo", &typed.undo),
            drain,
            switch,
            verify,
            env,
        }
    }

    fn haproxy(&mut self, place: &Place, typed: &typed::HaproxyAdapter) -> Option<Haproxy> {
        let socket = self.socket(&place.key("socket"), &typed.socket);
        let map = self.word(&place.key("map"), &typed.map);
        let file = typed.file.as_ref().map(|file| self.text(&place.key("file"), file));
        let key = self.word(&place.key("key"), &typed.key);
        let backends = place.key("backends");
        let blue = self.word(&backends.key("blue"), &typed.backends.blue);
        let green = self.word(&backends.key("green"), &typed.backends.green);
        let verify = self.answered_at(&place.key("verify"), &typed.verify);
        let map = map?;
        let file = self.folder.join(PathBuf::from(file.unwrap_or_else(|| Some(map.clone()))?));
        let backends = BTreeMap::from([(Side::Blue, blue?), (Side::Green, green?)]);
        Some(Haproxy { socket: socket?, map, file, key: key?, backends, verify: verify? })
    }

    fn socket(&mut self, place: &Place, typed: &str) -> Option<Socket> {
        let text = self.text(place, typed)?;
        let is_port =
            |at: &str| at.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Some(Socket::Unix(PathBuf::from(path))),
            Some(("tcp", at)) if is_port(at) => Some(Socket::Tcp(at.to_owned())),
            _ => {
                let hint = "`unix:/run/haproxy.sock` or `tcp:127.0.0.1:9999`";
                self.problems.value(place, format!("`{place}` is no socket"), hint);
                self.problems.spoil(place.clone());
                None
            }
        }
    }

    /// A word of HAProxy's runtime language: anything else could say more there than a name.
    fn word(&mut self, place: &Place, typed: &str) -> Option<String> {
        let text = self.text(place, typed)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
        if text.is_empty() || !text.bytes().all(fits) {
            let hint = "letters, digits and the signs - _ . / :";
            self.problems.value(place, format!("`{place}` is no word that HAProxy takes"), hint);
            self.problems.spoil(place.clone());
            return None;
        }
        Some(text)
    }

    fn answered_at(&mut self, place: &Place, typed: &typed::AnsweredAt) -> Option<AnsweredAt> {
        let url = self.http_url(&place.key("url"), &typed.url);
        let header = place.key("header");
        let is_token = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if let Some(name) = typed.header.as_deref().filter(|name| !is_token(name)) {
            self.problems.value(&header, format!("`{name}` is not the name of a header"), "such as `X-Served-By`");
        }
        Some(AnsweredAt { url: url?, header: typed.header.clone() })
    }
}

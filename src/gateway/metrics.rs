//! `/metrics` on the control listener: what a gateway counts, in the text form that Prometheus reads.

use super::counters::Counters;
use super::flows::Flows;
use super::gate::Gate;
use super::overlay::{Doorway, Overlay};
use super::refresh::Refreshes;
use super::totals::LastTotals;
use crate::plan::Side;
use crate::revocations::Totals;
use crate::revocations::hydra::Class;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const SWEEP_EVERY: Duration = Duration::from_secs(1);
const CLASSES: [(Class, &str); Class::COUNT] = [
    (Class::Revocation, "revocation"),
    (Class::Introspection, "introspection"),
    (Class::Token, "token"),
    (Class::Other, "other"),
];

/// What is measured.
pub(super) struct Metrics {
    pub(super) gate: Arc<Gate>,
    pub(super) overlay: Arc<Overlay>,
    pub(super) refreshes: Option<Arc<Refreshes>>,
    pub(super) flows: Option<Arc<Flows>>,
    pub(super) counters: Arc<Counters>,
    pub(super) totals: LastTotals,
}

impl Metrics {
    /// Everything, one sample a line.
    pub(super) async fn text(&self) -> String {
        let mut text = Text(String::new());
        self.requests(&mut text);
        self.gate(&mut text);
        self.revocations(&mut text);
        if let Some(totals) = self.totals.get().await {
            standing(&totals, &mut text);
        }
        self.refreshes(&mut text);
        self.flows(&mut text);
        text.0
    }

    /// Forgets kept answers to refreshes, and flows, in time, also when nobody asks for any.
    pub(super) async fn sweep(self: Arc<Self>) {
        while self.refreshes.is_some() || self.flows.is_some() {
            sleep(SWEEP_EVERY).await;
            self.refreshes.iter().for_each(|refreshes| refreshes.sweep());
            self.flows.iter().for_each(|flows| flows.sweep());
        }
    }

    fn requests(&self, text: &mut Text) {
        text.head(
            "cutover_gateway_requests_total",
            "counter",
            "Requests let through, by the class of their answer's status.",
        );
        for side in [Side::Blue, Side::Green] {
            for (class, word) in CLASSES {
                for status in 1..=5 {
                    let count = self.counters.answers(side, class, status);
                    if count > 0 {
                        let labels = format!("side=\"{side}\",class=\"{word}\",status=\"{status}xx\"");
                        text.sample("cutover_gateway_requests_total", &labels, count);
                    }
                }
            }
        }
        text.head("cutover_gateway_refused_total", "counter", "Requests refused with 503 before any side was asked.");
        for (why, count) in [("full", &self.counters.refused_full), ("unsettled", &self.counters.refused_unsettled)] {
            text.sample("cutover_gateway_refused_total", &format!("reason=\"{why}\""), count.get());
        }
    }

    fn gate(&self, text: &mut Text) {
        text.one("cutover_gateway_in_flight", "gauge", "Requests let through and not answered.", self.gate.in_flight());
        text.one("cutover_gateway_held", "gauge", "Requests held.", self.gate.held() as u64);
    }

    fn revocations(&self, text: &mut Text) {
        let counters = &self.counters;
        text.one("cutover_revocations_captured_total", "counter", "Revocations queued.", counters.captured.get());
        let what = "Revocations refused because they could not be queued.";
        text.one("cutover_revocations_refused_total", "counter", what, counters.capture_refused.get());
        text.one("cutover_overlay_entries", "gauge", "Revocations that are denied.", self.overlay.len() as u64);
        let what = "Whether everything revoked before the start is denied.";
        text.one("cutover_overlay_loaded", "gauge", what, u64::from(self.overlay.is_loaded()));
        text.head(
            "cutover_overlay_denied_total",
            "counter",
            "Requests refused because they presented what was revoked.",
        );
        for doorway in Doorway::ALL {
            let labels = format!("door=\"{}\"", doorway.as_str());
            text.sample("cutover_overlay_denied_total", &labels, counters.denials(doorway));
        }
        text.head("cutover_overlay_lookups_total", "counter", "Presented tokens whose grant was looked up.");
        for (result, count) in [("answered", &counters.lookups), ("failed", &counters.lookups_failed)] {
            text.sample("cutover_overlay_lookups_total", &format!("result=\"{result}\""), count.get());
        }
    }

    fn flows(&self, text: &mut Text) {
        let Some(flows) = &self.flows else { return };
        let what =
            "Logins and consents that began anew because they had begun on the other side, by who was sent back.";
        text.head("cutover_flows_restarted_total", "counter", what);
        let counts = [("browser", &self.counters.restarted_browsers), ("screen", &self.counters.restarted_screens)];
        for (who, count) in counts {
            text.sample("cutover_flows_restarted_total", &format!("who=\"{who}\""), count.get());
        }
        let what = "Challenges of logins and consents whose beginning is remembered.";
        text.one("cutover_flows_remembered", "gauge", what, flows.remembered() as u64);
    }

    fn refreshes(&self, text: &mut Text) {
        let Some(refreshes) = &self.refreshes else { return };
        let what = "Refreshes sent once for all who asked the same.";
        text.one("cutover_refresh_flights_total", "counter", what, self.counters.flights.get());
        let what = "Answers to refreshes that there was no room to keep.";
        text.one("cutover_refresh_unkept_total", "counter", what, self.counters.unkept.get());
        text.one("cutover_refresh_kept", "gauge", "Answers to refreshes that are kept.", refreshes.kept() as u64);
        text.head(
            "cutover_refresh_shared_total",
            "counter",
            "Answers given to those who asked beside or again: token uses no engine saw.",
        );
        for (client, shared) in self.counters.all_shared() {
            let client = escaped(&client);
            for (how, count) in [("beside", shared.followers), ("again", shared.replays)] {
                let labels = format!("client=\"{client}\",how=\"{how}\"");
                text.sample("cutover_refresh_shared_total", &labels, count);
            }
        }
    }
}

/// What control says of all gateways' revocations; without its word there is no sample, rather than a wrong one.
fn standing(totals: &Totals, text: &mut Text) {
    let Totals { replayed, proved, dead, oldest_unproved_s, .. } = totals;
    let what = "Revocations of the plan that are replayed and not proved yet.";
    text.one("cutover_revocations_replayed", "gauge", what, replayed);
    text.one("cutover_revocations_proved", "gauge", "Revocations of the plan that are proved.", proved);
    let what = "Revocations of the plan that were given up; each blocks a flip.";
    text.one("cutover_revocations_dead", "gauge", what, dead);
    let what = "Age of the plan's oldest revocation that is neither proved nor waived; 0 without any.";
    let oldest = oldest_unproved_s.unwrap_or_default();
    text.one("cutover_revocations_oldest_unproved_seconds", "gauge", what, oldest);
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_without_anything_unproved_has_no_age() {
        let mut text = Text(String::new());
        standing(&Totals { proved: 7, ..Totals::default() }, &mut text);
        let samples: Vec<&str> = text.0.lines().filter(|line| !line.starts_with('#')).collect();
        let named = ["replayed 0", "proved 7", "dead 0", "oldest_unproved_seconds 0"];
        assert_eq!(samples, named.map(|sample| format!("cutover_revocations_{sample}")));
    }

    #[test]
    fn a_name_that_somebody_else_chose_stays_within_its_quotes() {
        assert_eq!(escaped("a\"} 9\n\\"), "a\\\"} 9\\n\\\\");
    }
}

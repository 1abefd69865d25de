//! One system over the participant protocol: an order out, its standing back, every call with a bound. Decides nothing.

use crate::plan::{Adapter, System};
use crate::traffic::figures::Figures;
use crate::traffic::protocol::{Conflict, Order, Standing};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use std::time::Duration;
use thiserror::Error;

/// Time added to an order's own bound before the call is given up.
const GRACE: Duration = Duration::from_millis(250);

/// Why a system did not do what it was asked.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// No answer, or not in time: whether the order was carried out is unknown.
    #[error("{verb} {system} at {url}: no answer")]
    Silent {
        /// What was asked.
        verb: &'static str,
        /// Whom.
        system: String,
        /// Where.
        url: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// It has accepted a higher epoch, or this epoch from somebody else: this process must not go on.
    #[error("{verb} {system}: refused, it stands at epoch {} ({})", conflict.epoch, conflict.error)]
    Conflict {
        /// What was asked.
        verb: &'static str,
        /// Whom.
        system: String,
        /// What it said.
        conflict: Conflict,
    },
    /// It answered that it could not.
    #[error("{verb} {system}: it answered {status}: {body}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// Whom.
        system: String,
        /// HTTP status.
        status: u16,
        /// What it said, shortened.
        body: String,
    },
    /// It was not done, or not in time; whether some of it was, is unknown.
    #[error("{verb} {system}: {why}")]
    Failed {
        /// What was asked.
        verb: &'static str,
        /// Of whom.
        system: String,
        /// One sentence.
        why: String,
    },
}

/// One participant of the plan, ready to be spoken to.
#[derive(Debug, Clone)]
pub struct Participant {
    name: String,
    base: String,
    gateway: Option<String>,
    http: reqwest::Client,
}

impl Participant {
    /// The participants of a system: one, or each gateway of several; none of a system that does not speak the protocol. Nothing is sent yet.
    #[must_use]
    pub fn of(system: &System, http: &reqwest::Client) -> Vec<Self> {
        let one = |name: String, base: &str, gateway: Option<&str>| Self {
            name,
            base: base.trim_end_matches('/').to_owned(),
            gateway: gateway.map(str::to_owned),
            http: http.clone(),
        };
        match &system.adapter {
            Adapter::Participant { url } => vec![one(system.name.clone(), url, None)],
            adapter => {
                let gateways = adapter.gateways();
                let name = |gateway: &str| match gateways.len() {
                    1 => system.name.clone(),
                    _ => format!("{}/{gateway}", system.name),
                };
                gateways.iter().map(|gateway| one(name(&gateway.name), &gateway.url, Some(&gateway.name))).collect()
            }
        }
    }

    /// Its name: the system's, and with several gateways the gateway's too.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address when it can be asked which side is open.
    #[must_use]
    pub fn resolver(&self) -> Option<&str> {
        self.gateway.is_some().then_some(self.base.as_str())
    }

    /// Sends an order (`prepare`, `hold`, `switch`, `verify`, `release`) and waits at most the order's own deadline.
    ///
    /// # Errors
    /// No answer, a conflict of epochs, or a refusal.
    pub async fn order(&self, verb: &'static str, order: &Order) -> Result<Standing, AdapterError> {
        let bound = Duration::from_millis(order.deadline_ms) + GRACE;
        let request = self.http.post(self.url(verb)).json(order).timeout(bound);
        self.answer(verb, request).await
    }

    /// Asks where it stands.
    ///
    /// # Errors
    /// No answer or a refusal.
    pub async fn standing(&self, bound: Duration) -> Result<Standing, AdapterError> {
        self.answer("state", self.http.get(self.url("state")).timeout(bound)).await
    }

    /// Whether it is a gateway, which counts what the engine's own clients are answered.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        self.gateway.is_some()
    }

    /// The name under which it queues revocations, when it is a gateway.
    #[must_use]
    pub fn gateway(&self) -> Option<&str> {
        self.gateway.as_deref()
    }

    /// What its clients were answered within the last `seconds`, on either side; none of a system that is no gateway and does not count.
    ///
    /// # Errors
    /// No answer or a refusal.
    pub async fn figures(&self, seconds: u64, bound: Duration) -> Result<Option<Figures>, AdapterError> {
        let request = self.http.get(self.url("figures")).query(&[("seconds", seconds)]).timeout(bound);
        match self.answer("figures", request).await {
            Err(AdapterError::Refused { status: 400..=499 | 501, .. }) if !self.is_gateway() => Ok(None),
            answered => answered.map(Some),
        }
    }

    fn url(&self, verb: &str) -> String {
        format!("{}/cutover/v1/{verb}", self.base)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<T, AdapterError> {
        let silent = |source| AdapterError::Silent { verb, system: self.name.clone(), url: self.base.clone(), source };
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        match status {
            StatusCode::OK => response.json().await.map_err(silent),
            StatusCode::CONFLICT => {
                let conflict = response.json().await.map_err(silent)?;
                Err(AdapterError::Conflict { verb, system: self.name.clone(), conflict })
            }
            _ => {
                let body = response.text().await.unwrap_or_default().chars().take(200).collect();
                Err(AdapterError::Refused { verb, system: self.name.clone(), status: status.as_u16(), body })
            }
        }
    }
}

//! One system over the participant protocol: an order out, its standing back, every call with a bound. Decides nothing.

use crate::plan::{Adapter, Side, System};
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
}

/// A system of the plan, ready to be spoken to.
#[derive(Debug, Clone)]
pub struct Participant {
    name: String,
    base: String,
    is_gateway: bool,
    expected_blue: Option<String>,
    expected_green: Option<String>,
    http: reqwest::Client,
}

impl Participant {
    /// A participant for a system of the plan. Nothing is sent yet.
    #[must_use]
    pub fn new(system: &System, http: reqwest::Client) -> Self {
        Self {
            name: system.name.clone(),
            base: system.adapter.base().trim_end_matches('/').to_owned(),
            is_gateway: matches!(system.adapter, Adapter::Gateway { .. }),
            expected_blue: system.answers.get(&Side::Blue).cloned(),
            expected_green: system.answers.get(&Side::Green).cloned(),
            http,
        }
    }

    /// Its name in the plan.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address when it can be asked which side is open.
    #[must_use]
    pub fn resolver(&self) -> Option<&str> {
        self.is_gateway.then_some(self.base.as_str())
    }

    /// What a request on its own path must be answered by on that side, when the plan says so.
    #[must_use]
    pub fn expected(&self, side: Side) -> Option<&str> {
        match side {
            Side::Blue => self.expected_blue.as_deref(),
            Side::Green => self.expected_green.as_deref(),
        }
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
        self.is_gateway
    }

    /// What its clients were answered within the last `seconds`, on either side; none of a system that is no gateway and does not count.
    ///
    /// # Errors
    /// No answer or a refusal.
    pub async fn figures(&self, seconds: u64, bound: Duration) -> Result<Option<Figures>, AdapterError> {
        let request = self.http.get(self.url("figures")).query(&[("seconds", seconds)]).timeout(bound);
        match self.answer("figures", request).await {
            Err(AdapterError::Refused { status: 400..=499 | 501, .. }) if !self.is_gateway => Ok(None),
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

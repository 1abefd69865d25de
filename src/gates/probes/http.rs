//! One request, and what must be answered: a status, and perhaps a text. It reads only.

use super::super::probe::{Finding, Probe, Reading};
use super::oauth::whole_body;
use crate::plan::{self, When};
use reqwest::Method;

/// A request of the plan.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    /// What the plan says.
    pub plan: plan::HttpProbe,
    /// How it is sent: follows no redirect.
    pub http: reqwest::Client,
}

impl Probe for HttpProbe {
    async fn ask(&self, when: When) -> Vec<Reading> {
        if !self.plan.when.contains(&when) {
            return Vec::new();
        }
        vec![Reading::new(&self.plan.name, "http", self.finding().await)]
    }
}

impl HttpProbe {
    async fn finding(&self) -> Finding {
        let method = if self.plan.method == "HEAD" { Method::HEAD } else { Method::GET };
        let mut request = self.http.request(method, &self.plan.url).timeout(self.plan.timeout);
        for (name, value) in &self.plan.headers {
            request = request.header(name, value.expose());
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Finding::Silent(crate::gates::said(&error.without_url())),
        };
        let status = response.status().as_u16();
        if status != self.plan.status {
            return Finding::Broken(format!("answered {status}, not {}", self.plan.status));
        }
        let Some(wanted) = &self.plan.body_contains else { return Finding::Held };
        match whole_body(&mut response).await {
            Ok(body) if String::from_utf8_lossy(&body).contains(wanted) => Finding::Held,
            Ok(_) => Finding::Broken(format!("the answer does not hold `{wanted}`")),
            Err(why) => Finding::Silent(why),
        }
    }
}

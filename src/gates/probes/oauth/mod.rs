//! OAuth as clients use it, on one side: flows with clients and users made for the purpose, and what the engine publishes.
//!
//! What writes is tried on a side that serves: on blue before anything is touched, on green once it is open. A closed green refuses the
//! application's writes, and must; there only what reads is asked.

mod canaries;
mod compare;
mod engine;
mod error;
mod flows;
mod grant;
mod jws;
mod seal;

pub use canaries::{Canaries, Expected, Kind};
pub use engine::{Client, Engine};
pub use error::OauthError;
pub use seal::{Unreadable, open, seal};

pub(super) use engine::whole_body;

use super::super::probe::{Finding, Probe, Reading};
use crate::plan::{self, Flow, Side, When};
use flows::Trial;
use uuid::Uuid;

/// Flows of the plan.
#[derive(Debug, Clone)]
pub struct OauthProbe {
    /// What the plan says.
    pub plan: plan::OauthProbe,
    /// The plan's name: what is made carries it.
    pub plan_name: String,
    /// How it is spoken: follows no redirect.
    pub http: reqwest::Client,
}

/// The clients of one trial.
struct Clients {
    own: Client,
    stranger: Option<Client>,
}

impl Probe for OauthProbe {
    async fn ask(&self, when: When) -> Vec<Reading> {
        let mut readings = self.published(when).await;
        match when {
            When::Start => readings.extend(self.tried(Side::Blue).await),
            When::Soak => readings.extend(self.tried(Side::Green).await),
            When::Before => {}
        }
        readings
    }
}

impl OauthProbe {
    /// One side's engine.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn engine(&self, side: Side) -> Result<Engine, OauthError> {
        self.engine_at(self.plan.engine(side)).await
    }

    /// Whichever engine stands behind these addresses, such as those of a gateway.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn engine_at(&self, at: &plan::Upstream) -> Result<Engine, OauthError> {
        Engine::reach(&self.http, at, self.plan.timeout).await
    }

    /// Whose the clients are that the flows make, and the name of their user.
    fn owner(&self) -> String {
        format!("cutover-probe-{}-{}", self.plan_name, self.plan.name)
    }

    /// Whose the canaries of a run are.
    #[must_use]
    pub fn canary_owner(&self, run: Uuid) -> String {
        format!("cutover-canary-{}-{}-{run}", self.plan_name, self.plan.name)
    }

    /// How a side must stand to what blue has issued.
    #[must_use]
    pub fn expected(&self, side: Side) -> Expected {
        match side {
            Side::Green if !self.plan.accepts.blue_tokens_on_green => Expected::None,
            _ => Expected::AsOnBlue,
        }
    }

    /// Ids of the clients of an owner that stand on a side.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn standing(&self, side: Side, owner: &str) -> Result<Vec<String>, OauthError> {
        self.engine(side).await?.clients_of(owner).await
    }

    /// Removes the clients of an owner, with all that hangs on them.
    ///
    /// # Errors
    /// When the engine does not do it; asked again it goes on.
    pub async fn sweep(&self, side: Side, owner: &str) -> Result<usize, OauthError> {
        let engine = self.engine(side).await?;
        let found = engine.clients_of(owner).await?;
        for id in &found {
            engine.delete_client(id).await?;
        }
        Ok(found.len())
    }

    /// Removes the canaries of a run from a side: clients, grants, and their users' logins.
    ///
    /// # Errors
    /// When the engine does not do it; asked again it goes on.
    pub async fn remove_canaries(&self, side: Side, run: Uuid) -> Result<(), OauthError> {
        let owner = self.canary_owner(run);
        self.sweep(side, &owner).await?;
        let engine = self.engine(side).await?;
        for subject in Canaries::subjects(&owner) {
            engine.delete_logins(&subject).await?;
        }
        Ok(())
    }

    /// Removes what flows have left on a side, also one that was cut off.
    ///
    /// # Errors
    /// When the engine does not do it; asked again it goes on.
    pub async fn sweep_flows(&self, side: Side) -> Result<usize, OauthError> {
        let engine = self.engine(side).await?;
        let subject = self.owner();
        let found = match &self.plan.client {
            Some(given) => {
                engine.delete_consents(&subject, &given.id).await?;
                0
            }
            None => self.sweep(side, &subject).await?,
        };
        engine.delete_logins(&subject).await?;
        Ok(found)
    }

    /// What flows that were cut off have left on a side.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn left(&self, side: Side) -> Result<usize, OauthError> {
        if self.plan.client.is_some() { Ok(0) } else { Ok(self.standing(side, &self.owner()).await?.len()) }
    }

    fn reading(&self, question: &str, result: Result<(), OauthError>) -> Reading {
        let finding = result.map_or_else(|error| error.finding(), |()| Finding::Held);
        Reading::new(&self.plan.name, question, finding)
    }

    /// What the engines publish: green's beside blue's. During the soak blue's engine may be gone, and is no measure then.
    async fn published(&self, when: When) -> Vec<Reading> {
        let is_asked = |flow: Flow| self.plan.flows.contains(&flow);
        let mut readings = Vec::new();
        if is_asked(Flow::Discovery) {
            readings.extend(self.compared(when, Flow::Discovery).await);
        }
        if is_asked(Flow::Keys) {
            readings.extend(self.compared(when, Flow::Keys).await);
        }
        readings
    }

    async fn compared(&self, when: When, flow: Flow) -> Option<Reading> {
        let (question, what) = match flow {
            Flow::Keys => ("keys", "compare the public keys"),
            _ => ("discovery", "compare the discovery documents"),
        };
        let blue = self.document(Side::Blue, flow).await;
        if when == When::Start {
            return Some(self.reading(question, blue.map(drop)));
        }
        let blue = match blue {
            Err(OauthError::Silent { .. }) if when == When::Soak => return None,
            other => other,
        };
        let result = match (blue, self.document(Side::Green, flow).await) {
            (Ok(blue), Ok(green)) => match flow {
                Flow::Keys => compare::keys(&blue, &green),
                _ => compare::discovery(&blue, &green, &self.plan.may_differ),
            }
            .map_err(|why| OauthError::unexpected(what, why)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        Some(self.reading(question, result))
    }

    async fn document(&self, side: Side, flow: Flow) -> Result<serde_json::Value, OauthError> {
        let engine = self.engine(side).await?;
        match flow {
            Flow::Keys => engine.keys().await,
            _ => engine.discovery().await,
        }
    }

    /// The flows that write, on a side that serves. Whatever becomes of them, what was made is removed.
    async fn tried(&self, side: Side) -> Vec<Reading> {
        let flows: Vec<Flow> =
            self.plan.flows.iter().copied().filter(|flow| !matches!(flow, Flow::Discovery | Flow::Keys)).collect();
        if flows.is_empty() {
            return Vec::new();
        }
        let engine = match self.engine(side).await {
            Ok(engine) => engine,
            Err(error) => return vec![self.reading("engine", Err(error))],
        };
        let subject = self.owner();
        let mut readings = Vec::new();
        match self.clients(side, &engine).await {
            Ok(clients) => readings.extend(self.all(side, &engine, &clients, &subject, &flows).await),
            Err(error) => readings.push(self.reading("clients", Err(error))),
        }
        let cleaned = self.sweep_flows(side).await.map(drop);
        if cleaned.is_err() {
            readings.push(self.reading("clean up", cleaned));
        }
        readings
    }

    async fn all(&self, side: Side, engine: &Engine, clients: &Clients, subject: &str, flows: &[Flow]) -> Vec<Reading> {
        let trial = Trial {
            engine,
            client: &clients.own,
            stranger: clients.stranger.as_ref(),
            subject,
            scope: &self.plan.scope,
            grace: self.plan.grace(side),
        };
        let mut readings = Vec::new();
        for flow in flows {
            readings.push(self.reading(name(*flow), trial.run(*flow).await));
        }
        if side == Side::Green {
            readings.extend(self.on_blue(engine, &clients.own).await);
        }
        readings
    }

    /// Whether blue's engine, where it still answers, takes a token that green has issued.
    async fn on_blue(&self, green: &Engine, client: &Client) -> Option<Reading> {
        let (what, is_accepted) = ("show a token of green's to blue", self.plan.accepts.green_tokens_on_blue);
        let result = async {
            let answer = green.token(what, client, &[("grant_type", "client_credentials")]).await?;
            let token = Engine::tokens(what, &answer)?.access;
            match self.engine(Side::Blue).await?.is_active(&token).await? {
                found if found == is_accepted => Ok(()),
                true => Err(OauthError::unexpected(what, "it is active, and the plan says that it is not")),
                false => Err(OauthError::unexpected(what, "it is not active, and the plan says that it is")),
            }
        };
        match result.await {
            // An engine that is gone accepts nothing.
            Err(OauthError::Silent { .. }) if !is_accepted => None,
            result => Some(self.reading("green's tokens on blue", result)),
        }
    }

    async fn clients(&self, side: Side, engine: &Engine) -> Result<Clients, OauthError> {
        if let Some(given) = &self.plan.client {
            let redirect_uri = given.redirect_uri.clone().unwrap_or_default();
            let own = Client { id: given.id.clone(), secret: given.secret.clone(), redirect_uri };
            return Ok(Clients { own, stranger: None });
        }
        self.sweep_flows(side).await?;
        let owner = self.owner();
        let own = engine.create_client("cutover-probe", &owner, &self.plan.scope).await?;
        let stranger = engine.create_client("cutover-probe-stranger", &owner, &self.plan.scope).await?;
        Ok(Clients { own, stranger: Some(stranger) })
    }
}

fn name(flow: Flow) -> &'static str {
    match flow {
        Flow::Discovery => "discovery",
        Flow::Keys => "keys",
        Flow::Introspect => "introspect",
        Flow::ClientCredentials => "client_credentials",
        Flow::CodePkce => "code_pkce",
        Flow::Refresh => "refresh",
        Flow::Reuse => "reuse",
        Flow::Revoke => "revoke",
    }
}

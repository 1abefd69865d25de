//! The gateway: routing, holding, the plan's routes, logins in progress, the participant protocol, what it does without word, capture, what it denies and shares, its figures.

mod capture;
mod figures;
mod flows;
mod front;
mod fuzz;
mod hold;
mod hygiene;
mod origin;
mod overlay;
mod protocol;
mod refresh;
mod retire;
mod routes;
pub(crate) mod world;

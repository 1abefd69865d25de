//! The only test binary; each module below is a file or a folder of its own.

mod bench;
mod database_client;
mod database_fill;
mod database_migrate;
mod database_preflight;
mod engine;
mod fence;
mod gateway;
mod harness;
mod journal;
mod level;
mod level_back;
mod lockstep;
mod plan;
mod plan_hydra;
mod plan_hydra_back;
mod register;
mod report;
mod revocations;
mod sandbox;
mod sandbox_engine;
mod sandbox_flows;
mod sandbox_servers;
mod scenarios;
mod steps;
mod tidy;

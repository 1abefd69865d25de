//! Systems that are not spoken to over the participant protocol: programs, and the real HAProxy and nginx, with the gateway holding for them.

mod command;
mod flip;
mod gateways;
mod haproxy;
mod nginx;
mod proxies;
mod stage;

//! The lockstep's parts, transition by transition, to green and to blue: participants over HTTP, registers on a real server.

mod explore;
mod model;
mod orders;
mod registers;
mod subject;

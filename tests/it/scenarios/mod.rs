//! Whole runs of the binary against real servers: to the flip point, back again, killed on the way.

mod back;
mod cleanup;
mod damage;
mod dead_green;
mod finalize;
mod flip;
mod history;
mod in_place;
mod invariants;
mod kills;
mod logical;
mod matrix;
mod park;
mod paused;
mod phases;
mod probes;
mod proof;
mod proved;
mod rehearse;
mod several_gateways;
mod soak;
mod triggers;
mod turn_round;
mod twin;
mod way_back;

//! Whole runs of the binary against real servers: to the flip point, back again, killed on the way.

mod back;
mod damage;
mod finalize;
mod flip;
mod kills;
mod park;
mod rehearse;
mod way_back;

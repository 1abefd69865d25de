//! Probes measure, gates decide.

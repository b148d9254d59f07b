//! What follows from the answers that `sntp` reads.

#[path = "../../../../init/src/clock/judge.rs"]
pub mod judge;

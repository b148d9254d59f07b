//! Decisions, over plain data as far as that goes: [`check`] says which versions are for this device,
//! of a server and [`bundle`] of a file, [`rollout`] when; [`trial`] what the last boot means,
//! [`commit_gate`] whether a trial may be committed, [`fall_back`] whose fault a failed boot was, and
//! [`retrial`] when what is not to blame is tried again.

pub mod bundle;
pub mod check;
pub mod commit_gate;
pub mod fall_back;
pub mod retrial;
pub mod rollout;
pub mod trial;

//! What `init`, `ota`, `imager` and the tests must agree on, and nothing else.
//!
//! Read in this order: [`layout`] (the disk's partitions and the device's paths), [`conf`] (the
//! line-based text everything small is written in), [`manifest`] (what a slot holds, signed),
//! [`payload`] (the `.update` file), [`block_index`] (its blocks by hash), [`verity`] (the hash
//! tree behind the root), [`gpt`] (the partition table), [`boot_state`] and [`boot_state_store`] (which
//! slot boots next, changed by PID 1 on [`boot_request`], with [`rpi`] for firmware that
//! cannot read the state), [`loader`] and [`efi`] (how a loader of ours goes through its choices), [`disk`] (finding partitions on a running device),
//! [`origin`] (which of several disks is its own), [`medium`] (reading and writing them),
//! [`network_time`] (what a time server said) and [`data_state`] (what became of the
//! data partition).
//!
//! Everything here is plain data and pure functions, apart from [`boot_state_store`], [`disk`] and
//! [`medium`], which take paths or a trait so that a test can stand in. No network, no processes,
//! no allocation that input could make large: every length is bounded before it is used.
//!
//! Without the feature `std` only what a loader needs is there.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "std")]
pub mod block_index;
#[cfg(feature = "std")]
pub mod boot_request;
pub mod boot_state;
#[cfg(feature = "std")]
pub mod boot_state_store;
#[cfg(feature = "std")]
pub mod conf;
#[cfg(feature = "std")]
pub mod data_state;
#[cfg(feature = "std")]
pub mod disk;
pub mod efi;
pub mod error;
pub mod gpt;
pub mod hex;
pub mod layout;
pub mod loader;
#[cfg(feature = "std")]
pub mod manifest;
#[cfg(feature = "std")]
pub mod medium;
#[cfg(feature = "std")]
pub mod network_time;
#[cfg(feature = "std")]
pub mod origin;
#[cfg(feature = "std")]
pub mod payload;
#[cfg(feature = "std")]
pub mod rpi;
#[cfg(feature = "std")]
pub mod settings;
#[cfg(feature = "std")]
pub mod verity;
#[cfg(feature = "std")]
pub mod workload;

pub use error::{Error, Result};
pub use layout::Slot;

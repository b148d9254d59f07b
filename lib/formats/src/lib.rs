//! The formats that Ferrite's programs share: what `imager` writes and a device reads, what `init`
//! and `ota` tell each other, what a device reports. Each is one type, with `parse`, `to_text`, its
//! limits, and a test of its exact bytes beside it; no other crate knows a key or a magic line.
//!
//! ```
//! use formats::Slot;
//! use formats::run_slot::RunSlot;
//!
//! // `init` tells the rest of the system what was booted.
//! let text = b"ferrite-slot 1\nslot b\ntrial yes\nfallback no\nboard rpi4\nname demo\n\
//!     version 1.0.1\nsequence 2\ndisk /dev/mmcblk0\nchooser rpi\n";
//! let running = RunSlot::parse(text)?;
//! assert_eq!((running.slot, running.sequence), (Slot::B, 2));
//! assert_eq!(running.to_text().as_bytes(), text);
//! # Ok::<(), formats::Error>(())
//! ```
//!
//! | what | modules |
//! |---|---|
//! | the disk | [`layout`] (partitions, paths, groups), [`gpt`], [`disk`] (partitions of a running device), [`origin`] (which of several disks is the system's), [`medium`] (reading and writing them) |
//! | a version | [`manifest`] (what a slot holds, signed), [`payload`] (the `.update` file), [`block_index`] (its blocks by hash), [`verity`] (the root's hash tree) |
//! | which slot boots | [`boot_state`], [`boot_state_store`], [`boot_chooser`], [`boot_request`] (who may change it, and how), [`loader`] and [`efi`] (for loaders of ours), [`rpi`] |
//! | what an image says | [`boot_conf`], [`system_conf`], [`data_share`], [`watchdog`], [`workload`] (names and users), `ota_settings`, [`day_window`] |
//! | what a device says | [`settings`] (of one device), [`run_slot`], [`last_failure`], [`network_time`], [`data_state`], [`control`] (the protocol of `ctl`), `report` |
//! | the text of most of them | [`conf`] |
//!
//! All of it is plain data and pure functions, apart from [`boot_state_store`], [`disk`] and
//! [`medium`], which take paths or a trait so that a test can stand in. No network, no processes,
//! and no allocation that input could make large: every length is bounded before it is used.
//!
//! # Features
//! - `std` (default): all but what a boot loader needs, which has an allocator and nothing else.
//! - `json`: `ota_settings` and `report`, which are JSON. `init` goes without it and so without
//!   serde.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "std")]
pub mod block_index;
#[cfg(feature = "std")]
pub mod boot_chooser;
#[cfg(feature = "std")]
pub mod boot_conf;
#[cfg(feature = "std")]
pub mod boot_request;
pub mod boot_state;
#[cfg(feature = "std")]
pub mod boot_state_store;
#[cfg(feature = "std")]
pub mod conf;
#[cfg(feature = "std")]
pub mod control;
#[cfg(feature = "std")]
pub mod data_share;
#[cfg(feature = "std")]
pub mod data_state;
#[cfg(feature = "std")]
pub mod day_window;
#[cfg(feature = "std")]
pub mod disk;
pub mod efi;
pub mod error;
pub mod gpt;
pub mod hex;
#[cfg(feature = "std")]
mod key;
#[cfg(feature = "std")]
pub mod last_failure;
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
#[cfg(feature = "json")]
pub mod ota_settings;
#[cfg(feature = "std")]
pub mod payload;
#[cfg(feature = "json")]
pub mod report;
#[cfg(feature = "std")]
pub mod rpi;
#[cfg(feature = "std")]
pub mod run_slot;
#[cfg(feature = "std")]
pub mod settings;
#[cfg(feature = "std")]
pub mod system_conf;
#[cfg(feature = "std")]
pub mod verity;
#[cfg(feature = "std")]
pub mod watchdog;
#[cfg(feature = "std")]
pub mod workload;

pub use error::{Error, Result};
pub use layout::Slot;

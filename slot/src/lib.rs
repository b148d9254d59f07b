//! What `init`, `ota`, `imager` and the tests must agree on, and nothing else.
//!
//! Read in this order: [`layout`] (the disk's partitions and the device's paths), [`conf`] (the
//! line-based text everything small is written in), [`manifest`] (what a slot holds, signed),
//! [`payload`] (the `.update` file), [`block_index`] (its blocks by hash), [`verity`] (the hash
//! tree behind the root), [`gpt`] (the partition table), [`boot_state`] and [`chooser`] (which
//! slot boots next, with [`rpi`] for firmware that
//! cannot read the state), [`disk`] (finding partitions on a running device), [`medium`] (reading and
//! writing them) and [`network_time`] (what a time server said).
//!
//! Everything here is plain data and pure functions, apart from [`chooser`], [`disk`] and
//! [`medium`], which take paths or a trait so that a test can stand in. No network, no processes,
//! no allocation that input could make large: every length is bounded before it is used.

pub mod block_index;
pub mod boot_state;
pub mod chooser;
pub mod conf;
pub mod disk;
pub mod error;
pub mod gpt;
pub mod hex;
pub mod layout;
pub mod manifest;
pub mod medium;
pub mod network_time;
pub mod payload;
pub mod rpi;
pub mod settings;
pub mod verity;

pub use error::{Error, Result};
pub use layout::Slot;

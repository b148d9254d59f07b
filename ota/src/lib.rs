//! The update client of Ferrite: it brings the device its next version, and takes it back when
//! that one is worse.
//!
//! The road: [`daemon`] asks [`trial`] what the last boot means, commits a trial that [`health`]
//! calls healthy, then polls. [`check`] asks the repository (through [`http`]) whether there is
//! something newer for this device. [`install`] brings it into the idle slot, chunk by chunk,
//! through [`slot_writer`], and arms the trial; on a device the writing is another process, [`writer`],
//! and the boot state is `init`'s ([`boot`]). What was tried, and how it ended, lies in
//! [`state`]; [`status`] shows it. What time it is and what of that is sure says [`clock`], whose
//! turn it is [`rollout`]. Whose fault it was when a boot was not the one hoped for decides
//! [`fall_back`]; what is tried again waits in [`retrial`], and [`commit_gate`] keeps what cannot reach
//! its server from being committed. Between checks [`keeper`] has [`scrub`] look through the idle
//! slot, and [`heart`] tells `init` that all of this still turns over. What one device's image says is in [`settings`]; what runs, in
//! [`device`]; every path is in [`paths`]. What must outlive a power cut is written through two traits
//! that a test can replace: `formats::medium::Partitions` and [`data_folder::DataFolder`].

#![forbid(unsafe_code)]

pub mod account;
pub mod boot;
pub mod boot_changes;
pub mod bounded_file;
pub mod bundle;
pub mod byteranges;
pub mod candidates;
pub mod check;
pub mod clock;
pub mod commands;
pub mod commit_gate;
mod console;
pub mod credentials;
pub mod daemon;
pub mod data_folder;
mod deadline;
pub mod device;
pub mod error;
mod etag;
pub mod fall_back;
mod fat;
pub mod floor;
pub mod health;
pub mod heart;
pub mod http;
pub mod install;
pub mod keeper;
mod kept;
mod manner;
pub mod meter;
mod pace;
pub mod paths;
pub mod patience;
pub mod proxy;
pub mod random;
pub mod range_reader;
mod redirect;
pub mod report;
pub mod retrial;
pub mod roads;
pub mod rollout;
pub mod scrub;
pub mod settings;
pub mod slot_reader;
pub mod slot_writer;
pub mod source;
pub mod state;
pub mod status;
pub mod sticks;
pub mod tls;
pub mod trial;
pub mod whole;
pub mod writer;

pub use error::{Error, Result};

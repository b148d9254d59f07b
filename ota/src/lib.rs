//! The update client of Ferrite: it brings the device its next version into the idle slot, tries it,
//! and goes back to the version before when the new one is worse.
//!
//! Where to begin reading: [`daemon`] settles what the last boot means, commits a trial once every
//! vital workload is healthy, then polls the repository. Each step is a folder:
//!
//! | folder | concern |
//! |---|---|
//! | [`fetch`] | HTTP from servers that may be slow, broken or hostile; ranges, TLS, proxies, data budget, download cache |
//! | [`policy`] | decisions over plain data: which version is for this device, what a boot means, whose fault a failed boot was |
//! | [`install`] | an update into the idle slot, chunk by chunk, each from its cheapest source |
//! | [`writer`] | the half with the devices and without the network, which verifies every byte itself |
//! | [`integrity`] | whether a slot is on the medium as it was signed |
//! | [`init`] | requests to PID 1: health, reboots, changes of the boot state |
//! | [`slot`] | a slot's partitions, read and written |
//! | [`state`] | what is remembered on the data partition; [`bounded_file`] and [`data_folder`] read and replace files there without trusting them |
//! | [`daemon`] | the workload itself, USB media, and what goes on between two checks, the background scrub among it |
//!
//! The files form floors, and none needs one above it: errors, console, heart and files; the clock and
//! the device; what is remembered, what runs, and PID 1; `fetch` and `slot`; `writer`; `install`; `integrity`;
//! `policy`; the daemon, the status and the commands.
//!
//! A [`Device`](device::Device) is where things are: paths, partitions, the data folder. A
//! [`Context`](context::Context) is what holds as long as one version runs, loaded and verified once:
//! the running version and its manifest, the trusted keys, the image's settings. What must outlive a
//! power cut is written through two traits that a test can replace:
//! [`formats::medium::Partitions`] and [`DataFolder`](data_folder::DataFolder).
//!
//! Decisions take plain data and touch nothing, so that they can be tried anywhere:
//!
//! ```
//! use formats::Slot;
//! use formats::boot_state::BootState;
//! use ota::context::Running;
//! use ota::policy::trial::{Situation, situation};
//!
//! // Version 7 runs in slot a; version 8 was installed into slot b and gets three tries.
//! let running = Running {
//!     slot: Slot::A,
//!     trial: false,
//!     fallback: false,
//!     board: "qemu-arm64".into(),
//!     name: "demo".into(),
//!     version: "1.0.7".into(),
//!     sequence: 7,
//! };
//! let mut boot = BootState::fresh();
//! boot.arm(Slot::B, 3);
//! assert_eq!(situation(&running, &boot, None, None), Situation::Armed(Slot::B));
//!
//! // Three boots later version 7 runs again: version 8 failed its trial.
//! boot.tries = 0;
//! assert!(matches!(situation(&running, &boot, None, None), Situation::FellBack { from: Slot::B, .. }));
//! ```

#![forbid(unsafe_code)]

mod blocking;
pub mod bounded_file;
pub mod clock;
pub mod commands;
mod console;
pub mod context;
pub mod daemon;
pub mod data_folder;
pub mod device;
pub mod device_id;
pub mod error;
pub mod fetch;
pub mod heart;
pub mod init;
pub mod install;
pub mod integrity;
pub mod policy;
pub mod random;
pub mod report;
pub mod settings;
pub mod slot;
pub mod state;
pub mod status;
pub mod writer;

pub use error::{Error, Result};

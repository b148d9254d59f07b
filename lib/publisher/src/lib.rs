//! What the owner of a fleet does on a PC: makes the project's keys, and publishes updates that
//! devices trust.
//!
//! A repository is a folder that any HTTP server can serve, in the form of TUF (The Update Framework;
//! the crate `tuf` has the metadata). This crate looks after that folder:
//!
//! - [`keys`], [`boot_key`], [`secure_boot_keys`]: the key pairs, made once and kept in a folder.
//! - [`publish`]: updates into a repository, with deltas, rollouts and pruning of old versions.
//! - [`root_change`], [`sign`], [`mod@publish_staged`]: changes that several people sign, each on a
//!   machine of their own; [`staged`] has what waits for signatures.
//! - [`refresh`], [`verify`], [`show`]: renewing the timestamp, checking all that a device would
//!   check, showing what is there.
//! - [`bundle`]: one update in one file, for a stick. [`serve`]: an HTTP server for development.
//!
//! Everything is verified before a repository is touched, and files are written in an order in which
//! a device that reads meanwhile sees the old publication or the new one. Requests are plain
//! structs; what was done comes back as lines for people.
//!
//! ```
//! use publisher::{keys, publish, repository_folder, sample};
//! use tuf::Time;
//!
//! # fn main() -> anyhow::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let (keys, repo) = (folder.join("keys"), folder.join("repo"));
//! keys::generate(&keys)?;
//! let update = sample::update(folder, &keys, "qemu-arm64", "1.0.0", 1)?;
//!
//! let request = publish::Request::new(&repo, &keys, &[&update]);
//! let now = Time(1_800_000_000);
//! let lines = publish::publish(&request, now, &mut |_| ())?;
//! assert_eq!(lines[0], "demo-qemu-arm64-1.0.0.update published (sequence 1)");
//!
//! let published = repository_folder::load(&repo)?.expect("it was just published");
//! assert!(published.targets.targets.contains_key("demo-qemu-arm64-1.0.0.update"));
//! # Ok(())
//! # }
//! ```

pub mod boot_key;
pub mod bundle;
mod dates;
mod explain;
pub mod hashing;
mod http_request;
mod key_file;
pub mod keys;
pub mod publish;
pub mod publish_staged;
pub mod refresh;
pub mod repository_folder;
pub mod root_change;
pub mod sample;
pub mod secure_boot_keys;
pub mod serve;
pub mod show;
pub mod sign;
pub mod signing_clock;
pub mod staged;
pub mod update_file;
pub mod verify;

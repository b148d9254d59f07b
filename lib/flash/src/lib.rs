//! A disk image onto a card, a stick or a disk, and nothing onto anything else.
//!
//! The steps, each a file:
//!
//! 1. [`image`]: the image is looked at, plain or compressed.
//! 2. [`machine`], [`in_use`], [`member`], [`target`]: what this machine's disks are, and whether one
//!    may be overwritten. These are decisions over plain data, which the tests make up.
//! 3. [`open()`] and [`medium`]: the disk is opened so that nobody else can use it meanwhile.
//! 4. [`settings`], [`settings_support`], [`settings_patch`], [`patch`]: what only this one device has
//!    is laid over the image on its way: a partition table of the medium's size, a host name, secrets.
//! 5. [`passes`]: everything is written, the head last, then read back from the medium and compared.
//!
//! [`redacted`] shows the settings of a flashed device without the secrets.
//!
//! ```
//! use flash::image::Image;
//! use flash::medium::Medium;
//! use flash::patch::{self, Patches};
//! use flash::{passes, random, sample};
//!
//! # fn main() -> anyhow::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! std::fs::write(folder.join("demo.img"), sample::image()?)?;
//! let image = Image::open(&folder.join("demo.img"))?;
//! // A file of the image's size stands for a card.
//! let medium = Medium::new_file(&folder.join("card.img"), image.bytes())?;
//!
//! // Each medium has GUIDs of its own, and a table that reaches to its end.
//! let own = patch::with_own_guids(&image.table, random::uuid)?;
//! let (_, changes) = patch::table_for(&image.table, &own, medium.bytes())?;
//! let mut patches = Patches::default();
//! changes.into_iter().for_each(|change| patches.push(change));
//!
//! passes::write(&image, &patches, &medium, &mut ())?;
//! passes::compare(&image, &patches, &medium, &mut ())?;
//! medium.finish(false)?;
//! assert_eq!(std::fs::metadata(folder.join("card.img"))?.len(), image.bytes());
//! # Ok(())
//! # }
//! ```

mod aligned;
pub mod image;
pub mod in_use;
pub mod machine;
pub mod medium;
pub mod member;
mod open;
pub mod pass;
pub mod passes;
pub mod patch;
pub mod random;
pub mod redacted;
pub mod sample;
pub mod settings;
pub mod settings_patch;
pub mod settings_support;
mod sys;
pub mod target;
mod window;

pub use open::open;

//! From checked files and fetched inputs to the bytes of an image.
//!
//! [`device_conf`] compiles the settings, [`skeleton`] and [`packages`] say what is on the root,
//! [`modules`] which kernel modules, [`initramfs`] packs the first life, [`payload_writer`] the
//! update, [`disk_image`] the disk.

pub mod device_conf;
pub mod disk_image;
pub mod frame_cache;
pub mod initramfs;
pub mod modules;
pub mod packages;
pub mod payload_writer;
pub mod skeleton;

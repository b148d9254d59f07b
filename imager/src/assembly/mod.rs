//! From checked files and fetched inputs to the bytes of an image.
//!
//! [`root`] puts the root together out of what [`skeleton`], [`packages`], [`kernel`] (with
//! [`modules`] out of [`packaged_modules`]), [`archives`], [`libraries`], [`wifi`], [`ports`] and [`device_conf`] give; [`drivers`] compares the modules with the [`device_tree`]; [`initramfs`] packs the initrd; [`slot_image`] makes
//! both a signed slot, with [`payload_writer`] its update; [`disk_image`] lays out the disk.

pub mod archives;
pub mod at_hand;
pub mod device_conf;
pub mod device_tree;
pub mod disk_image;
pub mod drivers;
pub mod elf;
pub mod frame_cache;
pub mod initramfs;
pub mod kernel;
pub mod libraries;
pub mod models;
pub mod modules;
pub mod packaged_modules;
pub mod packages;
pub mod payload_writer;
pub mod ports;
pub mod programs;
pub mod radio;
pub mod root;
pub mod root_layout;
pub mod skeleton;
pub mod slot_image;
pub mod ssh;
pub mod wifi;

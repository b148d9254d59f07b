//! File systems of images, written from memory and read back: EROFS for the root, FAT for boot
//! partitions, ext4 for data, cpio for the initramfs.
//!
//! Nothing here needs root, a loop device, a clock or the host's own tools, so the same input
//! gives the same bytes on every machine. Describe the files once, as a [`tree::Tree`], and hand
//! it to the writer of the format:
//!
//! | Format | Writer | Reader | What is particular to it |
//! |---|---|---|---|
//! | EROFS | [`erofs`] | [`erofs_reader`] | large files keep their blocks between versions, so deltas stay small |
//! | FAT16, FAT32 | [`fat`] | [`fat_reader`] | reserved sectors, in which a boot loader can keep its state |
//! | ext4 | [`ext4`] | [`ext4_reader`] | the kernel grows it online on the first boot; user quotas |
//! | cpio (`newc`) | [`cpio`] | the kernel | |
//!
//! The readers are for media that anybody may have written: every number is bounded before it is
//! used, and the project's fuzzers run over them.
//!
//! # Example
//!
//! ```
//! use imagefs::erofs;
//! use imagefs::erofs_reader::Volume;
//! use imagefs::tree::Tree;
//!
//! # fn main() -> anyhow::Result<()> {
//! let mut tree = Tree::new(1_700_000_000);
//! tree.file("etc/hostname", 0o644, b"camera\n".as_slice())?;
//! tree.symlink("etc/name", "hostname")?;
//!
//! let mut image = Vec::new();
//! erofs::write(&tree, *b"a UUID, 16 bytes", &mut image)?;
//!
//! let volume = Volume::open(&image)?;
//! assert_eq!(volume.file("/etc/hostname")?.as_deref(), Some(b"camera\n".as_slice()));
//! # Ok(())
//! # }
//! ```

pub mod cpio;
mod crc32c;
pub mod erofs;
mod erofs_fs;
pub mod erofs_reader;
pub mod ext4;
mod ext4_fs;
pub mod ext4_reader;
pub mod fat;
mod fat_fs;
mod fat_name;
pub mod fat_reader;
pub mod tree;

#[cfg(test)]
mod external_tools;

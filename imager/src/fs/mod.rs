//! File system writers: everything an image carries is made here, from memory, without root, loop
//! devices, a clock or the host's own tools, so that the same input gives the same bytes.
//!
//! [`tree`] is the one description of files; [`erofs`], [`fat`] and [`cpio`] turn a tree into
//! bytes; [`ext4`] makes a file system that the device's kernel can grow, and [`ext4_reader`] and
//! [`erofs_reader`] look into what was made.

pub mod cpio;
pub mod crc32c;
pub mod erofs;
pub mod erofs_reader;
pub mod ext4;
pub mod ext4_reader;
pub mod fat;
mod fat_name;
pub mod fat_reader;
pub mod tree;

#[cfg(test)]
mod foreign;

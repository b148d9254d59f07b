//! The two kinds of file people write: image files (what runs) and board files (on what).

pub mod address;
pub mod archive;
pub mod board;
pub mod diagnostics;
pub mod disk;
pub mod every_finding;
pub mod image;
pub mod image_file;
#[cfg(test)]
mod mistakes;
pub mod pattern;
#[cfg(feature = "schema")]
mod schema;
mod secure_boot;
pub mod update;
pub mod values;
pub mod workload;

pub use board::Board;
pub use image::Image;

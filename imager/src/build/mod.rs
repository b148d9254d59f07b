//! An image file and a board become a disk image and an update: [`prepare`] reads what a build
//! depends on, [`assemble`] puts slot and firmware together, [`mod@write`] brings them to the disk.

pub mod assemble;
pub mod golden;
pub mod own_outputs;
pub mod prepare;
pub mod programs;
mod stamp;
pub mod write;

//! Boots real images in QEMU and breaks them.
//!
//! A test takes a [`Disk`] (a copy of an image), starts a [`Machine`] on it with `imager run`,
//! waits for lines on its [`Console`], cuts its power, spoils bytes of the disk, or lets a
//! [`Server`] answer wrongly. Nothing here sleeps to let the guest get somewhere: it waits for
//! what the guest says.
//!
//! Every machine has its log in `target/qemu-logs/`. Software emulation on a shared machine is
//! slow and uneven, so times to wait are stretched by the machine's load, and by the factor in
//! `FERRITE_TIMEOUT_SCALE`.

mod board;
pub mod bundles;
mod card;
mod console;
mod disk;
pub mod fixture;
mod locked;
mod machine;
mod own_kernel;
mod patience;
mod qmp;
mod random;
mod shell;
mod stick;
pub mod uboot_card;
pub mod uefi_card;
pub mod variables;
pub mod videocore;
mod vm_permit;
pub mod workspace;

pub use board::Board;
pub use console::{Console, Line};
pub use disk::Disk;
pub use machine::{Machine, Options, free_port, imager, permit};
pub use own_kernel::OwnKernel;
pub use patience::wait_until;
pub use random::Random;
pub use stick::Stick;
pub use test_http::{Fault, Served, Server};

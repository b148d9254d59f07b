//! All that boots: one program, so that `--test-threads=2` keeps two machines busy to the end.
//!
//! `cargo test -p qemu-tests --test qemu falls_back::` runs one file's tests; docs/testing.md says
//! what each file shows. They begin in the order of their names: a file whose tests take long has no
//! name at the alphabet's end.

mod boots;
mod chooser;
mod data_partition;
mod deltas;
mod efi;
mod face;
mod falls_back;
mod fat;
mod flashed;
mod flipped_bits;
mod from_0_1;
mod greedy;
mod neighbours;
mod new_project;
mod pi_cards;
mod power_cuts;
mod radio;
mod refuses;
mod rpi3;
mod rpi4;
mod secure_boot;
mod signed;
mod soak;
mod sticks;
mod two_halves;
mod uboot_cards;
mod uefi_cards;
mod updates;

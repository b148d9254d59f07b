//! The boards that the tests run on, so that one test is for all of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::disk::Disk;
use crate::fixture::{Built, Repository, Variant};
use crate::machine::{Machine, Options};
use crate::videocore::Model;

/// A board that QEMU plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// QEMU's own, with U-Boot.
    QemuArm64,
    /// The same machine with EDK2.
    QemuArm64Efi,
    /// A PC with UEFI.
    Pc,
    /// Raspberry Pi 3, its firmware played by the harness.
    Rpi3,
}

impl Board {
    /// The board file's name.
    pub fn name(self) -> &'static str {
        match self {
            Board::QemuArm64 => "qemu-arm64",
            Board::QemuArm64Efi => "qemu-arm64-efi",
            Board::Pc => "pc-x86_64",
            Board::Rpi3 => "rpi3",
        }
    }

    /// Runs a test on this board, or prints `NOT TESTED` where its images cannot be built: the chooser
    /// of a board with UEFI takes a Rust toolchain with libraries for UEFI.
    pub fn run(self, test: impl FnOnce(Board) -> Result<()>) -> Result<()> {
        let chooser = match self {
            Board::QemuArm64Efi => "device/BOOTAA64.EFI",
            Board::Pc => "device-amd64/BOOTX64.EFI",
            Board::QemuArm64 | Board::Rpi3 => return test(self),
        };
        let target = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
        if target.join(chooser).is_file() || std::env::var_os("FERRITE_DEVICE").is_some() {
            return test(self);
        }
        let board = self.name();
        println!("NOT TESTED: {board}: target/{chooser} is not built; scripts/efi-rustc says why");
        Ok(())
    }

    /// The variant for this board.
    pub fn variant(self, variant: Variant) -> Variant {
        match self {
            Board::QemuArm64 => variant,
            _ => Variant { board_file: Some(self.name()), ..variant },
        }
    }

    /// A new device's disk with this image.
    pub fn disk(self, built: &Built) -> Result<Disk> {
        let disk = Disk::copy_of(&built.img)?;
        if self == Board::Rpi3 {
            // QEMU takes cards of a power of two only.
            disk.grow(disk.size()?.next_power_of_two())?;
        }
        Ok(disk)
    }

    /// Switches a device on whose disk has an image of this version or a later one.
    pub fn start(
        self,
        name: &str,
        disk: &Disk,
        built: &Built,
        options: Options,
    ) -> Result<Machine> {
        ensure!(built.board.is_file(), "{} is not there", built.board.display());
        let options = match self {
            Board::Rpi3 => Options { pi: Some(Model::Pi3), ..options },
            _ => Options { board: Some(built.board.display().to_string()), ..options },
        };
        let machine = Machine::start(name, disk, &options);
        machine.with_context(|| format!("{name} on {}", self.name()))
    }

    /// Publishes this version for a device that runs `running`. A Raspberry Pi's network brings a quarter
    /// of a megabyte a second: for one, `running` is published as well, and a delta from the newest
    /// version that was there before.
    pub fn publish(self, repository: &Repository, running: &Built, next: &Built) -> Result<()> {
        if self != Board::Rpi3 {
            return repository.publish(next);
        }
        repository.publish(running)?;
        repository.publish_with(next, &["--deltas", "1"])
    }

    /// How long something may take that takes `time` on [`Board::QemuArm64`]: the four cores of the
    /// emulated Raspberry Pi share one thread, and its network is a USB adapter of full speed.
    pub fn patience(self, time: Duration) -> Duration {
        match self {
            Board::Rpi3 => time * 5 / 2,
            // EDK2 looks at all devices, and reads a kernel that is hashed twice.
            Board::QemuArm64Efi | Board::Pc => time * 3 / 2,
            Board::QemuArm64 => time,
        }
    }
}

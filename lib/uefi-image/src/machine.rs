//! The processors that images are made for.

use anyhow::{Result, ensure};

use crate::pe::Pe;

/// A processor with UEFI firmware; its number is the one in the COFF header (`IMAGE_FILE_MACHINE_…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Machine {
    /// 64-bit ARM.
    Arm64 = 0xAA64,
    /// 64-bit x86.
    Amd64 = 0x8664,
}

impl Machine {
    /// As Debian calls it.
    pub fn name(self) -> &'static str {
        match self {
            Machine::Arm64 => "arm64",
            Machine::Amd64 => "amd64",
        }
    }

    /// The program in `EFI/BOOT` that firmware starts without being told (UEFI 2.10, 3.5.1.1).
    pub fn boot_program(self) -> &'static str {
        match self {
            Machine::Arm64 => "BOOTAA64.EFI",
            Machine::Amd64 => "BOOTX64.EFI",
        }
    }

    /// Fails when `program` is not a UEFI program for this processor.
    pub fn check(self, program: &[u8]) -> Result<()> {
        let found = Pe::read(program.to_vec())?.machine()?;
        ensure!(
            found == self as u16,
            "it is for another processor than {} (machine {found:#x})",
            self.name()
        );
        Ok(())
    }
}

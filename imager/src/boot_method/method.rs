//! What a way to boot has to say of itself.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use formats::gpt::Guid;

use super::target::Target;
use crate::config::board::machine::Architecture;
use debian::deb::Deb;

/// Files by name, for a FAT partition.
pub type Files = Vec<(String, Vec<u8>)>;

/// Name of the kernel on a slot's boot partition.
pub const KERNEL: &str = "kernel";
/// Name of the initramfs on a slot's boot partition.
pub const INITRD: &str = "initrd";

/// A way to boot: what reads the boot state before the kernel starts, and the files that it needs.
/// What the state means is in `formats::boot_state`, the same for all.
pub trait BootMethod: fmt::Debug + Sync {
    /// As board files and the device's configuration have it.
    fn name(&self) -> &'static str;

    /// The keys of `[boot]` that are for it.
    fn keys(&self) -> BootKeys;

    /// The types of the partitions that something before Linux reads.
    fn partition_types(&self) -> PartitionTypes;

    /// Modules that the initrd loads for this method, if the kernel has them as modules.
    fn initrd_modules(&self) -> &'static [&'static str] {
        &[]
    }

    /// The project's own programs that run before Linux, out of the folder of device programs.
    fn device_programs(&self, _architecture: Architecture) -> Vec<DeviceProgram> {
        Vec::new()
    }

    /// Who signs what the board starts, out of the folder of keys; `None`: nobody. `asked_for`: the
    /// image file wants the slot signed for the board's own loader.
    fn secure_boot(&self, _keys: &Path, _asked_for: bool) -> Result<Option<Box<dyn BootSigner>>> {
        Ok(None)
    }

    /// What lies on the `firmware` partition, which no update writes.
    fn firmware_files(&self, target: &Target, parts: &FirmwareParts) -> Result<Files>;

    /// What lies on a slot's boot partition: the kernel, the initramfs, the device trees and what
    /// is needed to start them.
    fn slot_files(&self, target: &Target, parts: SlotParts) -> Result<Files>;
}

/// Which keys of `[boot]` in a board file are for a boot method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BootKeys {
    /// It takes `[boot.memory]`.
    pub memory: bool,
    /// It takes `[boot.firmware]`.
    pub firmware: bool,
    /// It takes `secure_boot`: its loader can be made to start signed slots only.
    pub secure_boot: bool,
    /// It needs `[boot.stub]`.
    pub stub: bool,
}

/// GPT types of the partitions that something before Linux reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionTypes {
    /// Of `firmware`.
    pub firmware: Guid,
    /// Of `boot-a` and `boot-b`.
    pub boot: Guid,
}

/// A program of the project that runs before Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceProgram {
    /// Its file in the folder of device programs.
    pub file: &'static str,
    /// What the bill of materials calls it.
    pub component: &'static str,
    /// How its file begins.
    pub magic: &'static [u8],
    /// What kind of program that is, for people.
    pub kind: &'static str,
}

/// Signs what something before Linux starts. The same input gives the same bytes.
pub trait BootSigner {
    /// What tells one signer from another in a build's stamp.
    fn identity(&self) -> Result<Vec<u8>>;

    /// A program with its signature; as it is where programs are not signed one by one.
    fn sign_program(&self, program: Vec<u8>) -> Result<Vec<u8>> {
        Ok(program)
    }

    /// A slot's files with their signature; as they are where a slot is not signed as a whole.
    fn sign_slot(&self, files: Files, _volume_id: u32) -> Result<Files> {
        Ok(files)
    }
}

/// Debian packages that a boot method takes files out of, as far as they are locked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Packages<'a> {
    /// That of `[boot.firmware]`.
    pub firmware: Option<&'a Deb>,
    /// That of `[boot.stub]`.
    pub stub: Option<&'a Deb>,
}

/// What the `firmware` partition is made of.
#[derive(Clone, Copy, Default)]
pub struct FirmwareParts<'a> {
    /// Debian's packages.
    pub packages: Packages<'a>,
    /// The method's device programs, in its order.
    pub programs: &'a [(DeviceProgram, Vec<u8>)],
    /// Who signs programs.
    pub signer: Option<&'a dyn BootSigner>,
}

/// What a slot's boot partition is made of.
#[derive(Clone, Default)]
pub struct SlotParts<'a> {
    /// The image's name, for people.
    pub image: &'a str,
    /// Its version, for people.
    pub version: &'a str,
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The initramfs.
    pub initrd: Vec<u8>,
    /// Device trees by file name; where the loader takes one, the first.
    pub device_trees: Files,
    /// Debian's packages.
    pub packages: Packages<'a>,
    /// Serial number of the partition's FAT.
    pub volume_id: u32,
    /// Who signs.
    pub signer: Option<&'a dyn BootSigner>,
}

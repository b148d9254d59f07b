//! The kernel of a unified kernel image.

use anyhow::{Context, Result, ensure};

use super::Processor;
use super::program::Program;
use crate::card::little;

/// A kernel that systemd's stub can start as a UEFI program (its EFI stub), and that says that it is
/// of this release.
pub fn check(image: &[u8], processor: Processor, release: &str) -> Result<()> {
    Program::read(image, processor).context("has no EFI stub")?;
    match processor {
        Processor::Arm64 => check_arm64(image, release),
        Processor::Amd64 => check_amd64(image, release),
    }
}

/// Documentation/arch/arm64/booting.rst, 4 "Call the kernel image".
fn check_arm64(image: &[u8], release: &str) -> Result<()> {
    ensure!(image.get(56..60) == Some(b"ARM\x64"), "is no arm64 Image");
    ensure!(little::<8>(image, 8)? == 0, "has a text offset");
    let size = little::<8>(image, 16)?;
    ensure!(size >= image.len() as u64, "says it takes {size} bytes, fewer than it has");
    let flags = little::<8>(image, 24)?;
    ensure!(flags & 1 == 0, "is big-endian");
    ensure!(flags >> 1 & 3 == 1, "has other pages than 4 KiB");
    // The firmware's memory starts where it likes.
    ensure!(flags & 8 != 0, "has to lie at the start of the memory");
    // init/version-timestamp.c, `linux_banner`.
    let banner = format!("Linux version {release} (");
    ensure!(contains(image, banner.as_bytes()), "is not of the release {release}");
    Ok(())
}

/// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
fn check_amd64(image: &[u8], release: &str) -> Result<()> {
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "is no bzImage");
    let version = little::<2>(image, 0x206)?;
    ensure!(version >= 0x020C, "has the boot protocol {version:#x}, without xloadflags");
    ensure!(little::<2>(image, 0x236)? & 1 != 0, "has no 64-bit entry point");
    let at = little::<2>(image, 0x20E)? as usize + 0x200;
    let banner = format!("{release} (");
    let said = image.get(at..).is_some_and(|rest| rest.starts_with(banner.as_bytes()));
    ensure!(said, "is not of the release {release}");
    Ok(())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    // Most windows differ in the first byte already.
    let first = wanted.first().copied().unwrap_or_default();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(wanted) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

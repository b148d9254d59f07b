//! The unified kernel image of a slot: UAPI.5 "Unified Kernel Image" and systemd-stub(7), 257.

use anyhow::{Context, Result, ensure};

use super::initramfs::Initramfs;
use super::program::Program;
use super::tree::Tree;
use super::{Board, kernel};
use crate::card::{crc32, file};
use crate::disk::Disk;

/// Longer ones the chooser does not read (docs/choosers/efi.md).
const LONGEST: usize = 512 << 20;
/// The first version of systemd's stub that knows profiles (its NEWS).
const STUB: u32 = 257;
/// Longer arguments are cut off: `COMMAND_LINE_SIZE` of arch/arm64/include/uapi/asm/setup.h and
/// arch/x86/include/asm/setup.h, its ending zero included.
const MAX_ARGUMENTS: usize = 2047;
/// What every profile's arguments end with, in the order of the numbers that the chooser names them
/// by (docs/choosers/efi.md).
const PROFILES: [(&str, &str); 6] = [
    ("slot-a-active", "ferrite.slot=a"),
    ("slot-a-trial", "ferrite.slot=a ferrite.trial=1"),
    ("slot-a-fallback", "ferrite.slot=a ferrite.fallback=1"),
    ("slot-b-active", "ferrite.slot=b"),
    ("slot-b-trial", "ferrite.slot=b ferrite.trial=1"),
    ("slot-b-fallback", "ferrite.slot=b ferrite.fallback=1"),
];
/// Arguments that would start something else than what is verified, take another device tree or
/// initramfs than the image's, or let modules in that nobody signed (Documentation/admin-guide/
/// kernel-parameters.txt; `initrd=` and `dtb=`: drivers/firmware/efi/libstub).
const FORBIDDEN: [&str; 10] = [
    "init=",
    "rdinit=",
    "root=",
    "initrd=",
    "noinitrd",
    "dtb=",
    "acpi=force",
    "iomem=relaxed",
    "module.sig_enforce=0",
    "single",
];

/// The image of slot a, from its sum to its last argument.
pub fn check(disk: &Disk, board: &Board) -> Result<()> {
    let read =
        |name: &str| file(disk, "boot-a", name)?.with_context(|| format!("there is no {name}"));
    let image = read("linux.efi")?;
    check_sum(&image, &read("linux.sum")?)?;
    check_image(&image, board)
}

/// The image by itself, without its sum.
pub fn check_image(image: &[u8], board: &Board) -> Result<()> {
    let program = Program::read(image, board.processor).context("linux.efi")?;
    let base = check_sections(&program, board)?;
    let program = Program { sections: base };
    let release = text(program.one(".uname")?)?;
    kernel::check(program.one(".linux")?, board.processor, release).context("the kernel")?;
    let initramfs = Initramfs::read(program.one(".initrd")?);
    let driven = initramfs.and_then(|initramfs| initramfs.check(board, release));
    let driven = driven.context("the initramfs")?;
    if board.compatible.is_empty() {
        return Ok(());
    }
    let tree = Tree::read(program.one(".dtb")?).context("the device tree")?;
    tree.check(board).context("the device tree")?;
    for (device, compatible) in tree.disks().context("the device tree")? {
        let found = compatible.iter().any(|name| driven.iter().any(|other| other == name));
        ensure!(found, "no module of the initramfs drives {device} ({})", compatible.join(", "));
    }
    Ok(())
}

/// CRC-32 in hexadecimal and length in decimal, which the chooser compares (docs/choosers/efi.md).
fn check_sum(image: &[u8], sum: &[u8]) -> Result<()> {
    ensure!(image.len() <= LONGEST, "linux.efi is longer than the chooser reads");
    let expected = format!("{:08x} {}\n", crc32(image), image.len());
    let said = String::from_utf8_lossy(sum);
    ensure!(said == expected, "linux.sum says {said:?}, linux.efi has {expected:?}");
    Ok(())
}

/// What all profiles share, once each, before the first `.profile`; then the profiles, each with its
/// arguments and nothing else.
fn check_sections<'a>(program: &Program<'a>, board: &Board) -> Result<Vec<(String, &'a [u8])>> {
    let magic = text(program.one(".sdmagic").context("the stub")?)?;
    let version = magic.strip_prefix("#### LoaderInfo: systemd-stub ").unwrap_or_default();
    let version: String = version.chars().take_while(char::is_ascii_digit).collect();
    ensure!(
        version.parse().is_ok_and(|version: u32| version >= STUB),
        "the stub, {magic:?}, knows no profiles"
    );
    let first = program.sections.iter().position(|section| section.0 == ".profile");
    let first = first.context("linux.efi has no profile")?;
    let (base, profiles) = program.sections.split_at(first);
    let count = |name: &str| base.iter().filter(|section| section.0 == name).count();
    for (name, wanted) in [
        (".osrel", 1),
        (".uname", 1),
        (".linux", 1),
        (".initrd", 1),
        (".dtb", usize::from(!board.compatible.is_empty())),
        (".cmdline", 0),
    ] {
        ensure!(count(name) == wanted, "linux.efi has {} sections {name}", count(name));
    }
    // os-release(5).
    let os_release = text(program.one(".osrel")?)?;
    ensure!(
        os_release.lines().any(|line| line.starts_with("ID=")),
        ".osrel does not say what it is"
    );
    ensure!(profiles.len() == 2 * PROFILES.len(), "{} sections of profiles", profiles.len());
    for (sections, (id, ours)) in profiles.chunks_exact(2).zip(PROFILES) {
        let [(profile, about), (command_line, arguments)] = sections else { continue };
        ensure!(
            profile == ".profile" && command_line == ".cmdline",
            "the profile {id} has the sections {profile} and {command_line}"
        );
        let about = text(about)?;
        ensure!(about == format!("ID={id}\n"), "the profile {id} calls itself {about:?}");
        check_arguments(text(arguments)?, ours, board)
            .with_context(|| format!("the profile {id}"))?;
    }
    Ok(base.to_vec())
}

/// The console is the board's, a panic resets it, and nothing goes another way than the image's.
fn check_arguments(arguments: &str, ours: &str, board: &Board) -> Result<()> {
    ensure!(arguments.len() <= MAX_ARGUMENTS, "its arguments are too long");
    ensure!(
        arguments.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "its arguments are no plain line"
    );
    let boards = arguments.strip_suffix(ours).and_then(|boards| boards.strip_suffix(' '));
    let boards = boards.with_context(|| format!("does not end with {ours}"))?;
    ensure!(!boards.contains("ferrite."), "says twice how it is booted");
    let words: Vec<&str> = boards.split_whitespace().collect();
    // The last console is the one that PID 1 speaks on (Documentation/admin-guide/serial-console.rst).
    let console = words.iter().rev().find_map(|word| word.strip_prefix("console="));
    let console = console.and_then(|console| console.split(',').next());
    ensure!(console == Some(board.console), "speaks on {console:?}, not on {}", board.console);
    let panic = words.iter().find_map(|word| word.strip_prefix("panic="));
    ensure!(
        panic.is_some_and(|seconds| seconds.parse().is_ok_and(|seconds: u32| seconds > 0)),
        "is not reset after a panic"
    );
    for word in &words {
        let bad = FORBIDDEN
            .iter()
            .find(|bad| if bad.ends_with('=') { word.starts_with(**bad) } else { word == *bad });
        ensure!(bad.is_none(), "has the argument {word}");
    }
    Ok(())
}

/// A section's text, without the zeros that fill it up.
fn text(bytes: &[u8]) -> Result<&str> {
    Ok(std::str::from_utf8(bytes)?.trim_end_matches('\0'))
}

//! Plays a Raspberry Pi's VideoCore firmware, which QEMU does not have: from the bytes of a card
//! to what the ARM cores get, by the documented rules, and with an error wherever the real one
//! would not boot or would boot something else.
//!
//! The rules are those of the Raspberry Pi documentation ("config.txt", "autoboot.txt",
//! "Conditional filters", "Boot options") as of 2026; where they are known from somewhere else, the
//! place is named. Nothing here is shared with what makes images.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::disk::Disk;

mod card;
mod config;
mod device_tree;
mod machine;
mod model;
mod qemu;
mod signed;
mod volume;

pub(crate) use card::Card;
pub(crate) use machine::PiBoard;
pub use model::Model;
pub use qemu::can_play;

use config::{Filters, Settings};
use volume::{Table, Volume};

/// What the firmware's rules depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reset {
    /// The one-shot flag of `reboot "0 tryboot"`.
    pub tryboot: bool,
    /// The partition of `reboot N`, which goes before `autoboot.txt`.
    pub partition: Option<u32>,
}

/// What the ARM cores are started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The partition it all came from.
    pub partition: u32,
    /// The kernel image.
    pub kernel: Vec<u8>,
    /// The initramfs.
    pub initramfs: Vec<u8>,
    /// The device tree.
    pub device_tree: Vec<u8>,
    /// The kernel's arguments.
    pub arguments: String,
}

/// The most bytes of `autoboot.txt` (documentation, "autoboot.txt").
const MAX_AUTOBOOT: usize = 512;
/// The filters on models that a file may have (documentation, "Model filters").
const MODELS: [&str; 12] =
    ["pi0", "pi0w", "pi02", "pi1", "pi2", "pi3", "pi3+", "pi4", "pi400", "cm4", "pi5", "cm5"];
/// The kernel's arguments are cut at this many bytes (arm64 `COMMAND_LINE_SIZE`).
const MAX_ARGUMENTS: usize = 2048;

/// Boots the card in a board of this model, as far as the ARM cores.
pub fn boot(disk: &Disk, model: Model, reset: Reset) -> Result<Started> {
    boot_by(disk, model, reset, None)
}

/// Boots the card in a board whose bootloader has this public key (PEM) and `SIGNED_BOOT=1`, or its
/// hash in the fuses: nothing is read but what a `boot.sig` of that key covers.
pub fn boot_signed(disk: &Disk, model: Model, reset: Reset, key: &Path) -> Result<Started> {
    ensure!(model.can_verify(), "no loader of a {model:?} checks signatures");
    boot_by(disk, model, reset, Some(key))
}

fn boot_by(disk: &Disk, model: Model, reset: Reset, key: Option<&Path>) -> Result<Started> {
    let table = Table::read(disk, model)?;
    let first = table.volume(disk, 1).context("partition 1")?;
    if model.boots_by_rom() {
        let loader = first.read("bootcode.bin")?.context("the boot ROM finds no bootcode.bin")?;
        ensure!(!loader.is_empty(), "bootcode.bin is empty");
    }
    let autoboot = first.read("autoboot.txt")?;
    let named = autoboot.map(|bytes| autoboot_partition(&bytes, reset.tryboot)).transpose()?;
    let wanted = reset.partition.or(named.flatten()).filter(|number| *number != 0);
    let (partition, volume) = match wanted {
        Some(number) => {
            let volume = table.volume(disk, number).context("boot_partition")?;
            let bootable = is_bootable(&volume, model, key)?;
            ensure!(bootable, "partition {number} is not bootable");
            (number, volume)
        }
        None => first_bootable(&table, disk, model, key)?,
    };
    let started = match signed::ramdisk(&volume, model, key) {
        Ok(None) => start(&volume, partition, model, reset),
        Ok(Some(ramdisk)) => start(&ramdisk.volume()?, partition, model, reset),
        Err(error) => Err(error),
    };
    started.with_context(|| format!("partition {partition}"))
}

/// `boot_partition` of an `autoboot.txt`, if it has one.
fn autoboot_partition(bytes: &[u8], tryboot: bool) -> Result<Option<u32>> {
    ensure!(
        bytes.len() <= MAX_AUTOBOOT,
        "autoboot.txt has {} bytes, the firmware takes {MAX_AUTOBOOT}",
        bytes.len()
    );
    // Rubbish sets nothing: that is how a torn write looks.
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(None) };
    // Models' filters are not among those that it supports.
    let settings = Settings::read(text, &Filters { tryboot, model: &[], models: &[] })?;
    let number = settings.get("boot_partition");
    number.map(|n| n.parse().with_context(|| format!("boot_partition={n}"))).transpose()
}

/// A partition with firmware on it counts as bootable, on a Pi 5 one with a `config.txt`
/// (documentation, "boot_partition"), one with a RAM disk where that is what is going to be loaded.
fn is_bootable(volume: &Volume, model: Model, key: Option<&Path>) -> Result<bool> {
    if key.is_some() || signed::is_asked_for(volume, model)? {
        return Ok(volume.read(signed::IMAGE)?.is_some());
    }
    let sign = model.firmware().map_or("config.txt", |(start, _)| start);
    Ok(volume.read(sign)?.is_some())
}

/// The default: the first FAT partition that is bootable.
fn first_bootable<'a>(
    table: &Table,
    disk: &'a Disk,
    model: Model,
    key: Option<&Path>,
) -> Result<(u32, Volume<'a>)> {
    for number in 1..=4 {
        if let Ok(volume) = table.volume(disk, number)
            && is_bootable(&volume, model, key)?
        {
            return Ok((number, volume));
        }
    }
    bail!("no partition is bootable: the LED blinks four times and that is all")
}

fn start(volume: &Volume, partition: u32, model: Model, reset: Reset) -> Result<Started> {
    let read = |name: &str| volume.read(name)?.with_context(|| format!("{name} is missing"));
    let text = read("config.txt")?;
    let text = std::str::from_utf8(&text).context("config.txt is no text")?;
    let filters = Filters { tryboot: reset.tryboot, model: model.filters(), models: &MODELS };
    let settings = Settings::read(text, &filters).context("config.txt")?;

    if let Some((start, fixup)) = model.firmware() {
        let start = settings.get("start_file").unwrap_or(start);
        let fixup = settings.get("fixup_file").unwrap_or(fixup);
        for (one, other) in [(start, fixup), (fixup, start)] {
            ensure!(volume.read(one)?.is_some(), "{one} is missing: {other} alone does not start");
        }
    }
    ensure!(settings.is_on("arm_64bit"), "without arm_64bit=1 the cores start in 32 bits");
    let kernel = read(settings.get("kernel").unwrap_or("kernel8.img"))?;
    let is_gzip = kernel.starts_with(&[0x1f, 0x8b]);
    ensure!(
        is_gzip || kernel.get(56..60) == Some(b"ARM\x64"),
        "the kernel is neither an arm64 Image nor one in gzip"
    );
    let (initramfs, place) = settings.initramfs().context("config.txt names no initramfs")?;
    ensure!(place == "followkernel" || place == "0", "initramfs … {place}: not followkernel");
    let [upstream, downstream] = model.device_trees();
    let is_upstream = settings.is_on("upstream_kernel");
    let tree =
        settings.get("device_tree").unwrap_or(if is_upstream { upstream } else { downstream });
    // Of the other kind it takes one only with overlays, which no image has.
    let device_tree = read(tree)?;
    let compatible = [model.compatible().as_bytes(), b"\0"].concat();
    ensure!(
        device_tree.windows(compatible.len()).any(|window| window == compatible),
        "{tree} is not compatible with {}",
        model.compatible()
    );
    let arguments = read(settings.get("cmdline").unwrap_or("cmdline.txt"))?;
    let arguments = String::from_utf8(arguments).context("cmdline.txt is no text")?;
    let mut lines = arguments.lines();
    let line = lines.next().context("cmdline.txt is empty")?.to_owned();
    ensure!(lines.all(str::is_empty), "cmdline.txt has a second line, which is ignored");
    ensure!(line.len() < MAX_ARGUMENTS, "the kernel cuts its arguments at {MAX_ARGUMENTS} bytes");
    Ok(Started { partition, kernel, initramfs: read(initramfs)?, device_tree, arguments: line })
}

#[cfg(test)]
mod tests;

//! The FAT volumes, as EDK2's driver takes them (FatPkg/EnhancedFatDxe/Init.c, `FatOpenDevice`), and
//! as Microsoft's "FAT: General Overview of On-Disk Format" 1.03 has it, which UEFI 2.10, 13.3.1
//! builds on. UEFI there names FAT32 for system partitions and FAT12 or FAT16 for removable media;
//! EDK2 takes any of them on any medium, by the number of clusters alone.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::card::little;
use crate::disk::Disk;

const SECTOR: u64 = 512;
/// Fewest clusters of FAT16, and of FAT32 (Microsoft, "FAT Type Determination").
const FAT16: u64 = 4085;
const FAT32: u64 = 65_525;
/// From where the two copies of the boot state lie in `firmware`, up to the end of the second
/// (docs/architecture.md).
const STATE_END: u64 = 12_288 + 512;

/// A FAT16 that takes no more than its partition, whose copies of the table agree, in which
/// fsck.fat finds nothing.
pub fn check(disk: &Disk, label: &str) -> Result<()> {
    let range = disk.partition(label)?;
    let sector = disk.read(label, 0, SECTOR as usize)?;
    let byte = |at: usize| u64::from(sector[at]);
    let word = |at: usize| little::<2>(&sector, at);
    ensure!(sector[510..] == [0x55, 0xAA], "has no boot sector");
    // Microsoft, "Boot Sector and BPB": a jump, as some drivers look for one.
    ensure!(sector[0] == 0xEB && sector[2] == 0x90, "does not start with a jump");
    ensure!(word(11)? == SECTOR, "has sectors of {} bytes", word(11)?);
    let cluster = byte(13);
    ensure!(cluster.is_power_of_two(), "has clusters of {cluster} sectors");
    let (reserved, tables, entries) = (word(14)?, byte(16), word(17)?);
    ensure!(reserved > 0 && tables == 2, "has {reserved} reserved sectors, {tables} tables");
    if label == "firmware" {
        ensure!(reserved * SECTOR >= STATE_END, "has no room before its tables for the boot state");
    }
    ensure!(
        entries > 0 && (entries * 32).is_multiple_of(SECTOR),
        "has a root directory of {entries} entries"
    );
    ensure!(byte(21) == 0xF8, "has the media descriptor {:02x}, not F8", byte(21));
    let short = word(19)?;
    let total = if short == 0 { little::<4>(&sector, 32)? } else { short };
    ensure!(total * SECTOR <= range.end - range.start, "is longer than its partition");
    let table = word(22)?;
    ensure!(table > 0, "is FAT32: its cut-off boot sectors have no room");
    let before = reserved + tables * table + entries * 32 / SECTOR;
    let clusters = total.checked_sub(before).context("has no clusters")? / cluster;
    ensure!((FAT16..FAT32).contains(&clusters), "has {clusters} clusters, which is no FAT16");
    ensure!(sector[54..62] == *b"FAT16   ", "calls itself another FAT than its clusters make it");
    ensure!(table * SECTOR >= (clusters + 2) * 2, "has a table too short for its clusters");
    let read = |number: u64| {
        disk.read(label, (reserved + number * table) * SECTOR, (table * SECTOR) as usize)
    };
    let first = read(0)?;
    // Microsoft, "FAT Data Structure": FAT[0] has the media descriptor, FAT[1] says that the volume
    // was closed cleanly and has no bad blocks.
    ensure!(first[..4] == [0xF8, 0xFF, 0xFF, 0xFF], "begins with {:02x?}", &first[..4]);
    ensure!(first == read(1)?, "has two tables that differ");
    fsck(disk, label)
}

/// Nothing to mend, says somebody else's program.
fn fsck(disk: &Disk, label: &str) -> Result<()> {
    let range = disk.partition(label)?;
    let volume = tempfile::NamedTempFile::new().context("temporary file")?;
    std::fs::write(volume.path(), disk.read(label, 0, (range.end - range.start) as usize)?)?;
    let output = Command::new("fsck.fat").arg("-n").arg(volume.path()).output();
    let output = output.context("fsck.fat: install the package dosfstools")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "fsck.fat: {}", text.trim());
    Ok(())
}

//! The card as the firmware sees it: an MBR, and FAT volumes whose files mtools reads.

use std::ops::Range;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::Model;
use crate::disk::Disk;

const SECTOR: u64 = 512;
/// Types of FAT partitions that the boot ROM of a Pi 3 takes; EF is not among them (firmware
/// issue 1711).
const FAT_TYPES: [u8; 4] = [0x06, 0x0B, 0x0C, 0x0E];
/// Fewest clusters of FAT16 and of FAT32: their number alone decides which it is (Microsoft's
/// FAT document).
const FAT16_CLUSTERS: u64 = 4085;
const FAT32_CLUSTERS: u64 = 65_525;

/// GPT types of partitions that the bootloader in flash memory has been seen to take: basic data
/// (rpi-eeprom issues 359 and 818) and EFI system (issue 126), as they lie on the disk.
const GPT_TYPES: [[u8; 16]; 2] = [
    [
        0xA2, 0xA0, 0xD0, 0xEB, 0xE5, 0xB9, 0x33, 0x44, 0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99,
        0xC7,
    ],
    [
        0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9,
        0x3B,
    ],
];

/// A partition: what its type is called, whether that is one of a FAT's, and its bytes of the disk.
struct Entry {
    kind: String,
    is_fat: bool,
    range: Range<u64>,
}

/// The partitions, by the numbers that the firmware gives them, from 1.
pub struct Table(Vec<Entry>);

impl Table {
    /// The table that this model goes by: the GPT where the MBR's first entry stands for one.
    pub fn read(disk: &Disk, model: Model) -> Result<Table> {
        let announced = disk.read_disk(446 + 4, 1)? == [0xEE];
        ensure!(
            !announced || model.knows_gpt(),
            "{model:?} does not boot a numbered partition of a GPT: it needs a hybrid MBR"
        );
        if announced { Table::gpt(disk) } else { Table::mbr(disk) }
    }

    /// The four entries of an MBR.
    fn mbr(disk: &Disk) -> Result<Table> {
        let sector = disk.read_disk(0, SECTOR as usize)?;
        ensure!(sector[510..] == [0x55, 0xAA], "the card has no MBR");
        let entry = |number: usize| {
            let entry = &sector[446 + number * 16..][..16];
            let number = |at: usize| {
                let bytes = [entry[at], entry[at + 1], entry[at + 2], entry[at + 3]];
                u64::from(u32::from_le_bytes(bytes)) * SECTOR
            };
            Entry {
                kind: format!("{:02x}", entry[4]),
                is_fat: FAT_TYPES.contains(&entry[4]),
                range: number(8)..number(8) + number(12),
            }
        };
        Ok(Table((0..4).map(entry).collect()))
    }

    /// The first entries of a GPT (UEFI 2.10, 5.3.3), behind an MBR that says there is one. Entries
    /// out of the disk's order have been seen to confuse the firmware (rpi-eeprom issue 705).
    fn gpt(disk: &Disk) -> Result<Table> {
        ensure!(disk.read_disk(SECTOR, 8)? == b"EFI PART", "the card has no GPT");
        let bytes = disk.read_disk(2 * SECTOR, 8 * 128)?;
        let entries = bytes.chunks_exact(128).map(|entry| {
            let number = |at: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&entry[at..at + 8]);
                u64::from_le_bytes(bytes)
            };
            Entry {
                kind: entry[..16].iter().map(|byte| format!("{byte:02x}")).collect(),
                is_fat: GPT_TYPES.iter().any(|kind| kind == &entry[..16]),
                range: number(32) * SECTOR..(number(40) + 1) * SECTOR,
            }
        });
        let entries: Vec<Entry> = entries.collect();
        let fats: Vec<u64> = entries.iter().filter(|e| e.is_fat).map(|e| e.range.start).collect();
        ensure!(fats.is_sorted(), "the FAT partitions are not in the order of the disk");
        Ok(Table(entries))
    }

    /// The FAT volume that a RAM disk is: it has no partition table.
    pub fn whole(disk: &Disk) -> Result<Volume<'_>> {
        let volume = Volume { disk, range: 0..disk.size()? };
        volume.check().context("the RAM disk")?;
        Ok(volume)
    }

    /// The FAT volume on partition `number`, counted from 1.
    pub fn volume<'a>(&self, disk: &'a Disk, number: u32) -> Result<Volume<'a>> {
        let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        let entry = index.and_then(|index| self.0.get(index));
        let Entry { kind, is_fat, range } =
            entry.with_context(|| format!("there is no partition {number}"))?;
        ensure!(is_fat, "partition {number} is of type {kind}, not FAT");
        let volume = Volume { disk, range: range.clone() };
        volume.check().with_context(|| format!("partition {number}"))?;
        Ok(volume)
    }
}

/// A FAT volume on the card.
pub struct Volume<'a> {
    disk: &'a Disk,
    range: Range<u64>,
}

impl Volume<'_> {
    /// Fails on what firmware has been seen to misread.
    fn check(&self) -> Result<()> {
        let boot = self.disk.read_disk(self.range.start, SECTOR as usize)?;
        ensure!(boot[510..] == [0x55, 0xAA], "no FAT volume");
        let word = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let long = |at: usize| word(at) | word(at + 2) << 16;
        ensure!(word(11) == SECTOR, "sectors of {} bytes", word(11));
        let or = |short: u64, long: u64| if short == 0 { long } else { short };
        let (sectors, fat_sectors) = (or(word(19), long(32)), or(word(22), long(36)));
        let root = (word(17) * 32).div_ceil(SECTOR);
        let before = word(14) + u64::from(boot[16]) * fat_sectors + root;
        ensure!(boot[13] > 0 && sectors > before, "no FAT volume: no clusters");
        let clusters = (sectors - before) / u64::from(boot[13]);
        ensure!(sectors * SECTOR <= self.range.end - self.range.start, "longer than its partition");
        ensure!(clusters >= FAT16_CLUSTERS, "{clusters} clusters make FAT12");
        // Seen with rpi-eeprom: issue 818.
        let says_32 = word(22) == 0;
        if says_32 != (clusters >= FAT32_CLUSTERS) {
            bail!(
                "{clusters} clusters are not of the format that its boot sector says: it is read as the other one"
            );
        }
        Ok(())
    }

    /// A file in the root; `None` when it is not there.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        ensure!(name.chars().all(plain), "{name:?} is no name of a file in the root");
        let image = format!("{}@@{}", self.disk.path().display(), self.range.start);
        let file = format!("::{name}");
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.env("MTOOLS_SKIP_CHECK", "1").args(["-i", &image]).args(arguments);
            command.output().context("mtools: install the package mtools")
        };
        // One that is not there is told from one that cannot be read by the directory.
        let listing = run("mdir", &["-b", "::"])?;
        ensure!(listing.status.success(), "mdir: {}", String::from_utf8_lossy(&listing.stderr));
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let named =
            |line: &str| line.strip_prefix("::/").is_some_and(|n| n.eq_ignore_ascii_case(name));
        if !listing.lines().any(named) {
            return Ok(None);
        }
        let copied = run("mcopy", &["-n", &file, "-"])?;
        ensure!(copied.status.success(), "mcopy: {}", String::from_utf8_lossy(&copied.stderr));
        Ok(Some(copied.stdout))
    }
}

//! The card as the firmware sees it: an MBR, and FAT volumes whose files mtools reads.

use std::ops::Range;
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};

use crate::disk::Disk;

const SECTOR: u64 = 512;
/// Types of FAT partitions that the boot ROM of a Pi 3 takes; EF is not among them (firmware
/// issue 1711).
const FAT_TYPES: [u8; 4] = [0x06, 0x0B, 0x0C, 0x0E];
/// Fewest clusters of FAT16 and of FAT32: their number alone decides which it is (Microsoft's
/// FAT document).
const FAT16_CLUSTERS: u64 = 4085;
const FAT32_CLUSTERS: u64 = 65_525;

/// The four entries of an MBR: type, and bytes of the disk.
pub struct Mbr([(u8, Range<u64>); 4]);

impl Mbr {
    /// Reads the disk's first sector.
    pub fn read(disk: &Disk) -> Result<Mbr> {
        let sector = disk.read_disk(0, SECTOR as usize)?;
        ensure!(sector[510..] == [0x55, 0xAA], "the card has no MBR");
        let entry = |number: usize| {
            let entry = &sector[446 + number * 16..][..16];
            let number = |at: usize| {
                let bytes = [entry[at], entry[at + 1], entry[at + 2], entry[at + 3]];
                u64::from(u32::from_le_bytes(bytes)) * SECTOR
            };
            (entry[4], number(8)..number(8) + number(12))
        };
        Ok(Mbr([entry(0), entry(1), entry(2), entry(3)]))
    }

    /// The FAT volume on partition `number`, counted from 1.
    pub fn volume<'a>(&self, disk: &'a Disk, number: u32) -> Result<Volume<'a>> {
        let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        let entry = index.and_then(|index| self.0.get(index));
        let (kind, range) = entry.with_context(|| format!("there is no partition {number}"))?;
        ensure!(FAT_TYPES.contains(kind), "partition {number} is of type {kind:02x}, not FAT");
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
            bail!("{clusters} clusters are not of the format that its boot sector says: it is read as the other one");
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

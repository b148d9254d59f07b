//! The partition table, as UEFI 2.10 reads it: chapter 5, "GUID Partition Table (GPT) Disk Layout".

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::card::{crc32, little};
use crate::disk::Disk;

const SECTOR: u64 = 512;
/// Type GUIDs as they lie on the disk, the first three fields little-endian (UEFI 2.10, appendix A):
/// the EFI system partition's (table 5-7), and "Linux filesystem data" (UAPI.2, "Discoverable
/// Partitions": generic Linux data).
const EFI_SYSTEM: [u8; 16] = [
    0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B,
];
const LINUX_DATA: [u8; 16] = [
    0xAF, 0x3D, 0xC6, 0x0F, 0x83, 0x84, 0x72, 0x47, 0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4,
];
/// What lies on the disk, in this order (docs/architecture.md).
const LABELS: [&str; 6] = ["firmware", "boot-a", "boot-b", "root-a", "root-b", "data"];

/// Both copies of the table are whole and say the same, and the one EFI system partition is the
/// first, under its name.
pub fn check(disk: &Disk) -> Result<()> {
    let size = disk.size()?;
    ensure!(size.is_multiple_of(SECTOR), "{size} bytes are no whole sectors");
    let last = size / SECTOR - 1;
    check_mbr(&disk.read_disk(0, SECTOR as usize)?, last).context("the protective MBR")?;
    let primary = Header::read(disk, 1).context("the primary GPT")?;
    let backup = Header::read(disk, last).context("the backup GPT")?;
    ensure!(primary.other == last, "the primary GPT has its backup at sector {}", primary.other);
    ensure!(backup.other == 1, "the backup GPT has the primary at sector {}", backup.other);
    ensure!(primary.entries == backup.entries, "the two copies of the GPT say different things");
    ensure!(primary.usable == backup.usable, "the two copies of the GPT have other usable sectors");
    check_entries(&primary)?;
    // Somebody else's program finds nothing, either.
    let output = Command::new("sgdisk").arg("--verify").arg(disk.path()).output();
    let output = output.context("sgdisk: install the package gdisk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("No problems found"), "sgdisk: {text}");
    Ok(())
}

/// 5.2.3, "Protective MBR", table 5-4: the first record covers the disk, the others are zeros.
fn check_mbr(mbr: &[u8], last: u64) -> Result<()> {
    ensure!(mbr[510..] == [0x55, 0xAA], "has no signature");
    let records = &mbr[446..510];
    ensure!(records[0] == 0, "is marked bootable, for a BIOS");
    ensure!(records[4] == 0xEE, "is of type {:02x}, not EE", records[4]);
    ensure!(little::<4>(records, 8)? == 1, "does not start at the GPT's header");
    let sectors = little::<4>(records, 12)?;
    ensure!(sectors == last.min(0xFFFF_FFFF), "covers {sectors} sectors, not {last}");
    ensure!(records[16..].iter().all(|byte| *byte == 0), "has more than one partition");
    Ok(())
}

/// A copy of the table whose sums hold.
struct Header {
    other: u64,
    usable: (u64, u64),
    entries: Vec<u8>,
}

impl Header {
    /// 5.3.2, "GPT Header", table 5-5, and what it says must be checked first.
    fn read(disk: &Disk, at: u64) -> Result<Header> {
        let sector = disk.read_disk(at * SECTOR, SECTOR as usize)?;
        ensure!(sector[..8] == *b"EFI PART", "has no signature");
        ensure!(little::<4>(&sector, 8)? == 0x0001_0000, "is of another revision than 1.0");
        let length = little::<4>(&sector, 12)? as usize;
        ensure!((92..=512).contains(&length), "has a header of {length} bytes");
        let mut header = sector[..length].to_vec();
        header[16..20].fill(0);
        ensure!(little::<4>(&sector, 16)? == u64::from(crc32(&header)), "has a bad header CRC");
        ensure!(little::<8>(&sector, 24)? == at, "is not where it says it is");
        let (count, size) = (little::<4>(&sector, 80)?, little::<4>(&sector, 84)?);
        ensure!(size == 128, "has entries of {size} bytes");
        // 5.3.1: at least 16,384 bytes are kept for entries.
        ensure!((128..=1024).contains(&count), "has {count} entries");
        let entries_at = little::<8>(&sector, 72)?;
        let entries = disk.read_disk(entries_at * SECTOR, (count * size) as usize)?;
        ensure!(
            little::<4>(&sector, 88)? == u64::from(crc32(&entries)),
            "has a bad CRC of its entries"
        );
        let usable = (little::<8>(&sector, 40)?, little::<8>(&sector, 48)?);
        let behind = entries_at + (count * size).div_ceil(SECTOR);
        ensure!(
            if at == 1 { behind <= usable.0 } else { usable.1 < entries_at && behind <= at },
            "keeps its entries where partitions may be"
        );
        Ok(Header { other: little::<8>(&sector, 32)?, usable, entries })
    }
}

/// 5.3.3, "GPT Partition Entry Array", table 5-6.
fn check_entries(table: &Header) -> Result<()> {
    let used: Vec<&[u8]> =
        table.entries.chunks_exact(128).filter(|entry| entry[..16] != [0; 16]).collect();
    let mut end = table.usable.0;
    let mut guids = Vec::new();
    for (entry, label) in used.iter().zip(LABELS) {
        let (first, last) = (little::<8>(entry, 32)?, little::<8>(entry, 40)?);
        ensure!(end <= first && first <= last, "{label} lies over another partition");
        ensure!(last <= table.usable.1, "{label} ends behind the usable sectors");
        end = last + 1;
        let name: Vec<u16> = entry[56..]
            .chunks_exact(2)
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
            .collect();
        let name = String::from_utf16_lossy(&name);
        let name = name.trim_end_matches('\0');
        ensure!(name == label, "a partition is named {name:?}, not {label}");
        let system = label == "firmware";
        ensure!(
            entry[..16] == if system { EFI_SYSTEM } else { LINUX_DATA },
            "{label} is of another type than {}",
            // A firmware may boot from every partition of the first type.
            if system { "EFI system partition" } else { "Linux data" }
        );
        // Bit 1: no firmware is to look for files here (table 5-8). Bit 0: needed by the platform.
        ensure!(entry[48] & 3 == 0, "{label} has the attributes {:#x}", entry[48]);
        ensure!(!guids.contains(&&entry[16..32]), "{label} has the GUID of another partition");
        guids.push(&entry[16..32]);
    }
    ensure!(used.len() == LABELS.len(), "{} partitions, not {}", used.len(), LABELS.len());
    Ok(())
}

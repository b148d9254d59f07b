//! The GUID partition table (UEFI specification 2.10, chapter 5), as pure functions over sectors.
//!
//! `imager` writes it, `init` moves its backup to a larger disk's end and lets `data` grow, the
//! tests read it. 512-byte sectors and 128 entries of 128 bytes, as every tool writes them.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Display};

use crate::boot_state::crc32;
use crate::layout::SECTOR;
use crate::{Error, Result};

/// Partition type GUID "Linux filesystem data".
pub const LINUX_DATA: Guid = Guid::from_fields(0x0FC6_3DAF, 0x8483, 0x4772, 0x8E79_3D69_D847_7DE4);
/// Partition type GUID "EFI system partition".
pub const EFI_SYSTEM: Guid = Guid::from_fields(0xC12A_7328, 0xF81F, 0x11D2, 0xBA4B_00A0_C93E_C93B);

/// Partition type GUID "Microsoft basic data": FAT partitions that are no EFI system partition.
pub const BASIC_DATA: Guid = Guid::from_fields(0xEBD0_A0A2, 0xB9E5, 0x4433, 0x87C0_68B6_B726_99C7);

/// Attribute bit 2, "legacy BIOS bootable": what U-Boot's standard boot looks for.
pub const BOOTABLE: u64 = 1 << 2;

/// Sectors of the partition entry array.
pub const ENTRY_SECTORS: u64 = 32;
/// First sector that a partition may use.
pub const FIRST_USABLE: u64 = 2 + ENTRY_SECTORS;

/// The last sector whose place in bytes can be counted, with one to spare behind it.
const MAX_SECTOR: u64 = u64::MAX / SECTOR - 1;

const ENTRIES: usize = 128;
const ENTRY_SIZE: usize = 128;
const HEADER_SIZE: usize = 92;
const NAME_UNITS: usize = 36;

/// A GUID in the mixed-endian form in which it lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    const fn from_fields(a: u32, b: u16, c: u16, d: u64) -> Guid {
        let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes());
        Guid([
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5],
            d[6], d[7],
        ])
    }

    /// A version-4 GUID made of 16 bytes of a hash, so that the same image gets the same GUIDs.
    pub fn from_hash(mut bytes: [u8; 16]) -> Guid {
        bytes[7] = bytes[7] & 0x0F | 0x40;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        Guid(bytes)
    }

    /// Reads a GUID as people, U-Boot, UEFI and Linux write it: 32 hexadecimal digits, large or
    /// small, in groups of 8, 4, 4, 4 and 12 (UEFI 2.10, appendix A).
    pub fn parse(text: &str) -> Option<Guid> {
        let mut bytes = [0; 16];
        let mut at = 0;
        let mut groups = text.split('-');
        for digits in GROUPS {
            let group = groups.next().filter(|group| group.len() == digits)?;
            for pair in group.as_bytes().chunks_exact(2) {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes[at] = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
                at += 1;
            }
        }
        groups.next().is_none().then(|| Guid(swapped(bytes)))
    }
}

/// Digits of each group of a GUID's text.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// Between the order of a GUID's bytes on the disk and that of its text: the first three groups are
/// little-endian numbers.
fn swapped(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

impl Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = crate::hex::encode(&swapped(self.0));
        let mut rest = digits.as_str();
        for (number, length) in GROUPS.into_iter().enumerate() {
            let (group, tail) = rest.split_at(length);
            if number > 0 {
                f.write_str("-")?;
            }
            f.write_str(group)?;
            rest = tail;
        }
        Ok(())
    }
}

/// One partition. Sectors are 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its type.
    pub kind: Guid,
    /// Its unique GUID.
    pub guid: Guid,
    /// First sector.
    pub first: u64,
    /// Last sector, included.
    pub last: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// Its label, at most 36 characters.
    pub label: String,
}

impl Partition {
    /// The bytes it occupies on the disk.
    pub fn bytes(&self) -> core::ops::Range<u64> {
        self.first * SECTOR..(self.last + 1) * SECTOR
    }
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// The disk's GUID.
    pub disk: Guid,
    /// Sectors of the disk; the backup header lies in the last one.
    pub sectors: u64,
    /// The partitions, in table order, without holes.
    pub partitions: Vec<Partition>,
}

/// Bytes to write at a byte offset of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Byte offset on the disk.
    pub offset: u64,
    /// What goes there.
    pub bytes: Vec<u8>,
}

impl Gpt {
    /// The partition with this label.
    pub fn find(&self, label: &str) -> Result<&Partition> {
        self.partitions
            .iter()
            .find(|p| p.label == label)
            .ok_or_else(|| Error::new(["no partition `", label, "` on the disk"].concat()))
    }

    /// Last sector that a partition may use.
    pub fn last_usable(&self) -> u64 {
        self.sectors - ENTRY_SECTORS - 2
    }

    /// The writes that put this table on a disk, in the order in which they must reach it: backup
    /// entries, backup header, primary entries, primary header, each flushed before the next. At
    /// every moment of that order one valid table is there.
    pub fn writes(&self) -> [Write; 4] {
        let entries = self.entries();
        let last = self.sectors - 1;
        let write = |sector: u64, bytes: Vec<u8>| Write { offset: sector * SECTOR, bytes };
        [
            write(last - ENTRY_SECTORS, entries.clone()),
            write(last, self.header(last, 1, last - ENTRY_SECTORS, &entries)),
            write(2, entries.clone()),
            write(1, self.header(1, last, 2, &entries)),
        ]
    }

    /// The protective MBR for sector 0 (UEFI 5.2.3).
    pub fn protective_mbr(&self) -> Vec<u8> {
        let mut mbr = vec![0; SECTOR as usize];
        let entry = &mut mbr[446..462];
        entry[1..4].copy_from_slice(&[0x00, 0x02, 0x00]);
        entry[4] = 0xEE;
        entry[5..8].copy_from_slice(&[0xFF, 0xFF, 0xFF]);
        entry[8..12].copy_from_slice(&1u32.to_le_bytes());
        let size = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX);
        entry[12..16].copy_from_slice(&size.to_le_bytes());
        mbr[510..].copy_from_slice(&[0x55, 0xAA]);
        mbr
    }

    /// An MBR for firmware that knows no GPT: the FAT partitions with these labels (at most three)
    /// as its first entries, and a protective one over what lies before them. With the labels in
    /// the table's own order each partition has the same number in both.
    ///
    /// Linux goes by the GPT wherever an entry of type EE starts at sector 1 (block/partitions/efi.c,
    /// `is_pmbr_valid`). Fails on a missing label and on partitions beyond what an MBR can say.
    pub fn hybrid_mbr(&self, labels: &[&str]) -> Result<Vec<u8>> {
        const FAT_LBA: u8 = 0x0C;
        if labels.len() > 3 {
            return Err(Error::new("a hybrid MBR has room for three partitions"));
        }
        let mut entries = Vec::new();
        for label in labels {
            let partition = self.find(label)?;
            entries.push((FAT_LBA, partition.first, partition.last - partition.first + 1));
        }
        let before = self.partitions.iter().map(|p| p.first).min().unwrap_or(FIRST_USABLE);
        entries.push((0xEE, 1, before - 1));
        let mut mbr = vec![0; SECTOR as usize];
        for ((kind, first, sectors), entry) in entries.into_iter().zip(mbr[446..510].chunks_mut(16))
        {
            let field = |number: u64| {
                u32::try_from(number)
                    .map(u32::to_le_bytes)
                    .map_err(|_| Error::new("the partition lies beyond what an MBR can say"))
            };
            // Cylinders, heads and sectors that say: go by the sector numbers.
            entry[1..4].copy_from_slice(&[0xFE, 0xFF, 0xFF]);
            entry[4] = kind;
            entry[5..8].copy_from_slice(&[0xFE, 0xFF, 0xFF]);
            entry[8..12].copy_from_slice(&field(first)?);
            entry[12..16].copy_from_slice(&field(sectors)?);
        }
        mbr[510..].copy_from_slice(&[0x55, 0xAA]);
        Ok(mbr)
    }

    /// The same table for a disk of `sectors` sectors, its last partition reaching to the end
    /// (in whole MiB). `None` when there is nothing to gain.
    ///
    /// Fails when the disk is smaller than the table's partitions.
    pub fn grown(&self, sectors: u64) -> Result<Option<Gpt>> {
        let mut grown = Gpt { sectors, ..self.clone() };
        let Some(last) = grown.partitions.iter().map(|p| p.last).max() else {
            return Ok(None);
        };
        if sectors < last + ENTRY_SECTORS + 2 {
            return Err(Error::new("the disk is smaller than its partition table"));
        }
        let end = (grown.last_usable() + 1) / 2048 * 2048 - 1;
        if end <= last {
            return Ok(None);
        }
        for partition in &mut grown.partitions {
            if partition.last == last {
                partition.last = end;
            }
        }
        Ok(Some(grown))
    }

    fn header(&self, own: u64, other: u64, entries_at: u64, entries: &[u8]) -> Vec<u8> {
        let mut h = vec![0; SECTOR as usize];
        h[..8].copy_from_slice(b"EFI PART");
        h[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
        h[12..16].copy_from_slice(&(HEADER_SIZE as u32).to_le_bytes());
        h[24..32].copy_from_slice(&own.to_le_bytes());
        h[32..40].copy_from_slice(&other.to_le_bytes());
        h[40..48].copy_from_slice(&FIRST_USABLE.to_le_bytes());
        h[48..56].copy_from_slice(&self.last_usable().to_le_bytes());
        h[56..72].copy_from_slice(&self.disk.0);
        h[72..80].copy_from_slice(&entries_at.to_le_bytes());
        h[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
        h[84..88].copy_from_slice(&(ENTRY_SIZE as u32).to_le_bytes());
        h[88..92].copy_from_slice(&crc32(entries).to_le_bytes());
        let crc = crc32(&h[..HEADER_SIZE]);
        h[16..20].copy_from_slice(&crc.to_le_bytes());
        h
    }

    fn entries(&self) -> Vec<u8> {
        let mut bytes = vec![0; ENTRIES * ENTRY_SIZE];
        for (entry, p) in bytes.chunks_exact_mut(ENTRY_SIZE).zip(&self.partitions) {
            entry[..16].copy_from_slice(&p.kind.0);
            entry[16..32].copy_from_slice(&p.guid.0);
            entry[32..40].copy_from_slice(&p.first.to_le_bytes());
            entry[40..48].copy_from_slice(&p.last.to_le_bytes());
            entry[48..56].copy_from_slice(&p.attributes.to_le_bytes());
            for (i, unit) in p.label.encode_utf16().take(NAME_UNITS).enumerate() {
                entry[56 + i * 2..58 + i * 2].copy_from_slice(&unit.to_le_bytes());
            }
        }
        bytes
    }
}

/// Reads the table of a disk through `read`, which fills a buffer from a byte offset. The backup
/// in the last of `sectors` sectors is used when the primary is not valid.
pub fn read<E: Display>(
    sectors: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> core::result::Result<(), E>,
) -> Result<Gpt> {
    if sectors > MAX_SECTOR {
        return Err(Error::new("too large for a disk"));
    }
    if sectors < FIRST_USABLE * 2 {
        return Err(Error::new("too small for a partition table"));
    }
    let mut first_error = None;
    for own in [1, sectors - 1] {
        match read_one(sectors, own, &mut read) {
            Ok(gpt) => return Ok(gpt),
            Err(e) => {
                first_error.get_or_insert(e);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| Error::new("no partition table")))
}

fn read_one<E: Display>(
    sectors: u64,
    own: u64,
    read: &mut impl FnMut(u64, &mut [u8]) -> core::result::Result<(), E>,
) -> Result<Gpt> {
    let mut at = |sector: u64, bytes: &mut [u8]| {
        read(sector * SECTOR, bytes)
            .map_err(|e| Error::new(["partition table: ", &e.to_string()].concat()))
    };
    let mut header = [0; SECTOR as usize];
    at(own, &mut header)?;
    let u32_at =
        |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let u64_at = |i: usize| u64::from(u32_at(i)) | u64::from(u32_at(i + 4)) << 32;
    if &header[..8] != b"EFI PART" {
        return Err(Error::new("no GUID partition table on the disk"));
    }
    let mut unsigned = header;
    unsigned[16..20].fill(0);
    let (entries_at, other) = (u64_at(72), u64_at(32));
    let whole = u32_at(12) as usize == HEADER_SIZE
        && crc32(&unsigned[..HEADER_SIZE]) == u32_at(16)
        && u64_at(24) == own
        && u32_at(80) as usize == ENTRIES
        && u32_at(84) as usize == ENTRY_SIZE
        && entries_at >= 2
        && entries_at <= sectors - ENTRY_SECTORS;
    if !whole {
        return Err(Error::new("the partition table's header is damaged"));
    }
    let mut entries = vec![0; ENTRIES * ENTRY_SIZE];
    at(entries_at, &mut entries)?;
    if crc32(&entries) != u32_at(88) {
        return Err(Error::new("the partition table's entries are damaged"));
    }
    let partitions: Vec<_> = entries.chunks_exact(ENTRY_SIZE).map_while(partition).collect();
    if partitions.iter().any(|p| p.first < FIRST_USABLE || p.first > p.last || p.last >= sectors) {
        return Err(Error::new("a partition lies outside the disk"));
    }
    // The table's own idea of the disk's end: where its backup lies, behind a copy of the entries.
    let end = own.max(other);
    let last = partitions.iter().map(|p| p.last).max().unwrap_or(FIRST_USABLE);
    if end > MAX_SECTOR || end <= last + ENTRY_SECTORS {
        return Err(Error::new("the partition table's backup lies where it cannot be"));
    }
    let mut disk = [0; 16];
    disk.copy_from_slice(&header[56..72]);
    Ok(Gpt { disk: Guid(disk), sectors: end + 1, partitions })
}

fn partition(entry: &[u8]) -> Option<Partition> {
    let guid = |at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&entry[at..at + 16]);
        Guid(bytes)
    };
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&entry[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if guid(0).0 == [0; 16] {
        return None;
    }
    let units = entry[56..]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0);
    Some(Partition {
        kind: guid(0),
        guid: guid(16),
        first: number(32),
        last: number(40),
        attributes: number(48),
        label: char::decode_utf16(units)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> Gpt {
        let partition = |label: &str, first, last| Partition {
            kind: LINUX_DATA,
            guid: Guid::from_hash([label.len() as u8; 16]),
            first,
            last,
            attributes: 0,
            label: label.into(),
        };
        Gpt {
            disk: Guid::from_hash([9; 16]),
            sectors: 65536,
            partitions: vec![partition("firmware", 2048, 4095), partition("data", 4096, 63487)],
        }
    }

    fn disk(gpt: &Gpt, sectors: u64) -> Vec<u8> {
        let mut disk = vec![0; (sectors * SECTOR) as usize];
        for write in gpt.writes() {
            apply(&mut disk, &write);
        }
        disk
    }

    fn apply(disk: &mut [u8], write: &Write) {
        disk[write.offset as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
    }

    fn read_disk(disk: &[u8]) -> Result<Gpt> {
        read(disk.len() as u64 / SECTOR, |offset, bytes| {
            bytes.copy_from_slice(&disk[offset as usize..][..bytes.len()]);
            std::io::Result::Ok(())
        })
    }

    #[test]
    fn a_guid_is_written_as_everybody_writes_it() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        assert_eq!(EFI_SYSTEM.to_string(), text);
        assert_eq!(Guid::parse(text), Some(EFI_SYSTEM));
        assert_eq!(Guid::parse(&text.to_uppercase()), Some(EFI_SYSTEM));
        for wrong in ["", "c12a7328", "c12a7328-01", "c12a7328f81f11d2ba4b00a0c93ec93b"] {
            assert_eq!(Guid::parse(wrong), None);
        }
        assert_eq!(Guid::parse(&[text, "-0"].concat()), None);
        assert_eq!(Guid::parse(&text.replace('f', "g")), None);
        assert_eq!(Guid::parse(&text.replace("c1", "\u{e9}")), None);
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(read_disk(&disk(&table(), 65536)).unwrap(), table());
    }

    #[test]
    fn the_backup_serves_when_the_primary_is_damaged() {
        let mut disk = disk(&table(), 65536);
        disk[512 + 60] ^= 1;
        assert_eq!(read_disk(&disk).unwrap(), table());
        disk[65535 * 512] ^= 1;
        assert!(read_disk(&disk).is_err());
    }

    /// The disk with this written into its primary header, whose sum is made right; the backup is
    /// damaged.
    fn with_header(at: usize, value: u64) -> Vec<u8> {
        let mut disk = disk(&table(), 65536);
        disk[65535 * 512] ^= 1;
        let header = &mut disk[512..1024];
        header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        header[16..20].fill(0);
        let crc = crc32(&header[..92]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        disk
    }

    #[test]
    fn a_backup_that_lies_nowhere_is_refused() {
        assert!(read_disk(&with_header(32, 65535)).is_ok());
        assert!(read_disk(&with_header(32, 1 << 40)).is_ok(), "the disk is smaller than it was");
        for other in [0, 1, 33, 34, 63487, 63487 + 32, 1 << 55, u64::MAX - 1, u64::MAX] {
            assert!(read_disk(&with_header(32, other)).is_err(), "{other}");
        }
        for entries in [0, 1, 65536, u64::MAX / 512, u64::MAX] {
            assert!(read_disk(&with_header(72, entries)).is_err(), "{entries}");
        }
        assert!(read(u64::MAX, |_, _| Ok::<(), Error>(())).is_err());
    }

    #[test]
    fn growing_survives_a_cut_after_any_write_and_within_any() {
        let old = table();
        let new = old.grown(200_000).unwrap().unwrap();
        assert_eq!(new.find("data").unwrap().last, 198_655);
        assert_eq!(new.grown(200_000).unwrap(), None);
        let mut at_rest = disk(&old, 65536);
        at_rest.resize(200_000 * 512, 0);
        for write in new.writes() {
            for cut in (0..=write.bytes.len()).step_by(512) {
                let mut torn = at_rest.clone();
                let part = Write { offset: write.offset, bytes: write.bytes[..cut].to_vec() };
                apply(&mut torn, &part);
                let found = read_disk(&torn).expect("one table is valid");
                assert!(found == old || found == new);
            }
            apply(&mut at_rest, &write);
        }
        assert_eq!(read_disk(&at_rest).unwrap(), new);
    }

    #[test]
    fn a_disk_that_shrank_is_an_error() {
        assert!(table().grown(60_000).is_err());
        assert_eq!(table().grown(65536).unwrap(), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 512), sectors in 0u64..1000) {
            bytes[..8].copy_from_slice(b"EFI PART");
            bytes[12..16].copy_from_slice(&92u32.to_le_bytes());
            bytes[24..32].copy_from_slice(&1u64.to_le_bytes());
            bytes[80..88].copy_from_slice(&[128, 0, 0, 0, 128, 0, 0, 0]);
            bytes[16..20].fill(0);
            let crc = crc32(&bytes[..92]);
            bytes[16..20].copy_from_slice(&crc.to_le_bytes());
            let _ = read(sectors, |_, out| { let n = out.len().min(512); out[..n].copy_from_slice(&bytes[..n]); std::io::Result::Ok(()) });
        }
    }
}

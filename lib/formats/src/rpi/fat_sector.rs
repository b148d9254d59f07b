//! Where on the `firmware` partition the sector of `autoboot.txt` lies.
//!
//! Not a FAT driver: it finds one small file in the root of a FAT16 volume as `imager` makes it
//! (Microsoft, "FAT: General Overview of On-Disk Format" 1.03) and gives up on anything else.
//! What lies on the partition may be damaged, so every number is bounded before it is used.

use crate::layout::SECTOR;
use crate::medium::Medium;
use crate::{Error, Result};

/// The name as a directory entry has it.
const ENTRY_NAME: &[u8; 11] = b"AUTOBOOTTXT";
/// Bytes of a directory entry.
const ENTRY: usize = 32;
/// The most directory entries that are looked through: what `imager` lays out.
const MAX_ENTRIES: u64 = 512;
/// Attributes of an entry that is no file: volume label, directory.
const NO_FILE: u8 = 0x18;

/// The byte offset of the file's only sector in the partition. `length` is what the file has to
/// have: another length means that it is not the one `imager` wrote.
pub fn find(medium: &dyn Medium, length: u64) -> Result<u64> {
    let volume = Volume::read(medium)?;
    let mut sector = [0; SECTOR as usize];
    for index in 0..volume.root_sectors {
        read(medium, volume.root_at + index * SECTOR, &mut sector)?;
        for entry in sector.chunks_exact(ENTRY) {
            if entry[0] == 0 {
                return Err(Error::new("autoboot.txt is not there"));
            }
            if &entry[..11] == ENTRY_NAME && entry[11] & NO_FILE == 0 {
                return volume.place(entry, length, medium.size());
            }
        }
    }
    Err(Error::new("autoboot.txt is not there"))
}

/// The serial number that a FAT16 or FAT32 volume carries in its boot sector (offsets 39 and 67).
pub fn serial(medium: &dyn Medium) -> Result<u32> {
    let mut boot = [0; SECTOR as usize];
    read(medium, 0, &mut boot)?;
    if boot[510..] != [0x55, 0xAA] {
        return Err(Error::new("no FAT volume: its boot sector does not end in 55 AA"));
    }
    // A FAT32 volume has no FAT size in the 16-bit field.
    let at = if u16_at(&boot, 22) == 0 { 67 } else { 39 };
    let mut number = [0; 4];
    number.copy_from_slice(&boot[at..at + 4]);
    Ok(u32::from_le_bytes(number))
}

/// Byte offsets in the partition.
struct Volume {
    root_at: u64,
    root_sectors: u64,
    clusters_at: u64,
    cluster_bytes: u64,
}

impl Volume {
    fn read(medium: &dyn Medium) -> Result<Volume> {
        let mut boot = [0; SECTOR as usize];
        read(medium, 0, &mut boot)?;
        let (reserved, fats, fat_sectors) = (u16_at(&boot, 14), boot[16], u16_at(&boot, 22));
        let (entries, cluster_sectors) = (u64::from(u16_at(&boot, 17)), boot[13]);
        let sound = boot[510..] == [0x55, 0xAA]
            && u64::from(u16_at(&boot, 11)) == SECTOR
            && cluster_sectors.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&fats)
            && fat_sectors > 0
            && (1..=MAX_ENTRIES).contains(&entries);
        if !sound {
            return Err(Error::new("no FAT16 volume as `imager` makes it"));
        }
        // At most 65535 + 2 × 65535 sectors: no sum here can overflow.
        let root_at = (u64::from(reserved) + u64::from(fats) * u64::from(fat_sectors)) * SECTOR;
        let root_sectors = (entries * ENTRY as u64).div_ceil(SECTOR);
        Ok(Volume {
            root_at,
            root_sectors,
            clusters_at: root_at + root_sectors * SECTOR,
            cluster_bytes: u64::from(cluster_sectors) * SECTOR,
        })
    }

    /// Where the file of this directory entry begins.
    fn place(&self, entry: &[u8], length: u64, partition: u64) -> Result<u64> {
        let mut size = [0; 4];
        size.copy_from_slice(&entry[28..32]);
        if u64::from(u32::from_le_bytes(size)) != length {
            return Err(Error::new("autoboot.txt has another length than it was made with"));
        }
        let cluster = u64::from(u16_at(entry, 26));
        let offset = cluster
            .checked_sub(2)
            .map(|index| self.clusters_at + index * self.cluster_bytes)
            .filter(|offset| offset + SECTOR <= partition);
        offset.ok_or_else(|| Error::new("autoboot.txt lies outside of its partition"))
    }
}

fn read(medium: &dyn Medium, offset: u64, sector: &mut [u8]) -> Result<()> {
    medium.read_at(offset, sector).map_err(|e| Error::new(e.to_string()))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

//! What one device gets that the image does not have: the partition table for its own size, its
//! settings. The image file stays as it is; patches are laid over it on its way to the medium.

use std::ops::Range;

use anyhow::{Result, anyhow, ensure};
use formats::gpt::{ENTRY_SECTORS, Gpt, Guid};
use formats::layout::{ALIGNMENT, SECTOR};

use crate::window::WINDOW;

/// A range of the disk with other bytes than the image's: zeros, and `blocks` on them.
#[derive(Debug, Clone)]
pub struct Patch {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// Byte offset on the disk, and what goes there; all within `range`.
    pub blocks: Vec<(u64, Vec<u8>)>,
}

/// All of them. Later ones win.
#[derive(Debug, Clone, Default)]
pub struct Patches(Vec<Patch>);

impl Patches {
    /// Adds one on top.
    pub fn push(&mut self, patch: Patch) {
        self.0.push(patch);
    }

    /// Whether any of them changes something there.
    pub fn touch(&self, range: &Range<u64>) -> bool {
        self.0.iter().any(|patch| overlap(&patch.range, range).is_some())
    }

    /// Changes `bytes`, which lie at `offset` of the disk.
    pub fn apply(&self, offset: u64, bytes: &mut [u8]) {
        let here = offset..offset + bytes.len() as u64;
        for patch in &self.0 {
            let Some(zeros) = overlap(&patch.range, &here) else { continue };
            bytes[local(&zeros, offset)].fill(0);
            for (at, block) in &patch.blocks {
                if let Some(common) = overlap(&(*at..*at + block.len() as u64), &here) {
                    bytes[local(&common, offset)].copy_from_slice(&block[local(&common, *at)]);
                }
            }
        }
    }

    /// What of the patches lies behind the byte `end`, in order, in pieces of at most a window.
    pub fn beyond(&self, end: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<_> = self
            .0
            .iter()
            .map(|p| p.range.start.max(end)..p.range.end)
            .filter(|r| !r.is_empty())
            .collect();
        ranges.sort_by_key(|range| range.start);
        let mut pieces = Vec::new();
        let mut done = end;
        for range in ranges {
            let mut start = range.start.max(done);
            while start < range.end {
                let stop = (start + WINDOW as u64).min(range.end);
                pieces.push(start..stop);
                start = stop;
            }
            done = done.max(range.end);
        }
        pieces
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> Option<Range<u64>> {
    let common = a.start.max(b.start)..a.end.min(b.end);
    (!common.is_empty()).then_some(common)
}

fn local(range: &Range<u64>, offset: u64) -> Range<usize> {
    (range.start - offset) as usize..(range.end - offset) as usize
}

/// The same table with GUIDs of its own, for disk and partitions, made of what `random` gives: all
/// media of one image would have the same ones, and a device with two of them in it could not tell
/// which one it was started from.
pub fn with_own_guids(image: &Gpt, mut random: impl FnMut() -> Result<[u8; 16]>) -> Result<Gpt> {
    let mut own = image.clone();
    own.disk = Guid::from_hash(random()?);
    for partition in &mut own.partitions {
        partition.guid = Guid::from_hash(random()?);
    }
    Ok(own)
}

/// The table for a medium of `bytes` bytes, with `own` table's GUIDs on the image's partitions, and
/// the patches that bring it there: the data partition reaches to the medium's end, the backup table
/// lies in its last sectors, and what was in the medium's last MiB before, such as an array's label,
/// is gone.
pub fn table_for(image: &Gpt, own: &Gpt, bytes: u64) -> Result<(Gpt, Vec<Patch>)> {
    let sectors = bytes / SECTOR;
    ensure!(sectors >= image.sectors, "the medium is smaller than the image");
    let table = match own.grown(sectors).map_err(|e| anyhow!(e))? {
        Some(grown) if sectors > image.sectors => grown,
        _ => Gpt { sectors, ..own.clone() },
    };
    let mut patches = Vec::new();
    let [backup_entries, backup, entries, header] = table.writes();
    let mut tail = backup_entries.offset..sectors * SECTOR;
    if sectors > image.sectors {
        // The image's own backup lies inside the data partition now.
        let old = (image.sectors - ENTRY_SECTORS - 1) * SECTOR..image.sectors * SECTOR;
        tail.start = tail.start.min((bytes - ALIGNMENT).max(old.end) / SECTOR * SECTOR);
        patches.push(Patch { range: old, blocks: vec![] });
    }
    let block = |write: formats::gpt::Write| (write.offset, write.bytes);
    patches.push(Patch { range: tail, blocks: vec![block(backup_entries), block(backup)] });
    let head = SECTOR..(2 + ENTRY_SECTORS) * SECTOR;
    patches.push(Patch { range: head, blocks: vec![block(header), block(entries)] });
    Ok((table, patches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::gpt::{self, Partition};
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn image() -> Gpt {
        let partition = |label: &str, first: u64, last: u64| Partition {
            kind: gpt::LINUX_DATA,
            guid: Guid::from_hash([first as u8; 16]),
            first,
            last,
            attributes: 0,
            label: label.into(),
        };
        let partitions = vec![partition("firmware", 2048, 4095), partition("data", 4096, 8191)];
        Gpt { disk: Guid::from_hash([1; 16]), sectors: 8192 + 2048, partitions }
    }

    /// A disk of `bytes` bytes with the image's own table, and the patches laid over it.
    fn patched(bytes: u64) -> (Vec<u8>, Gpt) {
        let image = image();
        let mut disk = vec![0; bytes as usize];
        for write in image.writes() {
            disk[write.offset as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
        let mut all = Patches::default();
        let mut number = 100;
        let own = with_own_guids(&image, || {
            number += 1;
            Ok([number; 16])
        });
        let (table, patches) = table_for(&image, &own.unwrap(), bytes).unwrap();
        patches.into_iter().for_each(|patch| all.push(patch));
        all.apply(0, &mut disk);
        (disk, table)
    }

    #[test]
    fn the_table_reaches_to_the_mediums_end_in_both_copies() {
        for bytes in [5 * MIB, 6 * MIB, 12 * MIB, 12 * MIB + 512, 9 * MIB - 512, 5 * MIB + 512] {
            let (mut disk, table) = patched(bytes);
            let sectors = bytes / 512;
            let read = |disk: &[u8]| {
                gpt::read(sectors, |at, out| {
                    out.copy_from_slice(&disk[at as usize..][..out.len()]);
                    std::io::Result::Ok(())
                })
            };
            assert_eq!(read(&disk).unwrap(), table, "{bytes}");
            assert_eq!(table.sectors, sectors);
            // A table that is the medium's own gives init nothing to do at the first start.
            assert_eq!(table.grown(sectors).unwrap(), None);
            disk[512] ^= 1;
            assert_eq!(read(&disk).unwrap(), table, "the backup, {bytes}");
            let headers = disk.chunks(512).filter(|s| s.starts_with(b"EFI PART")).count();
            assert_eq!(headers, 1, "no copy of the image's own table is left");
            let guids = |table: &Gpt| -> Vec<Guid> {
                table.partitions.iter().map(|p| p.guid).chain([table.disk]).collect()
            };
            let (all, shipped) = (guids(&table), guids(&image()));
            assert!(all.iter().all(|guid| !shipped.contains(guid)), "the medium's own");
            let different: std::collections::BTreeSet<_> = all.iter().map(|guid| guid.0).collect();
            assert_eq!(different.len(), 3);
            let places = |table: &Gpt| -> Vec<(u64, String)> {
                table.partitions.iter().map(|p| (p.first, p.label.clone())).collect()
            };
            assert_eq!(places(&table), places(&image()));
        }
        assert!(table_for(&image(), &image(), 4 * MIB).is_err());
    }

    proptest! {
        /// Laid over piece by piece it is the same as at once.
        #[test]
        fn windows_do_not_matter(
            patches in proptest::collection::vec((0u64..900, 1u64..100, proptest::collection::vec(any::<u8>(), 0..50)), 0..6),
            cut in 1usize..1000,
        ) {
            let mut all = Patches::default();
            for (start, length, block) in patches {
                let length = length.max(block.len() as u64);
                all.push(Patch { range: start..start + length, blocks: vec![(start, block)] });
            }
            let mut whole = vec![0xAA; 1000];
            let mut pieces = whole.clone();
            all.apply(0, &mut whole);
            for (i, piece) in pieces.chunks_mut(cut).enumerate() {
                let at = (i * cut) as u64;
                let before = piece.to_vec();
                all.apply(at, piece);
                prop_assert!(all.touch(&(at..at + piece.len() as u64)) || before == piece);
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn what_lies_beyond_comes_once_and_in_order(
            ranges in proptest::collection::vec((0u64..1 << 26, 1u64..1 << 24), 0..6), end in 0u64..1 << 26,
        ) {
            let mut all = Patches::default();
            for (start, length) in &ranges {
                all.push(Patch { range: *start..start + length, blocks: vec![] });
            }
            let pieces = all.beyond(end);
            prop_assert!(pieces.windows(2).all(|two| two[0].end <= two[1].start));
            prop_assert!(pieces.iter().all(|p| p.start >= end && p.end - p.start <= WINDOW as u64 && p.start < p.end));
            for (start, length) in ranges {
                for byte in [start, start + length - 1] {
                    prop_assert_eq!(byte >= end, pieces.iter().any(|p| p.contains(&byte)));
                }
            }
        }
    }
}

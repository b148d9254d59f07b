//! For tests and examples: a small disk image with Ferrite's partitions, a root that says what the image makes of settings, and
//! bytes that belong to nothing.

use anyhow::{Result, anyhow};
use formats::gpt::{self, Gpt, Guid, Partition};
use formats::layout::{DATA, LABELS, SYSTEM_CONF};
use imagefs::erofs;
use imagefs::tree::Tree;

const MIB: u64 = 1 << 20;

/// Bytes of [`image`].
pub const SIZE: u64 = 28 * MIB;

/// Its partition table: six partitions, of 2 MiB each and `data` of `data` MiB.
pub fn table(data: u64) -> Gpt {
    let mut first = 2048;
    let partition = |label: &&str| {
        let size = if *label == DATA { data } else { 2 };
        let partition = Partition {
            kind: gpt::LINUX_DATA,
            guid: Guid::from_hash([first as u8; 16]),
            first,
            last: first + size * 2048 - 1,
            attributes: 0,
            label: (*label).into(),
        };
        first = partition.last + 1;
        partition
    };
    let partitions: Vec<_> = LABELS.iter().map(partition).collect();
    Gpt { disk: Guid::from_hash([1; 16]), sectors: first + 2048, partitions }
}

/// The image: tables, and bytes scattered over every partition with zeros between them.
pub fn image() -> Result<Vec<u8>> {
    let table = table(16);
    let mut bytes = vec![0; SIZE as usize];
    bytes[..512].copy_from_slice(&table.protective_mbr());
    for write in table.writes() {
        bytes[write.offset as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
    }
    // Data in runs of many lengths: whole windows, steps, single bytes; and long zeros.
    let mut x = 1u32;
    let mut at = MIB as usize;
    for length in [1, 70_000, 3_000_000, 512, 65536, 1, 6_000_000, 4096, 300_000] {
        for byte in &mut bytes[at..at + length] {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (x >> 24) as u8;
        }
        at += length + 1_500_001;
    }
    let start = table.find("root-a").map_err(|e| anyhow!(e))?.bytes().start as usize;
    let root = root()?;
    bytes[start..start + root.len()].copy_from_slice(&root);
    Ok(bytes)
}

/// Slot a's root: it joins wireless networks and has a workload that sees its files; it has no SSH
/// server.
fn root() -> Result<Vec<u8>> {
    let text = "ferrite-system 1\nwifi wlan0 DE\n[workload face]\ndata yes\n[workload ota]\ndata yes\n\
        [workload blind]\ndata no\n";
    let mut tree = Tree::new(0);
    tree.file(SYSTEM_CONF, 0o644, text.as_bytes())?;
    let mut root = Vec::new();
    erofs::write(&tree, [1; 16], &mut root)?;
    Ok(root)
}

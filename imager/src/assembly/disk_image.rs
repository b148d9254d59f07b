//! The whole-disk image: partition table, slot a filled and committed, slot b empty.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use anyhow::{Context, Result, anyhow, ensure};
use formats::boot_state::BootState;
use formats::gpt::{self, Gpt, Guid, Partition};
use formats::layout::{ALIGNMENT, BOOT_STATE_OFFSETS, DATA, FIRMWARE, LABELS, SECTOR};
use formats::{Slot, payload};

use crate::config::board::{Board, Mbr};

/// What goes onto the partitions. Each is at most as long as its partition.
pub struct Contents<'a> {
    /// The image of `firmware`, without a boot state.
    pub firmware: &'a [u8],
    /// The image of `boot-a`.
    pub boot: &'a [u8],
    /// EROFS and hash tree for `root-a`.
    pub root: &'a [u8],
    /// The slot header for the end of `root-a`.
    pub header: &'a [u8],
    /// The empty file system for `data`.
    pub data: &'a [u8],
}

/// The partition table of this board. GUIDs are made of `seed`, so that the same image has the
/// same ones and two images have different ones.
pub fn table(board: &Board, seed: &[u8; 32]) -> Gpt {
    let sizes = &board.partitions;
    let types = board.boot.method.partition_types();
    let mut first = ALIGNMENT / SECTOR;
    let partitions = LABELS
        .iter()
        .zip(1u8..)
        .map(|(label, number)| {
            let size = match *label {
                FIRMWARE => sizes.firmware(),
                DATA => sizes.data(),
                boot if boot.starts_with("boot-") => sizes.boot(),
                _ => sizes.root(),
            };
            let partition = Partition {
                kind: match *label {
                    FIRMWARE => types.firmware,
                    label if label.starts_with("boot-") => types.boot,
                    _ => gpt::LINUX_DATA,
                },
                guid: guid(seed, number),
                first,
                last: first + size / SECTOR - 1,
                attributes: if *label == FIRMWARE { gpt::BOOTABLE } else { 0 },
                label: (*label).to_owned(),
            };
            first = partition.last + 1;
            partition
        })
        .collect();
    // One more MiB keeps the backup table clear of the last partition.
    Gpt { disk: guid(seed, 0), sectors: first + ALIGNMENT / SECTOR, partitions }
}

fn guid(seed: &[u8; 32], number: u8) -> Guid {
    use sha2::{Digest, Sha256};
    let hash = Sha256::new().chain_update(seed).chain_update([number]).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    Guid::from_hash(bytes)
}

/// Writes the image into an empty file. Zeros become holes.
pub fn write(file: &mut File, table: &Gpt, mbr: Mbr, contents: &Contents) -> Result<()> {
    file.set_len(table.sectors * SECTOR).context("cannot reserve the image's size")?;
    let partition = |label| table.find(label).map_err(|e| anyhow!(e)).map(Partition::bytes);
    let (firmware, root) = (partition(FIRMWARE)?, partition(Slot::A.root_label())?);
    let header_at = payload::header_offset(root.end - root.start).map_err(|e| anyhow!(e))?;
    let state = BootState::fresh().to_blob();
    let mbr = match mbr {
        Mbr::Protective => table.protective_mbr(),
        Mbr::Hybrid => table
            .hybrid_mbr(&[FIRMWARE, Slot::A.boot_label(), Slot::B.boot_label()])
            .map_err(|e| anyhow!(e))?,
    };
    put(file, 0, &mbr)?;
    for write in table.writes() {
        put(file, write.offset, &write.bytes)?;
    }
    for (range, bytes) in [
        (&firmware, contents.firmware),
        (&partition(Slot::A.boot_label())?, contents.boot),
        (&root, contents.root),
        (&partition(DATA)?, contents.data),
    ] {
        ensure!(
            bytes.len() as u64 <= range.end - range.start,
            "a partition's content is larger than the partition"
        );
        put(file, range.start, bytes)?;
    }
    put(file, root.start + header_at, contents.header)?;
    put(file, firmware.start + BOOT_STATE_OFFSETS[0], &state)?;
    Ok(())
}

/// Writes `bytes` at a byte offset, leaving out blocks of zeros.
fn put(file: &mut File, offset: u64, bytes: &[u8]) -> Result<()> {
    const STEP: usize = 64 << 10;
    for (i, step) in bytes.chunks(STEP).enumerate() {
        if step.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(offset + (i * STEP) as u64))
                .and_then(|_| file.write_all(step))
                .context("cannot write the image; is the disk full?")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Board;
    use std::process::Command;

    fn board() -> Board {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        Board::load("qemu-arm64", std::path::Path::new(folder)).unwrap()
    }

    #[test]
    #[ignore = "needs sgdisk: `just unit`"]
    fn sgdisk_finds_nothing_to_complain_about() {
        sgdisk_is_content(Mbr::Protective, "MBR: protective");
        sgdisk_is_content(Mbr::Hybrid, "MBR: hybrid");
    }

    fn sgdisk_is_content(mbr: Mbr, scanned: &str) {
        let table = table(&board(), &[7; 32]);
        let mut image = tempfile::NamedTempFile::new().unwrap();
        let contents = Contents {
            firmware: &[1; 512],
            boot: &[2; 512],
            root: &[3; 512],
            header: &[4; 65536],
            data: &[5; 512],
        };
        write(image.as_file_mut(), &table, mbr, &contents).unwrap();
        let run = |argument: &str| {
            let output = Command::new("sgdisk")
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .arg(argument)
                .arg(image.path())
                .output()
                .expect("sgdisk must be installed (Debian package gdisk)");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let verdict = run("--verify");
        assert!(verdict.contains("No problems found"), "{verdict}");
        // Only a dialogue says what it takes the MBR for.
        let scan = Command::new("gdisk")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .arg("-l")
            .arg(image.path())
            .output()
            .expect("gdisk must be installed");
        assert!(String::from_utf8_lossy(&scan.stdout).contains(scanned), "{scan:?}");
        let print = run("--print");
        for label in LABELS {
            assert!(print.contains(label), "{print}");
        }
        assert!(run("--info=1").contains("C12A7328-F81F-11D2-BA4B-00A0C93EC93B"));
    }

    #[test]
    fn the_boot_state_of_a_new_image_is_fresh() {
        let table = table(&board(), &[7; 32]);
        let mut image = tempfile::NamedTempFile::new().unwrap();
        let contents = Contents { firmware: &[], boot: &[], root: &[], header: &[], data: &[] };
        write(image.as_file_mut(), &table, Mbr::Protective, &contents).unwrap();
        let bytes = std::fs::read(image.path()).unwrap();
        let at = (table.find(FIRMWARE).unwrap().bytes().start + BOOT_STATE_OFFSETS[0]) as usize;
        assert_eq!(BootState::from_blob(&bytes[at..at + 512]).unwrap(), BootState::fresh());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let table = table(&board(), &[7; 32]);
        let mut image = tempfile::tempfile().unwrap();
        let big = vec![1; 9 << 20];
        let contents = Contents { firmware: &big, boot: &[], root: &[], header: &[], data: &[] };
        assert!(write(&mut image, &table, Mbr::Protective, &contents).is_err());
    }
}

//! What the checkers of finished cards have in common: files of a FAT by mtools, CRC-32, little- and
//! big-endian numbers. Nothing is shared with what makes images.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::disk::Disk;

/// A file of a FAT partition, as mtools reads it; `None` when it is not there.
pub fn file(disk: &Disk, label: &str, name: &str) -> Result<Option<Vec<u8>>> {
    let output = mtools(disk, label, "mtype", &[&format!("::{name}")])?;
    Ok(output.status.success().then_some(output.stdout))
}

/// The paths of all files of a FAT partition, sorted: `/EFI/BOOT/BOOTAA64.EFI`.
pub fn files(disk: &Disk, label: &str) -> Result<Vec<String>> {
    let output = mtools(disk, label, "mdir", &["-b", "-/", "::"])?;
    ensure!(output.status.success(), "mdir: {}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = listing.lines().filter_map(|line| line.strip_prefix("::"));
    let mut files: Vec<String> =
        paths.filter(|path| !path.ends_with('/')).map(str::to_owned).collect();
    files.sort();
    Ok(files)
}

fn mtools(
    disk: &Disk,
    label: &str,
    program: &str,
    arguments: &[&str],
) -> Result<std::process::Output> {
    let image = format!("{}@@{}", disk.path().display(), disk.partition(label)?.start);
    let mut command = Command::new(program);
    command.env("MTOOLS_SKIP_CHECK", "1").args(["-i", &image]).args(arguments);
    command.output().with_context(|| format!("{program}: install the package mtools"))
}

/// CRC-32 as zlib has it (ISO 3309).
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| crc >> 8 ^ CRCS[(crc as u8 ^ byte) as usize])
}

/// What eight bits make of a sum.
const CRCS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// A little-endian number of `N` bytes.
pub fn little<const N: usize>(bytes: &[u8], at: usize) -> Result<u64> {
    let field = at.checked_add(N).and_then(|end| bytes.get(at..end));
    let field = field.with_context(|| format!("it ends before byte {at:#x}"))?;
    Ok(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A big-endian number of 4 bytes.
pub fn big(bytes: &[u8], at: usize) -> Result<usize> {
    let field = at.checked_add(4).and_then(|end| bytes.get(at..end));
    let field = field.with_context(|| format!("it ends before byte {at:#x}"))?;
    Ok(field.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn numbers_end_where_the_bytes_do() {
        assert_eq!(little::<2>(&[9, 1, 2], 1).unwrap(), 0x0201);
        assert_eq!(little::<8>(&[1, 0, 0, 0, 0, 0, 0, 0x80], 0).unwrap(), 1 << 63 | 1);
        assert_eq!(big(&[0, 0, 1, 2], 0).unwrap(), 0x0102);
        assert!(little::<4>(&[0; 7], 4).is_err());
        assert!(little::<4>(&[0; 7], usize::MAX).is_err());
        assert!(big(&[0; 3], 0).is_err());
    }
}

//! An ext4's superblock as far as this program has to know it before it mounts one
//! (struct ext4_super_block of Linux `fs/ext4/ext4.h`; 1024 bytes at byte 1024).

use std::fs::File;
use std::os::unix::fs::FileExt;

use formats::Result;

use super::error;

/// `EXT4_ERROR_FS` of `s_state`.
const ERROR_FS: u16 = 0x2;
/// `EXT4_FEATURE_INCOMPAT_64BIT`.
const INCOMPAT_64BIT: u32 = 0x80;
/// `EXT4_FEATURE_RO_COMPAT_QUOTA` and `_METADATA_CSUM`.
const RO_COMPAT_QUOTA: u32 = 0x100;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// What is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes of a block.
    pub block: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Errors that the kernel has found since the last whole check.
    pub errors: u32,
    /// Those errors are noted, by their count or by the state.
    pub has_errors: bool,
    /// It keeps account of what each user has.
    pub quotas: bool,
    /// Its checksum says that it is as it was written.
    pub is_whole: bool,
}

impl Superblock {
    /// The superblock of the file system on this device; `None` when it is none of ext4.
    pub fn read(device: &str) -> Result<Option<Superblock>> {
        let mut bytes = [0; 1024];
        File::open(device)
            .and_then(|file| file.read_exact_at(&mut bytes, 1024))
            .map_err(|e| error(device, e))?;
        Ok(Superblock::parse(&bytes))
    }

    /// Reads the bytes.
    pub fn parse(bytes: &[u8; 1024]) -> Option<Superblock> {
        let u32_at = |at: usize| {
            let word = bytes.get(at..at + 4)?;
            Some(u32::from_le_bytes(word.try_into().ok()?))
        };
        if bytes.get(0x38..0x3A)? != [0x53, 0xEF] {
            return None;
        }
        let block = 1024_u64.checked_shl(u32_at(0x18)?).filter(|block| *block <= 65536)?;
        let high = if u32_at(0x60)? & INCOMPAT_64BIT == 0 { 0 } else { u32_at(0x150)? };
        let features = u32_at(0x64)?;
        let errors = u32_at(0x194)?;
        let state = u16::from_le_bytes([bytes[0x3A], bytes[0x3B]]);
        Some(Superblock {
            block,
            blocks: u64::from(high) << 32 | u64::from(u32_at(0x4)?),
            errors,
            has_errors: errors != 0 || state & ERROR_FS != 0,
            quotas: features & RO_COMPAT_QUOTA != 0,
            is_whole: features & RO_COMPAT_METADATA_CSUM != 0
                && u32_at(0x3FC)? == crc32c(&bytes[..0x3FC]),
        })
    }
}

/// CRC-32C (Castagnoli) from all ones, without the last inversion, as ext4 has it; bit by bit, since
/// it is of one kilobyte.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            sum >> 1 ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn tool(name: &str, arguments: &[&str]) {
        let output = Command::new(name)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(arguments)
            .output()
            .expect("package e2fsprogs");
        // e2fsck says with 1 that it has corrected something.
        assert!(output.status.code().is_some_and(|code| code <= 1), "{output:?}");
    }

    #[test]
    fn what_mke2fs_made_and_what_was_noted_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let image = path.to_str().unwrap();
        for (block, features) in [("1024", "^64bit"), ("4096", "64bit,quota")] {
            File::create(&path).unwrap().set_len(24 << 20).unwrap();
            tool("mke2fs", &["-q", "-F", "-t", "ext4", "-b", block, "-O", features, image]);
            let read = || Superblock::read(image).unwrap().unwrap();
            let made = read();
            let block: u64 = block.parse().unwrap();
            assert_eq!((made.block, made.blocks), (block, (24 << 20) / block));
            assert_eq!(made.quotas, features.contains("quota"));
            assert!(made.is_whole && !made.has_errors);
            tool("debugfs", &["-w", "-R", "set_super_value error_count 3", image]);
            assert!(read().has_errors && read().errors == 3 && read().is_whole);
            tool("debugfs", &["-w", "-R", "set_super_value error_count 0", image]);
            tool("debugfs", &["-w", "-R", "set_super_value state 2", image]);
            assert!(read().has_errors && read().errors == 0);
            tool("e2fsck", &["-f", "-p", image]);
            assert!(!read().has_errors);
        }
    }

    #[test]
    fn what_is_none_or_spoilt_is_told() {
        assert_eq!(Superblock::parse(&[0; 1024]), None);
        let mut huge = [0; 1024];
        huge[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
        assert!(!Superblock::parse(&huge).unwrap().is_whole);
        huge[0x18] = 255;
        assert_eq!(Superblock::parse(&huge), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 1024)) {
            let mut bytes: [u8; 1024] = bytes.try_into().unwrap();
            bytes[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
            let _ = Superblock::parse(&bytes);
        }
    }
}

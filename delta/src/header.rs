//! The head of a delta: sizes, hashes and where each group starts. `docs/delta.md` has the bytes.

use std::io::Read;

use crate::segments::MAX_SEGMENTS;
use crate::{Error, Result};

/// First bytes of every delta.
pub const MAGIC: [u8; 8] = *b"FERRDLTA";
/// The version this crate makes and reads.
pub const VERSION: u32 = 1;
/// Bytes before the group table.
pub const FIXED: usize = 104;
/// Bytes of one entry of the group table.
pub const GROUP_ENTRY: usize = 4 + 32;
/// Groups are whole numbers of these.
pub const BLOCK: u32 = 1 << 20;
/// Largest image: positions fit 31 bits, as the suffix array wants.
pub const MAX_IMAGE: u64 = (1 << 31) - 1;
/// The most groups: a table of 72 KiB.
pub const MAX_GROUPS: u64 = 2048;
/// The most bytes of the control part.
pub const MAX_CONTROL: u32 = 4 << 20;

/// A SHA-256.
pub type Digest = [u8; 32];

/// One group: an independent frame that makes [`Header::group_size`] bytes (the last one fewer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Bytes of its frame.
    pub length: u32,
    /// SHA-256 of the bytes it makes.
    pub sha256: Digest,
}

/// What a delta says of itself. Nothing here is trusted: the caller compares the hashes with the
/// signed manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the old image.
    pub old_size: u32,
    /// Bytes of the new image.
    pub new_size: u32,
    /// SHA-256 of the old image.
    pub old_sha256: Digest,
    /// SHA-256 of the new image.
    pub new_sha256: Digest,
    /// Bytes that one group makes; a multiple of [`BLOCK`].
    pub group_size: u32,
    /// How many segments the control part holds.
    pub segments: u32,
    /// Bytes of the control part.
    pub control: u32,
    /// The groups, in order.
    pub groups: Vec<Group>,
}

impl Header {
    /// Reads the header and bounds all it says. Nothing longer than its own limits is allocated.
    pub fn read(reader: &mut impl Read) -> Result<Header> {
        let mut fixed = [0u8; FIXED];
        reader.read_exact(&mut fixed).map_err(|error| Error::io("delta: header", &error))?;
        if fixed[..8] != MAGIC {
            return Err(Error::new("delta: this is no delta (no FERRDLTA at its start)"));
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| fixed[at + i]));
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let digest = |at: usize| std::array::from_fn(|i| fixed[at + i]);
        if word(8) != VERSION {
            return Err(Error::new(format!(
                "delta: its format is version {}, this program reads {VERSION}",
                word(8)
            )));
        }
        let size = |at: usize, which: &str| match u32::try_from(long(at)) {
            Ok(size) if u64::from(size) <= MAX_IMAGE => Ok(size),
            _ => Err(Error::new(format!("delta: the {which} image would be {} bytes", long(at)))),
        };
        let (old_size, new_size) = (size(16, "old")?, size(24, "new")?);
        let (group_size, segments, control) = (word(12), word(96), word(100));
        if group_size == 0 || group_size % BLOCK != 0 {
            return Err(Error::new(format!(
                "delta: groups of {group_size} bytes are no whole MiB"
            )));
        }
        if segments > MAX_SEGMENTS || control > MAX_CONTROL {
            return Err(Error::new(format!(
                "delta: {segments} segments in {control} bytes are more than a device takes"
            )));
        }
        let count = u64::from(new_size).div_ceil(u64::from(group_size));
        if count > MAX_GROUPS {
            return Err(Error::new(format!("delta: {count} groups are more than {MAX_GROUPS}")));
        }
        let mut groups = Vec::with_capacity(count as usize);
        for index in 0..count {
            let mut entry = [0u8; GROUP_ENTRY];
            reader.read_exact(&mut entry).map_err(|error| Error::io("delta: header", &error))?;
            let length = u32::from_le_bytes([0, 1, 2, 3].map(|i| entry[i]));
            // The coder spends at most a little over what the bytes have; more is a bad length.
            if u64::from(length) > 2 * u64::from(group_size) {
                return Err(Error::new(format!("delta: group {index} would be {length} bytes")));
            }
            groups.push(Group { length, sha256: std::array::from_fn(|i| entry[4 + i]) });
        }
        Ok(Header {
            old_size,
            new_size,
            old_sha256: digest(32),
            new_sha256: digest(64),
            group_size,
            segments,
            control,
            groups,
        })
    }

    /// The header's bytes, the group table included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + self.groups.len() * GROUP_ENTRY);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.group_size.to_le_bytes());
        bytes.extend_from_slice(&u64::from(self.old_size).to_le_bytes());
        bytes.extend_from_slice(&u64::from(self.new_size).to_le_bytes());
        bytes.extend_from_slice(&self.old_sha256);
        bytes.extend_from_slice(&self.new_sha256);
        bytes.extend_from_slice(&self.segments.to_le_bytes());
        bytes.extend_from_slice(&self.control.to_le_bytes());
        for group in &self.groups {
            bytes.extend_from_slice(&group.length.to_le_bytes());
            bytes.extend_from_slice(&group.sha256);
        }
        bytes
    }

    /// The bytes of the new image that a group makes.
    pub fn range(&self, group: usize) -> std::ops::Range<u32> {
        let start = (group as u64 * u64::from(self.group_size)).min(u64::from(self.new_size));
        let end = (start + u64::from(self.group_size)).min(u64::from(self.new_size));
        start as u32..end as u32
    }

    /// Where a group's frame starts in the delta.
    pub fn frame_offset(&self, group: usize) -> u64 {
        let before: u64 = self.groups.iter().take(group).map(|group| u64::from(group.length)).sum();
        (FIXED + self.groups.len() * GROUP_ENTRY) as u64 + u64::from(self.control) + before
    }
}

//! The head of a delta: sizes, and how long each group's frame is, with its hash. `docs/delta.md`
//! has the bytes.

use crate::segments::MAX_SEGMENTS;
use crate::{Error, Result};

/// First bytes of every delta.
pub const MAGIC: [u8; 8] = *b"FERRDLTA";
/// The version this crate makes and reads.
pub const VERSION: u32 = 2;
/// Bytes before the group table.
pub const FIXED: usize = 32;
/// Bytes of one entry of the group table.
pub const GROUP_ENTRY: usize = 4 + 1 + 32;
/// Groups are whole numbers of these, and so is what a group needs of the new image before it.
pub const BLOCK: u32 = 1 << 20;
/// Largest group. A device holds one, and its frame.
pub const MAX_GROUP_SIZE: u32 = 4 * BLOCK;
/// Furthest that a group may look back in the new image. A device holds so much.
pub const MAX_REACH: u32 = 4 * BLOCK;
/// Largest image: positions fit 31 bits, as the suffix array wants.
pub const MAX_IMAGE: u32 = (1 << 31) - 1;
/// The most groups: a table of 74 KiB.
pub const MAX_GROUPS: u64 = 2048;
/// The most bytes of the control part.
pub const MAX_CONTROL: u32 = 4 << 20;

/// A SHA-256.
pub type Digest = [u8; 32];

/// One group: a frame that makes [`Header::range`] of the new image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Bytes of its frame; 0 says that this group is not in the delta.
    pub length: u32,
    /// Bytes of the new image just before the group that its frame builds on; whole [`BLOCK`]s.
    pub reach: u32,
    /// SHA-256 of the frame.
    pub sha256: Digest,
}

/// What a delta says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the old image.
    pub old_size: u32,
    /// Bytes of the new image.
    pub new_size: u32,
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
    /// Reads header and group table from a delta's first bytes and bounds all they say.
    ///
    /// A device verifies the head before it calls this (`docs/updates.md`).
    pub fn parse(head: &[u8]) -> Result<Header> {
        let (fixed, table) = head.split_at_checked(FIXED).ok_or_else(short)?;
        if fixed[..8] != MAGIC {
            return Err(Error::new("delta: this is no delta (no FERRDLTA at its start)"));
        }
        let word = |at: usize| little(&fixed[at..]);
        if word(8) != VERSION {
            return Err(Error::new(format!(
                "delta: its format is version {}, this program reads {VERSION}",
                word(8)
            )));
        }
        let (group_size, old_size, new_size) = (word(12), word(16), word(20));
        let (segments, control) = (word(24), word(28));
        for (size, which) in [(old_size, "old"), (new_size, "new")] {
            if size > MAX_IMAGE {
                return Err(Error::new(format!("delta: the {which} image would be {size} bytes")));
            }
        }
        if group_size == 0 || group_size % BLOCK != 0 || group_size > MAX_GROUP_SIZE {
            return Err(Error::new(format!(
                "delta: groups of {group_size} bytes are not 1 to 4 MiB"
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
        let table = table.get(..count as usize * GROUP_ENTRY).ok_or_else(short)?;
        let entries = table.chunks_exact(GROUP_ENTRY).enumerate();
        let groups =
            entries.map(|(index, entry)| group(index, entry, group_size)).collect::<Result<_>>()?;
        Ok(Header { old_size, new_size, group_size, segments, control, groups })
    }

    /// The header's bytes, the group table included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + self.groups.len() * GROUP_ENTRY);
        bytes.extend_from_slice(&MAGIC);
        for word in
            [VERSION, self.group_size, self.old_size, self.new_size, self.segments, self.control]
        {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for group in &self.groups {
            bytes.extend_from_slice(&group.length.to_le_bytes());
            bytes.push((group.reach / BLOCK) as u8);
            bytes.extend_from_slice(&group.sha256);
        }
        bytes
    }

    /// Bytes of the head: header, group table and control part. The first frame is behind it.
    pub fn head_length(&self) -> u64 {
        (FIXED + self.groups.len() * GROUP_ENTRY) as u64 + u64::from(self.control)
    }

    /// The bytes of the new image that a group makes.
    pub fn range(&self, group: usize) -> std::ops::Range<u32> {
        let start = (group as u64 * u64::from(self.group_size)).min(u64::from(self.new_size));
        let end = (start + u64::from(self.group_size)).min(u64::from(self.new_size));
        start as u32..end as u32
    }

    /// The bytes of the new image that have to be in place before a group is decoded: often none.
    pub fn needs(&self, group: usize) -> std::ops::Range<u32> {
        let start = self.range(group).start;
        let reach = self.groups.get(group).map_or(0, |group| group.reach);
        start.saturating_sub(reach)..start
    }

    /// Where a group's frame starts in the delta.
    pub fn frame_offset(&self, group: usize) -> u64 {
        let before = self.groups.iter().take(group).map(|group| u64::from(group.length));
        self.head_length() + before.sum::<u64>()
    }
}

/// The longest frame of a group: incompressible bytes take a little more than themselves.
pub fn max_frame(group_size: u32) -> u32 {
    group_size + group_size / 16
}

fn group(index: usize, entry: &[u8], group_size: u32) -> Result<Group> {
    let (length, reach) = (little(entry), u32::from(entry[4]) * BLOCK);
    if length > max_frame(group_size) {
        return Err(Error::new(format!(
            "delta: the frame of group {index} would be {length} bytes"
        )));
    }
    if reach > MAX_REACH {
        return Err(Error::new(format!("delta: group {index} would look back {reach} bytes")));
    }
    Ok(Group { length, reach, sha256: std::array::from_fn(|i| entry[5 + i]) })
}

fn short() -> Error {
    Error::new("delta: its head is cut short")
}

/// The first four bytes as a number; there are four.
fn little(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[i]))
}

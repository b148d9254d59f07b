//! What each workload may take of the data partition: bytes and files, by its user, so that no one
//! keeps the others, `init` or the update client from writing.
//!
//! By user and not by project (`FS_IOC_FSSETXATTR`): the owner of a file may give it another
//! project, and nobody but root another user.

use std::os::fd::{AsFd, BorrowedFd};

use formats::{Error, Result};

use crate::console::say;
use crate::sys;

/// Bytes kept free of workloads for `init` and the update client, at most; an eighth where that is
/// less. A delta's head, the longest thing that `ota` keeps, has 8 MiB.
const KEPT_BYTES: u64 = 16 << 20;
/// Files and folders kept free likewise.
const KEPT_FILES: u64 = 1024;
/// Of what there is for workloads, so much stays for those that the image file gives no number,
/// even where the others' numbers come to more than the partition has: one part in this many.
const SHARED: u64 = 8;
/// Bytes of a block of quotas, whatever those of the file system (`QIF_DQBLKSIZE`).
pub const BLOCK: u64 = 1024;

/// One workload's limit of one thing, in terms of all workloads' limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What the image file says; else an equal share.
    pub own: Option<u64>,
    /// The sum of what it says for all workloads. 128 bits: each may be as large as a disk.
    pub claimed: u128,
    /// How many workloads share the rest.
    pub sharers: u64,
}

impl Share {
    /// The limit where there is `room` for all workloads together. The sum of all limits is at most
    /// that, and none is 0.
    pub fn of(self, room: u64) -> u64 {
        let shared = if self.sharers == 0 { 0 } else { room / SHARED };
        let claimable = room.saturating_sub(shared);
        let limit = match self.own {
            Some(own) if self.claimed > u128::from(claimable) => {
                (u128::from(own) * u128::from(claimable) / self.claimed) as u64
            }
            Some(own) => own,
            None => (room - self.claimed.min(claimable.into()) as u64) / self.sharers.max(1),
        };
        limit.max(1)
    }
}

/// The shares of all workloads, from what the image file says for each.
pub fn shares(own: &[Option<u64>]) -> Vec<Share> {
    let claimed = own.iter().flatten().map(|own| u128::from(*own)).sum();
    let sharers = own.iter().filter(|own| own.is_none()).count() as u64;
    own.iter().map(|own| Share { own: *own, claimed, sharers }).collect()
}

/// What a workload may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its user.
    pub uid: u32,
    /// Of bytes.
    pub bytes: Share,
    /// Of files and folders.
    pub files: Share,
}

/// Bytes and files that a file system has for workloads, from its numbers (statvfs(3)).
fn room(numbers: &rustix::fs::StatVfs) -> (u64, u64) {
    // What is free and not for everybody is root's.
    let reserved = numbers.f_bfree.saturating_sub(numbers.f_bavail);
    let bytes = numbers.f_blocks.saturating_sub(reserved).saturating_mul(numbers.f_frsize);
    let files = numbers.f_files;
    (bytes - (bytes / 8).min(KEPT_BYTES), files - (files / 8).min(KEPT_FILES))
}

/// Sets the limits of these workloads on the file system that `folder` is of; only writes what is
/// not set yet. Fails where the file system keeps no account.
pub fn limit(folder: BorrowedFd<'_>, all: &[Limits]) -> Result<()> {
    let error = |e: &dyn std::fmt::Display| Error::new(["limits: ", &e.to_string()].concat());
    let numbers = rustix::fs::fstatvfs(folder).map_err(|e| error(&e))?;
    let (bytes, files) = room(&numbers);
    for limits in all {
        let blocks = limits.bytes.of(bytes).div_ceil(BLOCK);
        sys::limit_user(folder, limits.uid, blocks, limits.files.of(files))
            .map_err(|e| error(&e))?;
    }
    Ok(())
}

/// As [`limit`] for the mounted `/data`, whose size may have changed; says what keeps it from that.
pub fn limit_all(all: &[Limits]) {
    let folder = crate::beneath::Folder::open(crate::data::MOUNT);
    if let Err(e) = folder.and_then(|folder| limit(folder.as_fd(), all)) {
        say(&["data: workloads have no ", &e.to_string()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_is_not_named_has_an_equal_share_of_the_rest() {
        let all = |own: &[Option<u64>], room| -> Vec<u64> {
            shares(own).into_iter().map(|share| share.of(room)).collect()
        };
        assert_eq!(all(&[None], 1000), [1000]);
        assert_eq!(all(&[None, None], 1000), [500, 500]);
        assert_eq!(all(&[Some(600), None, None], 1000), [600, 200, 200]);
        // More than there is: in proportion, and something is left for the others.
        assert_eq!(all(&[Some(3000), Some(1000), None], 800), [525, 175, 100]);
        assert_eq!(all(&[Some(3000), Some(1000)], 800), [600, 200]);
        assert_eq!(all(&[Some(300)], 800), [300]);
    }

    proptest! {
        #[test]
        fn together_they_never_have_more_than_there_is(
            own in proptest::collection::vec(proptest::option::of(any::<u64>()), 1..64),
            room in 64u64..,
        ) {
            let limits: Vec<u64> = shares(&own).into_iter().map(|share| share.of(room)).collect();
            prop_assert!(limits.iter().all(|limit| *limit > 0));
            // Nobody's limit is 0, which would be none: that may be one each too much.
            let sum: u128 = limits.iter().map(|limit| u128::from(*limit)).sum();
            prop_assert!(sum <= u128::from(room) + limits.len() as u128);
        }
    }
}

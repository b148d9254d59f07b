//! What each workload may take of the data partition: bytes and files, by its user, so that no one
//! keeps the others, `init` or the update client from writing.
//!
//! By user and not by project (`FS_IOC_FSSETXATTR`): the owner of a file may give it another
//! project, and nobody but root another user.

use std::os::fd::{AsFd, BorrowedFd};

use formats::data_share::Share;
use formats::system_conf::DataLimits;
use formats::{Error, Result};

use crate::console::say;
use crate::sys;
use crate::system_conf::Workload;

/// Bytes kept free of workloads for `init` and the update client, at most; an eighth where that is
/// less. A delta's head, the longest thing that `ota` keeps, has 8 MiB.
const KEPT_BYTES: u64 = 16 << 20;
/// Files and folders kept free likewise.
const KEPT_FILES: u64 = 1024;
/// Bytes of a block of quotas, whatever those of the file system (`QIF_DQBLKSIZE`).
pub const BLOCK: u64 = 1024;

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

impl Limits {
    /// Those of this workload, if it has any.
    pub fn of(workload: &Workload) -> Option<Limits> {
        let DataLimits { bytes, files } = workload.data_limits?;
        Some(Limits { uid: workload.uid, bytes, files })
    }
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

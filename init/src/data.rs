//! The data partition: grown once to the disk's end, mounted; checked when it cannot be mounted;
//! made afresh, never silently, when checking does not help.
//!
//! All of this runs in a helper: a check of a large card takes minutes.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::mount::{mount, mount_move, unmount, MountFlags, UnmountFlags};
use rustix::process::{waitpid, WaitOptions};
use slot::gpt::{self, Partition};
use slot::layout::{self, SECTOR};
use slot::{Error, Result};

use crate::console::say;
use crate::sys::{self, Forked};

/// Where it is mounted.
pub const MOUNT: &str = "/data";
const NODE: &str = "/dev/ferrite/data";
/// Where it is mounted until there is a root to mount it on.
const EARLY: &str = "/dev/ferrite/early-data";
const E2FSCK: &str = "/sbin/e2fsck";
/// How often what it could not repair at once is tried.
const CHECKS: u32 = 3;
const MKE2FS: &str = "/sbin/mke2fs";
/// What the first sectors of a file system made afresh over are kept in.
const KEPT: &str = "/data/ferrite/old-superblocks";
/// So much of the old file system's head is kept: superblock and group descriptors, what a
/// recovery tool needs to know of its geometry.
const KEPT_BYTES: usize = 256 * 1024;

/// In the first life's assistant: mounts a data partition that is in order where the second life
/// finds it. The working folder has to be `/dev`, which is on its way to the root.
pub fn mount_early() -> Result<()> {
    let (node, target) = (relative(NODE), relative(EARLY));
    std::fs::create_dir(target).map_err(|e| error(EARLY, e))?;
    mount_on(node, target)?;
    make_folder(&[target, "/ferrite"].concat())
}

/// Moves what was mounted early to `/data`.
pub fn take_over() -> Result<()> {
    mount_move(EARLY, MOUNT).map_err(|e| error(MOUNT, e))?;
    let _ = std::fs::remove_dir(EARLY);
    Ok(())
}

fn relative(path: &str) -> &str {
    path.strip_prefix("/dev/").unwrap_or(path)
}

/// Makes `/data` ready: mounts it, after a check or afresh where that is needed. Says on the
/// console what it had to do.
pub fn prepare() -> Result<()> {
    // It may have been mounted early and then turned out not to be in order.
    let _ = unmount(EARLY, UnmountFlags::DETACH);
    let mut kept = None;
    if let Err(e) = mount_on(NODE, MOUNT) {
        complain(&["cannot mount: ", &e.to_string(), "; checking the file system"]);
        if let Err(e) = check().and_then(|()| mount_on(NODE, MOUNT)) {
            complain(&["still not usable after the check: ", &e.to_string()]);
            kept = read_head();
            make_afresh()?;
            mount_on(NODE, MOUNT)?;
            complain(&["made afresh; what was on it is lost"]);
        }
    }
    make_folder("/data/ferrite")?;
    if let Some(head) = kept {
        match std::fs::write(KEPT, head) {
            Ok(()) => complain(&["the old file system's head is kept in ", KEPT]),
            Err(e) => complain(&["cannot keep the old file system's head: ", &e.to_string()]),
        }
    }
    Ok(())
}

/// Lets partition and file system of the mounted `/data` reach to the end of `disk` (a device
/// node). Says on the console when they grew, or why not.
pub fn grow(disk: &str) {
    let grown = grow_partition(disk).unwrap_or_else(|e| {
        complain(&["cannot grow the partition: ", &e.to_string()]);
        None
    });
    if let Err(e) = grow_file_system() {
        complain(&["cannot grow the file system: ", &e.to_string()]);
    } else if let Some(partition) = grown {
        let bytes = partition.bytes();
        let mebibytes = ((bytes.end - bytes.start) >> 20).to_string();
        complain(&["grown to ", &mebibytes, " MiB"]);
    }
}

fn complain(parts: &[&str]) {
    let mut all = vec!["data: "];
    all.extend_from_slice(parts);
    say(&all);
}

fn error(what: &str, e: impl std::fmt::Display) -> Error {
    Error::new([what, ": ", &e.to_string()].concat())
}

fn make_folder(path: &str) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| error(path, e))
}

fn mount_on(node: &str, target: &str) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    // A torn directory or bitmap must not be built upon: errors make it read-only.
    mount(node, target, "ext4", flags, c"errors=remount-ro").map_err(|e| error(NODE, e))
}

/// Lets the last partition, which is the data partition, reach to the disk's end. Returns it when
/// there was something to do.
///
/// Backup table first, each part flushed before the next, so that a power cut leaves a valid one.
fn grow_partition(path: &str) -> Result<Option<Partition>> {
    let mut disk =
        OpenOptions::new().read(true).write(true).open(path).map_err(|e| error(path, e))?;
    let sectors = disk.seek(SeekFrom::End(0)).map_err(|e| error(path, e))? / SECTOR;
    let table = gpt::read(sectors, |at, bytes| disk.read_exact_at(bytes, at))?;
    let Some(grown) = table.grown(sectors)? else { return Ok(None) };
    let Some(index) = grown.partitions.iter().position(|p| p.label == layout::DATA) else {
        return Err(Error::new("the partition table has no data partition"));
    };
    let partition = grown.partitions[index].clone();
    if table.partitions[index] == partition {
        return Ok(None);
    }
    for write in grown.writes() {
        disk.write_all_at(&write.bytes, write.offset)
            .and_then(|()| disk.sync_all())
            .map_err(|e| error(path, e))?;
    }
    let bytes = partition.bytes();
    let number = index as i32 + 1;
    sys::resize_partition(disk.as_fd(), number, bytes.start, bytes.end - bytes.start)
        .map_err(|e| error("partition resize", e))?;
    Ok(Some(partition))
}

/// Grows the mounted file system to its partition's size. Looked at on every boot: the power may
/// have failed between growing the two.
fn grow_file_system() -> Result<()> {
    let mut node = File::open(NODE).map_err(|e| error(NODE, e))?;
    let size = node.seek(SeekFrom::End(0)).map_err(|e| error(NODE, e))?;
    let mut superblock = [0; 1024];
    node.read_exact_at(&mut superblock, 1024).map_err(|e| error(NODE, e))?;
    let Some((block, blocks)) = ext4_size(&superblock) else {
        return Err(Error::new("the superblock is none of ext4"));
    };
    // Asking for the size it has costs a flush of the journal.
    if blocks == size / block {
        return Ok(());
    }
    let folder = File::open(MOUNT).map_err(|e| error(MOUNT, e))?;
    rustix::fs::ext4_ioc_resize_fs(&folder, size / block)
        .map_err(|e| error("EXT4_IOC_RESIZE_FS", e))
}

/// Bytes of a block and number of blocks, from an ext4 superblock (`s_magic`, `s_log_block_size`,
/// `s_blocks_count_lo` and `_hi` with the incompatible feature 64BIT; Linux `fs/ext4/ext4.h`).
fn ext4_size(superblock: &[u8; 1024]) -> Option<(u64, u64)> {
    const INCOMPAT_64BIT: u32 = 0x80;
    let u32_at = |at: usize| {
        let bytes = superblock.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if superblock.get(0x38..0x3a)? != [0x53, 0xef] {
        return None;
    }
    let block = 1024_u64.checked_shl(u32_at(0x18)?).filter(|block| *block <= 65536)?;
    let high = if u32_at(0x60)? & INCOMPAT_64BIT == 0 { 0 } else { u32_at(0x150)? };
    Some((block, u64::from(high) << 32 | u64::from(u32_at(0x4)?)))
}

/// Repairs what can be repaired without asking; then everything.
fn check() -> Result<()> {
    let preen = run(&[E2FSCK, "-p", NODE])?;
    if preen <= 1 {
        return Ok(());
    }
    // Bits of the exit status: 1 and 2 corrected, 4 and above left or failed (e2fsck(8)). After it
    // has replayed the journal over a superblock from a backup it stops, and needs to be run again.
    let mut status = 0;
    for _ in 0..CHECKS {
        status = run(&[E2FSCK, "-f", "-y", NODE])?;
        if status <= 3 {
            return Ok(());
        }
    }
    Err(Error::new(["e2fsck ended with ", &status.to_string()].concat()))
}

fn make_afresh() -> Result<()> {
    match run(&[MKE2FS, "-F", "-q", "-t", "ext4", "-L", layout::DATA, NODE])? {
        0 => Ok(()),
        status => Err(Error::new(["mke2fs ended with ", &status.to_string()].concat())),
    }
}

fn read_head() -> Option<Vec<u8>> {
    let mut head = vec![0; KEPT_BYTES];
    let node = File::open(NODE).ok()?;
    node.read_exact_at(&mut head, 0).ok()?;
    head.iter().any(|byte| *byte != 0).then_some(head)
}

/// Runs a program of e2fsprogs to its end and returns its exit status.
fn run(command: &[&str]) -> Result<i32> {
    let program = command.first().copied().unwrap_or_default();
    if !Path::new(program).exists() {
        return Err(Error::new([program, " is not in the image"].concat()));
    }
    let arguments: Vec<CString> = command.iter().filter_map(|a| CString::new(*a).ok()).collect();
    match sys::fork(None).map_err(|e| error(program, e))? {
        Forked::Child => {
            if let Some(path) = arguments.first() {
                sys::exec(path, &arguments, &[]);
            }
            sys::exit(127)
        }
        Forked::Parent(pid) => loop {
            match waitpid(Some(pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(status.exit_status().unwrap_or(128)),
                Ok(None) | Err(rustix::io::Errno::INTR) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => return Err(error(program, e)),
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_size_is_that_of_what_mke2fs_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        for (block, features) in [(1024, "^64bit"), (4096, "64bit")] {
            File::create(&path).unwrap().set_len(24 << 20).unwrap();
            let status = Command::new("mke2fs")
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .args(["-q", "-F", "-t", "ext4", "-b", &block.to_string(), "-O", features])
                .arg(&path)
                .status()
                .expect("mke2fs of package e2fsprogs");
            assert!(status.success());
            let mut superblock = [0; 1024];
            File::open(&path).unwrap().read_exact_at(&mut superblock, 1024).unwrap();
            assert_eq!(ext4_size(&superblock), Some((block, (24 << 20) / block)));
        }
        let blank = [0; 1024];
        assert_eq!(ext4_size(&blank), None);
        let mut huge = blank;
        huge[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        huge[0x18] = 255;
        assert_eq!(ext4_size(&huge), None);
    }

    #[test]
    fn the_early_mount_lies_where_dev_is_moved_along() {
        for path in [NODE, EARLY] {
            assert_eq!(["/dev/", relative(path)].concat(), path);
        }
    }
}

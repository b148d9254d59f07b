//! The data partition: looked at and mounted; checked when the kernel has noted errors in it or
//! cannot mount it; made afresh, never silently, when it is beyond repair; and where it cannot be
//! used at all, memory in its place, so that the device stays within reach.
//!
//! All of this runs in a helper: a check of a large card takes minutes.

mod check;
mod collect;
mod grow;
mod superblock;
mod volatile;
mod watch;

use std::fs::File;
use std::os::unix::fs::FileExt;

use formats::data_state::{DataState, Kind};
use formats::layout::{self, GROUP_RESERVE};
use formats::{Error, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};

pub use self::collect::{collected, take_collected};
pub use self::grow::grow;
use self::superblock::Superblock;
pub use self::volatile::{Partition, Place, go_volatile};
pub use self::watch::{Remedy, Watch, remedy};
use crate::beneath::Folder;
use crate::console::say;

/// Where it is mounted.
pub const MOUNT: &str = "/data";
/// `init`'s own folder in it.
pub const OWN: &str = "ferrite";
const NODE: &str = "/dev/ferrite/data";
/// Where helpers mount it; PID 1 moves it to [`MOUNT`]. So one that was given up because the medium did
/// not answer mounts nothing over what took the partition's place, should it come back.
const EARLY: &str = "/dev/ferrite/early-data";
/// What the first sectors of a file system made afresh over are kept in.
const KEPT: &str = "old-superblocks";
/// So much of the old file system's head is kept: superblock and group descriptors, what a
/// recovery tool needs to know of its geometry.
const KEPT_BYTES: usize = 256 * 1024;

/// Mounts a data partition that is in order where PID 1 of the root takes it over. In the initrd's
/// boot worker, where `/dev` is on its way to the root, and in a helper; so the working folder has to be
/// `/dev`.
pub fn mount_early() -> Result<()> {
    let (node, target) = (relative(NODE), relative(EARLY));
    let superblock = Superblock::read(node)?.ok_or_else(|| Error::new("no ext4"))?;
    if superblock.has_errors {
        return Err(Error::new("has errors"));
    }
    make_folder(target)?;
    mount_on(node, target, Some(superblock)).map_err(|e| error(NODE, e))?;
    collect::collect(&own_folder(target)?, relative(collect::COLLECTED))
}

/// The folder to mount on; it is there already when somebody tried before.
fn make_folder(path: &str) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(error(EARLY, e)),
        _ => Ok(()),
    }
}

/// In a helper: mounts the partition if that is all it needs.
pub fn mount_in_order() -> Result<()> {
    rustix::process::chdir("/dev").map_err(|e| error("/dev", e))?;
    // It may have been mounted before and then turned out not to be in order.
    let _ = unmount(EARLY, UnmountFlags::DETACH);
    mount_early()
}

/// Moves what a helper mounted to `/data`. Nothing of it touches the medium.
pub fn take_over() -> Result<()> {
    mount_move(EARLY, MOUNT).map_err(|e| error(MOUNT, e))?;
    let _ = std::fs::remove_dir(EARLY);
    Ok(())
}

fn relative(path: &str) -> &str {
    path.strip_prefix("/dev/").unwrap_or(path)
}

/// Makes `/data` ready: mounts the partition to be taken over, after a check or afresh where that is
/// needed; where nothing helps, memory with a place for each of `places`. Says on the console what it had to do, and leaves it in
/// [`layout::RUN_DATA`].
///
/// Fails when no `/data` is to be had; also for a version on trial that cannot mount what the version
/// before it could: on memory it would look well, and be committed.
pub fn prepare(places: &[Place], on_trial: bool) -> Result<()> {
    // It may have been mounted early and then turned out not to be in order.
    let _ = unmount(EARLY, UnmountFlags::DETACH);
    make_folder(EARLY)?;
    let (state, kept) = match mount_or_repair() {
        Ok(made) => made,
        Err(Failure { reason, of_version: true }) if on_trial => {
            let reason = reason.to_string();
            write_state(&DataState { kind: Kind::Unsupported, reason: reason.clone() })?;
            return Err(Error::new(["this version cannot mount it: ", &reason].concat()));
        }
        Err(Failure { reason, .. }) => {
            return go_volatile(&reason.to_string(), Partition::Answers, places);
        }
    };
    let own = own_folder(EARLY)?;
    if let Some(head) = kept {
        match own.replace(KEPT, &head) {
            Ok(()) => {
                complain(&["the old file system's head is kept in ", MOUNT, "/", OWN, "/", KEPT]);
            }
            Err(e) => complain(&["cannot keep the old file system's head: ", &e.to_string()]),
        }
    }
    // What cannot be read is left out, as a device does that never had it.
    let _ = collect::collect(&own, collect::COLLECTED).map_err(|e| complain(&[&e.to_string()]));
    write_state(&state)
}

/// Why the partition cannot be used.
struct Failure {
    reason: Error,
    /// This version's kernel lacks something, and the partition nothing.
    of_version: bool,
}

impl From<Error> for Failure {
    fn from(reason: Error) -> Failure {
        Failure { reason, of_version: false }
    }
}

/// Mounts the partition, whatever that takes. Returns what it took, and the head of a file system
/// that was made afresh over.
fn mount_or_repair() -> std::result::Result<(DataState, Option<Vec<u8>>), Failure> {
    let state = |kind, reason: &str| DataState { kind, reason: reason.to_string() };
    let superblock = Superblock::read(NODE)?;
    let reason = match superblock {
        Some(superblock) if superblock.has_errors => {
            let reason = noted(superblock.errors);
            complain(&[&reason, "; checking the file system"]);
            reason
        }
        _ => match mount_on(NODE, EARLY, superblock) {
            Ok(()) => return Ok((state(Kind::Kept, ""), None)),
            Err(e) => {
                let reason = ["cannot mount: ", &error(NODE, e).to_string()].concat();
                complain(&[&reason, "; checking the file system"]);
                reason
            }
        },
    };
    let checked = check::check(NODE);
    let superblock = Superblock::read(NODE)?;
    let mounted = match &checked {
        // Known to be damaged still: not to be built upon.
        Ok(status) if status.left_errors() || status.did_not_end() => Err(Errno::UCLEAN),
        _ => mount_on(NODE, EARLY, superblock),
    };
    let Err(errno) = mounted else {
        complain(&["checked; in order again"]);
        return Ok((state(Kind::Checked, &reason), None));
    };
    let e = match &checked {
        Err(e) => e.clone(),
        Ok(status) if status.usable() => error(NODE, errno),
        Ok(status) => Error::new(["e2fsck ended with ", &status.0.to_string()].concat()),
    };
    let is_whole = superblock.is_some_and(|superblock| superblock.is_whole);
    if !check::may_be_made_afresh(checked.as_ref().ok().copied(), is_whole) {
        return Err(Failure { reason: e, of_version: is_whole && check::is_unsupported(errno) });
    }
    complain(&["still not usable after the check: ", &e.to_string()]);
    let kept = read_head();
    let afresh = |quotas| -> Result<()> {
        check::make_afresh(NODE, quotas)?;
        mount_on(NODE, EARLY, Superblock::read(NODE)?).map_err(|e| error(NODE, e))
    };
    // A kernel without quotas does not mount a file system that has them.
    afresh(true).or_else(|_| afresh(false))?;
    complain(&["made afresh; what was on it is lost"]);
    Ok((state(Kind::Afresh, &reason), kept))
}

fn noted(errors: u32) -> String {
    match errors {
        0 => "the kernel has found errors in it".to_string(),
        number => ["the kernel has found ", &number.to_string(), " errors in it"].concat(),
    }
}

/// Tells PID 1 and `ota` what `/data` is.
fn write_state(state: &DataState) -> Result<()> {
    std::fs::write(layout::RUN_DATA, state.to_text()).map_err(|e| error(layout::RUN_DATA, e))
}

/// Of a partition that was in order and mounted early: nobody leaves word of that.
pub fn kept() -> DataState {
    DataState { kind: Kind::Kept, reason: String::new() }
}

/// Unmounts `/data`, and what may be below memory in its place, or was not taken over.
pub fn unmount_all() {
    for target in [MOUNT, MOUNT, EARLY] {
        let _ = unmount(target, UnmountFlags::empty());
    }
}

/// What [`prepare`] or [`go_volatile`] left there.
pub fn state() -> Option<DataState> {
    DataState::parse(&std::fs::read(layout::RUN_DATA).ok()?).ok()
}

/// `init`'s own folder on what is mounted there.
pub fn own_folder(mount: &str) -> Result<Folder> {
    Folder::open(mount)?.make(OWN, 0o755)
}

fn complain(parts: &[&str]) {
    let mut all = vec!["data: "];
    all.extend_from_slice(parts);
    say(&all);
}

fn error(what: &str, e: impl std::fmt::Display) -> Error {
    Error::new([what, ": ", &e.to_string()].concat())
}

/// How it is mounted. No link on it is followed: a workload gets a mount of its own folder that does
/// (`workload::spawn`).
const FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOATIME)
    .union(MountFlags::NOSYMFOLLOW);

fn mount_on(
    node: &str,
    target: &str,
    superblock: Option<Superblock>,
) -> std::result::Result<(), Errno> {
    // A torn directory or bitmap must not be built upon: errors make it read-only. What is kept
    // free for root is kept for the update client too.
    let mut options = ["errors=remount-ro,resgid=", &GROUP_RESERVE.to_string()].concat();
    if superblock.is_some_and(|superblock| superblock.quotas) {
        options.push_str(",usrquota");
    }
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    mount(node, target, "ext4", FLAGS, options.as_c_str())
}

fn read_head() -> Option<Vec<u8>> {
    let mut head = vec![0; KEPT_BYTES];
    let node = File::open(NODE).ok()?;
    node.read_exact_at(&mut head, 0).ok()?;
    head.iter().any(|byte| *byte != 0).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_early_mount_lies_where_dev_is_moved_along() {
        for path in [NODE, EARLY, collect::COLLECTED] {
            assert_eq!(["/dev/", relative(path)].concat(), path);
        }
    }
}

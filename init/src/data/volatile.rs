//! `/data` in memory, where the partition cannot be used: what is written there is lost at the next
//! start, but the device infers, answers and takes the update that may help it.

use formats::data_state::{DataState, Kind};
use formats::{Result, layout};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::collect::{self, COLLECTED};
use super::{EARLY, FLAGS, MOUNT, NODE, OWN, complain, error, own_folder, write_state};
use crate::beneath::Folder;

/// Bytes of all of it, at most: an eighth of the memory, and no more than this.
const MOST: u64 = 64 << 20;
/// What nobody's place is smaller than, in bytes.
const LEAST: u64 = 1 << 20;
/// Files and folders of a place.
const FILES: u64 = 1024;

/// A workload that has a folder on `/data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The workload's name.
    pub name: String,
    /// Its user, and group.
    pub uid: u32,
}

/// What is still to be had from the data partition when memory takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// What `init` needs of it can perhaps be read.
    Answers,
    /// Whoever touches it does not come back.
    Hangs,
}

/// Bytes of each of so many places, on a machine with so many bytes of memory.
fn bytes_of_each(memory: u64, places: usize) -> u64 {
    (memory / 8).min(MOST).checked_div(places as u64).unwrap_or(0).max(LEAST)
}

/// Mounts memory as `/data`, over what may be mounted there, with a place for each workload: no one
/// can fill another's. What `init` needs of the partition is read from it if it still can be.
pub fn go_volatile(reason: &str, partition: Partition, places: &[Place]) -> Result<()> {
    complain(&["cannot be used: ", reason]);
    if partition == Partition::Answers {
        save_settings();
    }
    let memory = rustix::system::sysinfo();
    let memory = u64::from(memory.mem_unit).saturating_mul(memory.totalram as u64);
    let each = bytes_of_each(memory, places.len());
    tmpfs(MOUNT, LEAST, 0o755, 0)?;
    own_folder(MOUNT)?;
    let (_, workloads) = layout::WORKLOADS.rsplit_once('/').unwrap_or_default();
    let workloads = Folder::open(MOUNT)?.make(workloads, 0o711)?;
    for place in places {
        workloads.make(&place.name, 0o700)?;
        let target = [layout::WORKLOADS, "/", &place.name].concat();
        tmpfs(&target, each, 0o700, place.uid)?;
    }
    complain(&["in memory until the next start; what is written is lost then"]);
    write_state(&DataState { kind: Kind::Volatile, reason: reason.to_string() })
}

fn tmpfs(target: &str, bytes: u64, mode: u32, uid: u32) -> Result<()> {
    let uid = uid.to_string();
    let mode = if mode == 0o755 { "0755" } else { "0700" };
    let options = [
        ["mode=", mode].concat(),
        ["uid=", &uid].concat(),
        ["gid=", &uid].concat(),
        ["size=", &bytes.to_string()].concat(),
        ["nr_inodes=", &FILES.to_string()].concat(),
    ]
    .join(",");
    let options = std::ffi::CString::new(options).map_err(|e| error(target, e))?;
    mount("tmpfs", target, "tmpfs", FLAGS, options.as_c_str()).map_err(|e| error(target, e))
}

/// The device's own settings, such as its wireless network, from a file system that can be read and
/// not written.
fn save_settings() {
    if std::path::Path::new(COLLECTED).exists() {
        return;
    }
    let read_only = FLAGS | MountFlags::RDONLY;
    let _ = std::fs::create_dir(EARLY);
    if mount(NODE, EARLY, "ext4", read_only, c"noload").is_ok() {
        let collected = Folder::open(EARLY)
            .and_then(|data| data.folder(OWN))
            .and_then(|own| collect::collect(&own, COLLECTED));
        if collected.is_ok() {
            complain(&["the device's settings could still be read"]);
        }
        let _ = unmount(EARLY, UnmountFlags::DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_out_and_bounded() {
        assert_eq!(bytes_of_each(512 << 20, 2), 32 << 20);
        assert_eq!(bytes_of_each(128 << 20, 2), 8 << 20);
        assert_eq!(bytes_of_each(64 << 30, 1), MOST);
        assert_eq!(bytes_of_each(16 << 20, 64), LEAST);
        assert_eq!(bytes_of_each(1 << 30, 0), LEAST);
    }
}

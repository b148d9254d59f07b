//! `/dev/ferrite/<label>`: the disk's partitions by what they are for, and who may do what with them.

use std::os::unix::fs::symlink;
use std::path::Path;

use formats::disk::Disk;
use formats::layout::{self, Slot};
use formats::{Error, Result};
use rustix::fs::{CWD, FileType, Gid, Mode, Uid, chmod, chown, mknodat, stat};
use rustix::io::Errno;

use crate::workload::supervise::Unit;

/// Links every partition's node under its label.
pub fn link(disk: &Disk) -> Result<()> {
    let error = |what: &str, e: std::io::Error| Error::new([what, ": ", &e.to_string()].concat());
    std::fs::create_dir(layout::DEVICES).map_err(|e| error(layout::DEVICES, e))?;
    for (label, partition) in &disk.partitions {
        let path = Path::new(layout::DEVICES).join(label);
        symlink(["../", partition].concat(), path).map_err(|e| error(label, e))?;
    }
    Ok(())
}

/// Lets the group `slots` write the idle slot and read the running one, whose bytes need not be
/// fetched again, and the group `slots-read` read both. Nobody but root writes the running slot, or
/// reaches `firmware`, which has the boot state.
pub fn open_slots(running: Slot) -> Result<()> {
    let folder = layout::DEVICES_TO_READ;
    std::fs::create_dir(folder).map_err(|e| Error::new([folder, ": ", &e.to_string()].concat()))?;
    for (slot, mode) in [(running.other(), 0o660), (running, 0o440)] {
        for label in [slot.boot_label(), slot.root_label()] {
            let node = [layout::DEVICES, "/", label].concat();
            give(&node, mode, layout::GROUP_SLOTS).map_err(|e| error(&node, e))?;
            // A node has one group: those who may only read get one of their own.
            let copy = [folder, "/", label].concat();
            stat(node.as_str())
                .and_then(|at| {
                    let mode = Mode::from_raw_mode(0o400);
                    mknodat(CWD, copy.as_str(), FileType::BlockDevice, mode, at.st_rdev)
                })
                .and_then(|()| give(&copy, 0o440, layout::GROUP_SLOTS_READ))
                .map_err(|e| error(&copy, e))?;
        }
    }
    Ok(())
}

/// Makes a folder for each workload that others talk to: its own, and open to the group of the one
/// workload that may.
pub fn socket_folders(units: &[Unit]) -> Result<()> {
    for conf in units.iter().map(|unit| &unit.conf) {
        let Some(other) = conf.socket_for.and_then(|other| units.get(other)) else { continue };
        let path = [layout::RUN, "/", &conf.name].concat();
        let (owner, group) = (Uid::from_raw(conf.uid), Gid::from_raw(other.conf.uid));
        rustix::fs::mkdir(path.as_str(), Mode::from_raw_mode(0o700))
            .and_then(|()| chmod(path.as_str(), Mode::from_raw_mode(0o710)))
            .and_then(|()| chown(path.as_str(), Some(owner), Some(group)))
            .map_err(|e| error(&path, e))?;
    }
    Ok(())
}

/// Gives a node to a group.
fn give(path: &str, mode: u32, group: u32) -> rustix::io::Result<()> {
    // The mode first: between the two steps nobody may do more than behind them.
    chmod(path, Mode::from_raw_mode(mode))
        .and_then(|()| chown(path, None, Some(Gid::from_raw(group))))
}

fn error(path: &str, e: Errno) -> Error {
    Error::new([path, ": ", &e.to_string()].concat())
}

//! `/dev/ferrite/<label>`: the disk's partitions by what they are for.

use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{chmod, chown, Gid, Mode};
use slot::disk::Disk;
use slot::layout::{self, Slot};
use slot::{Error, Result};

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

/// Lets the group `slots` write what an update writes, the idle slot and the boot state, and read
/// the running slot, whose bytes need not be fetched again. Nobody but root writes that one.
pub fn open_slots(running: Slot) -> Result<()> {
    let idle = running.other();
    for label in [idle.boot_label(), idle.root_label(), layout::FIRMWARE] {
        give(label, 0o660)?;
    }
    for label in [running.boot_label(), running.root_label()] {
        give(label, 0o440)?;
    }
    // Who may change the boot state has to take its lock; the folder is root's.
    let lock = layout::RUN_BOOT_STATE_LOCK;
    std::fs::write(lock, "")
        .and_then(|()| Ok(chown(lock, None, Some(Gid::from_raw(layout::GROUP_SLOTS)))?))
        .and_then(|()| Ok(chmod(lock, Mode::from_raw_mode(0o660))?))
        .map_err(|e| Error::new([lock, ": ", &e.to_string()].concat()))
}

/// Gives a partition's node to the group `slots`.
fn give(label: &str, mode: u32) -> Result<()> {
    let path = [layout::DEVICES, "/", label].concat();
    // The mode first: between the two steps nobody may do more than behind them.
    chmod(path.as_str(), Mode::from_raw_mode(mode))
        .and_then(|()| chown(path.as_str(), None, Some(Gid::from_raw(layout::GROUP_SLOTS))))
        .map_err(|e| Error::new([&path, ": ", &e.to_string()].concat()))
}

//! The rootfs's file systems, apart from `/data`.

use formats::{Error, Result};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::media;
use crate::workload::cgroup;

/// Mounts what workloads expect to find. `/proc`, `/sys`, `/dev` and `/run` came along from the
/// initrd. `uses_media`: there will be sticks.
pub fn all(uses_media: bool) -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, target, options) in [
        ("cgroup2", cgroup::MOUNT, c"nsdelegate"),
        ("devpts", "/dev/pts", c"mode=0620,ptmxmode=0666,gid=5"),
        ("tmpfs", "/dev/shm", c"mode=1777,size=25%"),
        ("tmpfs", "/tmp", c"mode=1777,size=25%"),
    ] {
        let _ = rustix::fs::mkdir(target, Mode::from_raw_mode(0o755));
        mount(kind, target, kind, safe, options)
            .map_err(|e| Error::new(["mount ", target, ": ", &e.to_string()].concat()))?;
    }
    if uses_media {
        folder_for_media()?;
    }
    enable_controllers()
}

/// Where sticks are mounted: shared, so that what is plugged in later is seen by the workloads that
/// run already and keep a slave of it.
fn folder_for_media() -> Result<()> {
    let target = media::FOLDER;
    let error =
        |e| Error::new(["mount ", target, ": ", &std::io::Error::from(e).to_string()].concat());
    let _ = rustix::fs::mkdir(target, Mode::from_raw_mode(0o755));
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", target, "tmpfs", safe, c"mode=0755,size=64k,nr_inodes=32").map_err(error)?;
    mount_change(target, MountPropagationFlags::SHARED).map_err(error)
}

/// Lets the workloads' groups have limits.
fn enable_controllers() -> Result<()> {
    let path = [cgroup::MOUNT, "/cgroup.subtree_control"].concat();
    std::fs::write(&path, "+memory +pids")
        .map_err(|e| Error::new([&path, ": ", &e.to_string()].concat()))
}

//! The second life's file systems, apart from `/data`.

use rustix::fs::Mode;
use rustix::mount::{mount, MountFlags};
use slot::{Error, Result};

use crate::workload::cgroup;

/// Mounts what workloads expect to find. `/proc`, `/sys`, `/dev` and `/run` came along from the
/// first life.
pub fn all() -> Result<()> {
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
    enable_controllers()
}

/// Lets the workloads' groups have limits.
fn enable_controllers() -> Result<()> {
    let path = [cgroup::MOUNT, "/cgroup.subtree_control"].concat();
    std::fs::write(&path, "+memory +pids")
        .map_err(|e| Error::new([&path, ": ", &e.to_string()].concat()))
}

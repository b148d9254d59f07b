//! Every path that `ota` touches, below one root so that a test can stand in for a device.

use std::path::{Path, PathBuf};

use slot::layout;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    data: PathBuf,
}

impl Paths {
    /// The paths of the device this runs on.
    ///
    /// As a workload `ota` sees its own state as `/data`; started by a person, in a shell, it has
    /// to look where that really lies.
    pub fn of_device() -> Paths {
        let whole = PathBuf::from("/data/workloads/ota");
        let data = match std::env::var_os("FERRITE_WORKLOAD") {
            None if whole.is_dir() => whole,
            _ => "/data".into(),
        };
        Paths { root: "/".into(), data }
    }

    /// A device whose root is the folder `root`.
    pub fn below(root: &Path) -> Paths {
        Paths { root: root.into(), data: root.join("data") }
    }

    fn join(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The settings that the image carries.
    pub fn settings(&self) -> PathBuf {
        self.join(layout::OTA_SETTINGS)
    }

    /// The device's configuration, which names the boot chooser.
    pub fn system_conf(&self) -> PathBuf {
        self.join(layout::SYSTEM_CONF)
    }

    /// The repository's root metadata that the device starts from.
    pub fn tuf_root(&self) -> PathBuf {
        self.join(layout::TUF_ROOT)
    }

    /// The folder of public keys that sign slot manifests.
    pub fn manifest_keys(&self) -> PathBuf {
        self.join(layout::MANIFEST_KEYS)
    }

    /// What is running.
    pub fn run_slot(&self) -> PathBuf {
        self.join(layout::RUN_SLOT)
    }

    /// The running slot's header.
    pub fn run_slot_header(&self) -> PathBuf {
        self.join(layout::RUN_SLOT_HEADER)
    }

    /// Why the last boot failed.
    pub fn last_failure(&self) -> PathBuf {
        self.join(layout::RUN_LAST_FAILURE)
    }

    /// Held while the boot state changes.
    pub fn boot_state_lock(&self) -> PathBuf {
        self.join(layout::RUN_BOOT_STATE_LOCK)
    }

    /// The control socket of `init`.
    pub fn ctl_socket(&self) -> PathBuf {
        self.join(layout::CTL_SOCKET)
    }

    /// The folder with the partitions.
    pub fn devices(&self) -> PathBuf {
        self.join(layout::DEVICES)
    }

    /// The partition with this label.
    pub fn device(&self, label: &str) -> PathBuf {
        self.devices().join(label)
    }

    /// The folder of `ota`'s own state.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What was tried and how it ended.
    pub fn state(&self) -> PathBuf {
        self.data.join("state.json")
    }

    /// Held while something is installed.
    pub fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// The trusted metadata of the repository.
    pub fn tuf(&self) -> PathBuf {
        self.data.join("tuf")
    }
}

//! A device as `ota` reaches it: every path it touches, below one root so that a test can stand in for
//! a device; who changes the boot state and writes the idle slot; and the two things that must survive
//! a power cut, the partitions and the data folder, each behind a trait.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::layout;
use formats::medium::{DeviceFolder, Partitions};

use crate::data_folder::{DataFolder, Folder};

/// The name of the state's file in its folder.
pub const STATE: &str = "state.json";

/// The workload that writes, as `init` calls it.
const WRITER: &str = "ota-writer";

/// Who changes the boot state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootControl {
    /// This process, on the partitions themselves: on no device, but in tests of one.
    Here,
    /// PID 1, asked over its control socket.
    Init,
}

/// Where what is written into the idle slot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterDoor {
    /// Into the partitions, by this process.
    Here,
    /// Over the writer's socket.
    Socket,
    /// Over the writer's socket, and where nobody listens into the partitions: a person's shell.
    SocketOrHere,
}

/// Where things are, and who may touch them.
#[derive(Clone, Debug)]
pub struct Device {
    root: PathBuf,
    data: PathBuf,
    partitions: Arc<dyn Partitions>,
    data_folder: Arc<dyn DataFolder>,
    boot_control: BootControl,
    writer_door: WriterDoor,
}

impl Device {
    /// The device that this runs on.
    ///
    /// As a workload `ota` sees its own state as `/data`; started by a person, in a shell, it has
    /// to look where that really lies.
    pub fn of_device() -> Device {
        let whole = PathBuf::from("/data/workloads/ota");
        let workload = std::env::var("FERRITE_WORKLOAD").ok();
        let data = match workload {
            None if whole.is_dir() => whole,
            _ => "/data".into(),
        };
        let device = Device { boot_control: BootControl::Init, ..Device::new("/".into(), data) };
        match workload.as_deref() {
            // It has the devices themselves.
            Some(WRITER) => device,
            Some(_) => Device {
                partitions: DeviceFolder::shared(Path::new(layout::DEVICES_TO_READ)),
                writer_door: WriterDoor::Socket,
                ..device
            },
            None => Device { writer_door: WriterDoor::SocketOrHere, ..device },
        }
    }

    /// A device whose root is the folder `root`.
    pub fn below(root: &Path) -> Device {
        Device::new(root.into(), root.join("data"))
    }

    fn new(root: PathBuf, data: PathBuf) -> Device {
        let partitions = DeviceFolder::shared(&root.join(layout::DEVICES.trim_start_matches('/')));
        let data_folder = Arc::new(Folder::new(&data));
        Device {
            root,
            data,
            partitions,
            data_folder,
            boot_control: BootControl::Here,
            writer_door: WriterDoor::Here,
        }
    }

    /// The same device, with other partitions and another folder of state behind them.
    #[must_use]
    pub fn on(self, partitions: Arc<dyn Partitions>, data_folder: Arc<dyn DataFolder>) -> Device {
        Device { partitions, data_folder, ..self }
    }

    /// The same device, with what is written into the idle slot going this way.
    #[must_use]
    pub fn writing(self, writer_door: WriterDoor) -> Device {
        Device { writer_door, ..self }
    }

    /// The same device, with the boot state changed by this.
    #[must_use]
    pub fn controlled_by(self, boot_control: BootControl) -> Device {
        Device { boot_control, ..self }
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

    /// Roots of the certificates that the repository's server may have.
    pub fn tls_roots(&self) -> PathBuf {
        self.join(layout::TLS_ROOTS)
    }

    /// What a time server said since this boot.
    pub fn network_time(&self) -> PathBuf {
        self.join(layout::RUN_NETWORK_TIME)
    }

    /// What became of the data partition.
    pub fn data_state(&self) -> PathBuf {
        self.join(layout::RUN_DATA)
    }

    /// Held while the boot state changes.
    pub fn boot_state_lock(&self) -> PathBuf {
        self.join(layout::RUN_BOOT_STATE_LOCK)
    }

    /// The folder that sticks are mounted in.
    pub fn media(&self) -> PathBuf {
        self.join(layout::RUN_MEDIA)
    }

    /// The control socket of `init`.
    pub fn ctl_socket(&self) -> PathBuf {
        self.join(layout::CTL_SOCKET)
    }

    /// The socket of the half that writes.
    pub fn writer_socket(&self) -> PathBuf {
        self.join(layout::WRITER_SOCKET)
    }

    /// How the idle slot is written.
    pub fn writer_door(&self) -> WriterDoor {
        self.writer_door
    }

    /// Who changes the boot state.
    pub fn boot_control(&self) -> BootControl {
        self.boot_control
    }

    /// The partitions.
    pub fn partitions(&self) -> &Arc<dyn Partitions> {
        &self.partitions
    }

    /// What an error calls the partition with this label.
    pub fn device(&self, label: &str) -> PathBuf {
        self.partitions.path(label)
    }

    /// The folder of `ota`'s own state: locks, and what can be fetched again.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The files in it that a power cut must not spoil.
    pub fn data_folder(&self) -> &dyn DataFolder {
        &*self.data_folder
    }

    /// What was tried and how it ended.
    pub fn state(&self) -> PathBuf {
        self.data.join(STATE)
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

//! A device made of files.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use formats::Slot;
use formats::boot_state::{Boot, BootState};
use formats::boot_state_store::{BootStateStore, RedundantStore};
use formats::manifest::{HEADER_SIZE, Manifest};
use formats::run_slot::RunSlot;
use ota::Error;
use ota::context::Context;
use ota::daemon::{Daemon, Heart};
use ota::device::Device;
use ota::fetch::http::Client;
use ota::fetch::resource::Resource;
use ota::fetch::timeouts::Timeouts;
use ota::install::{UpdateSource, install};
use ota::state::{State, VersionId};

use super::update::{BOOT, Update, image_key, recipe};

const ROOT_PARTITION: u64 = 2 << 20;

/// Impatient enough for a test.
pub fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_millis(500),
        answer: Duration::from_millis(500),
        idle: Duration::from_millis(500),
        least_rate: 1000,
        rate_window: Duration::from_millis(600),
        attempts: 4,
        first_retry: Duration::from_millis(5),
    }
}

/// A device that runs version 1 in slot a.
pub struct TestDevice {
    dir: tempfile::TempDir,
    extra: std::cell::RefCell<String>,
    pub handle: Device,
}

impl TestDevice {
    pub fn new() -> TestDevice {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["dev/ferrite", "run/ferrite", "etc/ferrite/manifest-keys", "data"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let device = TestDevice { handle: Device::below(root), dir, extra: Default::default() };
        for (label, size) in [
            ("firmware", 1 << 20),
            ("boot-a", BOOT),
            ("boot-b", BOOT),
            ("root-a", ROOT_PARTITION),
            ("root-b", ROOT_PARTITION),
        ] {
            // Not zeros: what was on the medium before must not matter.
            let old = if label == "firmware" { 0 } else { 0xA5 };
            fs::write(device.handle.device(label), vec![old; size as usize]).unwrap();
        }
        device.set_boot(|_| ());
        let key = formats::hex::encode(image_key().verifying_key().as_bytes());
        device.put("etc/ferrite/manifest-keys/image", key + "\n");
        device.put("etc/ferrite/system.conf", "ferrite-system 1\nhostname demo\nchooser uboot\n");
        device.settings("http://127.0.0.1:9/");
        let one = recipe(1).build();
        device.place(Slot::A, &one);
        device.boot_into(Slot::A, &one.manifest, false, false);
        device
    }

    pub fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.dir.path().join(path), text).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn settings(&self, url: &str) {
        let extra = self.extra.borrow();
        let comma = if extra.is_empty() { "" } else { ", " };
        self.put(
            "etc/ferrite/ota.json",
            format!(
                r#"{{"url": "{url}", "name": "demo", "poll_seconds": 1, "jitter_seconds": 0,
                "commit_after_seconds": 0, "tries": 3, "reboot": "manual"{comma}{extra}}}"#
            ),
        );
    }

    /// More members of the settings from the next [`TestDevice::settings`] on.
    pub fn extra_settings(&self, members: &str) {
        *self.extra.borrow_mut() = members.into();
    }

    pub fn chooser(&self) -> RedundantStore {
        RedundantStore::new(self.handle.partitions().clone())
    }

    pub fn boot(&self) -> BootState {
        self.chooser().load().unwrap()
    }

    pub fn set_boot(&self, change: impl FnOnce(&mut BootState)) {
        let mut state = self.boot();
        change(&mut state);
        self.chooser().store(&mut state).unwrap();
    }

    /// Puts an update where an install would.
    pub fn place(&self, slot: Slot, update: &Update) {
        let mut root = fs::read(self.handle.device(slot.root_label())).unwrap();
        let (boot, rest) = update.stream.split_at(BOOT as usize);
        root[..rest.len()].copy_from_slice(rest);
        let at = root.len() - HEADER_SIZE;
        root[at..].copy_from_slice(&update.header);
        fs::write(self.handle.device(slot.boot_label()), boot).unwrap();
        fs::write(self.handle.device(slot.root_label()), root).unwrap();
    }

    /// What `init` writes when it boots a slot.
    pub fn boot_into(&self, slot: Slot, manifest: &Manifest, trial: bool, fallback: bool) {
        let boot = match (trial, fallback) {
            (true, _) => Boot::Trial,
            (false, true) => Boot::Fallback,
            (false, false) => Boot::Active,
        };
        let running = RunSlot {
            slot,
            boot,
            board: manifest.board.clone(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sequence: manifest.sequence,
            disk: "/dev/vda".into(),
            chooser: "uboot".into(),
        };
        self.put("run/ferrite/slot", running.to_text());
        let root = fs::read(self.handle.device(slot.root_label())).unwrap();
        self.put("run/ferrite/slot-header", &root[root.len() - HEADER_SIZE..]);
    }

    /// Every byte that decides what boots.
    pub fn medium(&self) -> BTreeMap<&'static str, Vec<u8>> {
        ["firmware", "boot-a", "boot-b", "root-a", "root-b"]
            .into_iter()
            .map(|label| (label, fs::read(self.handle.device(label)).unwrap()))
            .collect()
    }

    /// Whether the slot holds this update, byte for byte, with its header.
    pub fn holds(&self, slot: Slot, update: &Update) -> bool {
        let boot = fs::read(self.handle.device(slot.boot_label())).unwrap();
        let root = fs::read(self.handle.device(slot.root_label())).unwrap();
        let length = (update.manifest.root_size + update.manifest.root_hash_size) as usize;
        boot == update.stream[..BOOT as usize]
            && root[..length] == update.stream[BOOT as usize..]
            && root[root.len() - HEADER_SIZE..] == update.header
    }

    /// Flips a bit at each of these bytes of a partition: a medium that decays.
    pub fn flip(&self, label: &str, places: &[u64]) {
        let path = self.handle.device(label);
        let mut bytes = fs::read(&path).unwrap();
        places.iter().for_each(|at| bytes[*at as usize] ^= 16);
        fs::write(path, bytes).unwrap();
    }

    pub fn header_is_zero(&self, slot: Slot) -> bool {
        let root = fs::read(self.handle.device(slot.root_label())).unwrap();
        root[root.len() - HEADER_SIZE..].iter().all(|b| *b == 0)
    }

    pub fn state(&self) -> State {
        State::load(&self.handle)
    }

    pub fn install_file(&self, update: &[u8]) -> Result<VersionId, Error> {
        self.put("stick.update", update);
        let resource = Resource::File(self.path("stick.update"));
        install(
            &Context::load(&self.handle).unwrap(),
            &UpdateSource { resource, signed: None },
            3,
            &|| (),
        )
    }

    pub fn install_url(&self, url: &str) -> Result<VersionId, Error> {
        let resource = Resource::Url(Client::new(timeouts(), None), url.into());
        install(
            &Context::load(&self.handle).unwrap(),
            &UpdateSource { resource, signed: None },
            3,
            &|| (),
        )
    }

    /// One round of the daemon against the repository at `url`.
    pub fn update_from(&self, url: &str) -> Result<bool, Error> {
        self.settings(url);
        let context = Context::load(&self.handle).unwrap();
        Daemon::new(&context, timeouts(), &Heart::new()).unwrap().update()
    }

    /// What the daemon does first.
    pub fn settle(&self) -> Result<Option<String>, Error> {
        let context = Context::load(&self.handle).unwrap();
        Daemon::new(&context, Timeouts::default(), &Heart::new()).unwrap().settle()
    }

    /// A refused install: gives the error, having checked that nothing was touched.
    pub fn refused(&self, install: impl FnOnce() -> Result<VersionId, Error>) -> String {
        let before = (self.medium(), self.state());
        let error = install().expect_err("was taken");
        assert!((self.medium(), self.state()) == before, "something was touched: {error}");
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }
}

//! A board as a power cut finds it: the choice of a slot, `init`'s part, and the real `ota` on top,
//! until the board runs what it should.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use formats::Slot;
use formats::boot_state::{BLOB_SIZE, Boot, BootState, newest};
use formats::boot_state_store;
use formats::layout::{BOOT_STATE_OFFSETS, FIRMWARE};
use formats::manifest::HEADER_SIZE;
use formats::run_slot::RunSlot;
use ota::context::Context;
use ota::daemon::keeper::Keeper;
use ota::daemon::{self, Daemon, Heart};
use ota::device::Device;
use ota::fetch::resource::Resource;
use ota::fetch::timeouts::Timeouts;
use ota::install::{UpdateSource, install};
use ota::state::State;

use crate::disk::{Disk, Image};
use crate::loader::Loader;
use crate::support::writer::WriterThread;
use crate::support::{Update, image_key};

/// More boots than any scenario to the end needs.
const MOST_BOOTS: usize = 12;
/// Boots that a trial gets.
const TRIES: u8 = 3;

/// What a board should come to run, and what it meets on the way.
#[derive(Clone, Copy)]
pub struct Scenario<'a> {
    /// All versions that may lie in a slot.
    pub versions: &'a [&'a Update],
    /// The one that is offered.
    pub offered: &'a Update,
    /// Its trials fail: the board has to end with what it ran before.
    pub offered_is_bad: bool,
}

impl<'a> Scenario<'a> {
    /// The version in a slot, when it is there byte for byte: boot image, root, verity tree, header.
    pub fn in_slot(&self, image: &Image, slot: Slot) -> Option<&'a Update> {
        let boot = &image.partitions[slot.boot_label()];
        let root = &image.partitions[slot.root_label()];
        self.versions.iter().copied().find(|version| {
            let (boot_stream, root_stream) =
                version.stream.split_at(version.manifest.boot_size as usize);
            boot[..] == *boot_stream
                && root[..root_stream.len()] == *root_stream
                && root[root.len() - HEADER_SIZE..] == version.header
        })
    }

    /// Whatever the loader could choose from this disk, now or after any number of resets, is whole.
    pub fn check(&self, image: &Image) -> Result<(), String> {
        let Some((_, state)) = boot_state(image) else {
            return Err("both copies of the boot state are lost".into());
        };
        let on_trial = state.trial.filter(|_| state.tries > 0);
        let pointed = Loader::of(image).firmware_boots(image);
        for (slot, role) in [
            (Some(state.active), "active"),
            (on_trial, "on trial"),
            (state.fallback, "fallback"),
            (pointed, "what the firmware boots"),
        ] {
            if let Some(slot) = slot.filter(|slot| self.in_slot(image, *slot).is_none()) {
                return Err(format!("slot {slot} is {role} and holds no whole version: {state:?}"));
            }
        }
        Ok(())
    }
}

/// The state that rules on this disk, and which copy it is.
pub fn boot_state(image: &Image) -> Option<(usize, BootState)> {
    let firmware = &image.partitions[FIRMWARE];
    let copy = |offset: u64| &firmware[offset as usize..offset as usize + BLOB_SIZE];
    newest(BOOT_STATE_OFFSETS.map(copy))
}

/// What boards have beside their disks: the configuration that an image carries, and `/run`. One for
/// many boards, one after another.
pub struct Root(tempfile::TempDir);

impl Root {
    /// That of the images in these tests, on boards that choose this way.
    pub fn new(loader: Loader) -> Root {
        let root = Root(tempfile::tempdir().unwrap());
        for folder in ["run/ferrite", "etc/ferrite/manifest-keys", "data"] {
            fs::create_dir_all(root.0.path().join(folder)).unwrap();
        }
        let init = UnixListener::bind(root.0.path().join("run/ferrite/ctl.sock")).unwrap();
        std::thread::spawn(move || {
            for mut stream in init.incoming().flatten() {
                let _ = stream.read(&mut [0; 300]);
                let _ = stream.write_all(b"ok\nvital healthy\nhealthy-for 99999\nreason\n");
            }
        });
        let key = formats::hex::encode(image_key().verifying_key().as_bytes());
        root.put("etc/ferrite/manifest-keys/image", (key + "\n").as_bytes());
        let conf = format!("ferrite-system 1\nhostname demo\nchooser {}\n", loader.name());
        root.put("etc/ferrite/system.conf", conf.as_bytes());
        root.put(
            "etc/ferrite/ota.json",
            br#"{"url": "http://127.0.0.1:9/", "name": "demo", "poll_seconds": 1,
            "jitter_seconds": 0, "commit_after_seconds": 0, "tries": 3, "reboot": "manual"}"#,
        );
        root
    }

    pub fn put(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(path);
        fs::write(&path, bytes).unwrap();
        path
    }
}

thread_local! {
    /// Whether the boards of this test's thread have `ota` in two halves: one that fetches, and one
    /// that writes, with a socket between them.
    pub static IN_TWO_HALVES: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A board with its power on.
pub struct Board<'a> {
    root: &'a Root,
    pub disk: Disk,
    pub handle: Device,
    _writer: Option<WriterThread>,
}

impl Board<'_> {
    /// A board with this disk in it.
    pub fn new(root: &Root, image: Image) -> Board<'_> {
        let disk = Disk::new(image);
        let (partitions, data) = (Arc::new(disk.clone()), Arc::new(disk.clone()));
        let handle = Device::below(root.0.path()).on(partitions, data);
        let (writer, handle) = match IN_TWO_HALVES.get() {
            true => {
                let (writer, handle) = WriterThread::start(&handle);
                (Some(writer), handle)
            }
            false => (None, handle),
        };
        Board { root, disk, handle, _writer: writer }
    }

    /// What happens after a reset until a slot goes on.
    fn reset(&self) -> Result<(Slot, Boot), String> {
        Loader::of(&self.disk.image()).reset(&self.disk)
    }

    /// What `init` does in both lives: refuses what is not whole, says what runs.
    fn start(&self, scenario: &Scenario, slot: Slot, boot: Boot) -> Result<Context, String> {
        let image = self.disk.image();
        let version = scenario
            .in_slot(&image, slot)
            .ok_or_else(|| format!("slot {slot} was started ({boot:?}) and is not whole"))?;
        let manifest = &version.manifest;
        let running = RunSlot {
            slot,
            boot,
            board: manifest.board.clone(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sequence: manifest.sequence,
            disk: "/dev/vda".into(),
            chooser: Loader::of(&image).name().into(),
        };
        self.root.put("run/ferrite/slot", running.to_text().as_bytes());
        self.root.put("run/ferrite/slot-header", &version.header);
        Context::load(&self.handle).map_err(|e| e.to_string())
    }

    /// What `init` and `ota` do to the boot state.
    pub fn change_boot(&self, change: impl FnOnce(&mut BootState)) -> Result<(), String> {
        let loader = Loader::of(&self.disk.image());
        let chooser = loader.chooser(self.handle.partitions().clone());
        boot_state_store::update(&*chooser, &self.handle.boot_state_lock(), change)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    /// One round from reset to reset. True when the board runs what it should, for good.
    fn round(&self, scenario: &Scenario) -> Result<bool, String> {
        let (slot, boot) = self.reset()?;
        let context = self.start(scenario, slot, boot)?;
        let running = &context.running;
        if boot == Boot::Trial {
            if scenario.offered_is_bad && running.sequence == scenario.offered.manifest.sequence {
                // `init` resets the board when nobody has committed in time.
                return Ok(false);
            }
            daemon::commit(&context).map_err(|e| e.to_string())?;
        }
        // `init`, once all is healthy.
        self.change_boot(|state| state.settle(slot))?;
        Daemon::new(&context, Timeouts::default(), &Heart::new())
            .and_then(|daemon| daemon.settle())
            .map_err(|e| e.to_string())?;
        let (_, state) = boot_state(&self.disk.image()).ok_or("the boot state is lost")?;
        if state.trial.is_some() {
            return Ok(false);
        }
        if running.sequence == scenario.offered.manifest.sequence {
            return Ok(state.active == slot && State::load(&self.handle).pending.is_none());
        }
        match self.install(scenario.offered) {
            Ok(()) => Ok(false),
            Err(error) if scenario.offered_is_bad && error.contains("failed its trial") => Ok(true),
            Err(error) if error.contains("and waits") => self.wait_for_retrial(scenario, &context),
            Err(error) => Err(error),
        }
    }

    /// What was committed once lies in the other slot and is tried again after a day of healthy
    /// running. True when that has shown once more that it does not hold.
    fn wait_for_retrial(&self, scenario: &Scenario, context: &Context) -> Result<bool, String> {
        let state = State::load(&self.handle);
        if !state.failed.is_empty() {
            return Err(format!("a version that was committed is banned: {:?}", state.failed));
        }
        if scenario.offered_is_bad && state.retrial.is_some_and(|retrial| retrial.failures > 0) {
            return Ok(true);
        }
        let day = Duration::from_secs(86_400);
        let armed = Keeper::default().pass(context, day, &|| ());
        match armed.map_err(|e| e.to_string())? {
            true => Ok(false),
            false => Err("it is not tried again".into()),
        }
    }

    /// Resets, and starts what the loader chose.
    pub fn boot(&self, scenario: &Scenario) -> Result<Context, String> {
        let (slot, boot) = self.reset()?;
        self.start(scenario, slot, boot)
    }

    /// Installs an update from a file.
    pub fn install(&self, update: &Update) -> Result<(), String> {
        self.install_beating(update, &|| ())
    }

    /// The same, with a look at each heartbeat.
    pub fn install_beating(&self, update: &Update, beat: &dyn Fn()) -> Result<(), String> {
        let path = self.root.put("stick.update", &update.bytes);
        let offer = UpdateSource { resource: Resource::File(path), signed: None };
        install(&Context::load(&self.handle).unwrap(), &offer, TRIES, beat)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    /// Lives until the board runs what it should.
    pub fn live(&self, scenario: &Scenario) -> Result<(), String> {
        for _ in 0..MOST_BOOTS {
            let done = self.round(scenario)?;
            scenario.check(&self.disk.image())?;
            if done {
                return Ok(());
            }
        }
        Err(format!("it does not get there in {MOST_BOOTS} boots"))
    }
}

/// A disk whose slot a holds this version, committed; the rest of it holds what was there before.
pub fn shipped(loader: Loader, version: &Update, change: impl FnOnce(&mut BootState)) -> Image {
    let (boot, root) = version.stream.split_at(version.manifest.boot_size as usize);
    let root_size = (root.len() + HEADER_SIZE).next_multiple_of(4096) + 4096;
    let mut root_a = vec![0xA5; root_size];
    root_a[..root.len()].copy_from_slice(root);
    root_a[root_size - HEADER_SIZE..].copy_from_slice(&version.header);
    let mut state = BootState::fresh();
    change(&mut state);
    let mut firmware = loader.firmware();
    firmware[BOOT_STATE_OFFSETS[0] as usize..][..BLOB_SIZE].copy_from_slice(&state.to_blob());
    Image {
        partitions: BTreeMap::from([
            (FIRMWARE, firmware),
            ("boot-a", boot.to_vec()),
            ("boot-b", vec![0xA5; boot.len()]),
            ("root-a", root_a),
            ("root-b", vec![0xA5; root_size]),
        ]),
        data: BTreeMap::new(),
    }
}

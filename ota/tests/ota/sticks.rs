//! Bundles, on a stick and from the command line, installed into a device made of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Repository, TestDevice, Update, recipe, role_key};
use formats::Slot;
use ota::commands;
use ota::context::Context;
use ota::state::Failed;
use ota::{Error, daemon::sticks};

/// A folder in the place of a mounted stick.
struct Stick(tempfile::TempDir);

impl Stick {
    fn new() -> Stick {
        Stick(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts a bundle on it: the repository's own files, packed by GNU tar.
    fn pack(&self, name: &str, repository: &Repository) -> PathBuf {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in &repository.files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let bundle = self.path().join(name);
        let mut tar = Command::new("tar");
        tar.args(["--format=ustar", "-C"]).arg(folder.path()).arg("-cf").arg(&bundle);
        assert!(tar.args(repository.files.keys()).status().unwrap().success());
        bundle
    }

    /// What the daemon does with it.
    fn plug_into(&self, device: &TestDevice) -> Result<bool, Error> {
        let context = Context::load(&device.handle).unwrap();
        sticks::update(&context, self.path(), &|| ())
    }
}

/// A device, and a repository that it trusts with these updates.
fn device_and(updates: &[&Update]) -> (TestDevice, Repository) {
    let device = TestDevice::new();
    let mut repository = Repository::new();
    device.put("etc/ferrite/tuf-root.json", &repository.root);
    repository.publish(updates);
    (device, repository)
}

#[test]
fn the_newest_bundle_for_this_device_is_installed_and_armed() {
    let (two, three) = (recipe(2).build(), recipe(3).build());
    let mut other = recipe(9);
    other.board = "another";
    let (device, mut repository) = device_and(&[&two]);
    let stick = Stick::new();
    stick.pack("a.bundle", &repository);
    repository.publish(&[&two, &three, &other.build()]);
    stick.pack("b.bundle", &repository);
    fs::write(stick.path().join("holiday.jpg"), "no bundle").unwrap();
    assert_eq!(stick.plug_into(&device), Ok(true));
    assert!(device.holds(Slot::B, &three));
    assert_eq!((device.boot().trial, device.boot().tries), (Some(Slot::B), 3));
    assert_eq!(device.state().pending.unwrap().sequence, 3);
}

#[test]
fn a_stick_that_stays_plugged_in_is_no_loop() {
    let two = recipe(2).build();
    let (device, repository) = device_and(&[&two]);
    let stick = Stick::new();
    stick.pack("a.bundle", &repository);
    assert_eq!(stick.plug_into(&device), Ok(true));
    // Before the reboot, where that waits for somebody.
    assert_eq!(stick.plug_into(&device), Ok(false));
    // After it, committed.
    device.boot_into(Slot::B, &two.manifest, false, false);
    device.set_boot(|boot| boot.commit(Slot::B));
    let before = device.medium();
    assert_eq!(stick.plug_into(&device), Ok(false));
    assert!(device.medium() == before);
}

#[test]
fn what_failed_its_trial_is_not_taken_from_a_stick_again() {
    let two = recipe(2).build();
    let (device, repository) = device_and(&[&two]);
    let stick = Stick::new();
    stick.pack("a.bundle", &repository);
    let failed = Failed {
        sequence: 2,
        version: "1.0.2".into(),
        header_sha256: tuf::sha256_hex(&two.header),
        reason: "not healthy".into(),
        retry: 0,
    };
    ota::state::State::change(&device.handle, |state| state.remember_failed(failed)).unwrap();
    let before = device.medium();
    assert_eq!(stick.plug_into(&device), Ok(false));
    assert!(device.medium() == before);
}

#[test]
fn an_altered_update_is_never_armed_and_the_next_stick_is_taken() {
    let two = recipe(2).build();
    let (device, repository) = device_and(&[&two]);
    let stick = Stick::new();
    let path = stick.pack("a.bundle", &repository);
    let whole = fs::read(&path).unwrap();
    let chunk = &two.bytes[two.bytes.len() - 5000..];
    let at = whole.windows(chunk.len()).position(|window| window == chunk).unwrap();
    let mut altered = whole.clone();
    altered[at + 99] ^= 4;
    fs::write(&path, &altered).unwrap();
    let error = stick.plug_into(&device).unwrap_err().to_string();
    assert!(error.contains("altered"), "{error}");
    assert_eq!(device.boot().trial, None);
    assert!(device.header_is_zero(Slot::B));
    fs::write(&path, &whole).unwrap();
    assert_eq!(stick.plug_into(&device), Ok(true));
    assert!(device.holds(Slot::B, &two));
}

#[test]
fn what_is_no_bundle_of_ours_touches_nothing() {
    let two = recipe(2).build();
    let (device, repository) = device_and(&[&two]);
    let before = (device.medium(), device.boot());
    let untouched = |stick: &Stick, what: &str| {
        assert_eq!(stick.plug_into(&device), Ok(false), "{what}");
        assert!((device.medium(), device.boot()) == before, "{what} touched something");
    };
    let stick = Stick::new();
    untouched(&stick, "an empty stick");
    let path = stick.pack("a.bundle", &repository);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, vec![0xA5; 100_000]).unwrap();
    untouched(&stick, "garbage");
    for length in [0, 1, 511, 512, 1024, 3000, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        untouched(&stick, &format!("cut off at {length}"));
    }
    // One bit, in a header or in what it describes.
    for name in ["metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json"] {
        let at = whole.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        for offset in [3, 130, 512, 600] {
            let mut altered = whole.clone();
            altered[at + offset] ^= 1;
            fs::write(&path, &altered).unwrap();
            untouched(&stick, &format!("a bit at {offset} of {name}"));
        }
    }
    fs::remove_file(&path).unwrap();
    let mut strange = Repository::new();
    strange.publish(&[&two]);
    let timestamp = strange.files.get_mut("metadata/timestamp.json").unwrap();
    let value: serde_json::Value = serde_json::from_slice(timestamp).unwrap();
    *timestamp = tuf::Envelope::sign(&value["signed"], &[&role_key(9)]).unwrap().to_bytes();
    stick.pack("strange.bundle", &strange);
    untouched(&stick, "another's signature");
    fs::remove_dir_all(stick.path()).unwrap();
    assert!(stick.plug_into(&device).is_err(), "a stick that is pulled out");
}

#[test]
fn a_bundle_older_than_what_the_repository_said_is_refused() {
    let (two, three) = (recipe(2).build(), recipe(3).build());
    let (device, mut repository) = device_and(&[&two]);
    let old = Stick::new();
    old.pack("old.bundle", &repository);
    repository.publish(&[&two, &three]);
    let new = Stick::new();
    new.pack("new.bundle", &repository);
    assert_eq!(new.plug_into(&device), Ok(true));
    let before = device.medium();
    assert_eq!(old.plug_into(&device), Ok(false));
    assert!(device.medium() == before);
}

#[test]
fn the_command_line_takes_a_bundle_too() {
    let two = recipe(2).build();
    let (device, repository) = device_and(&[&two]);
    let stick = Stick::new();
    let path = stick.pack("a.bundle", &repository);
    let install = commands::Command::Install(Some(path.display().to_string()));
    commands::run(install, &device.handle).unwrap();
    assert!(device.holds(Slot::B, &two));
    assert_eq!(device.boot().trial, Some(Slot::B));
}

/// The stick stays in: without the pause, install and reboot would be a loop.
#[test]
fn what_was_put_off_is_not_taken_from_a_stick_before_its_time_but_by_hand() {
    let two = recipe(2).build();
    let (device, repository) = device_and(&[&two]);
    let stick = Stick::new();
    let path = stick.pack("a.bundle", &repository);
    let put_off = || {
        device.set_boot(|boot| boot.tries = 0);
        device.put(
            "run/ferrite/last-failure",
            "ferrite-last-failure 1\nslot b\nreason trial_held_from_outside:_x_waits\n",
        );
        let said = device.settle().unwrap().unwrap();
        assert!(said.contains("it is tried again after"), "{said}");
    };
    assert_eq!(stick.plug_into(&device), Ok(true));
    put_off();
    let before = device.medium();
    assert_eq!(stick.plug_into(&device), Ok(false), "it waits");
    assert!(device.medium() == before);
    let install = commands::Command::Install(Some(path.display().to_string()));
    commands::run(install, &device.handle).unwrap();
    assert_eq!(device.boot().trial, Some(Slot::B));
    put_off();
    let pause = device.state().retrial.unwrap().pause();
    ota::state::State::change(&device.handle, |state| ota::policy::retrial::count(state, pause))
        .unwrap();
    assert_eq!(stick.plug_into(&device), Ok(true), "its time has come");
}

//! The newest version is refused, and an older one behind it is good: that one is taken, whatever
//! the refusal is about, from a server, a bundle and a stick.

use std::fs;
use std::path::Path;
use std::process::Command as Program;

use crate::support::{CHUNK, Recipe, Repository, TestDevice, Update, recipe};
use ed25519_dalek::SigningKey;
use formats::Slot;
use ota::commands::{Command, run};
use ota::context::Context;
use ota::daemon::sticks;
use ota::state::State;

/// Versions that this device refuses, each for a reason of its own; what the repository says of them
/// fits.
fn refused() -> Vec<(&'static str, Recipe)> {
    let three = || recipe(3);
    vec![
        (
            "not signed by a trusted key",
            Recipe { key: SigningKey::from_bytes(&[7; 32]), ..three() },
        ),
        ("its boot image is larger", Recipe { boot_size: 4 * CHUNK, ..three() }),
        ("its root is larger", Recipe { root_size: 40 * CHUNK, ..three() }),
    ]
}

fn repository_of(device: &TestDevice, updates: &[&Update]) -> Repository {
    let mut repository = Repository::new();
    device.put("etc/ferrite/tuf-root.json", &repository.root);
    repository.publish(updates);
    repository
}

fn pack(repository: &Repository, bundle: &Path) {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in &repository.files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let mut tar = Program::new("tar");
    tar.args(["--format=ustar", "-C"]).arg(folder.path()).arg("-cf").arg(bundle);
    assert!(tar.args(repository.files.keys()).status().unwrap().success());
}

fn plug_in(device: &TestDevice, stick: &Path) -> Result<bool, ota::Error> {
    let context = Context::load(&device.handle).unwrap();
    sticks::update(&context, stick, &|| ())
}

#[test]
fn a_refused_version_hides_no_older_one_from_a_server() {
    let two = recipe(2).build();
    for (reason, recipe) in refused() {
        let device = TestDevice::new();
        let three = recipe.build();
        let server = repository_of(&device, &[&two, &three]).serve(&device);
        assert_eq!(device.update_from(&server.url()), Ok(true), "{reason}");
        assert!(device.holds(Slot::B, &two), "{reason}");
        assert_eq!(device.state().pending.unwrap().sequence, 2);
        let error = device.state().last_error.expect("why not the newest");
        assert!(error.starts_with("refused 1.0.3: ") && error.contains(reason), "{error}");
        assert!(device.state().last_check.is_some());
        // It is armed: asking again installs nothing again.
        let before = device.medium();
        assert_eq!(device.update_from(&server.url()), Ok(false));
        assert!(device.medium() == before);
    }
}

#[test]
fn a_person_who_installs_gets_the_older_one_too() {
    let (two, three) = (recipe(2).build(), refused().remove(0).1.build());
    let device = TestDevice::new();
    let server = repository_of(&device, &[&two, &three]).serve(&device);
    device.settings(&server.url());
    run(Command::Install(None), &device.handle).unwrap();
    assert!(device.holds(Slot::B, &two));
}

#[test]
fn nor_from_a_bundle_or_a_stick() {
    let two = recipe(2).build();
    for (reason, recipe) in refused() {
        let three = recipe.build();
        let device = TestDevice::new();
        let repository = repository_of(&device, &[&two, &three]);
        let stick = tempfile::tempdir().unwrap();
        let bundle = stick.path().join("a.bundle");
        pack(&repository, &bundle);
        assert_eq!(plug_in(&device, stick.path()), Ok(true), "{reason}");
        assert!(device.holds(Slot::B, &two), "{reason}");

        let device = TestDevice::new();
        repository_of(&device, &[]);
        run(Command::Install(Some(bundle.display().to_string())), &device.handle).unwrap();
        assert!(device.holds(Slot::B, &two), "{reason}");
    }
}

/// Two bundles on a stick, the newer one refused.
#[test]
fn nor_does_a_bundle_hide_the_one_beside_it() {
    let (two, three) = (recipe(2).build(), refused().remove(0).1.build());
    let device = TestDevice::new();
    let mut repository = repository_of(&device, &[&two]);
    let stick = tempfile::tempdir().unwrap();
    pack(&repository, &stick.path().join("a.bundle"));
    repository.publish(&[&two, &three]);
    let old = format!("targets/{}.demo-qemu-arm64-1.0.2.update", tuf::sha256_hex(&two.bytes));
    repository.files.remove(&old).unwrap();
    pack(&repository, &stick.path().join("b.bundle"));
    assert_eq!(plug_in(&device, stick.path()), Ok(true));
    assert!(device.holds(Slot::B, &two));
}

#[test]
fn when_all_are_refused_the_reason_is_the_newest_ones() {
    let stranger = |sequence| Recipe { key: SigningKey::from_bytes(&[7; 32]), ..recipe(sequence) };
    let (two, three) = (stranger(2).build(), stranger(3).build());
    let device = TestDevice::new();
    let server = repository_of(&device, &[&two, &three]).serve(&device);
    let before = device.medium();
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.starts_with("refused 1.0.3: "), "{error}");
    assert!(device.medium() == before);
    assert!(device.state().last_check.is_some(), "the repository has answered");
}

/// A fault that is not the version's own is no reason to take an older one.
#[test]
fn a_link_that_drops_is_not_a_refusal() {
    let (two, three) = (recipe(2).build(), recipe(3).build());
    let device = TestDevice::new();
    let repository = repository_of(&device, &[&two, &three]);
    let server = repository.serve(&device);
    let hash = tuf::sha256_hex(&three.bytes);
    let mut files = repository.files.clone();
    files.remove(&format!("targets/{hash}.demo-qemu-arm64-1.0.3.update")).unwrap();
    server.put(files);
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("no such file"), "{error}");
    assert_eq!(device.boot().trial, None);
}

/// What is to blame for both may lie outside them: they are not tried in turn for ever.
#[test]
fn a_version_that_is_put_off_hides_an_older_one_only_when_that_is_put_off_too() {
    let (two, three) = (recipe(2).build(), recipe(3).build());
    let device = TestDevice::new();
    let server = repository_of(&device, &[&two, &three]).serve(&device);
    let put_off = || {
        device.set_boot(|boot| boot.tries = 0);
        device.put(
            "run/ferrite/last-failure",
            "ferrite-last-failure 1\nslot b\nreason the update server was not reached: x\n",
        );
        device.settle().unwrap();
    };
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &three));
    put_off();
    assert_eq!(device.update_from(&server.url()), Ok(true), "the older one is good, perhaps");
    assert!(device.holds(Slot::B, &two));
    put_off();
    assert_eq!(device.update_from(&server.url()), Ok(false), "it is not");
    assert_eq!(device.state().failed, []);
    State::change(&device.handle, |state| ota::policy::retrial::count(state, 7200)).unwrap();
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &three));
}

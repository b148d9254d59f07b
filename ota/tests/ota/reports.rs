//! The outcome of an update, told to its owner.

use std::os::unix::fs::MetadataExt;

use crate::support::wire::Wire;
use crate::support::{TestDevice, recipe, timeouts};
use ed25519_dalek::{Signature, VerifyingKey};
use formats::Slot;
use ota::commands::{Command, run};
use ota::context::Running;
use ota::report::send_due;
use ota::settings::Settings;
use ota::state::State;
use serde_json::Value;

fn reporting(server: &Wire) -> TestDevice {
    let device = TestDevice::new();
    device.extra_settings(&format!(r#""report_url": "{}/report""#, server.url()));
    device.settings("http://127.0.0.1:9/");
    device
}

fn server() -> Wire {
    Wire::start([("report".to_string(), vec![])].into())
}

fn send(device: &TestDevice) -> Result<(), ota::Error> {
    let settings = Settings::load(&device.handle.settings()).unwrap();
    send_due(&device.handle, &settings, timeouts(), &Running::load(&device.handle).unwrap())
}

fn posted(server: &Wire) -> Vec<Vec<u8>> {
    server.edit(|shared| std::mem::take(&mut shared.posted))
}

/// Installs version 2, boots and commits it.
fn commit(device: &TestDevice) {
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    run(Command::Commit, &device.handle).unwrap();
}

#[test]
fn a_commit_is_told_once_and_signed() {
    let server = server();
    let device = reporting(&server);
    commit(&device);
    send(&device).unwrap();
    send(&device).unwrap();
    let posts = posted(&server);
    assert_eq!(posts.len(), 1);
    let report: Value = serde_json::from_slice(&posts[0]).unwrap();
    let signed = &report["signed"];
    assert_eq!(signed["outcome"], "committed");
    assert_eq!((&signed["version"], &signed["running"]), (&"1.0.2".into(), &"1.0.2".into()));
    let hex = |value: &Value| value.as_str().unwrap().to_string();
    let key =
        VerifyingKey::from_bytes(&formats::hex::decode(&hex(&signed["key"])).unwrap()).unwrap();
    let signature = formats::hex::decode::<64>(&hex(&report["signatures"][0]["sig"])).unwrap();
    // No floats and no escapes: sorted members without spaces are the canonical form.
    let canonical = serde_json::to_vec(signed).unwrap();
    key.verify_strict(&canonical, &Signature::from_bytes(&signature)).unwrap();
    assert!(posts[0].len() < 1024, "{} bytes", posts[0].len());
    let mode = std::fs::metadata(device.path("data/report.key")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn falling_back_is_told_with_its_reason() {
    let server = server();
    let device = reporting(&server);
    device.install_file(&recipe(2).build().bytes).unwrap();
    device.set_boot(|boot| boot.tries = 0);
    device.put("run/ferrite/last-failure", "ferrite-last-failure 1\nslot b\nreason it hung\n");
    device.settle().unwrap();
    send(&device).unwrap();
    let report: Value = serde_json::from_slice(&posted(&server)[0]).unwrap();
    let signed = &report["signed"];
    assert_eq!((&signed["outcome"], &signed["reason"]), (&"fell-back".into(), &"it hung".into()));
    assert_eq!((&signed["version"], &signed["running"]), (&"1.0.2".into(), &"1.0.1".into()));
}

#[test]
fn a_server_that_does_not_take_it_is_asked_again_a_bounded_number_of_times() {
    let server = server();
    let device = reporting(&server);
    commit(&device);
    let mut attempts = 0;
    while !device.state().report.unwrap().done {
        server.edit(|shared| shared.busy.push((500, None)));
        let error = send(&device).unwrap_err().to_string();
        assert!(error.contains("report") && error.contains("500"), "{error}");
        attempts += 1;
        assert!(attempts <= 20);
        // Not due yet: nothing is sent.
        let before = posted(&server).len();
        assert_eq!(before, 1);
        send(&device).unwrap();
        assert!(posted(&server).is_empty());
        State::change(&device.handle, |state| state.report.as_mut().unwrap().not_before = 0)
            .unwrap();
    }
    assert_eq!(attempts, 8);
}

#[test]
fn a_device_that_was_not_asked_to_tells_nothing() {
    let device = TestDevice::new();
    commit(&device);
    assert_eq!(device.state().report, None);
    send(&device).unwrap();
    assert!(!device.path("data/report.key").exists());
}

#[test]
fn a_refusal_is_told_once_however_often_it_comes_up() {
    let server = server();
    let device = reporting(&server);
    let stranger =
        crate::support::Recipe { key: crate::support::role_key(66), ..recipe(2) }.build();
    let mut repository = crate::support::Repository::new();
    repository.publish(&[&stranger]);
    let updates = repository.serve(&device);
    for _ in 0..2 {
        device.update_from(&updates.url()).unwrap_err();
        send(&device).unwrap();
    }
    let posts = posted(&server);
    assert_eq!(posts.len(), 1);
    let report: Value = serde_json::from_slice(&posts[0]).unwrap();
    assert_eq!(report["signed"]["outcome"], "refused");
}

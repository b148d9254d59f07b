//! From the repository through the trial to its end, good or bad.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Server, TestDevice, Update, publish, recipe};
use formats::Slot;
use formats::boot_request::{self, BootRequest};
use ota::commands::{Command, run};
use ota::context::Context;
use ota::daemon::{Daemon, Heart};
use ota::device::BootControl;
use ota::fetch::timeouts::Timeouts;
use ota::init::boot;

fn offering(device: &TestDevice, updates: &[&Update]) -> Server {
    let sized: Vec<_> = updates.iter().map(|u| (*u, u.bytes.len() as u64)).collect();
    let files = publish(&sized);
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    Server::of_files(files).unwrap()
}

/// Stands in for `init`: says that all is well.
fn healthy_init(device: &TestDevice) {
    let listener = UnixListener::bind(device.handle.ctl_socket()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 64];
            let _ = stream.read(&mut line);
            let _ = stream.write_all(b"ok\nvital healthy\nhealthy-for 60\nreason\n");
        }
    });
}

/// The same, which also changes the boot state, but fails at the first requests about it. Gives how
/// many there were.
fn init_that_fails_first(device: &TestDevice, failures: usize) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(device.handle.ctl_socket()).unwrap();
    let handle = device.handle.clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 64];
            let length = stream.read(&mut line).unwrap_or(0);
            let line = String::from_utf8_lossy(&line[..length]);
            let answer = match BootRequest::parse(line.trim_end()) {
                None => "ok\nvital healthy\nhealthy-for 60\nreason\n".into(),
                Some(_) if counted.fetch_add(1, Ordering::SeqCst) < failures => {
                    "error the helper is busy\n".into()
                }
                Some(request) => {
                    let state = boot::ask(&handle, request).unwrap();
                    format!("ok\n{}", boot_request::answer(&state))
                }
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    asked
}

#[test]
fn a_boot_state_that_cannot_be_had_at_first_ends_no_trial() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.set_boot(|boot| boot.tries -= 1);
    device.boot_into(Slot::B, &two.manifest, true, false);
    let asked = init_that_fails_first(&device, 4);
    let handle = device.handle.clone().controlled_by(BootControl::Init);
    let context = Context::load(&handle).unwrap();
    assert!(Daemon::new(&context, Timeouts::default(), &Heart::new()).unwrap().settle_first());
    assert_eq!((device.boot().active, device.boot().trial), (Slot::B, None));
    assert!(asked.load(Ordering::SeqCst) > 4);
}

#[test]
fn what_is_committed_waits_for_no_boot_state() {
    let device = TestDevice::new();
    init_that_fails_first(&device, usize::MAX);
    let handle = device.handle.clone().controlled_by(BootControl::Init);
    let context = Context::load(&handle).unwrap();
    assert!(
        !Daemon::new(&context, Timeouts::default(), &Heart::new()).unwrap().settle_first(),
        "before the next check"
    );
}

#[test]
fn what_was_armed_and_is_no_longer_is_installed_again() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let server = offering(&device, &[&two]);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    device.set_boot(|boot| boot.tries = 0);
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("not settled yet"), "{error}");
    device.set_boot(|boot| boot.clear_trial());
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert_eq!((device.boot().trial, device.boot().tries), (Some(Slot::B), 3));
}

#[test]
fn a_good_version_is_found_installed_and_committed() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let server = offering(&device, &[&two]);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &two));

    device.set_boot(|boot| boot.tries -= 1);
    device.boot_into(Slot::B, &two.manifest, true, false);
    healthy_init(&device);
    device.settle().unwrap();
    let boot = device.boot();
    assert_eq!((boot.active, boot.trial, boot.fallback), (Slot::B, None, Some(Slot::A)));
    assert_eq!(device.state().pending, None);
    assert_eq!(device.update_from(&server.url()), Ok(false), "it is installed");
}

#[test]
fn asking_again_while_armed_installs_nothing_again() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let server = offering(&device, &[&two]);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    let before = device.medium();
    server.take_requests();
    assert_eq!(device.update_from(&server.url()), Ok(false));
    assert!(device.medium() == before);
    let requests = server.take_requests();
    assert!(!requests.iter().any(|request| request.contains(".update")), "{requests:?}");
}

#[test]
fn a_version_that_failed_is_remembered_and_not_tried_again() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let server = offering(&device, &[&two]);
    device.update_from(&server.url()).unwrap();
    device.set_boot(|boot| boot.tries = 0);
    device.put(
        "run/ferrite/last-failure",
        "ferrite-last-failure 1\nslot b\nreason face: golden sample differs\n",
    );
    let status = || ota::status::collect(&Context::load(&device.handle).unwrap()).unwrap();
    let before = status();
    assert_eq!(before.reason.as_deref(), Some("face: golden sample differs"));
    device.settle().unwrap();
    for status in [before, status()] {
        // What runs is another version.
        let text = status.to_text();
        assert!(!text.contains("\ninstalled 1.0.2"), "{text}");
        assert!(text.contains("last installed, does not run: 1.0.2"), "{text}");
    }
    let state = device.state();
    assert_eq!(state.pending, None);
    assert_eq!(state.failed.len(), 1);
    assert_eq!(state.failed[0].reason, "face: golden sample differs");
    assert_eq!((device.boot().trial, device.boot().active), (None, Slot::A));

    let before = device.medium();
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("failed its trial here before: face: golden sample"), "{error}");
    let error = device.refused(|| device.install_file(&two.bytes));
    assert!(error.contains("failed its trial"), "{error}");
    assert!(device.medium() == before);
    let status = ota::status::collect(&Context::load(&device.handle).unwrap()).unwrap();
    assert_eq!(status.situation, "settled");
    assert!(status.to_text().contains("failed: 1.0.2 (sequence 2): face: golden sample differs"));

    device.install_file(&recipe(3).build().bytes).unwrap();
}

#[test]
fn a_failed_trial_is_known_even_if_the_state_was_lost() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    std::fs::remove_file(device.handle.state()).unwrap();
    device.set_boot(|boot| boot.tries = 0);
    device.settle().unwrap();
    assert_eq!(device.state().failed[0].version, "1.0.2");
}

#[test]
fn a_cut_between_arming_and_writing_it_down_loses_nothing() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    std::fs::remove_file(device.handle.state()).unwrap();
    device.settle().unwrap();
    assert_eq!(device.state().pending.unwrap().sequence, 2);
}

#[test]
fn a_promise_of_the_repository_that_does_not_hold_is_refused() {
    let device = TestDevice::new();
    let (two, three) = (recipe(2).build(), recipe(3).build());
    let server = offering(&device, &[&two]);
    let mut files = publish(&[(&two, two.bytes.len() as u64)]);
    for (path, bytes) in &mut files {
        if path.starts_with("targets/") {
            *bytes = three.bytes.clone();
        }
    }
    server.put(files);
    let before = device.medium();
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("not the one that the repository signed"), "{error}");
    assert!(device.medium() == before);

    let device = TestDevice::new();
    let files = publish(&[(&two, two.bytes.len() as u64 + 1)]);
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    let server = Server::of_files(files).unwrap();
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("its length is not the one"), "{error}");
}

#[test]
fn commit_by_hand_needs_a_trial_that_still_is_one() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    run(Command::Commit, &device.handle).unwrap();
    assert_eq!(device.boot().active, Slot::B);

    let device = TestDevice::new();
    device.boot_into(Slot::B, &two.manifest, true, false);
    let error = run(Command::Commit, &device.handle).unwrap_err().to_string();
    assert!(error.contains("nothing was committed"), "{error}");
}

#[test]
fn rollback_of_an_armed_trial_of_a_running_one_and_of_a_committed_one() {
    let two = recipe(2).build();
    let device = TestDevice::new();
    device.install_file(&two.bytes).unwrap();
    run(Command::Rollback, &device.handle).unwrap();
    assert_eq!((device.boot().trial, device.state().pending), (None, None));
    assert_eq!(device.state().failed[0].reason, "rolled back by hand");

    let device = TestDevice::new();
    healthy_init(&device);
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    run(Command::Rollback, &device.handle).unwrap();
    assert_eq!((device.boot().trial, device.boot().active), (None, Slot::A));

    let device = TestDevice::new();
    healthy_init(&device);
    let error = run(Command::Rollback, &device.handle).unwrap_err().to_string();
    assert!(error.contains("no version before"), "{error}");
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    run(Command::Commit, &device.handle).unwrap();
    run(Command::Rollback, &device.handle).unwrap();
    assert_eq!((device.boot().trial, device.boot().active), (Some(Slot::A), Slot::B));
    assert_eq!(device.state().failed[0].sequence, 2);
}

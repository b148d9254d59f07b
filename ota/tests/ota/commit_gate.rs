//! What cannot reach its update server is not committed, if the version before it could.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Repository, Server, TestDevice, Update, recipe};
use formats::Slot;
use ota::context::Context;
use ota::state::State;

/// Stands in for `init`, and remembers what it was told.
fn init(device: &TestDevice) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(device.handle.ctl_socket()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 300];
            let length = stream.read(&mut line).unwrap_or(0);
            let line = String::from_utf8_lossy(&line[..length]).trim_end().to_owned();
            assert!(line.len() <= 256, "init takes no longer line");
            if line.starts_with("trial-waits ") {
                heard.lock().unwrap().push(line);
            }
            let _ = stream.write_all(b"ok\nvital healthy\nhealthy-for 60\nreason\n");
        }
    });
    told
}

/// The same, but too busy at first. Gives how often it was told what the trial waits for.
fn busy_init(device: &TestDevice, failures: usize) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(device.handle.ctl_socket()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 300];
            let length = stream.read(&mut line).unwrap_or(0);
            let line = String::from_utf8_lossy(&line[..length]).trim_end().to_owned();
            let waits = line.starts_with("trial-waits ");
            let mut heard = heard.lock().unwrap();
            if waits {
                heard.push(line);
            }
            let _ = stream.write_all(match waits && heard.len() <= failures {
                true => b"error busy\n",
                false => b"ok\nvital healthy\nhealthy-for 60\nreason\n",
            });
        }
    });
    told
}

/// A device that took version 2 from a server, and runs it on trial.
fn on_trial() -> (TestDevice, Repository, Server, Update) {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let mut repository = Repository::new();
    repository.publish(&[&two]);
    let server = repository.serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    device.set_boot(|boot| boot.tries -= 1);
    device.boot_into(Slot::B, &two.manifest, true, false);
    (device, repository, server, two)
}

/// Runs `settle` for as long as it takes, or until the trial is given up.
fn settling(device: &TestDevice, until: impl FnOnce()) -> Result<Option<String>, ota::Error> {
    let handle = device.handle.clone();
    let settled = std::thread::spawn(move || {
        let context = Context::load(&handle).unwrap();
        ota::daemon::Daemon::new(
            &context,
            ota::fetch::timeouts::Timeouts::default(),
            &ota::daemon::Heart::new(),
        )
        .unwrap()
        .settle()
    });
    until();
    settled.join().unwrap()
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_version_that_reaches_its_server_is_committed() {
    let (device, _, server, _) = on_trial();
    let told = init(&device);
    server.take_requests();
    let before = device.state().last_check.unwrap();
    device.settle().unwrap();
    assert_eq!(device.boot().active, Slot::B);
    let requests = server.take_requests();
    assert!(requests.iter().any(|request| request.contains("timestamp.json")), "{requests:?}");
    assert!(device.state().last_check.unwrap() >= before && told.lock().unwrap().is_empty());
}

#[test]
fn one_whose_settings_lead_nowhere_is_not_and_init_knows_why() {
    for (url, reason) in [
        ("http://127.0.0.1:9/", "efused"),
        ("http://no-such-name.invalid/", "name"),
        ("https://127.0.0.1:9/", "no roots for TLS"),
    ] {
        let (device, ..) = on_trial();
        let told = init(&device);
        device.settings(url);
        let end = settling(&device, || {
            wait_for("init is told", || !told.lock().unwrap().is_empty());
            assert_eq!(device.boot().active, Slot::A, "not committed");
            let context = Context::load(&device.handle).unwrap();
            let status = ota::status::collect(&context).unwrap();
            let told = status.reason.as_deref().unwrap();
            assert!(told.contains("was not reached") && told.contains(reason), "{told}");
            // What `init` does at the deadline.
            device.set_boot(|boot| (boot.trial, boot.tries) = (None, 0));
        });
        assert!(end.unwrap_err().to_string().contains("nothing was committed"));
        let told = told.lock().unwrap();
        let line = &told[0];
        assert!(line.starts_with("trial-waits the update server was not reached: "), "{line}");
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn metadata_that_the_new_version_does_not_trust_keeps_it_from_being_committed() {
    let (device, _, server, two) = on_trial();
    let told = init(&device);
    // Another repository's: as if the image had the wrong root.
    let mut strange = Repository::new();
    strange.signers.timestamp = crate::support::role_key(9);
    strange.root = tuf::author::first_root(&strange.signers, strange.dates.targets).unwrap();
    device.put("etc/ferrite/tuf-root.json", &strange.root);
    std::fs::remove_dir_all(device.handle.tuf()).unwrap();
    let _ = settling(&device, || {
        wait_for("init is told", || !told.lock().unwrap().is_empty());
        device.set_boot(|boot| (boot.trial, boot.tries) = (None, 0));
    });
    assert_eq!(device.boot().active, Slot::A);
    drop((server, two));
}

#[test]
fn a_server_that_comes_back_within_the_trials_time_is_enough() {
    let (device, repository, server, _) = on_trial();
    let told = init(&device);
    server.put(Default::default());
    let end = settling(&device, || {
        wait_for("init is told", || !told.lock().unwrap().is_empty());
        server.put(repository.files.clone());
    });
    assert!(end.unwrap().unwrap().contains("committed 1.0.2"));
    assert_eq!(device.boot().active, Slot::B);
    let told = told.lock().unwrap();
    assert_eq!(told.last().unwrap(), "trial-waits -", "the reason is taken back");
}

#[test]
fn a_trial_that_failed_for_want_of_the_server_is_not_a_ban() {
    // In full, and as the boot state's note keeps it.
    let full = "trial not committed: the update server was not reached: http://x/: no connection";
    let note = formats::boot_state::note_text(full);
    for reason in [full, note.as_str()] {
        let (device, _, server, two) = on_trial();
        device.boot_into(Slot::A, &recipe(1).build().manifest, false, false);
        device.set_boot(|boot| boot.tries = 0);
        let failure = format!("ferrite-last-failure 1\nslot b\nreason {reason}\n");
        device.put("run/ferrite/last-failure", failure);
        let said = device.settle().unwrap().unwrap();
        assert!(said.contains("after 60 min more of healthy running"), "{said}");
        let state = device.state();
        assert_eq!(state.failed, []);
        let waits = state.retrial.unwrap();
        assert!(!waits.committed && waits.version == "1.0.2" && waits.reason == reason);
        assert_eq!((device.boot().trial, device.boot().fallback), (None, None));

        assert_eq!(device.update_from(&server.url()), Ok(false), "it waits");
        State::change(&device.handle, |state| ota::policy::retrial::count(state, 3600)).unwrap();
        server.take_requests();
        assert_eq!(device.update_from(&server.url()), Ok(true), "its time has come");
        assert!(device.holds(Slot::B, &two));
        let requests = server.take_requests();
        assert!(requests.len() < 8, "next to nothing is fetched again: {requests:?}");
        // It fails like that again: longer.
        device.set_boot(|boot| boot.tries = 0);
        let said = device.settle().unwrap().unwrap();
        assert!(said.contains("after 120 min more"), "{said}");
        // And for another reason: never again.
        State::change(&device.handle, |state| ota::policy::retrial::count(state, 7200)).unwrap();
        assert_eq!(device.update_from(&server.url()), Ok(true));
        device.set_boot(|boot| boot.tries = 0);
        device.put("run/ferrite/last-failure", "ferrite-last-failure 1\nslot b\nreason panic\n");
        device.settle().unwrap();
        assert_eq!((device.state().failed.len(), device.state().retrial), (1, None));
    }
}

#[test]
fn who_never_had_a_network_commits_as_ever() {
    let two = recipe(2).build();
    let far = |device: &TestDevice| device.settings("http://127.0.0.1:9/");
    // Never refreshed; a stick on a device that was refreshed just now; an old refresh.
    for (last_check, by_file) in [(None, false), (Some(0), true), (Some(2 * 86_400), false)] {
        let device = TestDevice::new();
        init(&device);
        let now = ota::clock::now();
        State::change(&device.handle, |state| state.last_check = last_check.map(|ago| now - ago))
            .unwrap();
        match by_file {
            true => drop(device.install_file(&two.bytes).unwrap()),
            false => {
                let path = "two.update".to_string();
                let server = Server::of_files([(path.clone(), two.bytes.clone())].into()).unwrap();
                device.install_url(&format!("{}{path}", server.url())).unwrap();
            }
        }
        far(&device);
        device.boot_into(Slot::B, &two.manifest, true, false);
        device.settle().unwrap();
        assert_eq!(device.boot().active, Slot::B, "{last_check:?} {by_file}");
    }
}

#[test]
fn what_init_did_not_take_it_is_told_again() {
    let (device, ..) = on_trial();
    let told = busy_init(&device, 1);
    device.settings("http://127.0.0.1:9/");
    let _ = settling(&device, || {
        wait_for("init is told twice", || told.lock().unwrap().len() == 2);
        device.set_boot(|boot| (boot.trial, boot.tries) = (None, 0));
    });
    let told = told.lock().unwrap();
    assert_eq!((told.len(), &told[0]), (2, &told[1]), "and no third time");
}

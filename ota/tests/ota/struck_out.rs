//! A version that was committed and left because its boots ended too often: it is never banned, it
//! waits, and is tried again as it lies there.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Server, TestDevice, Update, publish, recipe};
use formats::Slot;
use formats::boot_state::BootState;
use ota::commands::{Command, run};
use ota::context::Context;
use ota::daemon::keeper::Keeper;
use ota::data_folder::{DataFolder, Folder};
use ota::device::Device;
use ota::state::retrial::Retrial;

const HOUR: Duration = Duration::from_secs(3600);

/// A data partition that is full.
#[derive(Debug)]
struct Full(Folder);

impl Full {
    fn of(device: &TestDevice) -> Device {
        let full = Arc::new(Full(Folder::new(device.handle.data())));
        device.handle.clone().on(device.handle.partitions().clone(), full)
    }
}

impl DataFolder for Full {
    fn read(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        self.0.read(name, max)
    }

    fn replace(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn require_room(&self, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

/// Stands in for `init`: says that all has been well for a day.
fn healthy_init(device: &TestDevice) {
    let listener = UnixListener::bind(device.handle.ctl_socket()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 300];
            let _ = stream.read(&mut line);
            let _ = stream.write_all(b"ok\nvital healthy\nhealthy-for 86400\nreason\n");
        }
    });
}

/// A device that ran version 2 in slot b until its boots ended too often, and runs 1 in slot a. As
/// `init` leaves it: before this boot was settled, and after.
fn struck_out(settled: bool) -> (TestDevice, Update) {
    let device = TestDevice::new();
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.set_boot(|boot| boot.commit(Slot::B));
    ota::state::State::change(&device.handle, |state| state.pending = None).unwrap();
    let one = recipe(1).build();
    device.boot_into(Slot::A, &one.manifest, false, true);
    match settled {
        true => settle_fallback(&device),
        false => device.set_boot(|boot| boot.strikes = 8),
    }
    (device, two)
}

/// What `init` does when the fallback is healthy.
fn settle_fallback(device: &TestDevice) {
    device.set_boot(|boot| {
        *boot = BootState { generation: boot.generation, ..BootState::fresh() };
        boot.fallback = Some(Slot::B);
    });
}

fn offering(device: &TestDevice, updates: &[&Update]) -> Server {
    let sized: Vec<_> = updates.iter().map(|u| (*u, u.bytes.len() as u64)).collect();
    let files = publish(&sized);
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    Server::of_files(files).unwrap()
}

fn retrial(device: &TestDevice) -> Retrial {
    device.state().retrial.expect("something waits")
}

/// So much healthy running, in looks of a minute; true when a trial was armed.
fn runs_well_for(device: &TestDevice, time: Duration) -> bool {
    let context = Context::load(&device.handle).unwrap();
    let mut keeper = Keeper::default();
    let minute = Duration::from_secs(60);
    (0..time.as_secs() / 60).any(|_| keeper.pass(&context, minute, &|| ()).unwrap())
}

#[test]
fn it_is_not_banned_and_waits() {
    for settled in [false, true] {
        let (device, two) = struck_out(settled);
        let said = device.settle().unwrap().unwrap();
        assert!(said.starts_with("fell back from 1.0.2: it was reset again and again"), "{said}");
        assert!(said.contains("it is tried again after 60 min"), "{said}");
        assert_eq!(device.state().failed, []);
        let waits = retrial(&device);
        assert!(waits.committed && waits.sequence == 2 && waits.failures == 0);
        settle_fallback(&device);
        assert_eq!(device.settle(), Ok(None), "it is told once");
        assert_eq!(retrial(&device), waits);
        assert_eq!(device.boot().fallback, Some(Slot::B));
        let text = ota::status::collect(&Context::load(&device.handle).unwrap()).unwrap().to_text();
        assert!(text.contains("waits: 1.0.2 (sequence 2) in slot b: it was reset"), "{text}");
        assert!(text.contains("after 60 min more of healthy running"), "{text}");

        let before = device.medium();
        let server = offering(&device, &[&two]);
        assert_eq!(device.update_from(&server.url()), Ok(false), "it is there already");
        let error = device.refused(|| device.install_file(&two.bytes));
        assert!(error.contains("lies in slot b and waits"), "{error}");
        assert!(device.medium() == before);
    }
}

#[test]
fn a_still_newer_version_is_taken_and_an_older_one_is_not() {
    let (device, two) = struck_out(true);
    device.settle().unwrap();
    let mut between = recipe(2);
    between.version = "1.0.2-again".into();
    let three = recipe(3).build();
    let between = between.build();
    let mut repository = crate::support::Repository::new();
    repository.publish(&[&between, &two]);
    let server = repository.serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    repository.publish(&[&between, &two, &three]);
    server.put(repository.files.clone());
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &three));
    assert_eq!(device.state().retrial, None, "what waited was overwritten");
}

#[test]
fn after_an_hour_of_healthy_running_it_is_tried_as_it_lies_there() {
    let (device, two) = struck_out(true);
    healthy_init(&device);
    device.settle().unwrap();
    assert!(!runs_well_for(&device, HOUR / 2));
    // `ota` is started again: what was counted is not lost, nor counted twice.
    assert_eq!(retrial(&device).healthy_seconds, 1800);
    let mut before = device.medium();
    assert!(runs_well_for(&device, HOUR / 2));
    let mut after = device.medium();
    before.remove("firmware");
    after.remove("firmware");
    assert!(before == after, "nothing but the boot state was written");
    let boot = device.boot();
    assert_eq!((boot.trial, boot.tries, boot.active), (Some(Slot::B), 3, Slot::A));
    assert_eq!(boot.fallback, Some(Slot::B), "it stays what it was");
    assert_eq!(device.state().pending.unwrap().version, "1.0.2");
    assert!(!runs_well_for(&device, HOUR * 48), "it is armed");

    device.boot_into(Slot::B, &two.manifest, true, false);
    device.settle().unwrap();
    let (boot, state) = (device.boot(), device.state());
    assert_eq!((boot.active, boot.fallback, boot.trial), (Slot::B, Some(Slot::A), None));
    assert_eq!((state.retrial, state.pending), (None, None));
}

#[test]
fn each_retrial_that_fails_doubles_the_pause_and_never_bans() {
    let (device, _) = struck_out(true);
    healthy_init(&device);
    device.settle().unwrap();
    for hours in [1, 2, 4, 8, 16, 24, 24] {
        // All but the last ten minutes, which may be lost when `ota` starts anew.
        let most = HOUR * hours - Duration::from_secs(600);
        assert!(!runs_well_for(&device, most), "{hours} h");
        assert!(runs_well_for(&device, Duration::from_secs(600)), "{hours} h");
        device.set_boot(|boot| boot.tries = 0);
        device.boot_into(Slot::A, &recipe(1).build().manifest, false, false);
        device.settle().unwrap().unwrap();
        assert_eq!(device.state().failed, []);
        let boot = device.boot();
        assert_eq!((boot.trial, boot.active, boot.fallback), (None, Slot::A, Some(Slot::B)));
    }
    assert_eq!(retrial(&device).failures, 7);
}

#[test]
fn what_is_not_healthy_itself_tries_nothing() {
    let (device, _) = struck_out(true);
    device.settle().unwrap();
    assert!(!runs_well_for(&device, HOUR * 2), "nobody says that it is healthy");
    assert_eq!(retrial(&device).healthy_seconds, 0);
}

#[test]
fn a_person_has_it_tried_at_once() {
    for version in [None, Some("1.0.2"), Some("all")] {
        let (device, _) = struck_out(true);
        healthy_init(&device);
        run(Command::Retry(version.map(Into::into)), &device.handle).unwrap();
        assert_eq!(device.boot().trial, Some(Slot::B), "{version:?}");
        assert_eq!(device.boot().fallback, Some(Slot::B));
    }
    let (device, _) = struck_out(true);
    let error = run(Command::Retry(Some("9".into())), &device.handle).unwrap_err().to_string();
    assert!(error.contains("has not failed here"), "{error}");
    assert_eq!(device.boot().trial, None);
    let error = run(Command::Retry(None), &TestDevice::new().handle).unwrap_err().to_string();
    assert!(error.contains("nothing waits"), "{error}");
}

#[test]
fn a_version_that_failed_its_trial_is_taken_again_when_a_person_says_so() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let server = offering(&device, &[&two]);
    device.update_from(&server.url()).unwrap();
    device.set_boot(|boot| boot.tries = 0);
    device.settle().unwrap();
    assert!(device.update_from(&server.url()).is_err());
    let error = run(Command::Retry(None), &device.handle).unwrap_err().to_string();
    assert!(error.contains("nothing waits"), "nothing is named: {error}");
    run(Command::Retry(Some("1.0.2".into())), &device.handle).unwrap();
    assert_eq!(device.state().failed, []);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &two));
}

#[test]
fn what_a_person_rolled_back_from_is_not_tried_again_by_itself() {
    let device = TestDevice::new();
    healthy_init(&device);
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    run(Command::Commit, &device.handle).unwrap();
    run(Command::Rollback, &device.handle).unwrap();
    let one = recipe(1).build();
    device.boot_into(Slot::A, &one.manifest, true, false);
    device.settle().unwrap();
    assert_eq!((device.boot().active, device.boot().fallback), (Slot::A, Some(Slot::B)));
    device.boot_into(Slot::A, &one.manifest, false, false);
    assert_eq!(device.settle(), Ok(None));
    assert!(!runs_well_for(&device, HOUR * 30));
    let error = run(Command::Rollback, &device.handle).unwrap_err().to_string();
    assert!(error.contains("1.0.2 is newer"), "{error}");
    run(Command::Retry(Some("1.0.2".into())), &device.handle).unwrap();
    assert_eq!(device.boot().trial, Some(Slot::B));
}

#[test]
fn an_older_version_that_a_person_went_back_to_in_vain_is_neither_banned_nor_waits() {
    let device = TestDevice::new();
    healthy_init(&device);
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    run(Command::Commit, &device.handle).unwrap();
    run(Command::Rollback, &device.handle).unwrap();
    device.set_boot(|boot| boot.tries = 0);
    device.boot_into(Slot::B, &two.manifest, false, false);
    let said = device.settle().unwrap().unwrap();
    assert_eq!(said, "fell back from 1.0.1: it was reset again and again, and left no reason");
    let state = device.state();
    assert_eq!((state.retrial, state.pending), (None, None));
    assert_eq!(state.failed.iter().map(|f| f.sequence).collect::<Vec<_>>(), [2]);
    assert_eq!((device.boot().trial, device.boot().fallback), (None, Some(Slot::A)));
}

#[test]
fn its_publisher_has_a_failed_version_tried_again_once() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let mut repository = crate::support::Repository::new();
    let updates = [(&two, two.bytes.len() as u64)];
    repository.publish(&[&two]);
    let server = repository.serve(&device);
    let fails = || {
        device.set_boot(|boot| boot.tries = 0);
        device.settle().unwrap();
        assert!(device.update_from(&server.url()).is_err(), "it is remembered");
    };
    assert_eq!(device.update_from(&server.url()), Ok(true));
    fails();
    for level in [1, 2] {
        repository.publish_with(&updates, |ferrite| ferrite.retry = level);
        server.put(repository.files.clone());
        assert_eq!(device.update_from(&server.url()), Ok(true), "level {level}");
        fails();
    }
}

/// A cut on the way out of a decayed slot, and a boot state of which both copies were lost.
#[test]
fn what_nothing_falls_back_to_does_not_wait_for_good() {
    for by_keeper in [false, true] {
        let (device, two) = struck_out(true);
        device.settle().unwrap();
        device.set_boot(|boot| boot.fallback = None);
        match by_keeper {
            true => assert!(!runs_well_for(&device, HOUR / 60)),
            false => {
                let said = device.settle().unwrap().unwrap();
                assert_eq!(said, "1.0.2 waits in slot b no longer; it may be fetched again");
            }
        }
        assert_eq!(device.state().retrial, None);
        assert_eq!(device.settle(), Ok(None), "it is told once");
        let server = offering(&device, &[&two]);
        assert_eq!(device.update_from(&server.url()), Ok(true));
    }
}

#[test]
fn what_is_being_tried_again_is_not_forgotten() {
    let (device, _) = struck_out(true);
    healthy_init(&device);
    device.settle().unwrap();
    device.set_boot(|boot| (boot.trial, boot.tries, boot.fallback) = (Some(Slot::B), 3, None));
    assert!(!runs_well_for(&device, HOUR / 60));
    assert!(device.state().retrial.is_some());
}

/// Whatever of two writes is lost with the power, the other one alone leaves nothing stuck.
#[test]
fn a_cut_in_the_middle_of_giving_up_a_decayed_slot_leaves_nothing_stuck() {
    let (device, two) = struck_out(true);
    device.settle().unwrap();
    device.flip("root-b", &[9]);
    // The state cannot be written: the boot state is not touched before it.
    let full = Full::of(&device);
    let context = Context::load(&full).unwrap();
    assert!(ota::policy::fall_back::decayed(&context).is_err());
    assert_eq!(device.boot().fallback, Some(Slot::B));
    ota::policy::fall_back::decayed(&Context::load(&device.handle).unwrap()).unwrap();
    assert_eq!((device.boot().fallback, device.state().retrial), (None, None));
    let server = offering(&device, &[&two]);
    assert_eq!(device.update_from(&server.url()), Ok(true));
}

#[test]
fn a_state_that_cannot_be_written_loses_no_trial() {
    let (device, _) = struck_out(true);
    device.settle().unwrap();
    let full = Full::of(&device);
    let context = Context::load(&full).unwrap();
    let armed = ota::policy::retrial::arm(&context, 3).unwrap();
    assert_eq!(armed.unwrap().version, "1.0.2");
    assert_eq!((device.boot().trial, device.boot().tries), (Some(Slot::B), 3));
}

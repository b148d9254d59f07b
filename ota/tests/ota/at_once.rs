//! Things that happen at the same time: two updates, an update during a trial, a clock that jumps, a
//! server whose files change under a download.

use crate::support::wire::Wire;
use crate::support::{Repository, TestDevice, recipe, timeouts};
use formats::Slot;
use formats::network_time::NetworkTime;
use ota::context::Context;
use ota::daemon::{Daemon, Heart};

fn wired(device: &TestDevice, sequence: u64) -> Wire {
    let mut repository = Repository::new();
    repository.publish(&[&recipe(sequence).build()]);
    device.put("etc/ferrite/tuf-root.json", &repository.root);
    Wire::start(repository.files)
}

#[test]
fn two_updates_at_once_install_one() {
    let device = TestDevice::new();
    let server = wired(&device, 2);
    device.settings(&server.url());
    let round = || {
        let handle = device.handle.clone();
        move || {
            let context = Context::load(&handle).unwrap();
            Daemon::new(&context, timeouts(), &Heart::new()).unwrap().update()
        }
    };
    let rounds: Vec<_> = (0..3).map(|_| std::thread::spawn(round())).collect();
    let ended: Vec<_> = rounds.into_iter().map(|round| round.join().unwrap()).collect();
    assert!(ended.contains(&Ok(true)), "{ended:?}");
    for error in ended.iter().filter_map(|end| end.as_ref().err()) {
        // The other one's files may be replaced while this one reads them.
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert!(device.holds(Slot::B, &recipe(2).build()));
    assert_eq!(device.boot().trial, Some(Slot::B));
    assert_eq!(device.update_from(&server.url()), Ok(false));
}

#[test]
fn an_update_during_a_trial_waits_for_its_end() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    let server = wired(&device, 3);
    let before = device.medium();
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("`ota commit` or `ota rollback` first"), "{error}");
    assert!(device.medium() == before);
    ota::commands::run(ota::commands::Command::Commit, &device.handle).unwrap();
    device.boot_into(Slot::B, &two.manifest, false, false);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::A, &recipe(3).build()));
}

#[test]
fn a_time_server_that_jumps_ten_years_either_way_stops_nothing_for_longer_than_it_lies() {
    let device = TestDevice::new();
    let mut repository = Repository::new();
    let year = 366 * 86_400;
    let now = ota::clock::now();
    let end = tuf::Time(now + 5 * year);
    repository.dates.signed_at = tuf::Time(now);
    (repository.dates.targets, repository.dates.snapshot, repository.dates.timestamp) =
        (end, end, end);
    repository.publish(&[&recipe(2).build()]);
    let server = repository.serve(&device);
    let says = |unix| {
        let said = NetworkTime { unix, boot_ms: 0 };
        device.put("run/ferrite/network-time", said.to_text());
    };
    says(now + 10 * year);
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");
    says(now - 10 * year);
    assert_eq!(device.update_from(&server.url()), Ok(true));
}

#[test]
fn files_that_change_under_a_download_are_never_armed_and_cost_no_update() {
    let device = TestDevice::new();
    let server = wired(&device, 2);
    let other = recipe(9).build().bytes;
    let good = server.edit(|shared| shared.files.clone());
    let mut asked = 0;
    server.edit(|shared| {
        shared.before = Some(Box::new(move |path, files| {
            asked += usize::from(path.ends_with(".update"));
            if asked == 4 {
                // The head is the one that was promised; what follows is another version's.
                let file = files.get_mut(path).unwrap();
                let length = file.len().min(other.len());
                file[..length].copy_from_slice(&other[..length]);
            }
        }))
    });
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    assert_eq!((device.boot().trial, device.state().pending), (None, None));
    assert!(device.header_is_zero(Slot::B), "nothing takes it for whole");
    server.edit(|shared| {
        shared.before = None;
        shared.files = good;
    });
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &recipe(2).build()));
}

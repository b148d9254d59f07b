//! However long something takes, `init` hears in time that `ota` still turns over. One test, for a
//! process has one heart.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Fault, Repository, TestDevice, raw, recipe};
use ota::device::BootControl;
use ota::fetch::data_budget::Trigger;
use ota::fetch::http::Client;
use ota::fetch::remote::Remote;
use ota::fetch::timeouts::Timeouts;
use ota::heart::{self, Heart};
use ota::policy::check::refreshed;
use ota::settings::Settings;
use readiness::ReadyNotifier;

/// The longest that nothing was heard, while `work` was done.
fn longest_silence(beats: &Arc<Mutex<Vec<Instant>>>, work: impl FnOnce()) -> Duration {
    // Beats come at most once a second.
    std::thread::sleep(Duration::from_millis(1100));
    let begun = Instant::now();
    work();
    let end = Instant::now();
    let heard = beats.lock().unwrap();
    let within: Vec<_> = heard.iter().copied().filter(|at| *at > begun).collect();
    let starts = std::iter::once(begun).chain(within.iter().copied());
    let ends = within.iter().copied().chain([end]);
    starts.zip(ends).map(|(from, to)| to - from).max().unwrap()
}

/// A server that takes two seconds over each of the redirections that it answers with.
fn leading_on() -> String {
    let address = raw::start(|_, stream| {
        std::thread::sleep(Duration::from_secs(2));
        let _ = stream.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    });
    format!("http://{address}")
}

/// A process has one heart, which the other tests of this program let beat as well: it is listened to
/// in a process that runs nothing else.
#[test]
fn whatever_takes_long_beats_meanwhile() {
    const ALONE: &str = "FERRITE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return beats_meanwhile();
    }
    let this = ["--exact", "heartbeat::whatever_takes_long_beats_meanwhile"];
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(this).env(ALONE, "yes").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{why}");
}

fn beats_meanwhile() {
    let (mut read, write) = std::io::pipe().unwrap();
    Heart::on(ReadyNotifier::to(OwnedFd::from(write).into())).of_process();
    let beats = Arc::new(Mutex::new(Vec::new()));
    let heard = beats.clone();
    std::thread::spawn(move || {
        let mut one = [0; 1];
        while let Ok(1) = read.read(&mut one) {
            heard.lock().unwrap().push(Instant::now());
        }
    });
    // No wait for a server in here is longer than two seconds; what is in a row must not add up.
    let most = Duration::from_millis(3500);

    let device = TestDevice::new();
    let two = recipe(2).build();
    let mut repository = Repository::new();
    repository.publish(&[&two]);
    let server = repository.serve(&device);
    device.settings(&server.url());
    let settings = Settings::load(&device.handle.settings()).unwrap();
    let client = |url: &str| {
        let timeouts = Timeouts { rate_window: Duration::from_secs(4), ..Timeouts::default() };
        Client::of_device(&device.handle, &settings, timeouts, url, Trigger::Manual).unwrap()
    };
    let refresh = |url: &str| {
        let mut remote = Remote::new(client(url), url).unwrap();
        refreshed(&device.handle, &mut remote, url)
    };

    let url = leading_on();
    let silence = longest_silence(&beats, || drop(refresh(&url).unwrap_err()));
    assert!(silence < most, "redirections: {silence:?}");

    // Somebody else asks a slow server, and holds the metadata.
    let lock = std::fs::File::create(device.handle.data().join("tuf.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5));
        drop(lock);
    });
    let silence = longest_silence(&beats, || drop(refresh(&server.url()).unwrap()));
    assert!(silence < most, "another's check: {silence:?}");

    // An owner's limit of the rate, and a server that is asked again and again.
    server.spoil("timestamp.json", Fault::Paced(10));
    let silence = longest_silence(&beats, || drop(refresh(&server.url())));
    assert!(silence < most, "a slow answer: {silence:?}");
    server.heal();

    // A PID 1 that takes its time over the boot state, asked for it again and again.
    let handle = device.handle.clone().controlled_by(BootControl::Init);
    let init = UnixListener::bind(handle.ctl_socket()).unwrap();
    std::thread::spawn(move || {
        for mut asked in init.incoming().flatten() {
            let _ = asked.read(&mut [0; 100]);
            std::thread::sleep(Duration::from_secs(2));
            let _ = asked.write_all(b"error busy\n");
        }
    });
    let silence = longest_silence(&beats, || {
        for _ in 0..3 {
            assert!(ota::init::boot::state(&handle).unwrap_err().to_string().contains("busy"));
        }
    });
    assert!(silence < most, "the boot state: {silence:?}");

    let silence = longest_silence(&beats, || heart::sleep(Duration::from_secs(5)));
    assert!(silence < most, "sleep: {silence:?}");
    assert!(Path::new(&device.handle.tuf()).exists());
}

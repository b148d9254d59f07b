//! A device whose clock is wrong, or that has none, against repositories that are old, frozen or
//! from the future. The device's clock is this machine's; the repository is dated around it.

use crate::support::{Repository, TestDevice, recipe};
use formats::Slot;
use formats::network_time::NetworkTime;
use ota::context::Context;
use ota::status;
use tuf::Time;

const YEAR: u64 = 366 * 86_400;

fn now() -> u64 {
    ota::clock::now()
}

/// A repository with version 2, signed at one time and good until another.
fn dated(signed_at: u64, expires: u64) -> Repository {
    let mut repository = Repository::new();
    let end = Time(expires);
    repository.dates.signed_at = Time(signed_at);
    (repository.dates.targets, repository.dates.snapshot, repository.dates.timestamp) =
        (end, end, end);
    repository.publish(&[&recipe(2).build()]);
    repository
}

/// What `init` writes when a time server answers.
fn time_server_says(device: &TestDevice, unix: u64) {
    let said = NetworkTime { unix, boot_ms: 0 };
    device.put("run/ferrite/network-time", said.to_text());
}

fn says_expired(device: &TestDevice) -> bool {
    let status = status::collect(&Context::load(&device.handle).unwrap()).unwrap();
    assert_eq!(
        status.to_text().contains("by this device's own clock"),
        status.metadata_expired.is_some()
    );
    status.metadata_expired.is_some()
}

#[test]
fn a_device_that_was_off_for_a_year_updates_and_says_what_its_clock_says() {
    let device = TestDevice::new();
    let server = dated(now() - 2 * YEAR, now() - YEAR).serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(Slot::B, &recipe(2).build()));
    assert!(says_expired(&device));
}

#[test]
fn a_clock_ten_years_ahead_locks_nobody_out() {
    let device = TestDevice::new();
    let server = dated(now() - 10 * YEAR, now() - 10 * YEAR + 86_400).serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(says_expired(&device));
    // The next publication is as old by this clock; it follows all the same.
    assert_eq!(device.update_from(&server.url()), Ok(false), "it is armed");
}

#[test]
fn a_clock_ten_years_back_locks_nobody_out() {
    let device = TestDevice::new();
    let server = dated(now() + 10 * YEAR, now() + 11 * YEAR).serve(&device);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(!says_expired(&device));
}

#[test]
fn with_a_time_server_a_frozen_mirror_is_refused_and_without_it_taken_and_told() {
    let device = TestDevice::new();
    let expired = now() - 86_400;
    let server = dated(expired - YEAR, expired).serve(&device);
    time_server_says(&device, now());
    let before = device.medium();
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("timestamp.json: expired at"), "{error}");
    assert!(device.medium() == before);
    std::fs::remove_file(device.handle.network_time()).unwrap();
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(says_expired(&device));
}

#[test]
fn what_a_time_server_says_of_the_past_expires_nothing() {
    let device = TestDevice::new();
    let server = dated(now() - YEAR, now() + YEAR).serve(&device);
    time_server_says(&device, 1);
    assert_eq!(device.update_from(&server.url()), Ok(true));
}

#[test]
fn a_signed_time_makes_older_metadata_expire_without_any_clock() {
    let device = TestDevice::new();
    let mut repository = Repository::new();
    // Somebody re-signs the timestamp for ever and never the targets: a mirror that holds back.
    repository.dates.targets = Time(now() - 10 * YEAR);
    repository.dates.signed_at = Time(now() - 9 * YEAR);
    repository.publish(&[&recipe(2).build()]);
    let server = repository.serve(&device);
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.contains("targets.json: expired at"), "{error}");
}

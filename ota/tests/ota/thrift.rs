//! What asking costs.

use crate::support::wire::Wire;
use crate::support::{TestDevice, publish, recipe};

fn wired(device: &TestDevice, sequence: u64) -> Wire {
    let update = recipe(sequence).build();
    let files = publish(&[(&update, update.bytes.len() as u64)]);
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    Wire::start(files)
}

#[test]
fn nothing_new_costs_less_than_2_kib_both_ways_and_one_connection() {
    let device = TestDevice::new();
    let server = wired(&device, 1);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    server.take_counts();
    server.take_heads();
    assert_eq!(device.update_from(&server.url()), Ok(false));
    let (received, sent, connections) = server.take_counts();
    let heads = server.take_heads();
    println!("{received} bytes asked, {sent} bytes answered");
    assert!(received + sent <= 2048, "{received} + {sent} bytes: {heads:#?}");
    assert_eq!(connections, 1);
    let asked: Vec<_> = heads.iter().map(|head| head.split(' ').nth(1).unwrap()).collect();
    assert_eq!(asked, ["/metadata/2.root.json", "/metadata/timestamp.json"]);
    assert!(heads[1].to_lowercase().contains("if-none-match: \""), "{}", heads[1]);
}

#[test]
fn a_server_that_calls_every_timestamp_unchanged_keeps_nothing_from_a_device_that_lost_its_own() {
    let device = TestDevice::new();
    let server = wired(&device, 2);
    assert_eq!(device.update_from(&server.url()), Ok(true));
    std::fs::remove_file(device.path("data/tuf/timestamp.json")).unwrap();
    server.take_heads();
    assert_eq!(device.update_from(&server.url()), Ok(false), "it is armed");
    let heads = server.take_heads();
    assert!(!heads.iter().any(|head| head.to_lowercase().contains("if-none-match")), "{heads:#?}");
}

#[test]
fn a_new_timestamp_is_seen_although_the_old_one_has_a_tag() {
    let device = TestDevice::new();
    let server = wired(&device, 1);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    let two = recipe(2).build();
    let mut repository = crate::support::Repository::new();
    repository.publish(&[&recipe(1).build()]);
    repository.publish(&[&two]);
    server.edit(|shared| shared.files = repository.files.clone());
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(formats::Slot::B, &two));
}

/// What one round downloads, by the server's count.
fn sent_in_a_round(device: &TestDevice, server: &Wire) -> (Result<bool, ota::Error>, u64) {
    let round = device.update_from(&server.url());
    let (received, sent, _) = server.take_counts();
    (round, received + sent)
}

#[test]
fn a_days_budget_stops_a_download_that_goes_on_the_next_day() {
    const BUDGET: u64 = 700_000;
    let update = recipe(2).build();
    let device = TestDevice::new();
    let server = wired(&device, 2);
    device.extra_settings(&format!(r#""daily_budget": {BUDGET}"#));
    let (mut all, mut days) = (0, 0);
    loop {
        let (round, bytes) = sent_in_a_round(&device, &server);
        all += bytes;
        days += 1;
        // What a server had on its way when the budget was used up is beyond it.
        assert!(bytes < BUDGET + (512 << 10), "{bytes} bytes on one day");
        match round {
            Ok(armed) => {
                assert!(armed);
                break;
            }
            Err(error) => assert!(error.to_string().contains("budget of 700000 bytes"), "{error}"),
        }
        // Again on the same day, as after a reboot: not a byte.
        let (round, bytes) = sent_in_a_round(&device, &server);
        assert!(round.is_err() && bytes == 0, "{bytes} more bytes");
        let used = std::fs::read_to_string(device.path("data/budget.json")).unwrap();
        let used: ota::fetch::data_budget::Used = serde_json::from_str(&used).unwrap();
        let yesterday = ota::fetch::data_budget::Used { day: used.day - 1, ..used };
        device.put("data/budget.json", serde_json::to_vec(&yesterday).unwrap());
    }
    assert!(device.holds(formats::Slot::B, &update));
    assert!(days >= 2, "{days}");
    let size = update.bytes.len() as u64;
    assert!(all < size + days * (512 << 10), "{all} bytes for {size} on {days} days");
}

#[test]
fn outside_its_hours_the_daemon_asks_nothing_and_a_person_may() {
    let device = TestDevice::new();
    let server = wired(&device, 2);
    // Opens in an hour, for an hour.
    let minute = |seconds: u64| format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60);
    let now = ota::clock::now();
    device.extra_settings(&format!(r#""hours": "{}-{}""#, minute(now + 3600), minute(now + 7200)));
    let (round, bytes) = sent_in_a_round(&device, &server);
    let error = round.unwrap_err().to_string();
    assert!(error.contains("downloads are for between"), "{error}");
    assert_eq!(bytes, 0);
    ota::commands::run(ota::commands::Command::Install(None), &device.handle).unwrap();
    assert!(device.holds(formats::Slot::B, &recipe(2).build()));
}

#[test]
fn a_server_that_is_busy_says_for_how_long() {
    let device = TestDevice::new();
    let server = wired(&device, 2);
    for (status, after) in [(503, Some(7)), (429, Some(90)), (503, None), (500, Some(7))] {
        server.edit(|shared| shared.busy.push((status, after)));
        let error = device.update_from(&server.url()).unwrap_err();
        assert!(error.to_string().contains(&format!("answered {status}")), "{error}");
        let wished = match error {
            ota::Error::Later { after, .. } => Some(after.as_secs()),
            _ => None,
        };
        assert_eq!(wished, after.filter(|_| status != 500));
    }
    assert_eq!(device.update_from(&server.url()), Ok(true));
}

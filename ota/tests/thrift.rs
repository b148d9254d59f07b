//! What asking costs.

mod support;

use support::wire::Wire;
use support::{publish, recipe, Device};

fn wired(device: &Device, sequence: u64) -> Wire {
    let update = recipe(sequence).build();
    let files = publish(&[(&update, update.bytes.len() as u64)]);
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    Wire::start(files)
}

#[test]
fn nothing_new_costs_less_than_2_kib_both_ways_and_one_connection() {
    let device = Device::new();
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
    let device = Device::new();
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
    let device = Device::new();
    let server = wired(&device, 1);
    assert_eq!(device.update_from(&server.url()), Ok(false));
    let two = recipe(2).build();
    let mut repository = support::Repository::new();
    repository.publish(&[&recipe(1).build()]);
    repository.publish(&[&two]);
    server.edit(|shared| shared.files = repository.files.clone());
    assert_eq!(device.update_from(&server.url()), Ok(true));
    assert!(device.holds(slot::Slot::B, &two));
}

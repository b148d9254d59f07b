//! A link that goes down, or a process that ends, at any moment: what is fetched twice is counted
//! at the server, metadata, heads and tables included.

use std::cell::Cell;

use crate::support::{Delta, Fault, Server, TestDevice, Update, publish_beside, recipe, timeouts};
use formats::Slot;
use ota::context::Context;
use ota::fetch::data_budget::Trigger;
use ota::install::install;
use ota::policy::check::check;

/// One request on its way (256 KiB), what is not flushed yet (128 KiB), a chunk being written and
/// one fetched, and the metadata. With chunks of 256 KiB in place of 64 that is 0.9 MiB.
const TWICE: u64 = (256 + 128 + 2 * 64 + 16) << 10;

/// An update and what lies beside it.
struct Offered {
    new: Update,
    delta: Option<Delta>,
    index: Option<Vec<u8>>,
}

/// One for each chunk source; there is nothing for the others.
fn sources() -> Vec<(&'static str, Offered)> {
    let old = recipe(1).build();
    let mut changed = old.covered().to_vec();
    for at in (500..changed.len()).step_by(3_000) {
        changed[at] ^= 0x55;
    }
    let new = recipe(2).build_of(changed);
    let delta = Some(Delta::of(&old, &new));
    let mut moved = old.covered().to_vec();
    moved.rotate_right(4096);
    let shifted = recipe(2).build_of(moved);
    let index = Some(shifted.index());
    vec![
        ("delta", Offered { new, delta, index: None }),
        ("blocks", Offered { new: shifted, delta: None, index }),
        ("payload", Offered { new: recipe(2).build(), delta: None, index: None }),
    ]
}

fn world(offered: &Offered) -> (TestDevice, Server) {
    let device = TestDevice::new();
    let files = publish_beside(&offered.new, offered.delta.as_ref(), offered.index.as_deref());
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    let server = Server::of_files(files).unwrap();
    device.settings(&server.url());
    (device, server)
}

/// What an uninterrupted install fetches.
fn undisturbed(offered: &Offered) -> u64 {
    let (device, server) = world(offered);
    device.update_from(&server.url()).unwrap();
    server.sent()
}

#[test]
fn a_link_that_goes_down_anywhere_costs_little() {
    for (source, offered) in sources() {
        let all = undisturbed(&offered);
        let mut worst = 0;
        for point in 0..16 {
            let (device, server) = world(&offered);
            match all * point / 16 {
                0 => server.spoil("", Fault::DropAfter(0)),
                sent => server.cut_at(sent, || ()),
            }
            device.update_from(&server.url()).expect_err("the link was down");
            server.heal();
            device.update_from(&server.url()).unwrap();
            assert!(device.holds(Slot::B, &offered.new), "{source}, cut {point}");
            let twice = server.sent().saturating_sub(all);
            assert!(twice <= TWICE, "{source}, cut {point}: {twice} bytes were fetched twice");
            worst = worst.max(twice);
        }
        println!("{source}: {all} bytes, at most {worst} of them twice");
    }
}

#[test]
fn a_process_that_ends_anywhere_costs_little() {
    for (source, offered) in sources() {
        let all = undisturbed(&offered);
        let mut worst = 0;
        for stop in (0..).step_by(17) {
            let (device, server) = world(&offered);
            let context = Context::load(&device.handle).unwrap();
            let url = &context.settings().unwrap().url;
            let found = check(&context, timeouts(), url, Trigger::Scheduled).unwrap();
            let (_, offer) = found.take.into_iter().next().unwrap();
            let count = Cell::new(0);
            let beat = || {
                count.set(count.get() + 1);
                assert!(count.get() <= stop, "the test stops it here");
            };
            let stopped = std::panic::AssertUnwindSafe(|| {
                install(&Context::load(&device.handle).unwrap(), &offer, 3, &beat)
            });
            if std::panic::catch_unwind(stopped).is_ok() {
                break;
            }
            device.update_from(&server.url()).unwrap();
            assert!(device.holds(Slot::B, &offered.new), "{source}, stop {stop}");
            let twice = server.sent().saturating_sub(all);
            assert!(twice <= TWICE, "{source}, stop {stop}: {twice} bytes were fetched twice");
            worst = worst.max(twice);
        }
        println!("{source}: {all} bytes, at most {worst} of them twice");
    }
}

//! When a reset of the board is worth trying because a vital workload does not get well.
//!
//! A workload of a committed version that dies of what it was given (a picture, a file, a peer) dies
//! of it after a reset, too: it is started again, for as long as it takes. A reset can help against
//! a hung driver or kernel, and it is the way to the other slot for a version that never gets well.
//! So resets are tried, more and more rarely: their number is kept on the data partition and
//! forgotten after hours of health.

use formats::Result;
use formats::conf::{self, Writer};

use crate::data;

/// How many resets in a row did not help.
const KEPT: &str = "/data/ferrite/resets";
/// Its name in `init`'s own folder.
const KEPT_NAME: &str = "resets";
const FORM: &str = "ferrite-resets 1";
/// Taken for their number while, or where, `/data` cannot be had: rarely enough for a device whose
/// medium is dead, and often enough to reach the other slot within two hours.
const UNKNOWN: u32 = 4;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// The first pause on a system that was well in this boot: a hung driver hangs longer.
const WELL_ONCE: u64 = 30 * MINUTE;
/// The first pause on one that never was: after four resets, a quarter of an hour, the chooser
/// turns to the other slot.
const NEVER_WELL: u64 = MINUTE;
/// Milliseconds of unbroken health after which the resets are forgotten.
pub const FORGOTTEN_AFTER: u64 = 6 * 60 * MINUTE;

/// What is known of the boot whose vital workload is lost; times in milliseconds of uptime.
#[derive(Clone, Copy, Debug)]
pub struct Illness {
    /// Since when not all of them have been well.
    pub ill_since: u64,
    /// They were all well in this boot, for as long as makes it a good one.
    pub was_well: bool,
    /// A process outlives being killed: the kernel or a driver holds it.
    pub stuck: bool,
    /// Resets of this kind that did not help, if known.
    pub resets: Option<u32>,
}

/// When a committed system resets because of this illness, if it lasts until then.
pub fn reset_at(illness: &Illness) -> u64 {
    let resets = illness.resets.unwrap_or(UNKNOWN);
    match (illness.was_well, illness.stuck) {
        (false, _) => illness.ill_since.saturating_add(pause(NEVER_WELL, resets)),
        (true, false) => illness.ill_since.saturating_add(pause(WELL_ONCE, resets)),
        // Nothing but a reset frees such a process, so the first is not waited for.
        (true, true) if resets == 0 => illness.ill_since,
        (true, true) => illness.ill_since.saturating_add(pause(WELL_ONCE, resets - 1)),
    }
}

/// Doubles with each reset, up to a day.
fn pause(first: u64, resets: u32) -> u64 {
    first.saturating_mul(1 << resets.min(32)).min(DAY)
}

/// The number that was on the data partition when it was mounted; none is kept while there were no
/// resets.
pub fn load() -> u32 {
    data::collected(KEPT).map_or(0, |text| parse(&text).unwrap_or(UNKNOWN))
}

fn parse(text: &[u8]) -> Option<u32> {
    let conf = conf::parse(text, FORM).ok()?;
    u32::try_from(conf::one(&conf.head, "count").ok()?.number().ok()?).ok()
}

/// Before such a reset: its number. In a helper.
pub fn save(count: u32) -> Result<()> {
    let mut text = Writer::new(FORM);
    text.line("count", &count.to_string());
    data::own_folder(data::MOUNT)?.replace(KEPT_NAME, text.finish().as_bytes())
}

/// After hours of health. In a helper.
pub fn forget() -> Result<()> {
    save(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn illness(was_well: bool, stuck: bool, resets: u32) -> Illness {
        Illness { ill_since: 700_000, was_well, stuck, resets: Some(resets) }
    }

    #[test]
    fn a_version_that_never_gets_well_reaches_the_other_slot_within_a_quarter_of_an_hour() {
        let pauses: Vec<u64> =
            (0..4).map(|n| reset_at(&illness(false, false, n)) - 700_000).collect();
        assert_eq!(pauses, [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE]);
        assert_eq!(reset_at(&illness(false, false, 100)) - 700_000, DAY);
    }

    #[test]
    fn what_was_well_is_left_alone_for_half_an_hour_then_twice_as_long() {
        for (resets, minutes) in [(0, 30), (1, 60), (2, 120), (5, 960), (6, 1440), (99, 1440)] {
            assert_eq!(reset_at(&illness(true, false, resets)) - 700_000, minutes * MINUTE);
        }
    }

    #[test]
    fn a_process_that_nothing_kills_is_worth_one_reset_at_once() {
        assert_eq!(reset_at(&illness(true, true, 0)), 700_000);
        assert_eq!(reset_at(&illness(true, true, 1)) - 700_000, 30 * MINUTE);
    }

    #[test]
    fn without_its_data_partition_a_device_resets_rarely() {
        let unknown = Illness { resets: None, ..illness(false, false, 0) };
        assert_eq!(reset_at(&unknown) - 700_000, 16 * MINUTE);
    }

    #[test]
    fn the_file_is_read_as_it_is_written() {
        assert_eq!(parse(b"ferrite-resets 1\ncount 7\n"), Some(7));
        for wrong in [&b""[..], b"ferrite-resets 1\n", b"ferrite-resets 1\ncount -1\n", b"\0\0"] {
            assert_eq!(parse(wrong), None);
        }
    }

    proptest! {
        /// However many resets there were: never sooner than the last time, never later than a day.
        #[test]
        fn resets_only_grow_rarer(was_well: bool, stuck: bool, resets in 0u32..u32::MAX) {
            let (one, next) = (illness(was_well, stuck, resets), illness(was_well, stuck, resets + 1));
            prop_assert!(reset_at(&next) >= reset_at(&one));
            prop_assert!(reset_at(&next) <= one.ill_since + DAY);
        }
    }
}

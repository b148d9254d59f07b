//! The clocks of docs/updates.md. The device's own may be years off either way. The *lower bound* is a time that
//! has passed, by the time servers or by what the repository signed, and only that lets metadata
//! expire. TLS goes by the time servers alone.

use std::time::{SystemTime, UNIX_EPOCH};

use formats::conf;
use formats::network_time::NetworkTime;
use formats::system_conf::Outline;
use rustix::time::{ClockId, clock_gettime};
use tuf::Time;

use crate::bounded_file::read_bounded;
use crate::device::Device;

/// Clocks before 2024 were never set: no time of the day can be told from them.
const CLOCK_WAS_SET: u64 = 1_704_067_200;
/// Seconds that one signature may move the time forward: a year.
const LONGEST_LEAP: u64 = 366 * 86_400;

/// Seconds since 1970 by the device's own clock, which `init` never lets go back behind the last
/// time that was written down.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Whether somebody ever set the clock that shows this time.
pub fn was_set(now: u64) -> bool {
    now >= CLOCK_WAS_SET
}

/// What a time server said since this boot, and the time gone by since then.
pub fn network(device: &Device) -> Option<u64> {
    let text = read_bounded(&device.network_time(), conf::MAX_BYTES as u64).ok()?;
    NetworkTime::parse(&text).ok()?.at(boot_ms())
}

/// The lower bound of the time, in seconds since 1970; 0 when nothing is known. `signed_at` is when the trusted
/// metadata was signed.
pub fn lower_bound(device: &Device, signed_at: Option<u64>) -> u64 {
    let signed_at = signed_at.filter(|at| *at <= believable(device).0);
    network(device).unwrap_or(0).max(signed_at.unwrap_or(0))
}

/// The latest time that a signature of the repository alone may say it is: a year after all else
/// that is known of the time. The key for it is online, and the clock of its PC may be wrong.
pub(crate) fn believable(device: &Device) -> Time {
    let known = [Some(now()), network(device), built(device)];
    let latest = known.into_iter().flatten().max().unwrap_or(0);
    Time(latest.saturating_add(LONGEST_LEAP))
}

/// When the newest part of this image was published, in seconds since 1970, if the image says so: it
/// is later than that.
fn built(device: &Device) -> Option<u64> {
    let text = read_bounded(&device.system_conf(), conf::MAX_BYTES as u64).ok()?;
    Outline::parse(&text).ok()?.build_date
}

/// The device's time: what its own clock shows, unless the lower bound is later.
pub fn estimate(device: &Device, signed_at: Option<u64>) -> u64 {
    now().max(lower_bound(device, signed_at))
}

/// The lower bound before the repository is asked; what it signs of the time comes on top.
pub(crate) fn network_lower_bound(device: &Device) -> Time {
    Time(network(device).unwrap_or(0))
}

/// Milliseconds of CLOCK_BOOTTIME.
fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.max(0) as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(dir: &std::path::Path, text: &str) -> Device {
        let device = Device::below(dir);
        std::fs::create_dir_all(device.network_time().parent().unwrap()).unwrap();
        std::fs::write(device.network_time(), text).unwrap();
        device
    }

    #[test]
    fn what_a_time_server_said_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(network(&Device::below(dir.path())), None);
        let said = NetworkTime { unix: 1_900_000_000, boot_ms: 0 };
        let device = say(dir.path(), &said.to_text());
        let up = boot_ms() / 1000;
        let now = network(&device).unwrap();
        assert!(now >= 1_900_000_000 + up && now <= 1_900_000_000 + up + 60, "{now}");
        assert_eq!(lower_bound(&device, Some(1_910_000_000)), 1_910_000_000);
        // A leap over a year.
        assert_eq!(lower_bound(&device, Some(2_100_000_000)) / 100, now / 100);
        assert_eq!(lower_bound(&device, None) / 100, now / 100);
    }

    #[test]
    fn an_answer_of_another_boot_or_a_damaged_file_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let later = NetworkTime { unix: 1_900_000_000, boot_ms: boot_ms() + 3_600_000 };
        for text in [later.to_text(), "ferrite-time 1\n".into(), String::new()] {
            assert_eq!(network(&say(dir.path(), &text)), None, "{text:?}");
        }
    }
}

//! Clocks: the date for people, the time since boot for measuring.

use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the machine started, sleep included.
pub fn boot_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| Duration::from(t).as_millis() as u64)
}

/// Now, as RFC 3339 in UTC with milliseconds.
pub fn now() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Milliseconds with three digits behind the point, as results carry them.
pub fn ms(duration: Duration) -> f64 {
    (duration.as_micros() as f64) / 1000.0
}

/// Time since 1970 as RFC 3339. The date by the proleptic Gregorian calendar, in eras of 400
/// years (146097 days) that begin on 1 March, so that the leap day comes last.
fn rfc3339(since_epoch: Duration) -> String {
    const DAYS_TO_EPOCH: u64 = 719_468;
    let seconds = since_epoch.as_secs();
    let days = seconds / 86_400 + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z",
        since_epoch.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_what_date_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
        ] {
            let said = std::process::Command::new("date")
                .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%S.000Z"])
                .output()
                .expect("date (package coreutils)");
            assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), text);
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
    }
}

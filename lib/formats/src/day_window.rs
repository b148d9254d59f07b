//! A part of the day in UTC, `02:00-04:00`: when an update may be fetched, or the device rebooted.

use std::fmt;
use std::time::Duration;

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Minutes of a day.
const MINUTES: u16 = 1440;

/// From a minute of the day on, until another. It may cross midnight.
///
/// ```
/// use formats::day_window::DayWindow;
///
/// let night = DayWindow::parse("23:00-01:00").unwrap();
/// assert!(night.is_open(30 * 60)); // half past midnight
/// assert_eq!(night.to_text(), "23:00-01:00");
/// assert_eq!(night.to_string(), "between 23:00 and 01:00 UTC");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Deserialize), serde(try_from = "String"))]
pub struct DayWindow {
    from: u16,
    to: u16,
}

impl DayWindow {
    /// Reads `hh:mm-hh:mm`.
    pub fn parse(text: &str) -> Option<DayWindow> {
        let (from, to) = text.split_once('-')?;
        let window = DayWindow { from: minutes(from)?, to: minutes(to)? };
        (window.from != window.to).then_some(window)
    }

    /// The form that [`DayWindow::parse`] reads.
    pub fn to_text(self) -> String {
        format!("{}-{}", time(self.from), time(self.to))
    }

    /// Whether it is open at this time, in seconds since 1970.
    pub fn is_open(self, unix_seconds: u64) -> bool {
        let minute = (unix_seconds % DAY / 60) as u16;
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }

    /// How long it is open each day.
    pub fn length(self) -> Duration {
        let minutes = (self.to + MINUTES - self.from) % MINUTES;
        Duration::from_secs(u64::from(minutes) * 60)
    }

    /// How long until it opens; zero while it is open.
    pub fn opens_in(self, unix_seconds: u64) -> Duration {
        if self.is_open(unix_seconds) {
            return Duration::ZERO;
        }
        let opens = u64::from(self.from) * 60;
        Duration::from_secs((opens + DAY - unix_seconds % DAY) % DAY)
    }
}

/// For people.
impl fmt::Display for DayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "between {} and {} UTC", time(self.from), time(self.to))
    }
}

impl TryFrom<String> for DayWindow {
    type Error = String;

    fn try_from(text: String) -> Result<DayWindow, String> {
        DayWindow::parse(&text).ok_or_else(|| format!("{text:?} is not like \"02:00-04:00\""))
    }
}

#[cfg(feature = "json")]
impl serde::Serialize for DayWindow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

fn time(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// Minutes after midnight of `hh:mm`.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| -> Option<u16> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(h: u64, m: u64) -> u64 {
        DAY * 20_000 + h * 3600 + m * 60
    }

    #[test]
    fn windows() {
        let night = DayWindow::parse("23:00-01:00").unwrap();
        assert!(night.is_open(at(23, 0)) && night.is_open(at(0, 59)));
        assert!(!night.is_open(at(1, 0)) && !night.is_open(at(22, 59)));
        let early = DayWindow::parse("02:00-04:00").unwrap();
        assert!(early.is_open(at(2, 0)) && !early.is_open(at(4, 0)));
        assert_eq!(early.to_string(), "between 02:00 and 04:00 UTC");
        assert_eq!((early.length(), night.length()), (Duration::from_secs(7200), early.length()));
        assert_eq!(early.opens_in(at(1, 30)), Duration::from_secs(1800));
        assert_eq!(early.opens_in(at(4, 0)), Duration::from_secs(22 * 3600));
        for bad in
            ["", "2:00-4:00", "24:00-01:00", "02:00", "02:00-02:00", "02:60-03:00", "+2:00-03:00"]
        {
            assert_eq!(DayWindow::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(from in 0u16..1440, to in 0u16..1440) {
            prop_assume!(from != to);
            let window = DayWindow { from, to };
            prop_assert_eq!(DayWindow::parse(&window.to_text()), Some(window));
        }

        #[test]
        fn when_it_opens_it_is_open(from in 0u16..1440, to in 0u16..1440, now in 0..DAY * 40_000) {
            prop_assume!(from != to);
            let window = DayWindow { from, to };
            let wait = window.opens_in(now).as_secs();
            prop_assert!(wait < DAY && window.is_open(now + wait));
            prop_assert!(wait == 0 || !window.is_open(now + wait - 1));
        }
    }
}

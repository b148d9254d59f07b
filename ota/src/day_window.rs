//! A part of the day, in UTC: `"02:00-04:00"`. It may cross midnight.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

const DAY: u64 = 86_400;

/// From a minute of the day on, until another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
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
        let minutes = (u64::from(self.to) + 1440 - u64::from(self.from)) % 1440;
        Duration::from_secs(minutes * 60)
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

impl fmt::Display for DayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = (self.from, self.to);
        write!(f, "between {:02}:{:02} and {:02}:{:02} UTC", a / 60, a % 60, b / 60, b % 60)
    }
}

impl TryFrom<String> for DayWindow {
    type Error = String;

    fn try_from(text: String) -> Result<DayWindow, String> {
        DayWindow::parse(&text).ok_or_else(|| format!("{text:?} is not like \"02:00-04:00\""))
    }
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
        fn when_it_opens_it_is_open(from in 0u16..1440, to in 0u16..1440, now in 0..DAY * 40_000) {
            prop_assume!(from != to);
            let window = DayWindow { from, to };
            let wait = window.opens_in(now).as_secs();
            prop_assert!(wait < DAY && window.is_open(now + wait));
            prop_assert!(wait == 0 || !window.is_open(now + wait - 1));
        }
    }
}

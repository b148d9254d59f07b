//! Points in time as TUF writes them: `YYYY-MM-DDTHH:MM:SSZ` (specification section 4.2.1).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

const DAY: u64 = 86_400;

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The last second that the text form can hold.
    pub const MAX: Time = Time(253_402_300_799);

    /// This time and `days` days, at most [`Time::MAX`].
    pub fn plus_days(self, days: u64) -> Time {
        Time(self.0.saturating_add(days.saturating_mul(DAY))).min(Time::MAX)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.min(Time::MAX.0);
        let (year, month, day) = date_of_day(seconds / DAY);
        let rest = seconds % DAY;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            rest / 3600,
            rest / 60 % 60,
            rest % 60
        )
    }
}

/// The text was not `YYYY-MM-DDTHH:MM:SSZ` with a date that exists from 1970 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotATime(String);

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a time like 2030-01-31T00:00:00Z", self.0)
    }
}

impl std::error::Error for NotATime {}

impl FromStr for Time {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Time, NotATime> {
        parse(text).ok_or_else(|| NotATime(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<Time> {
    let b = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = b.len() == shape.len()
        && b.iter().zip(shape).all(|(c, s)| match s {
            b'd' => c.is_ascii_digit(),
            s => c == s,
        });
    if !fits {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = day_of_date(year, month, day);
    // A date that does not exist (month 13, 30 February) comes back as another one.
    if date_of_day(days) != (year, month, day) {
        return None;
    }
    Some(Time(days * DAY + hour * 3600 + minute * 60 + second))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn month_lengths(year: u64) -> [u64; 12] {
    let february = if is_leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Days from 1970-01-01 to the first of January of `year`, for `year` from 1970 on.
fn day_of_year(year: u64) -> u64 {
    let leap_days = |y: u64| y / 4 - y / 100 + y / 400;
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
}

fn day_of_date(year: u64, month: u64, day: u64) -> u64 {
    let before: u64 = month_lengths(year).iter().take(month.saturating_sub(1) as usize).sum();
    day_of_year(year) + before + day.saturating_sub(1)
}

fn date_of_day(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while day_of_year(year + 1) <= days {
        year += 1;
    }
    let mut left = days - day_of_year(year);
    let mut month = 1;
    for length in month_lengths(year) {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_255_200, "2026-11-21T10:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Time(seconds).to_string(), text);
            assert_eq!(text.parse::<Time>(), Ok(Time(seconds)));
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T10:00:00+00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-21T10:00:00.5Z",
            "２026-11-21T10:00:00Z",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(seconds in 0..=Time::MAX.0) {
            prop_assert_eq!(Time(seconds).to_string().parse::<Time>(), Ok(Time(seconds)));
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<Time>();
        }
    }
}

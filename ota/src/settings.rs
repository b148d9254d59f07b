//! What the image says about updates: `/etc/ferrite/ota.json`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// No settings are longer, in bytes.
const MAX_SETTINGS: u64 = 64 << 10;

/// The settings, as the image file gave them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The repository's URL.
    pub url: String,
    /// Name of the image; updates with another name are refused.
    pub name: String,
    /// Seconds between two questions to the repository.
    pub poll_seconds: u64,
    /// Up to so many seconds are added, at random.
    pub jitter_seconds: u64,
    /// How long every vital workload has to be healthy before a trial is committed.
    pub commit_after_seconds: u64,
    /// How often a version on trial is booted before it counts as failed.
    pub tries: u8,
    /// When to reboot into what was installed.
    pub reboot: Reboot,
    /// Limit of the download.
    #[serde(default)]
    pub max_bytes_per_second: Option<u64>,
    /// Groups of a rollout that every device of this image is in, unless it has its own.
    #[serde(default)]
    pub groups: Vec<String>,
    /// A stick with a bundle on it updates the device.
    #[serde(default)]
    pub sticks: bool,
}

impl Settings {
    /// Reads and checks the settings.
    pub fn load(path: &Path) -> Result<Settings> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SETTINGS).read_to_string(&mut text))
            .map_err(|e| Error::at(path, e))?;
        Settings::parse(&text).map_err(|reason| Error::at(path, reason))
    }

    fn parse(text: &str) -> std::result::Result<Settings, String> {
        let settings: Settings = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if settings.poll_seconds == 0 {
            return Err("poll_seconds: must be at least 1".into());
        }
        if settings.tries == 0 {
            return Err("tries: must be at least 1".into());
        }
        if settings.max_bytes_per_second == Some(0) {
            return Err("max_bytes_per_second: must be at least 1, or null for no limit".into());
        }
        Ok(settings)
    }
}

/// When the device may reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Reboot {
    /// At once.
    Now,
    /// When a person does it.
    Manual,
    /// Between two times of the day, UTC, in minutes after midnight. May cross midnight.
    Window(u16, u16),
}

impl TryFrom<String> for Reboot {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Reboot, String> {
        let window = || {
            let (from, to) = text.split_once('-')?;
            Some((minutes(from)?, minutes(to)?)).filter(|(from, to)| from != to)
        };
        match (text.as_str(), window()) {
            ("now", _) => Ok(Reboot::Now),
            ("manual", _) => Ok(Reboot::Manual),
            (_, Some((from, to))) => Ok(Reboot::Window(from, to)),
            _ => {
                Err(format!("reboot: {text:?} is not \"now\", \"manual\" or like \"02:00-04:00\""))
            }
        }
    }
}

impl fmt::Display for Reboot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reboot::Now => f.write_str("now"),
            Reboot::Manual => f.write_str("when somebody reboots"),
            Reboot::Window(a, b) => {
                write!(f, "between {:02}:{:02} and {:02}:{:02} UTC", a / 60, a % 60, b / 60, b % 60)
            }
        }
    }
}

impl Reboot {
    /// Whether the device may reboot at this time (seconds since 1970, UTC).
    pub fn allows(self, unix_seconds: u64) -> bool {
        let minute = (unix_seconds % 86_400 / 60) as u16;
        match self {
            Reboot::Now => true,
            Reboot::Manual => false,
            Reboot::Window(from, to) if from < to => (from..to).contains(&minute),
            Reboot::Window(from, to) => minute >= from || minute < to,
        }
    }
}

/// Minutes after midnight of `hh:mm`.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |t: &str| {
        (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse().ok())?
    };
    let (hour, minute): (u16, u16) = (two(hour)?, two(minute)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"url": "http://u", "name": "demo", "poll_seconds": 3600,
        "jitter_seconds": 600, "commit_after_seconds": 30, "tries": 3, "reboot": "now",
        "max_bytes_per_second": null}"#;

    #[test]
    fn settings_are_checked() {
        let settings = Settings::parse(GOOD).unwrap();
        assert_eq!((settings.tries, settings.reboot), (3, Reboot::Now));
        for (from, to, word) in [
            ("\"tries\": 3", "\"tries\": 0", "tries"),
            ("3600", "0", "poll_seconds"),
            ("null", "0", "max_bytes_per_second"),
            ("\"now\"", "\"later\"", "reboot"),
            ("\"url\"", "\"uri\"", "uri"),
        ] {
            let error = Settings::parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn windows() {
        let window = |text: &str| Reboot::try_from(text.to_string());
        assert_eq!(window("02:00-04:30"), Ok(Reboot::Window(120, 270)));
        for bad in
            ["", "2:00-4:00", "24:00-01:00", "02:00", "02:00-02:00", "02:60-03:00", "+2:00-03:00"]
        {
            assert!(window(bad).is_err(), "{bad}");
        }
        let at = |h: u64, m: u64| 86_400 * 20_000 + h * 3600 + m * 60;
        let night = Reboot::Window(23 * 60, 60);
        assert!(night.allows(at(23, 0)) && night.allows(at(0, 59)));
        assert!(!night.allows(at(1, 0)) && !night.allows(at(22, 59)));
        let early = Reboot::Window(120, 240);
        assert!(early.allows(at(2, 0)) && !early.allows(at(4, 0)));
    }
}

//! What the image says about updates: `/etc/ferrite/ota.json`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::day_window::DayWindow;
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
    /// The proxy that every connection goes through; else what the environment says.
    #[serde(default)]
    pub proxy: Option<String>,
    /// A token may be sent over plain HTTP too.
    #[serde(default)]
    pub token_over_http: bool,
    /// When something may be fetched; at any time if absent.
    #[serde(default)]
    pub hours: Option<DayWindow>,
    /// Bytes that may go over the link in a day (UTC), both ways, headers and all.
    #[serde(default)]
    pub daily_budget: Option<u64>,
    /// Where the outcome of an update is told; nowhere if absent.
    #[serde(default)]
    pub report_url: Option<String>,
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

    /// Reads and checks the settings in a text.
    pub fn parse(text: &str) -> std::result::Result<Settings, String> {
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
    /// In a part of the day.
    Window(DayWindow),
}

impl TryFrom<String> for Reboot {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Reboot, String> {
        match (text.as_str(), DayWindow::parse(&text)) {
            ("now", _) => Ok(Reboot::Now),
            ("manual", _) => Ok(Reboot::Manual),
            (_, Some(window)) => Ok(Reboot::Window(window)),
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
            Reboot::Window(window) => window.fmt(f),
        }
    }
}

impl Reboot {
    /// Whether the device may reboot at this time (seconds since 1970, UTC).
    pub fn allows(self, unix_seconds: u64) -> bool {
        match self {
            Reboot::Now => true,
            Reboot::Manual => false,
            Reboot::Window(window) => window.is_open(unix_seconds),
        }
    }
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
    fn an_image_may_say_how_it_reaches_its_server() {
        let more = r#""max_bytes_per_second": null, "groups": ["canary"], "hours": "01:00-05:00",
            "daily_budget": 50000000, "proxy": "http://p:1", "token_over_http": true,
            "report_url": "https://r/x""#;
        let settings =
            Settings::parse(&GOOD.replace(r#""max_bytes_per_second": null"#, more)).unwrap();
        assert_eq!(settings.hours, DayWindow::parse("01:00-05:00"));
        assert_eq!(settings.daily_budget, Some(50_000_000));
        let settings = Settings::parse(GOOD).unwrap();
        assert!(!settings.token_over_http && settings.report_url.is_none());
    }
}

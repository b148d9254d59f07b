//! `/etc/ferrite/ota.json` on the root: what the image file says about updates. Written by `imager`
//! from `[update]`, read by `ota`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::day_window::DayWindow;
use crate::error::io as io_error;

/// The longest file, in bytes.
pub const MAX_BYTES: u64 = 64 << 10;

/// The settings of the update client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtaSettings {
    /// The repository's URL.
    pub url: String,
    /// Name of the image; updates with another name are refused.
    pub name: String,
    /// Seconds between two checks of the repository; at least 1.
    pub poll_seconds: u64,
    /// Up to so many seconds are added, at random.
    pub jitter_seconds: u64,
    /// How long every vital workload has to be healthy before a trial is committed, in seconds.
    pub commit_after_seconds: u64,
    /// How often a version on trial is booted before it counts as failed; at least 1.
    pub tries: u8,
    /// When to reboot into what was installed.
    pub reboot: Reboot,
    /// The rate limit of downloads, at least 1; none if absent.
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
    /// Where the outcome of an update is reported; nowhere if absent.
    #[serde(default)]
    pub report_url: Option<String>,
}

impl OtaSettings {
    /// Reads and checks the file. The error names it, and the key.
    pub fn load(path: &Path) -> crate::Result<OtaSettings> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
            .map_err(|e| io_error(path, &e))?;
        OtaSettings::parse(&text)
            .map_err(|reason| Error::new(reason).within(&path.to_string_lossy()))
    }

    /// Reads and checks the file's text. The error names the key.
    pub fn parse(text: &str) -> Result<OtaSettings, String> {
        let settings: OtaSettings = serde_json::from_str(text).map_err(|e| e.to_string())?;
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

    /// The file's text.
    pub fn to_text(&self) -> String {
        format!("{:#}\n", serde_json::json!(self))
    }
}

/// When the device may reboot into what was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Reboot {
    /// At once.
    #[default]
    Now,
    /// When a person does it.
    Manual,
    /// In a part of the day.
    Window(DayWindow),
}

const NOW: &str = "now";
const MANUAL: &str = "manual";

impl Reboot {
    /// Reads `now`, `manual` or a [`DayWindow`].
    pub fn parse(text: &str) -> Option<Reboot> {
        match text {
            NOW => Some(Reboot::Now),
            MANUAL => Some(Reboot::Manual),
            window => DayWindow::parse(window).map(Reboot::Window),
        }
    }

    /// The form that [`Reboot::parse`] reads.
    pub fn to_text(self) -> String {
        match self {
            Reboot::Now => NOW.into(),
            Reboot::Manual => MANUAL.into(),
            Reboot::Window(window) => window.to_text(),
        }
    }

    /// Whether the device may reboot at this time, in seconds since 1970.
    pub fn allows(self, unix_seconds: u64) -> bool {
        match self {
            Reboot::Now => true,
            Reboot::Manual => false,
            Reboot::Window(window) => window.is_open(unix_seconds),
        }
    }
}

impl TryFrom<String> for Reboot {
    type Error = String;

    fn try_from(text: String) -> Result<Reboot, String> {
        Reboot::parse(&text).ok_or_else(|| {
            format!("reboot: {text:?} is not \"now\", \"manual\" or like \"02:00-04:00\"")
        })
    }
}

impl Serialize for Reboot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

/// For people.
impl fmt::Display for Reboot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reboot::Now => f.write_str(NOW),
            Reboot::Manual => f.write_str("when somebody reboots"),
            Reboot::Window(window) => window.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    const GOLDEN: &str = r#"{
  "commit_after_seconds": 30,
  "daily_budget": 52428800,
  "groups": [
    "canary"
  ],
  "hours": "23:00-05:30",
  "jitter_seconds": 600,
  "max_bytes_per_second": 524288,
  "name": "demo",
  "poll_seconds": 3600,
  "proxy": "http://p:3128",
  "reboot": "02:00-04:00",
  "report_url": "https://h/report",
  "sticks": true,
  "token_over_http": true,
  "tries": 3,
  "url": "https://h/r"
}
"#;

    #[test]
    fn the_text_is_the_one_of_docs_architecture() {
        let settings = OtaSettings::parse(GOLDEN).unwrap();
        assert_eq!(settings.hours, DayWindow::parse("23:00-05:30"));
        assert_eq!(settings.daily_budget, Some(50 << 20));
        assert_eq!(settings.to_text(), GOLDEN);
    }

    #[test]
    fn settings_are_checked() {
        for (from, to, word) in [
            ("\"tries\": 3", "\"tries\": 0", "tries"),
            ("3600", "0", "poll_seconds"),
            ("524288,", "0,", "max_bytes_per_second"),
            ("02:00-04:00", "later", "reboot"),
            ("\"url\"", "\"uri\"", "uri"),
        ] {
            let error = OtaSettings::parse(&GOLDEN.replace(from, to)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_an_image_of_0_1_does_not_say_has_a_default() {
        let old = r#"{"url": "http://u", "name": "demo", "poll_seconds": 3600,
            "jitter_seconds": 600, "commit_after_seconds": 30, "tries": 3, "reboot": "manual",
            "max_bytes_per_second": null}"#;
        let settings = OtaSettings::parse(old).unwrap();
        assert_eq!((settings.tries, settings.reboot), (3, Reboot::Manual));
        assert!(!settings.token_over_http && settings.report_url.is_none());
    }

    fn window() -> impl Strategy<Value = DayWindow> {
        (0..24, 0..60, 0..24, 0..60).prop_filter_map("an empty window", |(a, b, c, d)| {
            DayWindow::parse(&format!("{a:02}:{b:02}-{c:02}:{d:02}"))
        })
    }

    fn reboot() -> impl Strategy<Value = Reboot> {
        prop_oneof![Just(Reboot::Now), Just(Reboot::Manual), window().prop_map(Reboot::Window)]
    }

    fn settings() -> impl Strategy<Value = OtaSettings> {
        let numbers = (1u64.., any::<u64>(), any::<u64>(), 1u8..);
        let limits = (option::of(1u64..), option::of(any::<u64>()), option::of(window()));
        let texts = (".{0,20}", ".{0,20}", proptest::collection::vec(".{0,9}", 0..3));
        let more = (option::of(".{0,20}"), option::of(".{0,20}"), any::<(bool, bool)>());
        (numbers, reboot(), limits, texts, more).prop_map(
            |(numbers, reboot, limits, (url, name, groups), more)| OtaSettings {
                url,
                name,
                poll_seconds: numbers.0,
                jitter_seconds: numbers.1,
                commit_after_seconds: numbers.2,
                tries: numbers.3,
                reboot,
                max_bytes_per_second: limits.0,
                daily_budget: limits.1,
                hours: limits.2,
                groups,
                proxy: more.0,
                report_url: more.1,
                sticks: more.2.0,
                token_over_http: more.2.1,
            },
        )
    }

    proptest! {
        #[test]
        fn comes_back(settings in settings()) {
            prop_assert_eq!(OtaSettings::parse(&settings.to_text()).unwrap(), settings);
        }
    }
}

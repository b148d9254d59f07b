//! `/data/ferrite/settings`: what one device has and its image does not. Conf form, written by
//! `imager flash`, read by `init`; every line is optional:
//! ```text
//! ferrite-settings 1
//! hostname kitchen-1
//! timezone Europe/Berlin CET-1CEST,M3.5.0,M10.5.0/3
//! wifi My network
//! ssh-key ssh-ed25519 AAAA… someone@somewhere
//! file face/ca.pem
//! ```
//! Nothing in it is secret and nothing in it is signed: whoever can write the medium can write it.
//! So a device looks at each value by its own function, leaves out the one that is no good, and
//! carries only the functions that it needs; whoever wants all or nothing uses [`Settings::parse`].

use crate::conf::{self, Conf, Line, Writer};
use crate::{Error, Result, key};

const FIRST_LINE: &str = "ferrite-settings 1";
/// The longest host name, in bytes: one label of DNS (RFC 1123, 2.1; RFC 1035, 2.3.4).
pub const MAX_HOSTNAME: usize = 63;
/// The longest name of a wireless network, in bytes (IEEE 802.11-2020, 9.4.2.2).
pub const MAX_SSID: usize = 32;
/// The most SSH keys of a device.
pub const MAX_SSH_KEYS: usize = 16;
/// The longest SSH key, in bytes: one of RSA with 16384 bits and a comment.
pub const MAX_SSH_KEY: usize = 3500;
/// The longest name of a time zone, and the longest rule, in bytes.
const MAX_ZONE: usize = 64;

/// A time zone in both ways that libraries take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeZone<'a> {
    /// Its name in the time zone database, like `Europe/Berlin`.
    pub name: &'a str,
    /// The same as a rule that needs no database (POSIX.1-2017, 8.3, `TZ`; RFC 8536, 3.3).
    pub rule: &'a str,
}

/// All settings of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its host name, instead of the image's.
    pub hostname: Option<String>,
    /// Name and rule of its time zone: [`TimeZone`].
    pub timezone: Option<(String, String)>,
    /// The wireless network that it joins, in images that can.
    pub wifi: Option<String>,
    /// Who may log in as root, in images with an SSH server: lines of a file `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// Files that were put below the workloads' folders, as `WORKLOAD/PATH`.
    pub files: Vec<String>,
}

impl Settings {
    /// Reads the file's text; fails at the first value that is no good.
    pub fn parse(text: &[u8]) -> Result<Settings> {
        let lines = parse(text)?;
        let zone = timezone(&lines)?;
        Ok(Settings {
            hostname: hostname(&lines)?.map(String::from),
            timezone: zone.map(|zone| (zone.name.to_string(), zone.rule.to_string())),
            wifi: wifi(&lines)?.map(String::from),
            ssh_keys: ssh_keys(&lines)?.into_iter().map(String::from).collect(),
            files: conf::values(&lines.head, key::FILE),
        })
    }

    /// The file's text.
    ///
    /// Panics when a value holds a line feed.
    pub fn to_text(&self) -> String {
        let mut text = Writer::new(FIRST_LINE);
        if let Some(name) = &self.hostname {
            text.line(key::HOSTNAME, name);
        }
        if let Some((name, rule)) = &self.timezone {
            text.line(key::TIMEZONE, &[name, " ", rule].concat());
        }
        if let Some(ssid) = &self.wifi {
            text.line(key::WIFI, ssid);
        }
        text.lines(key::SSH_KEY, &self.ssh_keys).lines(key::FILE, &self.files);
        text.finish()
    }
}

/// The settings of a device; the lines are not looked at yet.
pub fn parse(text: &[u8]) -> Result<Conf<'_>> {
    conf::parse(text, FIRST_LINE)
}

/// The host name, if one is set.
pub fn hostname<'a>(settings: &Conf<'a>) -> Result<Option<&'a str>> {
    checked(settings, key::HOSTNAME, "is not a host name", is_hostname)
}

/// The time zone, if one is set.
pub fn timezone<'a>(settings: &Conf<'a>) -> Result<Option<TimeZone<'a>>> {
    let text = checked(settings, key::TIMEZONE, "is not `NAME RULE`", |text| {
        text.split_once(' ').is_some_and(|(name, rule)| is_zone_name(name) && is_zone_rule(rule))
    })?;
    Ok(text.and_then(|text| text.split_once(' ')).map(|(name, rule)| TimeZone { name, rule }))
}

/// The name of the wireless network, if one is set.
pub fn wifi<'a>(settings: &Conf<'a>) -> Result<Option<&'a str>> {
    checked(settings, key::WIFI, "is not the name of a network", is_ssid)
}

/// The SSH keys, as in a file `authorized_keys`.
pub fn ssh_keys<'a>(settings: &Conf<'a>) -> Result<Vec<&'a str>> {
    let lines = conf::each(&settings.head, key::SSH_KEY);
    let keys: Vec<_> = lines.map(|line| line.value).collect();
    if keys.len() > MAX_SSH_KEYS || keys.iter().any(|key| !is_ssh_line(key)) {
        return Err(Error::new("ssh-key: more than 16, or one that is no line of a key"));
    }
    Ok(keys)
}

fn checked<'a>(
    settings: &Conf<'a>,
    key: &str,
    complaint: &str,
    is_good: impl Fn(&str) -> bool,
) -> Result<Option<&'a str>> {
    if !settings.head.iter().any(|line| line.key == key) {
        return Ok(None);
    }
    let line: &Line<'a> = conf::one(&settings.head, key)?;
    if is_good(line.value) { Ok(Some(line.value)) } else { Err(line.error(complaint)) }
}

/// Whether `text` may be a host name: letters, digits and `-` inside.
pub fn is_hostname(text: &str) -> bool {
    (1..=MAX_HOSTNAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether `text` may be a time zone's name: a relative path without dots.
pub fn is_zone_name(text: &str) -> bool {
    text.len() <= MAX_ZONE
        && text.split('/').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
        })
}

/// Whether `text` may be a time zone's rule; libraries take a wrong one as UTC.
pub fn is_zone_rule(text: &str) -> bool {
    (4..=MAX_ZONE).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"<>+-,./:".contains(&b))
        && !text.starts_with([':', '/', '.'])
}

/// Whether `text` may be a wireless network's name here: any text without control characters.
/// Other names exist and cannot be typed.
pub fn is_ssid(text: &str) -> bool {
    (1..=MAX_SSID).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn is_ssh_line(text: &str) -> bool {
    text.len() <= MAX_SSH_KEY
        && !text.chars().any(char::is_control)
        && text.split_once(' ').is_some_and(|(kind, _)| kind.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_architecture_page_shows() {
        let text = "ferrite-settings 1\nhostname kitchen-1\n\
                    timezone Europe/Berlin CET-1CEST,M3.5.0,M10.5.0/3\nwifi My network \nssh-key \
                    ssh-ed25519 AAAA me@here\nssh-key ssh-rsa BBBB\nof-tomorrow 1\n";
        let settings = parse(text.as_bytes()).unwrap();
        assert_eq!(hostname(&settings).unwrap(), Some("kitchen-1"));
        let zone = TimeZone { name: "Europe/Berlin", rule: "CET-1CEST,M3.5.0,M10.5.0/3" };
        assert_eq!(timezone(&settings).unwrap(), Some(zone));
        assert_eq!(wifi(&settings).unwrap(), Some("My network "));
        assert_eq!(ssh_keys(&settings).unwrap().len(), 2);
        let none = parse(b"ferrite-settings 1\n").unwrap();
        assert_eq!(hostname(&none).unwrap(), None);
        assert_eq!(timezone(&none).unwrap(), None);
        assert!(ssh_keys(&none).unwrap().is_empty());
    }

    #[test]
    fn the_text_is_the_one_of_docs_architecture() {
        let golden = "ferrite-settings 1\nhostname kitchen-1\n\
            timezone Europe/Berlin CET-1CEST,M3.5.0,M10.5.0/3\nwifi My network\n\
            ssh-key ssh-ed25519 AAAA me@here\nfile face/site.toml\nfile face/ca.pem\n";
        let settings = Settings::parse(golden.as_bytes()).unwrap();
        assert_eq!(settings.wifi.as_deref(), Some("My network"));
        assert_eq!(settings.files, ["face/site.toml", "face/ca.pem"]);
        assert_eq!(settings.to_text(), golden);
        let wrong = golden.replace("kitchen-1", "kitchen.1");
        assert!(Settings::parse(wrong.as_bytes()).is_err());
        assert_eq!(Settings::parse(b"ferrite-settings 1\n").unwrap(), Settings::default());
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        let read = |line: &str| {
            let text = format!("{FIRST_LINE}\n{line}\n");
            let settings = parse(text.as_bytes()).unwrap();
            let all = [
                hostname(&settings).map(drop),
                timezone(&settings).map(drop),
                wifi(&settings).map(drop),
                ssh_keys(&settings).map(drop),
            ];
            all.into_iter().collect::<Result<()>>()
        };
        let long = "x".repeat(64);
        for line in [
            "hostname",
            "hostname a b",
            "hostname -a",
            "hostname a-",
            "hostname a.b",
            "hostname a\nhostname b",
            &format!("hostname {long}"),
            "timezone Europe/Berlin",
            "timezone ../../etc/shadow UTC0",
            "timezone /etc/shadow UTC0",
            "timezone Europe//Berlin UTC0",
            "timezone X /etc/shadow",
            "timezone X :../x",
            "timezone X A B",
            &format!("timezone {long}x UTC0"),
            "wifi",
            &format!("wifi {}", "x".repeat(33)),
            "wifi a\tb",
            "ssh-key",
            "ssh-key word",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        for line in [
            "hostname A",
            "timezone Etc/GMT+1 <-01>1",
            "timezone America/Argentina/Buenos_Aires <-03>3",
            "wifi ☕",
        ] {
            assert!(read(line).is_ok(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(
            hostname in proptest::option::of("[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"),
            timezone in proptest::option::of(("[A-Za-z_]{1,9}(/[A-Za-z_+-]{1,9}){0,2}", "[A-Z]{3}[0-9],M3\\.5\\.0/3")),
            wifi in proptest::option::of("[^\\p{Cc}]{1,8}"),
            ssh_keys in proptest::collection::vec("ssh-(rsa|ed25519) [A-Za-z0-9+/]{4,80}( [!-~]{1,9})?", 0..=MAX_SSH_KEYS),
            files in proptest::collection::vec("[a-z]{1,9}(/[!-~]{1,9}){1,3}", 0..9),
        ) {
            let settings = Settings { hostname, timezone, wifi, ssh_keys, files };
            prop_assert_eq!(Settings::parse(settings.to_text().as_bytes()).unwrap(), settings);
        }

        #[test]
        fn never_panics(text in "(ferrite-settings 1\n)?((hostname|timezone|wifi|ssh-key) ?[ -~é]{0,40}\n){0,20}") {
            if let Ok(settings) = parse(text.as_bytes()) {
                let _ = (hostname(&settings), timezone(&settings), wifi(&settings), ssh_keys(&settings));
            }
        }
    }
}

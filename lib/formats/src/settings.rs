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
//! Each value is looked at by its own function, so that a device carries only what it reads.

use crate::conf::{self, Conf, Line};
use crate::{Error, Result};

/// First line of the file.
pub const FORM: &str = "ferrite-settings 1";
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

/// The settings of a device; the lines are not looked at yet.
pub fn parse(text: &[u8]) -> Result<Conf<'_>> {
    conf::parse(text, FORM)
}

/// The host name, if one is set.
pub fn hostname<'a>(settings: &Conf<'a>) -> Result<Option<&'a str>> {
    checked(settings, "hostname", "is not a host name", is_hostname)
}

/// The time zone, if one is set.
pub fn timezone<'a>(settings: &Conf<'a>) -> Result<Option<TimeZone<'a>>> {
    let text = checked(settings, "timezone", "is not `NAME RULE`", |text| {
        text.split_once(' ').is_some_and(|(name, rule)| is_zone_name(name) && is_zone_rule(rule))
    })?;
    Ok(text.and_then(|text| text.split_once(' ')).map(|(name, rule)| TimeZone { name, rule }))
}

/// The name of the wireless network, if one is set.
pub fn wifi<'a>(settings: &Conf<'a>) -> Result<Option<&'a str>> {
    checked(settings, "wifi", "is not the name of a network", is_ssid)
}

/// The SSH keys, as in a file `authorized_keys`.
pub fn ssh_keys<'a>(settings: &Conf<'a>) -> Result<Vec<&'a str>> {
    let lines = settings.head.iter().filter(|line| line.key == "ssh-key");
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
    fn what_could_lead_elsewhere_is_refused() {
        let read = |line: &str| {
            let text = format!("{FORM}\n{line}\n");
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
        fn never_panics(text in "(ferrite-settings 1\n)?((hostname|timezone|wifi|ssh-key) ?[ -~é]{0,40}\n){0,20}") {
            if let Ok(settings) = parse(text.as_bytes()) {
                let _ = (hostname(&settings), timezone(&settings), wifi(&settings), ssh_keys(&settings));
            }
        }
    }
}

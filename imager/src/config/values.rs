//! The scalar values of image and board files. Each is checked as it is read, so that the error
//! points at the line and nothing unchecked gets any further.

use std::fmt;

use debian::names::{check_package_name, check_package_version, check_suite};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected, Visitor};

/// Declares a text type whose only way in is its check.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes `text` if it is well formed, else says what is wrong with it.
            pub fn new(text: impl Into<String>) -> Result<Self, String> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// The text itself.
            #[allow(dead_code, reason = "not each of these types is asked for it")]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(d)?).map_err(D::Error::custom)
            }
        }
    };
}

checked_text!(
    /// A name of an image, workload or model: `[a-z0-9][a-z0-9-]{0,31}`.
    Name, check_name
);
checked_text!(
    /// A board's name: `[a-z0-9][a-z0-9_-]{0,31}`. No host has it for its name, so `_` is allowed:
    /// `x86_64` is written with one.
    BoardName, check_board_name
);
checked_text!(
    /// A version for people: 1 to 64 of `[A-Za-z0-9._+~-]`.
    Version, check_version
);
checked_text!(
    /// A path on the device: absolute, without `.`, `..`, empty parts or control characters.
    DevicePath, check_device_path
);
checked_text!(
    /// A Debian package name (Debian Policy 5.6.1).
    PackageName, check_package_name
);
checked_text!(
    /// A suite of the Debian archive, like `trixie-backports`.
    Suite, check_suite
);
checked_text!(
    /// A version of a Debian package (Debian Policy 5.6.12): `[epoch:]upstream[-revision]`.
    PackageVersion, check_package_version
);
checked_text!(
    /// One line of text that may go into a conf form value: no control characters, at most
    /// 3000 bytes.
    Line, check_line
);

checked_text!(
    /// A country of ISO 3166-1, as two capital letters: whose radio rules are obeyed.
    Country, check_country
);

checked_text!(
    /// A project's name on a Python package index (PEP 508).
    ProjectName, check_project_name
);
checked_text!(
    /// A project's version on a Python package index (PEP 440's characters).
    ProjectVersion, check_project_version
);
checked_text!(
    /// A wheel platform tag, like `manylinux2014_aarch64` (PEP 425).
    PlatformTag, check_platform_tag
);
checked_text!(
    /// A CPython version as a wheel's tags name it, like `3.12`.
    PythonVersion, check_python_version
);

fn check_name(s: &str) -> Result<(), String> {
    formats::workload::is_name(s).then_some(()).ok_or_else(|| {
        format!("{s:?} is not a name: use 1 to 32 of a-z, 0-9 and -, not starting with -")
    })
}

fn check_board_name(s: &str) -> Result<(), String> {
    let ok = (1..=32).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        && !s.starts_with(['-', '_']);
    ok.then_some(()).ok_or_else(|| {
        format!("{s:?} is no name of a board: use 1 to 32 of a-z, 0-9, - and _, starting with a letter or digit")
    })
}

fn check_country(s: &str) -> Result<(), String> {
    let ok = s.len() == 2 && s.bytes().all(|b| b.is_ascii_uppercase());
    ok.then_some(())
        .ok_or_else(|| format!("{s:?} is not a country: use two capital letters, like \"DE\""))
}

fn check_version(s: &str) -> Result<(), String> {
    let ok = (1..=64).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b));
    ok.then_some(())
        .ok_or_else(|| format!("{s:?} is not a version: use 1 to 64 of A-Z, a-z, 0-9 and ._+~-"))
}

fn check_device_path(s: &str) -> Result<(), String> {
    let Some(rest) = s.strip_prefix('/') else {
        return Err(format!("{s:?} is not absolute: a path on the device starts with /"));
    };
    if s.len() > 1024 || s.chars().any(|c| c.is_control()) {
        return Err(format!("{s:?} is longer than 1024 bytes or has control characters"));
    }
    if rest.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(format!("{s:?} has an empty, `.` or `..` part"));
    }
    Ok(())
}

fn check_project_name(s: &str) -> Result<(), String> {
    let ok = (1..=128).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && s.as_bytes()[0].is_ascii_alphanumeric();
    ok.then_some(()).ok_or_else(|| format!("{s:?} is not the name of a Python project"))
}

fn check_project_version(s: &str) -> Result<(), String> {
    let ok = (1..=64).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b".+!_-".contains(&b));
    ok.then_some(()).ok_or_else(|| {
        format!("{s:?} is not an exact version of a Python project, like \"0.10.14\"")
    })
}

fn check_platform_tag(s: &str) -> Result<(), String> {
    let ok =
        (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    ok.then_some(())
        .ok_or_else(|| format!("{s:?} is not a platform tag, like \"manylinux2014_aarch64\""))
}

fn check_python_version(s: &str) -> Result<(), String> {
    let ok = s.len() <= 8
        && s.split_once('.').is_some_and(|(major, minor)| {
            [major, minor].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        });
    ok.then_some(()).ok_or_else(|| format!("{s:?} is not a Python version, like \"3.12\""))
}

fn check_line(s: &str) -> Result<(), String> {
    if s.len() > 3000 {
        return Err("the text is longer than 3000 bytes".to_owned());
    }
    if s.chars().any(|c| c.is_control()) {
        return Err("the text has line breaks or control characters".to_owned());
    }
    Ok(())
}

/// A span of time in milliseconds, written like `"90s"`, `"5m"`, `"1h30m"`, `"250ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

impl Span {
    /// From whole seconds.
    pub const fn seconds(s: u64) -> Self {
        Self(s * 1000)
    }

    /// Whole seconds, rounded up: a limit never becomes shorter than what was written.
    pub fn as_seconds(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

/// Reads a span of time; at most 10 years, so that sums of them cannot overflow.
pub fn parse_span(text: &str) -> Result<Span, String> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let bad =
        || format!("{text:?} is not a span of time: write it like \"30s\", \"5m\" or \"1h30m\"");
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        total = number.checked_mul(*ms).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        rest = tail;
    }
    if total > 10 * 366 * 86_400_000 {
        return Err(format!("{text:?} is longer than 10 years"));
    }
    Ok(Span(total))
}

/// A size in bytes, written like `"64K"`, `"16M"`, `"8 MiB"` (powers of 1024) or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Reads a size; at most 1 PiB.
pub fn parse_size(text: &str) -> Result<Size, String> {
    let bad = || format!("{text:?} is not a size: write it like \"64K\", \"16M\" or \"1G\"");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(bad)?;
    if bytes > 1 << 50 {
        return Err(format!("{text:?} is larger than 1 PiB"));
    }
    Ok(Size(bytes))
}

/// File permission bits, written like `"0644"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// Reads an octal mode up to 0777. Set-uid and set-gid are refused: every workload runs with
/// `no_new_privs`, where they do nothing.
pub fn parse_mode(text: &str) -> Result<Mode, String> {
    let bad = || format!("{text:?} is not a mode: write it in octal, like \"0644\" or \"0755\"");
    if !(3..=4).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o777 => Ok(Mode(bits)),
        _ => Err(bad()),
    }
}

/// Implements `Deserialize` from a string through a parse function.
macro_rules! from_text {
    ($name:ty, $parse:path, $expecting:literal, $from_number:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<$name, E> {
                        $parse(s).map_err(E::custom)
                    }
                    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<$name, E> {
                        let from: fn(u64) -> Option<$name> = $from_number;
                        u64::try_from(n)
                            .ok()
                            .and_then(from)
                            .ok_or_else(|| E::invalid_type(Unexpected::Signed(n), &self))
                    }
                }
                d.deserialize_any(Text)
            }
        }
    };
}
from_text!(Span, parse_span, "a span of time like \"30s\"", |_| None);
from_text!(Size, parse_size, "a size like \"64K\"", |n| (n <= 1 << 50).then_some(Size(n)));
from_text!(Mode, parse_mode, "an octal mode like \"0644\"", |_| None);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans() {
        assert_eq!(parse_span("30s"), Ok(Span(30_000)));
        assert_eq!(parse_span("1h30m"), Ok(Span(5_400_000)));
        assert_eq!(parse_span("250ms").map(Span::as_seconds), Ok(1));
        for bad in ["", "30", "s", "1y", "-1s", "1 s", "99999999999999999999s", "11000d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64K"), Ok(Size(65536)));
        assert_eq!(parse_size("8 MiB"), Ok(Size(8 << 20)));
        assert_eq!(parse_size("512"), Ok(Size(512)));
        for bad in ["", "K", "1.5M", "-1", "64k", "18446744073709551615T", "2048T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(parse_mode("0644"), Ok(Mode(0o644)));
        for bad in ["", "4755", "0999", "rw-r--r--", "+644", "00644"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_versions_and_paths() {
        assert!(Name::new("qemu-arm64").is_ok());
        for bad in ["", "-a", "A", "a_b", "a b", "abcdefghijklmnopqrstuvwxyzabcdefg"] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
        for good in ["pc-x86_64", "qemu-arm64", "a", "0_"] {
            assert!(BoardName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a b", "a.b", "a/b", "abcdefghijklmnopqrstuvwxyzabcdefg"] {
            assert!(BoardName::new(bad).is_err(), "{bad}");
        }
        assert!(Version::new("1.0.0~rc1+b-2").is_ok());
        assert!(Version::new("1 0").is_err());
        assert!(DevicePath::new("/etc/x.conf").is_ok());
        for bad in ["etc/x", "/", "/a/../b", "/a//b", "/a/", "/a/./b", "/a\nb"] {
            assert!(DevicePath::new(bad).is_err(), "{bad}");
        }
        assert!(PackageName::new("libstdc++6").is_ok());
        assert!(PackageName::new("../x").is_err());
        assert!(Suite::new("trixie/../x").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(s in "\\PC{0,40}") {
            let _ = (parse_span(&s), parse_size(&s), parse_mode(&s), Name::new(s.clone()), BoardName::new(s.clone()), DevicePath::new(s.clone()), PackageName::new(s));
        }
    }
}

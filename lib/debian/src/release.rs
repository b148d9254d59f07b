//! An archive's verified `Release`: which indexes it has and what their hashes are.

use anyhow::{Context, Result, bail};

use super::deb822;
use super::hash::Sha256;
use super::openpgp::Keyring;

/// What a suite's signed `InRelease` says.
#[derive(Debug)]
pub struct Release {
    suite: String,
    files: Vec<(String, Sha256, u64)>,
}

/// What to do with a `Release` whose Valid-Until has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// An error: a mirror that is stuck, or made to be, hides security fixes.
    Refuse,
    /// Taken, for archives that stay as they are.
    Allow,
}

impl Release {
    /// Checks the signature of `in_release` with `keyring`, then that it is `suite`'s and that it
    /// is still valid at `now`, seconds since 1970. Nothing is read before the signature holds.
    pub fn verify(
        in_release: &str,
        suite: &str,
        keyring: &Keyring,
        now: u64,
        expired: Expired,
    ) -> Result<Self> {
        let text =
            keyring.verify(in_release, now).with_context(|| format!("InRelease of {suite}"))?;
        Self::read(&text, suite, now, expired).with_context(|| format!("InRelease of {suite}"))
    }

    fn read(text: &str, suite: &str, now: u64, expired: Expired) -> Result<Self> {
        let stanza = deb822::stanzas(text).next().context("is empty")?;
        let names = [stanza.get("Codename"), stanza.get("Suite")];
        if !names.contains(&Some(suite)) {
            let found = names[0].or(names[1]).unwrap_or("no suite");
            bail!("is that of {found}: the mirror mixes up its suites");
        }
        if let Some(until) = stanza.get("Valid-Until") {
            let end = parse_date(until)
                .with_context(|| format!("its Valid-Until {until:?} is not a date"))?;
            if end < now && expired == Expired::Refuse {
                bail!(
                    "expired on {until}: the mirror is out of date, or this machine's clock is wrong; use another mirror, or --allow-expired for one that is frozen on purpose"
                );
            }
        }
        let mut files = Vec::new();
        for line in stanza.get("SHA256").context("has no SHA256 list")?.lines() {
            let mut words = line.split_whitespace();
            let (Some(hash), Some(size), Some(path)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let size = size.parse().with_context(|| format!("size of {path} is not a number"))?;
            files.push((path.to_owned(), hash.parse().context(path.to_owned())?, size));
        }
        Ok(Self { suite: suite.to_owned(), files })
    }

    /// Hash and size of an index, by its path under the suite's folder.
    pub fn file(&self, path: &str) -> Result<(Sha256, u64)> {
        let found = self.files.iter().find(|(p, _, _)| p == path);
        let (_, hash, size) = found.with_context(|| {
            format!(
                "InRelease of {} names no {path}: the mirror lacks this architecture",
                self.suite
            )
        })?;
        Ok((*hash, *size))
    }
}

/// Reads a date like `Thu, 26 Nov 2026 02:12:54 UTC` as seconds since 1970.
pub fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, zone] = words[..] else {
        return None;
    };
    if !matches!(zone, "UTC" | "GMT" | "+0000" | "Z") {
        return None;
    }
    let number = |s: &str, below: i64| s.parse::<i64>().ok().filter(|n| (0..below).contains(n));
    let mut clock = time.split(':').map(|part| number(part, 61));
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
    let (day, year) = (number(day, 32)?, number(year, 10_000)?);
    if year < 1970 {
        return None;
    }
    // Days since 1970-01-01, counting years from March so that a leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hours * 3_600 + minutes * 60 + seconds).ok()
}

/// Writes seconds since 1970 as `2026-11-26T02:12:54Z`.
pub fn format_date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // The inverse of the count in `parse_date`: eras of 400 years that start in March.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + carry;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: stable\nCodename: trixie\nValid-Until: Thu, 26 Nov 2026 02:12:54 UTC\nSHA256:\n ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 main/x\n";

    #[test]
    fn dates() {
        // From `date -u -d … +%s`.
        assert_eq!(parse_date("Thu, 26 Nov 2026 02:12:54 UTC"), Some(1_795_659_174));
        assert_eq!(parse_date("Thu, 29 Feb 2024 23:59:59 UTC"), Some(1_709_251_199));
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(parse_date("tomorrow"), None);
        assert_eq!(parse_date("Thu, 26 Nov 2026 02:12:54 CET"), None);
    }

    #[test]
    fn dates_are_written_as_they_were_read() {
        assert_eq!(format_date(0), "1970-01-01T00:00:00Z");
        assert_eq!(format_date(1_795_659_174), "2026-11-26T02:12:54Z");
        assert_eq!(format_date(1_709_251_199), "2024-02-29T23:59:59Z");
    }

    #[test]
    fn files_are_found_by_codename_or_suite() {
        for suite in ["trixie", "stable"] {
            let release = Release::read(TEXT, suite, 0, Expired::Refuse).unwrap();
            assert_eq!(release.file("main/x").unwrap(), (Sha256::of(b"abc"), 3));
            assert!(release.file("main/y").is_err());
        }
        let message = Release::read(TEXT, "sid", 0, Expired::Refuse).unwrap_err().to_string();
        assert!(message.contains("that of trixie"), "{message}");
    }

    #[test]
    fn an_expired_release_is_refused_unless_allowed() {
        let late = 1_795_659_175;
        let message = Release::read(TEXT, "trixie", late, Expired::Refuse).unwrap_err().to_string();
        assert!(message.contains("expired on Thu, 26 Nov 2026"), "{message}");
        assert!(Release::read(TEXT, "trixie", late, Expired::Allow).is_ok());
    }
}

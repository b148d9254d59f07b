//! A time zone's rule, out of this machine's database: the device then needs none.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use formats::settings::{is_zone_name, is_zone_rule};

/// Where the database lies.
pub const DATABASE: &str = "/usr/share/zoneinfo";
/// Longest file of it, in bytes; the longest there is has 4 KB.
const MAX_FILE: u64 = 1 << 20;

/// The rule in the footer of the zone's file (TZif, RFC 8536, 3.3), for today and from now on.
pub fn rule(database: &Path, zone: &str) -> Result<String> {
    let unknown = || {
        format!(
            "--timezone {zone}: not in {}; give a name like Europe/Berlin, or install the package tzdata",
            database.display()
        )
    };
    ensure!(is_zone_name(zone), unknown());
    let path = database.join(zone);
    let mut bytes = Vec::new();
    let file = File::open(&path).with_context(unknown)?;
    file.take(MAX_FILE).read_to_end(&mut bytes).with_context(unknown)?;
    ensure!(bytes.starts_with(b"TZif") && bytes.get(4) >= Some(&b'2'), unknown());
    let body = bytes.strip_suffix(b"\n").unwrap_or_default();
    let footer = body.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    match std::str::from_utf8(footer) {
        Ok(rule) if is_zone_rule(rule) => Ok(rule.to_owned()),
        _ => bail!("--timezone {zone}: {} has no rule for the time to come", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_the_footers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Land/Town");
        std::fs::create_dir(dir.path().join("Land")).unwrap();
        let write = |text: &[u8]| std::fs::write(&path, text).unwrap();
        write(b"TZif2\0\0\nbinary\n\x00\nCET-1CEST,M3.5.0,M10.5.0/3\n");
        assert_eq!(rule(dir.path(), "Land/Town").unwrap(), "CET-1CEST,M3.5.0,M10.5.0/3");
        for bad in [&b"TZif2 no footer"[..], b"TZif2\n\n", b"TZif\0\nUTC0\n", b"hello\nUTC0\n"] {
            write(bad);
            assert!(rule(dir.path(), "Land/Town").is_err(), "{bad:?}");
        }
        for name in ["", "Land", "None", "../x", "/etc/passwd", "Land/Town/x"] {
            let error = format!("{:#}", rule(dir.path(), name).unwrap_err());
            assert!(error.contains("--timezone"), "{name}: {error}");
        }
    }

    /// Somebody else's opinion, where this machine has the database.
    #[test]
    fn real_zones_have_their_rules() {
        if !Path::new(DATABASE).is_dir() {
            eprintln!("NOT TESTED: no {DATABASE}");
            return;
        }
        let real = |zone| rule(Path::new(DATABASE), zone).unwrap();
        assert_eq!(real("Europe/Berlin"), "CET-1CEST,M3.5.0,M10.5.0/3");
        assert_eq!(real("Asia/Tokyo"), "JST-9");
    }
}

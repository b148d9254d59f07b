//! What the time servers said since this boot: `/run/ferrite/network-time`, written by `init` when
//! most of them agree, read by `ota`. The device's own clock may also show what a hardware clock had,
//! or what was written down; what the servers said is told apart from it here.

use crate::conf::{self, Writer};
use crate::{Result, key};

const FIRST_LINE: &str = "ferrite-time 1";

/// What most of the time servers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkTime {
    /// The time they say, in seconds since 1970.
    pub unix: u64,
    /// When they said so, in milliseconds of CLOCK_BOOTTIME.
    pub boot_ms: u64,
}

impl NetworkTime {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut writer = Writer::new(FIRST_LINE);
        writer
            .line(key::UNIX, &self.unix.to_string())
            .line(key::BOOT_MS, &self.boot_ms.to_string());
        writer.finish()
    }

    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<NetworkTime> {
        let head = conf::parse(text, FIRST_LINE)?.head;
        Ok(NetworkTime {
            unix: conf::one(&head, key::UNIX)?.number()?,
            boot_ms: conf::one(&head, key::BOOT_MS)?.number()?,
        })
    }

    /// The time when CLOCK_BOOTTIME is `boot_ms`, in seconds since 1970. `None` when that is before
    /// the answer: it is one of another boot.
    pub fn at(&self, boot_ms: u64) -> Option<u64> {
        Some(self.unix.saturating_add(boot_ms.checked_sub(self.boot_ms)? / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn time_goes_on_from_the_answer() {
        let said = NetworkTime { unix: 1_000, boot_ms: 5_000 };
        assert_eq!(said.at(5_000), Some(1_000));
        assert_eq!(said.at(7_999), Some(1_002));
        assert_eq!(said.at(4_999), None);
    }

    #[test]
    fn the_text_is_the_one_of_docs_updates() {
        let text = "ferrite-time 1\nunix 1795255200\nboot-ms 8123\n";
        let said = NetworkTime::parse(text.as_bytes()).unwrap();
        assert_eq!(said, NetworkTime { unix: 1_795_255_200, boot_ms: 8_123 });
        assert_eq!(said.to_text(), text);
        for bad in
            ["", "ferrite-time 2\nunix 1\nboot-ms 1\n", "ferrite-time 1\nunix -1\nboot-ms 1\n"]
        {
            assert!(NetworkTime::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(unix: u64, boot_ms: u64, later: u64) {
            let said = NetworkTime { unix, boot_ms };
            prop_assert_eq!(NetworkTime::parse(said.to_text().as_bytes()).unwrap(), said);
            let _ = said.at(later);
        }
    }
}

//! Why the last boot failed: `/run/ferrite/last-failure` and, in full, `/data/ferrite/last-failure`.
//! Written by `init`, read by it and by `ota`. There only when a boot failed.

use crate::conf::{self, Writer};
use crate::{Result, Slot, key};

const FIRST_LINE: &str = "ferrite-last-failure 1";

/// A boot that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The slot that was booted.
    pub slot: Slot,
    /// Why it failed, in one line for people.
    pub reason: String,
}

impl LastFailure {
    /// The longest reason that is written, in characters.
    pub const MAX_REASON: usize = 512;
    /// The longest file, in bytes: lines for the slot and for a reason in the longest characters.
    pub const MAX_BYTES: usize = 64 + 4 * LastFailure::MAX_REASON;

    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<LastFailure> {
        let head = conf::parse(text, FIRST_LINE)?.head;
        Ok(LastFailure {
            slot: Slot::parse(conf::one(&head, key::SLOT)?.value)?,
            reason: conf::one(&head, key::REASON)?.value.to_string(),
        })
    }

    /// The file's text; control characters and what is too long of the reason are left out.
    pub fn to_text(&self) -> String {
        let printable = self.reason.chars().filter(|c| !c.is_control());
        let reason: String = printable.take(LastFailure::MAX_REASON).collect();
        let mut text = Writer::new(FIRST_LINE);
        text.line(key::SLOT, self.slot.letter()).line(key::REASON, &reason);
        text.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_the_one_of_docs_architecture() {
        let text = "ferrite-last-failure 1\nslot b\nreason vital workload face failed\n";
        let failure = LastFailure::parse(text.as_bytes()).unwrap();
        let expected = LastFailure { slot: Slot::B, reason: "vital workload face failed".into() };
        assert_eq!(failure, expected);
        assert_eq!(failure.to_text(), text);
        assert!(LastFailure::parse(b"ferrite-last-failure 1\nslot c\nreason x\n").is_err());
        let long = LastFailure { reason: "\u{10348}".repeat(600) + "\n", ..failure };
        assert!(long.to_text().len() <= LastFailure::MAX_BYTES);
    }

    proptest! {
        #[test]
        fn comes_back(b: bool, reason in "[^\\p{Cc}]{0,512}") {
            let failure = LastFailure { slot: if b { Slot::B } else { Slot::A }, reason };
            prop_assert_eq!(LastFailure::parse(failure.to_text().as_bytes()).unwrap(), failure);
        }
    }
}

//! What became of the data partition in this boot: `/run/ferrite/data`, written by `init`, read by
//! `ota`. Without the file it was in order, or is still being made ready.

use crate::conf::{self, Writer};
use crate::{Error, Result, key};

const FIRST_LINE: &str = "ferrite-data 1";

/// What `/data` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The partition, as it was.
    Kept,
    /// The partition, after a check that its errors asked for.
    Checked,
    /// The partition, with a new file system.
    Afresh,
    /// Memory: the partition cannot be used.
    Volatile,
    /// Nothing: a version on trial cannot mount a partition that is in order.
    Unsupported,
}

/// What `/data` is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataState {
    /// What it is.
    pub kind: Kind,
    /// Why, in one line for people; empty when it was in order.
    pub reason: String,
}

const WORDS: [(Kind, &str); 5] = [
    (Kind::Kept, "kept"),
    (Kind::Checked, "checked"),
    (Kind::Afresh, "afresh"),
    (Kind::Volatile, "volatile"),
    (Kind::Unsupported, "unsupported"),
];

impl Kind {
    /// The word for it in the file and in `ctl status`.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// The kind of this word.
    pub fn parse(word: &str) -> Result<Kind> {
        let known = WORDS.into_iter().find(|(_, known)| *known == word);
        let (kind, _) =
            known.ok_or_else(|| Error::new("the data partition's state is not known"))?;
        Ok(kind)
    }
}

impl DataState {
    /// The longest reason that is written, in bytes.
    pub const MAX_REASON: usize = 512;

    /// The file's text; control characters and what is too long of the reason are left out.
    pub fn to_text(&self) -> String {
        let mut reason: String = self.reason.chars().filter(|c| !c.is_control()).collect();
        while reason.len() > DataState::MAX_REASON {
            reason.pop();
        }
        let mut writer = Writer::new(FIRST_LINE);
        writer.line(key::STATE, self.kind.word()).line(key::REASON, &reason);
        writer.finish()
    }

    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<DataState> {
        let head = conf::parse(text, FIRST_LINE)?.head;
        Ok(DataState {
            kind: Kind::parse(conf::one(&head, key::STATE)?.value)?,
            reason: conf::one(&head, key::REASON)?.value.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_the_one_of_docs_architecture() {
        let text = "ferrite-data 1\nstate volatile\nreason cannot be read\n";
        let state = DataState::parse(text.as_bytes()).unwrap();
        assert_eq!(state.kind, Kind::Volatile);
        assert_eq!(state.reason, "cannot be read");
        assert_eq!(state.to_text(), text);
        assert!(DataState::parse(b"ferrite-data 1\nstate lost\nreason \n").is_err());
    }

    proptest! {
        #[test]
        fn comes_back(kind in 0usize..5, reason in "\\PC{0,300}") {
            let state = DataState { kind: WORDS[kind].0, reason };
            let read = DataState::parse(state.to_text().as_bytes()).unwrap();
            prop_assert_eq!(read.kind, state.kind);
            prop_assert!(state.reason.starts_with(&read.reason));
        }
    }
}

//! What is remembered of a version that waits for another trial; `policy::retrial` decides about it.

use serde::{Deserialize, Serialize};

/// Seconds of healthy running before the first retrial …
const FIRST_PAUSE: u64 = 3600;
/// … and, doubled after each that fails, at most.
const LONGEST_PAUSE: u64 = 24 * 3600;

/// What waits for another trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retrial {
    /// The slot it lies in: `a` or `b`.
    pub slot: String,
    /// Orders versions.
    pub sequence: u64,
    /// For people.
    pub version: String,
    /// Names it for certain.
    pub header_sha256: String,
    /// Why it does not run.
    pub reason: String,
    /// It was committed here: it is whole in its slot, and can be fallen back to. Else only its
    /// trial failed, and it is tried when the repository still offers it.
    pub committed: bool,
    /// An older version was tried meanwhile and was put off, too: whatever is to blame, both would
    /// be tried in turn for ever. Nothing older is taken before this one is.
    pub hides_older: bool,
    /// Retrials that failed.
    pub failures: u32,
    /// For how many seconds what runs has been healthy since.
    pub healthy_seconds: u64,
    /// The level of its publisher's `retry` that was acted on.
    pub retry: u32,
}

impl Retrial {
    /// Seconds of healthy running between the last failure and the next trial.
    pub fn pause(&self) -> u64 {
        (FIRST_PAUSE << self.failures.min(16)).min(LONGEST_PAUSE)
    }

    /// What of them is left.
    pub fn left(&self) -> u64 {
        self.pause().saturating_sub(self.healthy_seconds)
    }

    /// Whether it may be tried now.
    pub fn is_due(&self) -> bool {
        self.left() == 0
    }

    /// From now on it is due: somebody who may says so.
    pub fn hurry(&mut self) {
        self.healthy_seconds = self.pause();
    }

    /// When it is tried, for people.
    pub fn when(&self) -> String {
        match (self.left(), self.committed) {
            (0, true) => "it is tried again now".into(),
            (0, false) => "it is tried again at the next check".into(),
            (left, _) => format!(
                "it is tried again after {} min more of healthy running (`ota retry`: at once)",
                left.div_ceil(60)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        let many = Retrial { failures: u32::MAX, ..Retrial::default() };
        assert_eq!(many.pause(), LONGEST_PAUSE);
    }
}

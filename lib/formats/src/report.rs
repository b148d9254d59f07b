//! What a device reports of an update, when its image says where to: the part that is signed of the
//! JSON in docs/updates.md, "Reports". Written by `ota`, read by its owner's server; the signature
//! around it is [TUF's envelope](https://theupdateframework.github.io/specification/latest/#file-formats-general-principles).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What its `_type` says.
const TYPE: &str = "ferrite-report";
/// The longest reason, in characters.
pub const MAX_REASON: usize = 300;

/// How an update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It runs, and stays.
    Committed,
    /// It did not hold; the one before runs.
    FellBack,
    /// This device does not take it.
    Refused,
}

/// A device's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The device's id: 32 hexadecimal digits.
    pub device: String,
    /// The public key that the report is signed with: 64 hexadecimal digits.
    pub key: String,
    /// Its board.
    pub board: String,
    /// Its image's name.
    pub name: String,
    /// The version that runs.
    pub running: String,
    /// How the update ended.
    pub outcome: Outcome,
    /// The version that it was about.
    pub version: String,
    /// Why, when it did not end well; at most [`MAX_REASON`] characters.
    pub reason: String,
    /// When, by the device's time: `2026-12-01T12:00:00Z`.
    pub time: String,
}

#[derive(Serialize, Deserialize)]
struct Typed<R> {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(flatten)]
    report: R,
}

impl Report {
    /// The value that is signed.
    pub fn to_json(&self) -> Value {
        serde_json::json!(Typed { kind: TYPE.into(), report: self })
    }

    /// Reads the value that was signed, once the signature holds.
    pub fn from_json(signed: &Value) -> Result<Report, String> {
        let typed = Typed::<Report>::deserialize(signed).map_err(|e| e.to_string())?;
        match typed.kind == TYPE {
            true => Ok(typed.report),
            false => Err(format!("_type is {:?} and not {TYPE:?}", typed.kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report() -> Report {
        Report {
            device: "00".repeat(16),
            key: "11".repeat(32),
            board: "qemu-arm64".into(),
            name: "demo".into(),
            running: "1.0.0".into(),
            outcome: Outcome::FellBack,
            version: "1.0.1".into(),
            reason: "it hung".into(),
            time: "2026-12-01T12:00:00Z".into(),
        }
    }

    #[test]
    fn the_json_is_the_one_of_docs_updates() {
        let golden = serde_json::json!({
            "_type": "ferrite-report",
            "device": "00000000000000000000000000000000",
            "key": "1111111111111111111111111111111111111111111111111111111111111111",
            "board": "qemu-arm64",
            "name": "demo",
            "running": "1.0.0",
            "outcome": "fell-back",
            "version": "1.0.1",
            "reason": "it hung",
            "time": "2026-12-01T12:00:00Z",
        });
        assert_eq!(report().to_json(), golden);
        assert_eq!(Report::from_json(&golden), Ok(report()));
        let mut other = golden;
        other["_type"] = "root".into();
        assert!(Report::from_json(&other).unwrap_err().contains("root"));
    }

    proptest! {
        #[test]
        fn comes_back(texts in proptest::array::uniform8(".{0,20}"), outcome in 0..3usize) {
            let [device, key, board, name, running, version, reason, time] = texts;
            let outcome = [Outcome::Committed, Outcome::FellBack, Outcome::Refused][outcome];
            let report =
                Report { device, key, board, name, running, outcome, version, reason, time };
            prop_assert_eq!(Report::from_json(&report.to_json()), Ok(report));
        }
    }
}

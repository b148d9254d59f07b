//! What Ferrite adds to a target: `custom.ferrite`. The form is drawn in `docs/updates.md`.

use crate::time::Time;
use serde::{Deserialize, Serialize};

/// The most deltas of one update.
pub const MAX_DELTAS: usize = 64;
/// The most waves of one rollout.
pub const MAX_WAVES: usize = 32;
/// The most groups of one rollout.
pub const MAX_GROUPS: usize = 32;
/// The most bytes of a group's name.
pub const MAX_GROUP_NAME: usize = 64;
/// The most bytes of a delta's head: a device holds it in memory as a whole.
pub const MAX_DELTA_HEAD: u64 = 8 << 20;
/// The longest time between a rollout's start and a wave, in seconds: ten years.
pub const MAX_AFTER: u64 = 10 * 366 * 86_400;
/// A device's bucket in a rollout is a number from 0 to one below this.
pub const BUCKETS: u16 = 10_000;

/// The most bytes of a target's name: what a file name may have on most file systems, less the
/// hash that stands in front of it.
const MAX_TARGET_NAME: usize = 190;

/// What a device must know of an update before it fetches anything of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FerriteTarget {
    /// Board the update is for.
    pub board: String,
    /// Name of the image.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// Orders versions.
    pub sequence: u64,
    /// SHA-256, in hex, of the slot header: the first 65536 bytes of the update.
    pub header_sha256: String,
    /// Name of the target that is its block index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// What turns older versions into this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<DeltaTarget>,
    /// Who takes it when; without it everybody at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How often its publisher has said that devices on which it failed may try it again. A device
    /// that remembers a failure at a lower level forgets it, once for each level.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A delta that makes an update of an older version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaTarget {
    /// SHA-256, in hex, of the slot header of the version it starts from.
    pub from_header_sha256: String,
    /// Name of the target that is the delta.
    pub target: String,
    /// Bytes of the delta's head: header, group table and control part.
    pub head_length: u64,
    /// SHA-256, in hex, of the head, so that it is verified before it is parsed.
    pub head_sha256: String,
}

/// Who takes an update when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Nobody begins with it while this is true.
    #[serde(default)]
    pub paused: bool,
    /// When it begins.
    pub start: Time,
    /// Devices of these groups take it from the start on.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The shares of all others, in order. Who is in no wave is never reached: publishing it
    /// without a rollout, or with a last wave of 100 per cent, brings it to all.
    #[serde(default)]
    pub waves: Vec<Wave>,
}

/// One step of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Share of all devices that may take it from then on, the waves before included: 1 to 100.
    pub percent: u8,
    /// Seconds after the rollout's start.
    pub after: u64,
}

impl FerriteTarget {
    /// Checks every bound of the optional parts; the error is for people.
    ///
    /// Writers call it before they sign, [`crate::TargetFile::ferrite`] calls it for readers.
    pub fn check(&self) -> Result<(), String> {
        if let Some(index) = &self.index {
            check_name(index)?;
        }
        if self.deltas.len() > MAX_DELTAS {
            return Err(format!("{} deltas are more than {MAX_DELTAS}", self.deltas.len()));
        }
        self.deltas.iter().try_for_each(DeltaTarget::check)?;
        self.rollout.as_ref().map_or(Ok(()), Rollout::check)
    }

    /// The delta from the version with this slot header (SHA-256 in hex).
    pub fn delta_from(&self, header_sha256: &str) -> Option<&DeltaTarget> {
        self.deltas.iter().find(|delta| delta.from_header_sha256 == header_sha256)
    }
}

impl DeltaTarget {
    fn check(&self) -> Result<(), String> {
        check_name(&self.target)?;
        for hash in [&self.from_header_sha256, &self.head_sha256] {
            let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if hash.len() != 64 || !hash.bytes().all(digit) {
                return Err(format!("the delta {} has a hash that is not one", self.target));
            }
        }
        if !(1..=MAX_DELTA_HEAD).contains(&self.head_length) {
            return Err(format!(
                "the delta {} has a head of {} bytes; 1 to {MAX_DELTA_HEAD} are taken",
                self.target, self.head_length
            ));
        }
        Ok(())
    }
}

impl Rollout {
    /// Checks every bound; the error is for people.
    pub fn check(&self) -> Result<(), String> {
        if self.groups.len() > MAX_GROUPS {
            return Err(format!("{} groups are more than {MAX_GROUPS}", self.groups.len()));
        }
        if let Some(group) = self.groups.iter().find(|group| !is_group(group)) {
            return Err(format!(
                "{group:?} is not the name of a group: 1 to {MAX_GROUP_NAME} of A-Z a-z 0-9 . _ -"
            ));
        }
        if self.waves.len() > MAX_WAVES {
            return Err(format!("{} waves are more than {MAX_WAVES}", self.waves.len()));
        }
        let mut before = Wave { percent: 0, after: 0 };
        for wave in &self.waves {
            if wave.percent > 100 || wave.percent <= before.percent {
                return Err(format!(
                    "a wave of {}% after one of {}%: percents only grow, from 1 to 100",
                    wave.percent, before.percent
                ));
            }
            if wave.after < before.after || wave.after > MAX_AFTER {
                return Err(format!(
                    "the wave of {}% comes {} s after the start: waves come in order, within ten \
                     years",
                    wave.percent, wave.after
                ));
            }
            before = *wave;
        }
        Ok(())
    }

    /// From when on a device takes the update, a pause aside; `None`: never.
    ///
    /// `bucket` is the device's own number from 0 to [`BUCKETS`] − 1, `in_group` whether it is in
    /// one of [`Rollout::groups`].
    pub fn eligible_from(&self, bucket: u16, in_group: bool) -> Option<Time> {
        if in_group {
            return Some(self.start);
        }
        let reached = |wave: &&Wave| bucket < u16::from(wave.percent) * (BUCKETS / 100);
        let wave = self.waves.iter().find(reached)?;
        Some(Time(self.start.0.saturating_add(wave.after)))
    }
}

/// Whether this may be the name of a group of devices.
pub fn is_group(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=MAX_GROUP_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

fn check_name(name: &str) -> Result<(), String> {
    match name.len() {
        1..=MAX_TARGET_NAME => Ok(()),
        length => Err(format!("a target's name of {length} bytes; 1 to {MAX_TARGET_NAME}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::TargetFile;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(ferrite: Value) -> Option<FerriteTarget> {
        let custom = Some(json!({ "ferrite": ferrite }));
        TargetFile { length: 1, hashes: Default::default(), custom }.ferrite()
    }

    /// The example of docs/updates.md.
    fn example() -> Value {
        json!({
            "board": "qemu-arm64", "name": "demo", "version": "1.0.1", "sequence": 2,
            "header_sha256": "11".repeat(32),
            "index": "demo-qemu-arm64-1.0.1.index",
            "deltas": [{
                "from_header_sha256": "22".repeat(32),
                "target": "demo-qemu-arm64-1.0.1-from-1.0.0.delta",
                "head_length": 12345, "head_sha256": "33".repeat(32)
            }],
            "rollout": {
                "paused": false,
                "start": "2026-11-24T00:00:00Z",
                "groups": ["canary"],
                "waves": [{"percent": 10, "after": 0}, {"percent": 100, "after": 86400}]
            },
            "retry": 1
        })
    }

    #[test]
    fn the_documented_form_is_read_and_written() {
        let target = read(example()).unwrap();
        assert_eq!(target.index.as_deref(), Some("demo-qemu-arm64-1.0.1.index"));
        assert_eq!(target.delta_from(&"22".repeat(32)), Some(&target.deltas[0]));
        assert_eq!(target.delta_from(&"33".repeat(32)), None);
        let rollout = target.rollout.clone().unwrap();
        assert_eq!(rollout.start, "2026-11-24T00:00:00Z".parse().unwrap());
        assert_eq!(rollout.waves[1], Wave { percent: 100, after: 86400 });
        assert_eq!(serde_json::to_value(&target).unwrap(), example());
    }

    #[test]
    fn a_target_without_the_optional_parts_has_none_and_writes_none() {
        let mut plain = example();
        for member in ["index", "deltas", "rollout", "retry"] {
            plain.as_object_mut().unwrap().remove(member);
        }
        let target = read(plain.clone()).unwrap();
        assert_eq!((&target.index, &target.rollout), (&None, &None));
        assert!(target.deltas.is_empty());
        assert_eq!(serde_json::to_value(&target).unwrap(), plain);
    }

    #[test]
    fn members_of_later_versions_are_passed_over() {
        let mut later = example();
        later["new"] = json!({"deep": [1, 2]});
        later["deltas"][0]["new"] = json!(1);
        later["rollout"]["new"] = json!("x");
        assert_eq!(read(later), read(example()));
    }

    #[test]
    fn what_is_out_of_bounds_is_no_offer() {
        let hex = json!("0A".repeat(32));
        let many = |value: &Value, n: usize| Value::from(vec![value.clone(); n]);
        let waves = |list: &[(u64, u64)]| {
            list.iter().map(|(p, a)| json!({"percent": p, "after": a})).collect::<Value>()
        };
        let growing: Vec<_> = (1..=MAX_WAVES as u64 + 1).map(|n| (n, n)).collect();
        let delta = &example()["deltas"][0];
        for (at, value) in [
            ("/index", json!("")),
            ("/index", json!("x".repeat(191))),
            ("/deltas", many(delta, MAX_DELTAS + 1)),
            ("/deltas/0/from_header_sha256", hex.clone()),
            ("/deltas/0/from_header_sha256", json!("00")),
            ("/deltas/0/head_sha256", hex),
            ("/deltas/0/head_length", json!(0)),
            ("/deltas/0/head_length", json!(MAX_DELTA_HEAD + 1)),
            ("/deltas/0/head_length", json!(-1)),
            ("/deltas/0/target", json!("")),
            ("/rollout/start", json!("tomorrow")),
            ("/rollout/start", json!(0)),
            ("/rollout/paused", json!("no")),
            ("/rollout/groups", many(&json!("g"), MAX_GROUPS + 1)),
            ("/rollout/groups", json!([""])),
            ("/rollout/groups", json!(["a b"])),
            ("/rollout/groups", json!(["x".repeat(MAX_GROUP_NAME + 1)])),
            ("/rollout/waves", waves(&growing)),
            ("/rollout/waves", waves(&[(0, 0)])),
            ("/rollout/waves", waves(&[(101, 0)])),
            ("/rollout/waves", waves(&[(256, 0)])),
            ("/rollout/waves", waves(&[(10, 0), (10, 5)])),
            ("/rollout/waves", waves(&[(20, 0), (10, 5)])),
            ("/rollout/waves", waves(&[(10, 5), (20, 4)])),
            ("/rollout/waves", waves(&[(10, MAX_AFTER + 1)])),
            ("/retry", json!(-1)),
            ("/retry", json!(1u64 << 32)),
            ("/retry", json!("1")),
        ] {
            let mut bad = example();
            *bad.pointer_mut(at).unwrap() = value.clone();
            assert_eq!(read(bad), None, "{at} = {value}");
        }
        let mut most = example();
        most["deltas"] = many(delta, MAX_DELTAS);
        most["rollout"]["groups"] = many(&json!("g"), MAX_GROUPS);
        most["rollout"]["waves"] = waves(&growing[..MAX_WAVES]);
        assert!(read(most).is_some(), "the bounds themselves are taken");
    }

    #[test]
    fn a_device_waits_for_the_first_wave_that_reaches_its_place() {
        let mut rollout = read(example()).unwrap().rollout.unwrap();
        let start = rollout.start;
        let later = Time(start.0 + 86400);
        for (bucket, turn) in [(0, start), (999, start), (1000, later), (9999, later)] {
            assert_eq!(rollout.eligible_from(bucket, false), Some(turn), "bucket {bucket}");
            assert_eq!(
                rollout.eligible_from(bucket, true),
                Some(start),
                "bucket {bucket} in a group"
            );
        }
        rollout.waves.pop();
        assert_eq!(rollout.eligible_from(1000, false), None);
        rollout.waves.clear();
        assert_eq!(rollout.eligible_from(0, false), None);
        assert_eq!(rollout.eligible_from(9999, true), Some(start));
    }

    fn rollouts() -> impl Strategy<Value = Rollout> {
        let waves = proptest::collection::btree_map(1u8..=100, 0..=MAX_AFTER, 0..MAX_WAVES);
        let groups = proptest::collection::vec("[A-Za-z0-9._-]{1,64}", 0..MAX_GROUPS);
        (any::<bool>(), 0..=Time::MAX.0, groups, waves).prop_map(|(paused, start, groups, w)| {
            let mut afters: Vec<u64> = w.values().copied().collect();
            afters.sort_unstable();
            let waves = w.keys().zip(afters);
            let waves = waves.map(|(percent, after)| Wave { percent: *percent, after }).collect();
            Rollout { paused, start: Time(start), groups, waves }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            rollout in proptest::option::of(rollouts()),
            index in proptest::option::of("[a-z0-9.-]{1,190}"),
            heads in proptest::collection::vec((1..=MAX_DELTA_HEAD, any::<[u8; 32]>()), 0..MAX_DELTAS),
        ) {
            let hex = |bytes: &[u8; 32]| crate::key::to_hex(bytes);
            let deltas = heads.iter().enumerate().map(|(i, (head_length, hash))| DeltaTarget {
                from_header_sha256: hex(hash),
                target: format!("{i}.delta"),
                head_length: *head_length,
                head_sha256: hex(hash),
            }).collect();
            let target = FerriteTarget { index, deltas, rollout, ..FerriteTarget::default() };
            prop_assert_eq!(target.check(), Ok(()));
            prop_assert_eq!(read(serde_json::to_value(&target).unwrap()), Some(target));
        }

        #[test]
        fn nobody_is_passed_by_when_the_last_wave_is_everybody(mut rollout in rollouts(), bucket in 0..BUCKETS) {
            rollout.waves.retain(|wave| wave.percent < 100);
            let after = rollout.waves.last().map_or(0, |wave| wave.after);
            rollout.waves.push(Wave { percent: 100, after });
            let turn = rollout.eligible_from(bucket, false).unwrap();
            prop_assert!(turn >= rollout.start && turn.0 <= rollout.start.0 + after);
            if bucket > 0 {
                prop_assert!(rollout.eligible_from(bucket - 1, false).unwrap() <= turn);
            }
        }
    }
}

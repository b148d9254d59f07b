//! When this device's turn in a rollout is: from an id of its own and the groups it is in, without
//! a server that knows it.

use std::fmt;

use sha2::{Digest, Sha256};
use tuf::ferrite::{BUCKETS, MAX_GROUPS, is_group};
use tuf::{Rollout, Time};

use crate::Result;
use crate::device::Device;
use crate::device_id::device_id;
use crate::settings::Settings;

/// The file with groups that take the place of the image's: one name a line.
const GROUPS: &str = "groups";
/// No file of groups is longer, in bytes.
const MAX_GROUPS_FILE: u64 = 4096;

/// What decides about this device's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutMembership {
    id: String,
    groups: Vec<String>,
}

/// When this device may take an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// From now on.
    Now,
    /// Later.
    At(Time),
    /// Nobody begins with it at present.
    Paused,
    /// It is in none of the rollout's waves.
    Never,
}

impl fmt::Display for Eligibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Eligibility::Now => f.write_str("its turn has come"),
            Eligibility::At(time) => write!(f, "its turn comes at {time}"),
            Eligibility::Paused => f.write_str("its rollout is paused"),
            Eligibility::Never => {
                f.write_str("its rollout has no wave that reaches this device yet")
            }
        }
    }
}

impl RolloutMembership {
    /// Reads the device's id, which is made when there is none, and its groups.
    pub fn load(device: &Device, settings: &Settings) -> Result<RolloutMembership> {
        Ok(RolloutMembership { id: device_id(device)?, groups: groups(device, settings) })
    }

    /// The device's place in the rollout of the update with this slot header, from 0 to
    /// [`BUCKETS`] − 1: the first 8 bytes of SHA-256(id, hash), both in hexadecimal, big endian,
    /// modulo [`BUCKETS`]. Each update deals the places anew, so that nobody is always first.
    pub fn bucket(&self, header_sha256: &str) -> u16 {
        let hash = Sha256::new().chain_update(&self.id).chain_update(header_sha256).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        (u64::from_be_bytes(first) % u64::from(BUCKETS)) as u16
    }

    /// When this device takes the update with this slot header, at the device's time `now`.
    pub fn eligibility(
        &self,
        rollout: Option<&Rollout>,
        header_sha256: &str,
        now: Time,
    ) -> Eligibility {
        let Some(rollout) = rollout else { return Eligibility::Now };
        if rollout.paused {
            return Eligibility::Paused;
        }
        let in_group = self.groups.iter().any(|group| rollout.groups.contains(group));
        match rollout.eligible_from(self.bucket(header_sha256), in_group) {
            Some(turn) if turn <= now => Eligibility::Now,
            Some(turn) => Eligibility::At(turn),
            None => Eligibility::Never,
        }
    }
}

/// The groups this device is in: those of the file, else the image's. A line that is no name of a
/// group matches no rollout.
fn groups(device: &Device, settings: &Settings) -> Vec<String> {
    match device.data_folder().read(GROUPS, MAX_GROUPS_FILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::trim)
            .filter(|name| is_group(name))
            .take(MAX_GROUPS)
            .map(String::from)
            .collect(),
        Err(_) => settings.groups.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tuf::Wave;

    fn membership(id: &str, groups: &[&str]) -> RolloutMembership {
        RolloutMembership { id: id.into(), groups: groups.iter().map(|g| g.to_string()).collect() }
    }

    fn rollout() -> Rollout {
        let waves = vec![Wave { percent: 10, after: 0 }, Wave { percent: 100, after: 86_400 }];
        Rollout { paused: false, start: Time(1_000_000), groups: vec!["canary".into()], waves }
    }

    #[test]
    fn the_bucket_is_the_one_of_the_documented_rule() {
        // printf '%s%s' 00…0f 11…11 | sha256sum | cut -c1-16, as a number modulo 10000.
        let id = "000102030405060708090a0b0c0d0e0f";
        assert_eq!(membership(id, &[]).bucket(&"11".repeat(32)), 9123);
    }

    #[test]
    fn each_device_waits_for_its_wave_and_nobody_during_a_pause() {
        let rollout = rollout();
        let turn = |membership: &RolloutMembership, now| {
            membership.eligibility(Some(&rollout), "x", Time(now))
        };
        let (mut early, mut late) = (0, 0);
        for n in 0..1000 {
            match turn(&membership(&n.to_string(), &[]), 1_000_000) {
                Eligibility::Now => early += 1,
                Eligibility::At(Time(1_086_400)) => late += 1,
                other => panic!("{other:?}"),
            }
            assert_eq!(turn(&membership(&n.to_string(), &[]), 1_086_400), Eligibility::Now);
        }
        assert!((70..130).contains(&early) && early + late == 1000, "{early} of 1000 in 10%");
        let canary = membership("0", &["other", "canary"]);
        assert_eq!(turn(&canary, 1_000_000), Eligibility::Now);
        assert_eq!(turn(&canary, 999_999), Eligibility::At(Time(1_000_000)));
        let paused = Rollout { paused: true, ..rollout.clone() };
        assert_eq!(canary.eligibility(Some(&paused), "x", Time(u64::MAX)), Eligibility::Paused);
        assert_eq!(canary.eligibility(None, "x", Time(0)), Eligibility::Now);
        let none = Rollout { waves: vec![], ..rollout.clone() };
        assert_eq!(
            membership("0", &[]).eligibility(Some(&none), "x", Time(u64::MAX)),
            Eligibility::Never
        );
    }

    proptest! {
        #[test]
        fn buckets_are_buckets(id in "\\PC{0,40}", hash in "\\PC{0,80}") {
            prop_assert!(membership(&id, &[]).bucket(&hash) < BUCKETS);
        }
    }
}

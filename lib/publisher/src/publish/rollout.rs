//! Who takes an update when, and changes to that once it is published.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use tuf::{FerriteTarget, Rollout, TargetFile, Time, Wave};

/// Who takes the updates that are published now, and when. Nothing said: everybody at once.
#[derive(Debug, Clone, Default)]
pub struct NewRollout {
    /// Shares of all devices, and how long after the start.
    pub waves: Option<Vec<Wave>>,
    /// When the first wave begins; when it is published if not given.
    pub start: Option<Time>,
    /// Devices of these groups take the updates from the start on.
    pub groups: Vec<String>,
}

impl NewRollout {
    /// The rollout of updates that are published at `now`; `None`: everybody at once.
    pub fn starting(&self, now: Time) -> Option<Rollout> {
        let everybody = || vec![Wave { percent: 100, after: 0 }];
        let waves = match (&self.waves, self.groups.is_empty(), self.start) {
            (Some(waves), _, _) => waves.clone(),
            // Groups alone are a trial among them: nobody else is reached.
            (None, false, _) => Vec::new(),
            (None, true, Some(_)) => everybody(),
            (None, true, None) => return None,
        };
        let start = self.start.unwrap_or(now);
        Some(Rollout { paused: false, start, groups: self.groups.clone(), waves })
    }
}

/// What is wanted of a version that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Who has not begun with it does not begin.
    Pause,
    /// Its rollout goes on.
    Resume,
    /// Devices on which its trial failed try it again, once.
    Retry,
}

/// A change to a version that is published already.
#[derive(Debug, Clone)]
pub struct VersionChange {
    /// What is wanted of it.
    pub wish: Wish,
    /// The version.
    pub version: String,
    /// Its board, where several have that version.
    pub board: Option<String>,
    /// Its image, where several have that version.
    pub name: Option<String>,
}

impl VersionChange {
    /// Makes the change; the line to report.
    pub fn apply(&self, targets: &mut BTreeMap<String, TargetFile>, now: Time) -> Result<String> {
        let (target_name, mut ferrite) = self.find(targets)?;
        if self.wish == Wish::Retry {
            ferrite.retry = ferrite.retry.saturating_add(1);
            rewrite(targets, &target_name, &ferrite)?;
            return Ok(format!("{target_name} is tried again where it failed ({})", ferrite.retry));
        }
        let rollout = ferrite.rollout.get_or_insert_with(|| Rollout {
            paused: false,
            start: now,
            groups: Vec::new(),
            waves: vec![Wave { percent: 100, after: 0 }],
        });
        let paused = self.wish == Wish::Pause;
        let word = if paused { "paused" } else { "resumed" };
        if rollout.paused == paused {
            return Ok(format!("{target_name} is {word} already"));
        }
        rollout.paused = paused;
        rewrite(targets, &target_name, &ferrite)?;
        Ok(format!("{target_name} {word}"))
    }

    fn find(&self, targets: &BTreeMap<String, TargetFile>) -> Result<(String, FerriteTarget)> {
        let version = &self.version;
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let updates = || targets.iter().filter_map(|(name, t)| Some((name.clone(), t.ferrite()?)));
        let mut found: Vec<_> = updates()
            .filter(|(_, f)| f.version == *version)
            .filter(|(_, f)| fits(&self.name, &f.name) && fits(&self.board, &f.board))
            .collect();
        match (found.pop(), found.pop()) {
            (Some(one), None) => Ok(one),
            (Some(one), Some(other)) => bail!(
                "both {} and {} are version {version}; say which one with --name and --board",
                one.0,
                other.0
            ),
            _ => {
                let all: Vec<_> = updates().map(|(name, _)| name).collect();
                let all = if all.is_empty() { "nothing".into() } else { all.join(", ") };
                bail!("version {version} is not published; published is {all}")
            }
        }
    }
}

/// Says `ferrite` of the target of this name.
fn rewrite(
    targets: &mut BTreeMap<String, TargetFile>,
    name: &str,
    ferrite: &FerriteTarget,
) -> Result<()> {
    ferrite.check().map_err(|e| anyhow!("{name}: {e}"))?;
    let target = targets.get_mut(name).context("a target that is not there")?;
    // What else stands in `custom` is not ours to drop.
    let custom = target.custom.as_mut().and_then(|custom| custom.as_object_mut());
    let value = serde_json::to_value(ferrite).context("a rollout")?;
    custom.context("a target without `custom`")?.insert("ferrite".into(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_means_everybody_at_once() {
        let now = Time(1_800_000_000);
        assert_eq!(NewRollout::default().starting(now), None);
        let start = Some(Time(1_900_000_000));
        let later = NewRollout { start, ..NewRollout::default() }.starting(now).unwrap();
        assert_eq!(later.eligible_from(9_999, false), start);
        let groups = vec!["canary".to_owned()];
        let canaries = NewRollout { groups, ..NewRollout::default() }.starting(now).unwrap();
        assert_eq!(
            (canaries.eligible_from(0, false), canaries.eligible_from(0, true)),
            (None, Some(now))
        );
    }
}

//! Who takes an update when: the options of `imager publish` that a rollout is made of.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use tuf::ferrite::is_group;
use tuf::{FerriteTarget, Rollout, TargetFile, Time, Wave};

use crate::config::values::parse_span;

/// Options for a rollout.
#[derive(Debug, Default, clap::Args)]
pub struct RolloutArgs {
    /// Shares of all devices that take the updates, and how long after the start: `10%,50%@1d,100%@3d`
    #[arg(long, value_name = "WAVES", value_parser = parse_waves)]
    waves: Option<Waves>,
    /// When the first wave begins, like `2026-12-01T08:00:00Z`; now if not given
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    start: Option<Time>,
    /// Devices of this group take the updates from the start on; may be given several times
    #[arg(long = "group", value_name = "GROUP", value_parser = parse_group)]
    groups: Vec<String>,
    /// Stops the rollout of a published version: who has not begun with it does not begin
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["waves", "start", "groups", "files", "resume"])]
    pause: Option<String>,
    /// Lets the rollout of a version go on
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["waves", "start", "groups", "files"])]
    resume: Option<String>,
    /// Lets devices on which a published version failed its trial try it again, once
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["waves", "start", "groups", "files", "pause", "resume"])]
    retry: Option<String>,
    /// With --pause, --resume and --retry: the board, where several have that version
    #[arg(long)]
    board: Option<String>,
    /// With --pause, --resume and --retry: the image, where several have that version
    #[arg(long)]
    name: Option<String>,
}

type Waves = Vec<Wave>;

impl RolloutArgs {
    /// The rollout of the updates that are published now; `None`: everybody at once.
    pub fn of_new(&self, now: Time) -> Option<Rollout> {
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

    /// Pauses, resumes or offers anew what is asked for; the line to report, or `None` if nothing is.
    pub fn change(
        &self,
        targets: &mut BTreeMap<String, TargetFile>,
        now: Time,
    ) -> Result<Option<String>> {
        if let Some(version) = &self.retry {
            let (target_name, mut ferrite) = self.find(targets, version)?;
            ferrite.retry = ferrite.retry.saturating_add(1);
            rewrite(targets, &target_name, &ferrite)?;
            let line = format!("{target_name} is tried again where it failed ({})", ferrite.retry);
            return Ok(Some(line));
        }
        let (version, paused) = match (&self.pause, &self.resume) {
            (Some(version), _) => (version, true),
            (None, Some(version)) => (version, false),
            (None, None) => return Ok(None),
        };
        let (target_name, mut ferrite) = self.find(targets, version)?;
        let rollout = ferrite.rollout.get_or_insert_with(|| Rollout {
            paused: false,
            start: now,
            groups: Vec::new(),
            waves: vec![Wave { percent: 100, after: 0 }],
        });
        let word = if paused { "paused" } else { "resumed" };
        if rollout.paused == paused {
            return Ok(Some(format!("{target_name} is {word} already")));
        }
        rollout.paused = paused;
        rewrite(targets, &target_name, &ferrite)?;
        Ok(Some(format!("{target_name} {word}")))
    }

    fn find(
        &self,
        targets: &BTreeMap<String, TargetFile>,
        version: &str,
    ) -> Result<(String, FerriteTarget)> {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let updates = || targets.iter().filter_map(|(name, t)| Some((name.clone(), t.ferrite()?)));
        let mut found: Vec<_> = updates()
            .filter(|(_, f)| f.version == version)
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

/// `10%,50%@1d,100%@3d`; a wave without a time begins with the rollout.
fn parse_waves(text: &str) -> Result<Waves, String> {
    let wave = |part: &str| -> Result<Wave, String> {
        let (share, after) = part.split_once('@').unwrap_or((part, "0s"));
        let percent = share.strip_suffix('%').and_then(|number| number.parse().ok());
        let percent = percent.ok_or_else(|| {
            format!(
                "{part:?} is not a wave: write a share and how long after the start, like 50%@1d"
            )
        })?;
        Ok(Wave { percent, after: parse_span(after)?.as_seconds() })
    };
    let waves = text.split(',').map(wave).collect::<Result<Waves, String>>()?;
    let rollout =
        Rollout { paused: false, start: Time(0), groups: Vec::new(), waves: waves.clone() };
    rollout.check()?;
    Ok(waves)
}

fn parse_time(text: &str) -> Result<Time, String> {
    text.parse().map_err(|_| format!("{text:?} is not a time like 2026-12-01T08:00:00Z"))
}

fn parse_group(text: &str) -> Result<String, String> {
    match is_group(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a group's name: 1 to 64 of A-Z a-z 0-9 . _ -")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_read_as_they_are_written() {
        let wave = |percent, after| Wave { percent, after };
        let day = 86_400;
        assert_eq!(
            parse_waves("10%,50%@1d,100%@1d12h").unwrap(),
            [wave(10, 0), wave(50, day), wave(100, day * 3 / 2)]
        );
        assert_eq!(parse_waves("100%").unwrap(), [wave(100, 0)]);
        for (bad, word) in [
            ("", "is not a wave"),
            ("10", "is not a wave"),
            ("10%,", "is not a wave"),
            ("300%", "is not a wave"),
            ("-1%", "is not a wave"),
            ("0%", "only grow"),
            ("101%", "only grow"),
            ("50%,10%@1d", "only grow"),
            ("10%@2d,50%@1d", "in order"),
            ("10%@", "span of time"),
            ("10%@soon", "span of time"),
        ] {
            let error = parse_waves(bad).unwrap_err();
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }

    #[test]
    fn what_is_not_said_means_everybody_at_once() {
        let now = Time(1_800_000_000);
        assert_eq!(RolloutArgs::default().of_new(now), None);
        let start = Some(Time(1_900_000_000));
        let later = RolloutArgs { start, ..RolloutArgs::default() }.of_new(now).unwrap();
        assert_eq!(later.eligible_from(9_999, false), start);
        let groups = vec!["canary".to_owned()];
        let canaries = RolloutArgs { groups, ..RolloutArgs::default() }.of_new(now).unwrap();
        assert_eq!(
            (canaries.eligible_from(0, false), canaries.eligible_from(0, true)),
            (None, Some(now))
        );
    }
}

//! Who takes an update when: the options of `imager publish` that a rollout is made of.

use publisher::publish::{NewRollout, VersionChange, Wish};
use tuf::ferrite::is_group;
use tuf::{Rollout, Time, Wave};

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
    /// The rollout of the updates that are published now.
    pub fn of_new(&self) -> NewRollout {
        NewRollout { waves: self.waves.clone(), start: self.start, groups: self.groups.clone() }
    }

    /// The change to a published version that is asked for, if one is.
    pub fn change(&self) -> Option<VersionChange> {
        let asked =
            [(Wish::Pause, &self.pause), (Wish::Resume, &self.resume), (Wish::Retry, &self.retry)];
        let (wish, version) =
            asked.into_iter().find_map(|(wish, version)| Some((wish, version.clone()?)))?;
        let (board, name) = (self.board.clone(), self.name.clone());
        Some(VersionChange { wish, version, board, name })
    }
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
}

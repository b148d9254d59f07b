//! `imager publish`: puts updates into a repository.

mod rollout;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use publisher::publish::{DEFAULT_DAYS, Prune, Request, publish};
use publisher::staged::Place;
use tuf::Time;

use self::rollout::RolloutArgs;
use super::clock::ClockArgs;
use crate::outputs;

/// Publishes updates in a repository, a folder that any HTTP server can serve. Without a FILE it
/// renews the repository's signatures.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  imager publish --repo repo out/demo-qemu-arm64-1.0.1.update
  imager publish --repo repo --group canary --waves 10%@1d,50%@2d,100%@4d out/*.update
  imager publish --repo repo --pause 1.0.1
  imager publish --repo repo --retry 1.0.1
  imager publish --repo repo --prune 5 out/demo-qemu-arm64-1.0.9.update
  imager publish --repo repo                       renews the signatures, for a timer")]
pub struct PublishArgs {
    /// The repository's folder; with a FILE made if it is not there.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// The folder with the keys that `imager keygen` made.
    #[arg(long, value_name = "DIR", default_value = "keys")]
    keys: PathBuf,
    /// Days until devices stop to trust this publication.
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_DAYS)]
    expires: u64,
    /// How many of the newest published versions get a delta to each new one. 0: none
    #[arg(long, value_name = "N", default_value_t = 3)]
    deltas: usize,
    #[command(flatten)]
    rollout: RolloutArgs,
    #[command(flatten)]
    prune: PruneArgs,
    /// Prepare the publication in the repository's folder `staged`, to be signed elsewhere with
    /// `imager repo sign` and published by `imager repo publish`. Devices see nothing of it.
    #[arg(long)]
    stage: bool,
    #[command(flatten)]
    clock: ClockArgs,
    /// Updates to add.
    #[arg(value_name = "FILE.update")]
    files: Vec<PathBuf>,
}

/// Options for old versions.
#[derive(Debug, Default, clap::Args)]
pub struct PruneArgs {
    /// Offers only the KEEP newest versions of each image and board, and removes the files of those
    /// that nobody can still be fetching. Versions whose rollout has not reached everybody come on top
    #[arg(long = "prune", value_name = "KEEP")]
    keep: Option<NonZeroUsize>,
    /// With --prune: days that a file stays after it was last offered
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    grace: u64,
}

impl PublishArgs {
    fn request(self) -> Request {
        let grace_days = self.prune.grace;
        Request {
            rollout: self.rollout.of_new(),
            change: self.rollout.change(),
            repo: self.repo,
            keys: self.keys,
            expires_days: self.expires,
            deltas: self.deltas,
            prune: self.prune.keep.map(|keep| Prune { keep, grace_days }),
            place: if self.stage { Place::Staged } else { Place::Published },
            clock: self.clock.check(),
            files: self.files,
        }
    }
}

/// Runs `imager publish`.
pub fn run(args: PublishArgs) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    outputs::check_new_repository(&args.repo)?;
    let tell = &mut |line| eprintln!("{line}");
    for line in publish(&args.request(), Time(now.as_secs()), tell)? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use publisher::publish::Wish;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: PublishArgs,
    }

    fn parsed(words: &[&str]) -> Result<Request> {
        let line = [&["publish", "--repo", "repo"], words].concat();
        Ok(Line::try_parse_from(line)?.args.request())
    }

    #[test]
    fn a_change_to_a_published_version_goes_with_nothing_else() {
        let change = parsed(&["--pause", "1.0.0", "--board", "x"]).unwrap().change.unwrap();
        assert_eq!((change.wish, &change.version[..]), (Wish::Pause, "1.0.0"));
        assert_eq!(change.board.as_deref(), Some("x"));
        for (option, wish) in [("--resume", Wish::Resume), ("--retry", Wish::Retry)] {
            assert_eq!(parsed(&[option, "2"]).unwrap().change.unwrap().wish, wish);
        }
        for wrong in [
            ["--pause", "1.0.0", "a.update"].as_slice(),
            &["--retry", "1.0.0", "a.update"],
            &["--pause", "1.0.0", "--waves", "5%"],
            &["--retry", "1.0.0", "--pause", "1.0.0"],
        ] {
            parsed(wrong).unwrap_err();
        }
    }

    #[test]
    fn what_is_not_said_is_as_the_help_has_it() {
        let request = parsed(&["a.update"]).unwrap();
        assert!(request.change.is_none() && request.prune.is_none());
        assert_eq!((request.deltas, request.expires_days), (3, DEFAULT_DAYS));
        let prune = parsed(&["--prune", "5", "a.update"]).unwrap().prune.unwrap();
        assert_eq!((prune.keep.get(), prune.grace_days), (5, 30));
    }
}

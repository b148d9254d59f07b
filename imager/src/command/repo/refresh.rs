//! `imager repo refresh`: the timestamp signed anew, by a timer and with nothing but its key.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tuf::Time;
use tuf::author::{Changes, Dates, Published, Renew, release};

use super::KeyArgs;
use super::staged::online_keys;
use crate::repository_folder::{self, load, lock};
use crate::signing_clock::ClockArgs;

const DAY: u64 = 86_400;

/// Signs the timestamp anew, and the snapshot when it is near its end. It needs the keys of these
/// two roles only. One line on standard output; what will need offline keys soon is said on
/// standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples, the second one for a crontab:
  imager repo refresh --repo repo --keys online --expires 7
  0 * * * *  imager repo refresh --repo /srv/repo --keys /etc/online --expires 7 --if-older-than 12h

Exit codes: 0 renewed, or still young; 1 failed, and nothing changed; 2 wrong arguments.")]
pub struct RefreshArgs {
    /// The repository's folder.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
    /// Days until the new timestamp expires.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    expires: u64,
    /// Do nothing when the timestamp was signed less than this ago: 30m, 12h, 2d.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    if_older_than: Option<u64>,
    /// Sign the snapshot anew too when it has fewer days left than this.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    snapshot_within: u64,
    /// Days until a new snapshot expires.
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    snapshot_expires: u64,
    #[command(flatten)]
    clock: ClockArgs,
}

fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time like 30m, 12h or 2d");
    let number = text.get(..text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => DAY,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)
}

/// What is to be signed anew.
fn decide(before: &Published, args: &RefreshArgs, now: Time) -> Renew {
    if before.snapshot.expires <= now.plus_days(args.snapshot_within) {
        return Renew::Snapshot;
    }
    let young = |age: u64| {
        before.timestamp.signed_at.is_some_and(|at| now.0 < at.0.saturating_add(age))
            && before.timestamp.expires > now
    };
    match args.if_older_than {
        Some(age) if young(age) => Renew::Nothing,
        _ => Renew::Timestamp,
    }
}

/// Renews what has to be.
pub fn run(args: &RefreshArgs, now: Time) -> Result<Vec<String>> {
    if args.expires == 0 || args.snapshot_expires == 0 {
        bail!("what expires at once helps nobody; give at least 1 day");
    }
    let repo = &args.repo;
    let _lock = lock(repo)?;
    let before = load(repo)?.with_context(|| {
        format!("{} is no repository; `imager repo init` makes one", repo.display())
    })?;
    args.clock.check(now, Some(&before), &[])?;
    for (what, expires) in [("root", before.root.expires), ("targets", before.targets.expires)] {
        if expires <= now.plus_days(args.snapshot_within) {
            eprintln!("imager: {what} expires at {expires}; only its own keys can renew it");
        }
    }
    let renew = decide(&before, args, now);
    if renew == Renew::Nothing {
        return Ok(vec![format!("timestamp version {} is young", before.timestamp.version)]);
    }
    let dates = Dates {
        signed_at: now,
        targets: before.targets.expires,
        snapshot: now.plus_days(args.snapshot_expires),
        timestamp: now.plus_days(args.expires),
    };
    let keys = args.keys.keyring()?;
    let changes = Changes { renew, ..Changes::default() };
    let publication = release(Some(&before), changes, &keys, &dates).map_err(online_keys)?;
    repository_folder::write(repo, &publication)?;
    let what = if renew == Renew::Snapshot { "snapshot and timestamp" } else { "timestamp" };
    Ok(vec![format!(
        "{what} renewed: timestamp version {}, good until {}",
        before.timestamp.version + 1,
        dates.timestamp
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("0s", 0), ("30m", 1800), ("12h", 43_200), ("2d", 172_800)] {
            assert_eq!(duration(text), Ok(seconds));
        }
        for bad in ["", "h", "12", "-1h", "1w", "1.5h", "99999999999999999999d", "\u{e9}"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}

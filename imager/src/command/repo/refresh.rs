//! `imager repo refresh`: the timestamp signed anew, by a timer and with nothing but its key.

use std::path::PathBuf;

use anyhow::Result;
use publisher::refresh::{Request, refresh};
use tuf::Time;

use crate::command::clock::ClockArgs;
use crate::command::signing_keys::KeyArgs;

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

/// Runs `imager repo refresh`.
pub fn run(args: &RefreshArgs, now: Time) -> Result<Vec<String>> {
    let request = Request {
        repo: args.repo.clone(),
        keys: args.keys.sources(),
        expires_days: args.expires,
        if_older_than: args.if_older_than,
        snapshot_within_days: args.snapshot_within,
        snapshot_expires_days: args.snapshot_expires,
        clock: args.clock.check(),
    };
    refresh(&request, now, &mut |warning| eprintln!("imager: {warning}"))
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

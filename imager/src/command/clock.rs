//! `--yes` of the commands that sign.

use publisher::signing_clock::ClockCheck;

/// Signing in spite of a clock that looks wrong.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ClockArgs {
    /// Sign although this machine's clock is behind what was signed before, or more than a year
    /// ahead of it.
    #[arg(long)]
    yes: bool,
}

impl ClockArgs {
    /// Whether the clock is looked at.
    pub fn check(self) -> ClockCheck {
        match self.yes {
            true => ClockCheck::Trusted,
            false => ClockCheck::Plausible,
        }
    }
}

//! What `ota status` says.

use formats::boot_state::BootState;
use formats::conf;
use formats::data_state::{DataState, Kind};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::Result;
use crate::bounded_file::read_bounded;
use crate::clock;
use crate::context::{self, Context, Running};
use crate::device::Device;
use crate::init::{boot, health};
use crate::install::progress::InstallProgress;
use crate::policy::trial::{Situation, situation};
use crate::state::retrial::Retrial;
use crate::state::{Failed, State, VersionId, Waiting, open_lock};

/// All of it; the fields of `ota status --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The image's name.
    pub name: String,
    /// The board.
    pub board: String,
    /// The version that runs.
    pub version: String,
    /// Its place in the order of versions.
    pub sequence: u64,
    /// The slot it runs in.
    pub slot: String,
    /// `settled`, `on-trial`, `armed`, `committed` or `fell-back`.
    pub situation: &'static str,
    /// Why it fell back, when it did and nobody has acted on it yet; on trial, what keeps it from being
    /// committed.
    pub reason: Option<String>,
    /// Tries left of an armed trial.
    pub tries: Option<u8>,
    /// The slot to fall back to.
    pub fallback: Option<String>,
    /// Set when nothing can be fallen back to because the version before this one decayed on the
    /// medium: that version.
    pub decayed: Option<String>,
    /// What is on trial or armed.
    pub pending: Option<VersionId>,
    /// What failed its trial here, and why.
    pub failed: Vec<Failed>,
    /// What waits for another trial.
    pub retrial: Option<Waits>,
    /// An installer is at work now.
    pub installing: bool,
    /// The install under way, or the last one: what each source fetched and brought.
    pub install: Option<Install>,
    /// When the repository last answered, in seconds since 1970.
    pub last_check: Option<u64>,
    /// Why the last check or install did not work.
    pub last_error: Option<String>,
    /// The newest version that is offered and not this device's to take yet.
    pub waiting: Option<Waiting>,
    /// Set when the repository's metadata is past its expiry by the device's own clock, which need
    /// not be right: when it expired.
    pub metadata_expired: Option<String>,
    /// Set when the data partition cannot be used and its place is taken by memory: why. What is
    /// remembered then is forgotten at the next start.
    pub data_volatile: Option<String>,
}

/// A version that waits for another trial.
#[derive(Clone, Debug, Serialize)]
pub struct Waits {
    /// What is known of it.
    #[serde(flatten)]
    pub retrial: Retrial,
    /// Seconds of healthy running until it is tried.
    pub left_seconds: u64,
}

/// An install, and what follows from it.
#[derive(Clone, Debug, Serialize)]
pub struct Install {
    /// What was counted.
    #[serde(flatten)]
    pub progress: InstallProgress,
    /// Bytes fetched by all sources.
    pub fetched_bytes: u64,
    /// Bytes saved against the whole payload.
    pub saved_bytes: u64,
    /// How much of it is in place, 0 to 100.
    pub percent: u64,
    /// What became of it.
    pub outcome: InstallOutcome,
}

/// What became of an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstallOutcome {
    /// It is under way.
    Installing,
    /// It stopped before its end.
    Stopped,
    /// It waits for its trial, or runs.
    Installed,
    /// It was installed, and neither runs nor waits for its trial.
    Left,
}

impl Install {
    /// `stands`: it is what runs, or what is to run next.
    fn new(progress: InstallProgress, stands: bool, installing: bool) -> Install {
        Install {
            fetched_bytes: progress.fetched_in_all(),
            saved_bytes: progress.saved(),
            percent: progress.percent(),
            outcome: match (progress.done, stands, installing) {
                (true, true, _) => InstallOutcome::Installed,
                (true, false, _) => InstallOutcome::Left,
                (false, _, true) => InstallOutcome::Installing,
                (false, _, false) => InstallOutcome::Stopped,
            },
            progress,
        }
    }

    /// For people.
    fn to_text(&self) -> String {
        match self.outcome {
            InstallOutcome::Installing => {
                format!("{}, {} % in place", self.progress.to_text("installing"), self.percent)
            }
            InstallOutcome::Stopped => {
                format!("{}, stopped at {} %", self.progress.to_text("installing"), self.percent)
            }
            InstallOutcome::Installed => self.progress.to_text("installed"),
            InstallOutcome::Left => self.progress.to_text("last installed, does not run:"),
        }
    }
}

/// Collects the status.
pub fn collect(context: &Context) -> Result<Status> {
    let Context { device, running, .. } = context;
    let boot = boot::state(device)?;
    let state = State::load(device);
    let last_failure = context::last_failure(device);
    let decayed = decayed(context, &boot);
    let now = situation(running, &boot, state.pending.as_ref(), last_failure.as_ref());
    let now_on_trial = now == Situation::OnTrial;
    let next = state.pending.clone().filter(|_| !matches!(now, Situation::FellBack { .. }));
    let status = describe(running, &boot, state, now, is_installing(device), clock::now());
    let stands = |last: &InstallProgress| {
        let there = [context.version().ok(), next.as_ref()].into_iter().flatten();
        there.into_iter().any(|version| version.header_sha256 == last.header_sha256)
    };
    let install = InstallProgress::load(device).map(|last| {
        let stands = stands(&last);
        Install::new(last, stands, status.installing)
    });
    let unhealthy = || health::ask(device).ok().filter(|health| !health.healthy);
    let ill = match now_on_trial {
        true => unhealthy().map(|health| health.reason),
        false => None,
    };
    let reason = ill.or(status.reason);
    Ok(Status { install, decayed, data_volatile: data_volatile(device), reason, ..status })
}

/// The version in the other slot that nothing may fall back to although it came before this one and
/// its floor allows it: its decay was found. Older ones are not fetched again.
fn decayed(context: &Context, boot: &BootState) -> Option<String> {
    let running = &context.running;
    if boot.active != running.slot || boot.trial.is_some() || boot.fallback.is_some() {
        return None;
    }
    let floor = context.manifest().ok()?.rollback_floor;
    let (manifest, version) = context.idle_content().ok()??;
    let came_before = (floor..=running.sequence).contains(&manifest.sequence);
    came_before.then_some(version.version)
}

/// Why what is written on `/data` is lost at the next start, when it is.
fn data_volatile(device: &Device) -> Option<String> {
    let text = read_bounded(&device.data_state(), conf::MAX_BYTES as u64).ok()?;
    let state = DataState::parse(&text).ok()?;
    (state.kind == Kind::Volatile).then_some(state.reason)
}

fn describe(
    running: &Running,
    boot: &BootState,
    state: State,
    now: Situation,
    installing: bool,
    clock: u64,
) -> Status {
    let (situation, reason) = match now {
        Situation::Settled => ("settled", None),
        Situation::OnTrial => ("on-trial", state.commit_waits.clone()),
        Situation::Armed(_) => ("armed", None),
        Situation::Committed => ("committed", None),
        Situation::FellBack { reason, .. } => ("fell-back", Some(reason)),
    };
    Status {
        name: running.name.clone(),
        board: running.board.clone(),
        version: running.version.clone(),
        sequence: running.sequence,
        slot: running.slot.letter().into(),
        situation,
        reason,
        tries: boot.trial.map(|_| boot.tries),
        fallback: boot.fallback.map(|slot| slot.letter().into()),
        decayed: None,
        pending: state.pending,
        failed: state.failed,
        retrial: state.retrial.map(|retrial| Waits { left_seconds: retrial.left(), retrial }),
        installing,
        install: None,
        last_check: state.last_check,
        last_error: state.last_error,
        waiting: state.waiting,
        data_volatile: None,
        metadata_expired: state
            .metadata_expires
            .filter(|expires| *expires <= clock)
            .map(|expires| tuf::Time(expires).to_string()),
    }
}

/// Whether an installer is at work.
pub(crate) fn is_installing(device: &Device) -> bool {
    device.lock().exists()
        && open_lock(&device.lock())
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

impl Status {
    /// For people.
    pub fn to_text(&self) -> String {
        let mut lines = vec![format!(
            "{} {} (sequence {}) on {}, slot {}: {}",
            self.name, self.version, self.sequence, self.board, self.slot, self.situation
        )];
        lines.extend(self.reason.iter().map(|reason| format!("  because: {reason}")));
        if let Some(pending) = &self.pending {
            let tries = self.tries.map_or(String::new(), |n| format!(", {n} tries left"));
            lines.push(format!(
                "pending: {} (sequence {}) in slot {}{tries}",
                pending.version, pending.sequence, pending.slot
            ));
        }
        lines.push(match (&self.fallback, &self.decayed) {
            (Some(slot), _) => format!("fallback: slot {slot}"),
            (None, Some(version)) => format!(
                "fallback: none: {version} decayed on the medium; the next update takes its place"
            ),
            (None, None) => "fallback: none".into(),
        });
        if self.installing {
            lines.push("an update is being installed".into());
        }
        if let Some(install) = &self.install {
            lines.push(install.to_text());
            lines.extend(install.progress.notes.iter().map(|note| format!("  {note}")));
        }
        if let Some(Waits { retrial, .. }) = &self.retrial {
            lines.push(format!(
                "waits: {} (sequence {}) in slot {}: {}",
                retrial.version, retrial.sequence, retrial.slot, retrial.reason
            ));
            lines.push(format!("  {}", retrial.when()));
        }
        for failed in &self.failed {
            lines.push(format!(
                "failed: {} (sequence {}): {}",
                failed.version, failed.sequence, failed.reason
            ));
        }
        lines.push(match (self.last_check, &self.last_error) {
            (Some(at), _) => format!("last check: {}", tuf::Time(at)),
            (None, Some(_)) => "last check: never answered".into(),
            (None, None) => "last check: never".into(),
        });
        // Behind what it explains.
        lines.extend(self.last_error.iter().map(|error| format!("last error: {error}")));
        lines.extend(self.waiting.iter().map(|waiting| {
            format!(
                "offered: {} (sequence {}): {}",
                waiting.version, waiting.sequence, waiting.turn
            )
        }));
        lines.extend(self.metadata_expired.iter().map(|expired| {
            format!(
                "the repository's metadata expired at {expired} by this device's own clock: the \
                 clock is wrong, or nobody renews it (`imager publish` does)"
            )
        }));
        lines.extend(self.data_volatile.iter().map(|reason| {
            format!("the data partition cannot be used, what is remembered is lost at the next start: {reason}")
        }));
        lines.join("\n")
    }
}

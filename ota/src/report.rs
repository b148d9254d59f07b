//! Telling the owner how an update ended: one small signed JSON by POST, when the image file names
//! where to (`report_url`). It is kept in the state until it was taken or `MOST_ATTEMPTS` failed.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ed25519_dalek::SigningKey;
use formats::report::{MAX_REASON, Report};
use tuf::{Envelope, Time};

use crate::bounded_file::read_own;
use crate::clock;
use crate::context::Running;
use crate::device::Device;
use crate::device_id::device_id;
use crate::fetch::data_budget::Trigger;
use crate::fetch::http::Client;
use crate::fetch::timeouts::Timeouts;
use crate::settings::Settings;
use crate::state::{Outcome, PendingReport, State, explain};
use crate::{Error, Result, random};

/// The device's key for reports: 64 hexadecimal digits, made when the first one is signed.
const KEY: &str = "report.key";
/// After so many attempts a report is dropped.
const MOST_ATTEMPTS: u32 = 8;
/// Before the second attempt, in seconds; doubles for each later one.
const FIRST_PAUSE: u64 = 60;

/// Notes an outcome, to be sent later, when this image reports at all. The same one is told once,
/// however often it comes up.
pub fn note(device: &Device, outcome: Outcome, version: &str, reason: &str) -> Result<()> {
    if !Settings::load(&device.settings()).is_ok_and(|s| s.report_url.is_some()) {
        return Ok(());
    }
    let reason: String = reason.chars().take(MAX_REASON).collect();
    State::change(device, |state| {
        let known = state.report.as_ref().is_some_and(|report| {
            (report.outcome, report.version.as_str(), &report.reason) == (outcome, version, &reason)
        });
        if !known {
            state.report = Some(PendingReport {
                outcome,
                version: version.into(),
                reason,
                time: clock::estimate(device, state.signed_at),
                attempts: 0,
                not_before: 0,
                done: false,
            });
        }
    })
    .map(|_| ())
}

/// Sends the report that is due, if there is one. A failure is an error only for who wants to say
/// it: the next attempt is planned.
pub fn send_due(
    device: &Device,
    settings: &Settings,
    timeouts: Timeouts,
    running: &Running,
) -> Result<()> {
    let (Some(url), Some(report)) = (&settings.report_url, State::load(device).report) else {
        return Ok(());
    };
    if report.done || !is_due(&report, clock::now()) {
        return Ok(());
    }
    let sent = body(device, running, &report).and_then(|body| {
        let client = Client::of_device(device, settings, timeouts, url, Trigger::Scheduled)?;
        client.post(url, &body).map_err(|reason| Error::failed(format!("report: {url}: {reason}")))
    });
    State::change(device, |state| {
        if let Some(kept) = state.report.as_mut().filter(|kept| **kept == report) {
            plan(kept, sent.is_ok(), clock::now());
        }
    })?;
    sent
}

/// A clock that jumped ahead and came back holds nothing up for longer than the longest pause.
fn is_due(report: &PendingReport, now: u64) -> bool {
    report.not_before <= now || report.not_before > now + (FIRST_PAUSE << MOST_ATTEMPTS)
}

/// What follows from an attempt.
fn plan(report: &mut PendingReport, taken: bool, now: u64) {
    if !taken {
        report.attempts = report.attempts.saturating_add(1);
        report.not_before = now + (FIRST_PAUSE << (report.attempts - 1).min(MOST_ATTEMPTS));
    }
    report.done = taken || report.attempts >= MOST_ATTEMPTS;
}

/// The report in the envelope of TUF's metadata: `signatures` over the canonical
/// form of `signed`.
fn body(device: &Device, running: &Running, pending: &PendingReport) -> Result<Vec<u8>> {
    let key = device_key(device)?;
    let signed = Report {
        device: device_id(device)?,
        key: formats::hex::encode(key.verifying_key().as_bytes()),
        board: running.board.clone(),
        name: running.name.clone(),
        running: running.version.clone(),
        outcome: pending.outcome,
        version: pending.version.clone(),
        reason: pending.reason.clone(),
        time: Time(pending.time).to_string(),
    };
    let envelope =
        Envelope::sign(&signed.to_json(), &[&key]).map_err(|e| Error::failed(e.to_string()))?;
    Ok(envelope.to_bytes())
}

/// The device's key, which is made when there is none. One that others may read is refused.
fn device_key(device: &Device) -> Result<SigningKey> {
    let path = device.data().join(KEY);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_key(&path),
        Err(error) => Err(Error::at(&path, error)),
        Ok(about) if !about.is_file() => {
            Err(Error::at(&path, "not a regular file; remove it, and a new one is made"))
        }
        Ok(about) if about.mode() & 0o077 != 0 => {
            Err(Error::at(&path, "others may read it; remove it, and a new one is made"))
        }
        Ok(_) => {
            let text = read_own(&path, 256)?;
            let text = String::from_utf8_lossy(&text);
            let seed = formats::hex::decode(text.trim()).map_err(|e| Error::at(&path, e))?;
            Ok(SigningKey::from_bytes(&seed))
        }
    }
}

fn make_key(path: &Path) -> Result<SigningKey> {
    let seed: [u8; 32] = random::bytes().map_err(|e| Error::at(path, e))?;
    let new = path.with_extension("new");
    let write = || {
        // One that a power cut left half written may be there.
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(format!("{}\n", formats::hex::encode(&seed)).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|e| explain(path, &e))?;
    Ok(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> PendingReport {
        PendingReport {
            outcome: Outcome::FellBack,
            version: "1".into(),
            reason: "r".into(),
            time: 5,
            attempts: 0,
            not_before: 0,
            done: false,
        }
    }

    #[test]
    fn attempts_come_further_and_further_apart_and_end() {
        let mut report = report();
        let mut now = 1_000_000;
        let mut pauses = Vec::new();
        while !report.done {
            plan(&mut report, false, now);
            assert!(report.done || !is_due(&report, now));
            pauses.push(report.not_before - now);
            now = report.not_before;
            assert!(is_due(&report, now));
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3840, 7680]);
        let mut ahead = self::report();
        plan(&mut ahead, false, 4_000_000_000);
        assert!(is_due(&ahead, 1_800_000_000), "the clock came back");
    }

    #[test]
    fn one_that_was_taken_is_done() {
        let mut report = report();
        plan(&mut report, true, 7);
        assert!(report.done && report.attempts == 0);
    }
}

//! The command line: what a person, or `init`, asks of `ota`.

use std::path::{Path, PathBuf};

use formats::Slot;
use formats::boot_request::BootRequest;

use crate::clock;
use crate::console::say;
use crate::context::Context;
use crate::daemon;
use crate::device::Device;
use crate::fetch::data_budget::Trigger;
use crate::fetch::http::Client;
use crate::fetch::resource::Resource;
use crate::fetch::timeouts::Timeouts;
use crate::init::boot;
use crate::init::boot_changes;
use crate::install::candidates::{Candidate, Outcome, install_first};
use crate::install::{InstallerLock, UpdateSource, announce, install};
use crate::policy::bundle;
use crate::policy::check::{Checked, check};
use crate::policy::retrial;
use crate::state::{Failed, State, VersionId, Waiting};
use crate::{Error, Result, init::health, status, writer, writer::floor};

/// What may be typed.
pub const USAGE: &str = "usage:
  ota run                  poll, fetch, commit: what init starts
  ota writer               write what the other fetches: what init starts beside it
  ota check                ask the repository whether there is something newer
  ota install              install the newest version from the repository
  ota install URL          from another repository, or the .update file at URL
  ota install FILE         from a local .update or .bundle file
  ota status [--json]      what runs, what is pending, what failed and why
  ota commit               keep the version on trial
  ota rollback             give up the version on trial, or go back to the one before
  ota retry                try what was left in the other slot again, at once
  ota retry VERSION|all    the same, and forget that a version failed its trial";

/// A command that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Say what may be typed.
    Help,
    /// Run the daemon.
    Run,
    /// Run the half that writes.
    Writer,
    /// Check for an update.
    Check,
    /// Install from the repository, or from what is named.
    Install(Option<String>),
    /// Print the status.
    Status {
        /// As JSON.
        json: bool,
    },
    /// Commit the version on trial.
    Commit,
    /// Give up the trial, or go back to the version before.
    Rollback,
    /// Try again what waits, or the version named, or `all`.
    Retry(Option<String>),
}

impl Command {
    /// Understands the arguments, or gives the usage.
    pub fn parse(arguments: &[String]) -> std::result::Result<Command, String> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if words.first() == Some(&"help") || words.iter().any(|w| matches!(*w, "--help" | "-h")) {
            return Ok(Command::Help);
        }
        match words[..] {
            ["run"] => Ok(Command::Run),
            ["writer"] => Ok(Command::Writer),
            ["check"] => Ok(Command::Check),
            ["install"] => Ok(Command::Install(None)),
            ["install", what] if !what.starts_with('-') => Ok(Command::Install(Some(what.into()))),
            ["status"] => Ok(Command::Status { json: false }),
            ["status", "--json"] => Ok(Command::Status { json: true }),
            ["commit"] => Ok(Command::Commit),
            ["rollback"] => Ok(Command::Rollback),
            ["retry"] => Ok(Command::Retry(None)),
            ["retry", version] if !version.starts_with('-') => {
                Ok(Command::Retry(Some(version.into())))
            }
            [] => Err(USAGE.into()),
            _ => Err(format!("ota: not understood: {}\n{USAGE}", words.join(" "))),
        }
    }
}

/// Runs a command.
pub fn run(command: Command, device: &Device) -> Result<()> {
    match command {
        Command::Help => {
            say(USAGE);
            Ok(())
        }
        Command::Run => daemon::run(device),
        Command::Writer => writer::run(device),
        Command::Check => remembered(device, check_command(device)),
        Command::Install(from) => remembered(device, install_command(device, from.as_deref())),
        Command::Status { json } => {
            let status = status::collect(&Context::load(device)?)?;
            let json = json.then(|| serde_json::to_string_pretty(&status));
            match json.transpose().map_err(|e| Error::failed(e.to_string()))? {
                Some(json) => say(&json),
                None => say(&status.to_text()),
            }
            Ok(())
        }
        Command::Commit => daemon::commit(&Context::load(device)?).map(|line| say(&line)),
        Command::Rollback => rollback(device),
        Command::Retry(version) => retry(device, version.as_deref()),
    }
}

/// Why the last check or install did not work is in the status, whoever asked for it. A state that
/// cannot be written is said where it matters.
fn remembered(device: &Device, result: Result<()>) -> Result<()> {
    let error = result.as_ref().err().map(ToString::to_string);
    let _ = State::change(device, |state| state.last_error = error);
    result
}

fn check_command(device: &Device) -> Result<()> {
    let context = Context::load(device)?;
    let url = &context.settings()?.url;
    let checked = check(&context, Timeouts::default(), url, Trigger::Manual)?;
    State::change(device, |state| state.last_check = Some(clock::now()))?;
    say_waiting(&checked);
    match checked.take.first() {
        Some((found, _)) => say_found(found),
        None => say_nothing_newer(&context, &checked.waiting),
    }
    Ok(())
}

fn say_found(found: &Candidate) {
    say(&format!("found {} (sequence {})", found.ferrite.version, found.ferrite.sequence));
}

fn say_waiting(checked: &Checked) {
    if let Some(waiting) = &checked.waiting {
        say(&format!(
            "offered {} (sequence {}): {}",
            waiting.version, waiting.sequence, waiting.turn
        ));
    }
}

fn say_nothing_newer(context: &Context, waiting: &Option<Waiting>) {
    let Context { device, running, .. } = context;
    if let Some(retrial) = State::load(device).retrial {
        say(&format!("{} (sequence {}): {}", retrial.version, retrial.sequence, retrial.when()));
    }
    let what = if waiting.is_some() { "nothing else" } else { "nothing newer" };
    say(&format!("{what} than {} (sequence {})", running.version, running.sequence));
}

fn install_command(device: &Device, from: Option<&str>) -> Result<()> {
    let context = Context::load(device)?;
    let settings = context.settings()?;
    let from = from.unwrap_or(&settings.url);
    let mut waiting = None;
    let offers = match from {
        url if url.contains("://") && url.ends_with(".update") => {
            let client =
                Client::of_device(device, settings, Timeouts::default(), url, Trigger::Manual)?;
            let resource = Resource::Url(client, url.into());
            return installed(&install_alone(&context, resource)?);
        }
        url if url.contains("://") => {
            let checked = check(&context, Timeouts::default(), url, Trigger::Manual)?;
            if *url == settings.url {
                // It has answered, whatever becomes of what it offers.
                State::change(device, |state| state.last_check = Some(clock::now()))?;
            }
            say_waiting(&checked);
            waiting = checked.waiting;
            checked.take
        }
        file if file.ends_with(".bundle") => {
            bundle::check(&context, Path::new(file), Trigger::Manual, &|| ())?
        }
        file => {
            let resource = Resource::File(PathBuf::from(file));
            return installed(&install_alone(&context, resource)?);
        }
    };
    let offers = offers.iter().map(|(candidate, offer)| (candidate, offer));
    let mut told = |event: std::result::Result<&Candidate, &Error>| match event {
        Ok(candidate) => say_found(candidate),
        Err(error) => say(&error.to_string()),
    };
    match install_first(&context, offers, settings.tries, &|| (), &mut told)?.0 {
        Some(Outcome::Installed(version)) => installed(&version),
        Some(Outcome::Armed(version)) => {
            say(&format!("{version} is installed already; reboot to try it (`ctl reboot`)"));
            Ok(())
        }
        None => {
            say_nothing_newer(&context, &waiting);
            Ok(())
        }
    }
}

/// Installs a file that does not come through a repository.
fn install_alone(context: &Context, resource: Resource) -> Result<VersionId> {
    let tries = context.settings()?.tries;
    install(context, &UpdateSource { resource, signed: None }, tries, &|| ())
}

fn installed(version: &VersionId) -> Result<()> {
    announce(version);
    say("reboot to try it (`ctl reboot`)");
    Ok(())
}

/// Tries again what was left in the other slot, when that is the version named, `all` or nothing is
/// named; and forgets the failures of what is named, so that it is taken when it is offered.
fn retry(device: &Device, version: Option<&str>) -> Result<()> {
    let _lock = InstallerLock::take(device)?;
    let context = Context::load(device)?;
    let settings = context.settings()?;
    let named = |of: &str| version.is_none_or(|version| version == of || version == "all");
    let mut forgotten = Vec::new();
    State::change(device, |state| {
        let forget = |failed: &Failed| version.is_some() && named(&failed.version);
        forgotten.extend(state.failed.iter().filter(|f| forget(f)).map(|f| f.version.clone()));
        state.failed.retain(|failed| !forget(failed));
        if let Some(retrial) = state.retrial.as_mut().filter(|r| named(&r.version)) {
            retrial.hurry();
            if !retrial.committed {
                forgotten.push(retrial.version.clone());
            }
        }
    })?;
    for version in &forgotten {
        say(&format!("{version} may be tried again; `ota install` fetches it at once"));
    }
    let boot = boot_changes::load(device)?;
    let waits = retrial::struck_out(&context, &boot, &State::load(device))?;
    if waits.is_some_and(|(manifest, _)| named(&manifest.version))
        && let Some(armed) = retrial::arm(&context, settings.tries)?
    {
        say(&format!("{}; rebooting", retrial::trying(&armed)));
        return health::reboot(device);
    }
    match (forgotten.is_empty(), version) {
        (false, _) => Ok(()),
        (true, Some(version)) if version != "all" => Err(Error::failed(format!(
            "{version} has not failed here and does not wait; see `ota status`"
        ))),
        (true, _) => Err(Error::failed("nothing waits to be tried again; see `ota status`")),
    }
}

/// Gives up a trial, running or armed; else tries the version before, which takes this one's place
/// as the one that is not to be installed again.
fn rollback(device: &Device) -> Result<()> {
    let _lock = InstallerLock::take(device)?;
    let context = Context::load(device)?;
    let (running, settings) = (&context.running, context.settings()?);
    let content = context.idle_content()?;
    let boot = boot::state(device)?;
    let idle = running.slot.other();
    let give_up = |slot: Slot| {
        let version = match slot == running.slot {
            true => context.version().ok().cloned(),
            false => content.clone().map(|(_, version)| version),
        };
        State::change(device, |state| {
            state.pending = None;
            state.retrial = None;
            if let Some(version) = version {
                state.remember_failed(version.failed("rolled back by hand"));
            }
        })
    };
    if boot.active != running.slot {
        give_up(running.slot)?;
        boot::ask(device, BootRequest::ClearTrial)?;
        say(&format!("gave up {}; rebooting into slot {idle}", running.version));
        return health::reboot(device);
    }
    if boot.trial == Some(idle) {
        give_up(idle)?;
        boot::ask(device, BootRequest::ClearTrial)?;
        say(&format!("gave up the trial of slot {idle}; {} stays", running.version));
        return Ok(());
    }
    let before = content.clone().filter(|_| boot.fallback == Some(idle));
    let Some((manifest, before)) = before else {
        return Err(Error::failed("there is no version before this one to go back to"));
    };
    if manifest.sequence > running.sequence {
        return Err(Error::failed(format!(
            "there is no version before this one to go back to; {} is newer (`ota retry` tries it \
             again)",
            manifest.version
        )));
    }
    let floor = floor::lowest(&context, &boot, &State::load(device))?;
    if manifest.sequence < floor {
        return Err(Error::refused(
            &manifest.version,
            format!("its sequence {} is below the floor {floor}", manifest.sequence),
        ));
    }
    give_up(running.slot)?;
    boot::ask(device, BootRequest::Arm { slot: idle, tries: settings.tries.max(1) })?;
    let pending = before.armed(true);
    State::change(device, |state| state.pending = Some(pending.clone()))?;
    say(&format!("{}; rebooting", retrial::trying(&pending)));
    health::reboot(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let parse = |line: &str| {
            Command::parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
        };
        assert_eq!(parse("run"), Ok(Command::Run));
        for help in ["--help", "-h", "help", "help status", "install --help"] {
            assert_eq!(parse(help), Ok(Command::Help), "{help}");
        }
        assert_eq!(parse("status --json"), Ok(Command::Status { json: true }));
        assert_eq!(parse("install a.update"), Ok(Command::Install(Some("a.update".into()))));
        assert_eq!(parse("retry"), Ok(Command::Retry(None)));
        assert_eq!(parse("retry 1.0.2"), Ok(Command::Retry(Some("1.0.2".into()))));
        for bad in [
            "retry --all",
            "retry 1 2",
            "",
            "instal",
            "install --now",
            "install a b",
            "status --xml",
        ] {
            assert!(parse(bad).unwrap_err().contains("usage:"), "{bad}");
        }
    }
}

//! The command line: what a person, or `init`, asks of `ota`.

use std::path::{Path, PathBuf};

use slot::boot_request::BootRequest;
use slot::Slot;

use crate::boot;
use crate::bundle;
use crate::check::{check, Checked};
use crate::clock;
use crate::console::{announce, say};
use crate::daemon;
use crate::device::{self, Running};
use crate::http::Client;
use crate::install::{install, InstallerLock, Offer};
use crate::meter::Asked;
use crate::paths::Paths;
use crate::patience::Patience;
use crate::settings::Settings;
use crate::source::Source;
use crate::state::{Failed, State, Waiting};
use crate::{floor, health, status, writer, Error, Result};

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
  ota rollback             give up the version on trial, or go back to the one before";

/// A command that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Be the workload.
    Run,
    /// Be the workload that writes.
    Writer,
    /// Ask.
    Check,
    /// Install from the repository, or from what is named.
    Install(Option<String>),
    /// Tell; as JSON or not.
    Status {
        /// As JSON.
        json: bool,
    },
    /// Keep what is on trial.
    Commit,
    /// Go back.
    Rollback,
}

impl Command {
    /// Understands the arguments, or gives the usage.
    pub fn parse(arguments: &[String]) -> std::result::Result<Command, String> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
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
            [] => Err(USAGE.into()),
            ["--help" | "-h" | "help", ..] => Err(USAGE.into()),
            _ => Err(format!("ota: not understood: {}\n{USAGE}", words.join(" "))),
        }
    }
}

/// Runs a command.
pub fn run(command: Command, paths: &Paths) -> Result<()> {
    match command {
        Command::Run => daemon::run(paths),
        Command::Writer => writer::run(paths),
        Command::Check => check_command(paths),
        Command::Install(from) => install_command(paths, from.as_deref()),
        Command::Status { json } => {
            let status = status::collect(paths)?;
            let json = json.then(|| serde_json::to_string_pretty(&status));
            match json.transpose().map_err(|e| Error::failed(e.to_string()))? {
                Some(json) => say(&json),
                None => say(&status.to_text()),
            }
            Ok(())
        }
        Command::Commit => daemon::commit(paths, &Running::load(paths)?).map(|line| say(&line)),
        Command::Rollback => rollback(paths),
    }
}

fn check_command(paths: &Paths) -> Result<()> {
    let settings = Settings::load(&paths.settings())?;
    let running = Running::load(paths)?;
    let checked =
        check(paths, &settings, Patience::default(), &settings.url, &running, Asked::ByHand)?;
    State::change(paths, |state| state.last_check = Some(clock::now()))?;
    say_waiting(&checked);
    match checked.take {
        Some((found, _)) => {
            say(&format!("found {} (sequence {})", found.ferrite.version, found.ferrite.sequence));
        }
        None => say_nothing_newer(&running, &checked.waiting),
    }
    Ok(())
}

fn say_waiting(checked: &Checked) {
    if let Some(waiting) = &checked.waiting {
        say(&format!(
            "offered {} (sequence {}): {}",
            waiting.version, waiting.sequence, waiting.turn
        ));
    }
}

fn say_nothing_newer(running: &Running, waiting: &Option<Waiting>) {
    let what = if waiting.is_some() { "nothing else" } else { "nothing newer" };
    say(&format!("{what} than {} (sequence {})", running.version, running.sequence));
}

fn install_command(paths: &Paths, from: Option<&str>) -> Result<()> {
    let settings = Settings::load(&paths.settings())?;
    let running = Running::load(paths)?;
    let from = from.unwrap_or(&settings.url);
    let mut waiting = None;
    let offer = match from {
        url if url.contains("://") && url.ends_with(".update") => {
            let client =
                Client::of_device(paths, &settings, Patience::default(), url, Asked::ByHand)?;
            Some(Offer { source: Source::Url(client, url.into()), promise: None })
        }
        url if url.contains("://") => {
            let checked =
                check(paths, &settings, Patience::default(), url, &running, Asked::ByHand)?;
            say_waiting(&checked);
            waiting = checked.waiting;
            checked.take.map(|(_, offer)| offer)
        }
        file if file.ends_with(".bundle") => {
            bundle::check(paths, &settings, &running, Path::new(file))?.map(|(_, offer)| offer)
        }
        file => Some(Offer { source: Source::File(PathBuf::from(file)), promise: None }),
    };
    let Some(offer) = offer else {
        say_nothing_newer(&running, &waiting);
        return Ok(());
    };
    let installed = install(paths, &offer, settings.tries, &|| ())?;
    announce(&installed);
    say("reboot to try it (`ctl reboot`)");
    Ok(())
}

/// Gives up a trial, running or armed; else tries the version before, which takes this one's place
/// as the one that is not to be installed again.
fn rollback(paths: &Paths) -> Result<()> {
    let _lock = InstallerLock::take(paths)?;
    let running = Running::load(paths)?;
    let settings = Settings::load(&paths.settings())?;
    let keys = device::trusted_keys(paths)?;
    let boot = boot::state(paths)?;
    let idle = running.slot.other();
    let give_up = |slot: Slot| {
        let content = match slot == running.slot {
            true => device::running_identity(paths, slot, &keys).ok(),
            false => device::content(paths, &keys, slot).map(|(_, content)| content),
        };
        State::change(paths, |state| {
            state.pending = None;
            if let Some(content) = content {
                state.remember_failed(Failed {
                    sequence: content.sequence,
                    version: content.version,
                    header_sha256: content.header_sha256,
                    reason: "rolled back by hand".into(),
                });
            }
        })
    };
    if boot.active != running.slot {
        give_up(running.slot)?;
        boot::ask(paths, BootRequest::ClearTrial)?;
        say(&format!("gave up {}; rebooting into slot {idle}", running.version));
        return health::reboot(paths);
    }
    if boot.trial == Some(idle) {
        give_up(idle)?;
        boot::ask(paths, BootRequest::ClearTrial)?;
        say(&format!("gave up the trial of slot {idle}; {} stays", running.version));
        return Ok(());
    }
    let before = device::content(paths, &keys, idle).filter(|_| boot.fallback == Some(idle));
    let Some((manifest, content)) = before else {
        return Err(Error::failed("there is no version before this one to go back to"));
    };
    let floor = floor::lowest(paths, &keys, running.slot, &boot, &State::load(paths))?;
    if manifest.sequence < floor {
        return Err(Error::refused(
            &manifest.version,
            format!("its sequence {} is below the floor {floor}", manifest.sequence),
        ));
    }
    give_up(running.slot)?;
    boot::ask(paths, BootRequest::Arm { slot: idle, tries: settings.tries.max(1) })?;
    State::change(paths, |state| state.pending = Some(content.clone()))?;
    say(&format!("trying {} in slot {idle} again; rebooting", content.version));
    health::reboot(paths)
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
        assert_eq!(parse("status --json"), Ok(Command::Status { json: true }));
        assert_eq!(parse("install a.update"), Ok(Command::Install(Some("a.update".into()))));
        for bad in ["", "instal", "install --now", "install a b", "status --xml", "--help"] {
            assert!(parse(bad).unwrap_err().contains("usage:"), "{bad}");
        }
    }
}

//! The settings of a device or of an image of one, as people may see them: without the secrets.

use std::fmt;
use std::io;

use anyhow::{Context, Result, anyhow};
use formats::gpt;
use formats::layout::{self, SECTOR};
use formats::workload::UPDATE_WORKLOAD;
use formats::{conf, settings};
use imagefs::ext4_reader::Volume;
use serde::Serialize;

use crate::settings::below_data;

/// What `imager settings` shows.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redacted {
    hostname: Option<String>,
    timezone: Option<String>,
    wifi: Option<Wifi>,
    /// Kind and comment.
    ssh_keys: Vec<String>,
    /// There is a token for the update server.
    token: bool,
    files: Vec<RedactedFile>,
    /// The device was switched off without unmounting: what it changed last may not show here.
    not_unmounted: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Wifi {
    ssid: String,
    /// It has a passphrase.
    passphrase: bool,
}

/// A file that came with `--file`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct RedactedFile {
    /// `WORKLOAD/PATH`.
    path: String,
    /// Absent when the device has removed it.
    bytes: Option<u64>,
}

impl Redacted {
    /// Reads them from a whole disk of `bytes` bytes through `read`.
    pub fn read(bytes: u64, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> Result<Redacted> {
        let table = gpt::read(bytes / SECTOR, &read).map_err(|e| anyhow!(e))?;
        let start = table.find(layout::DATA).map_err(|e| anyhow!(e))?.bytes().start;
        let source = |at: u64, out: &mut [u8]| read(start.saturating_add(at), out);
        let volume = Volume::open(&source).context("the data partition")?;
        let text = volume.file(below_data(layout::SETTINGS), conf::MAX_BYTES as u64)?;
        let mut redacted =
            Redacted { not_unmounted: volume.needs_recovery(), ..Redacted::default() };
        let there = |path: &str| volume.stat(below_data(path));
        let in_workloads = |path: &str| there(&format!("{}/{path}", layout::WORKLOADS));
        redacted.token = in_workloads(&format!("{UPDATE_WORKLOAD}/token"))?.is_some();
        let Some(text) = text else { return Ok(redacted) };
        let found =
            settings::Settings::parse(&text).map_err(|e| anyhow!(e.within(layout::SETTINGS)))?;
        redacted.hostname = found.hostname;
        redacted.timezone = found.timezone.map(|(name, _)| name);
        if let Some(ssid) = found.wifi {
            let passphrase = there(layout::WIFI_PASSPHRASE)?.is_some();
            redacted.wifi = Some(Wifi { ssid, passphrase });
        }
        for key in &found.ssh_keys {
            let words: Vec<&str> = key.splitn(3, ' ').collect();
            let comment = words.get(2).copied().unwrap_or("no comment");
            redacted.ssh_keys.push(format!("{} ({comment})", words.first().unwrap_or(&"")));
        }
        for path in found.files {
            let bytes = in_workloads(&path)?.filter(|stat| stat.is_file()).map(|stat| stat.size);
            redacted.files.push(RedactedFile { path, bytes });
        }
        Ok(redacted)
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut any = false;
        let mut line = |f: &mut fmt::Formatter<'_>, key: &str, value: &str| {
            any = true;
            let safe: String = value.chars().filter(|c| !c.is_control()).collect();
            writeln!(f, "{key:<10} {safe}")
        };
        if let Some(name) = &self.hostname {
            line(f, "hostname", name)?;
        }
        if let Some(zone) = &self.timezone {
            line(f, "timezone", zone)?;
        }
        if let Some(wifi) = &self.wifi {
            let secret = if wifi.passphrase { "with a passphrase" } else { "passphrase missing" };
            line(f, "wifi", &format!("{} ({secret})", wifi.ssid))?;
        }
        for key in &self.ssh_keys {
            line(f, "ssh-key", key)?;
        }
        if self.token {
            line(f, "token", "set")?;
        }
        for file in &self.files {
            let size =
                file.bytes.map_or("no longer there".into(), |bytes| format!("{bytes} bytes"));
            line(f, "file", &format!("{} ({size})", file.path))?;
        }
        if !any {
            writeln!(f, "no settings of its own: all is as the image has it")?;
        }
        if self.not_unmounted {
            writeln!(
                f,
                "it was switched off while in use: what it changed last may not show here"
            )?;
        }
        Ok(())
    }
}

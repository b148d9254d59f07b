//! The settings of a device or of an image of one, as people may see them: without the secrets.

use std::fmt;
use std::io;

use anyhow::{Context, Result, anyhow};
use formats::gpt;
use formats::layout::{self, SECTOR};
use formats::{conf, settings};
use serde::Serialize;

use super::below_data;
use crate::config::image::UPDATE_WORKLOAD;
use imagefs::ext4_reader::Volume;

/// What `imager settings` shows.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    hostname: Option<String>,
    timezone: Option<String>,
    wifi: Option<Wifi>,
    /// Kind and comment.
    ssh_keys: Vec<String>,
    /// There is a token for the update server.
    token: bool,
    files: Vec<ShownFile>,
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
struct ShownFile {
    /// `WORKLOAD/PATH`.
    path: String,
    /// Absent when the device has removed it.
    bytes: Option<u64>,
}

impl Shown {
    /// Reads them from a whole disk of `bytes` bytes through `read`.
    pub fn read(bytes: u64, read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> Result<Shown> {
        let table = gpt::read(bytes / SECTOR, &read).map_err(|e| anyhow!(e))?;
        let start = table.find(layout::DATA).map_err(|e| anyhow!(e))?.bytes().start;
        let source = |at: u64, out: &mut [u8]| read(start.saturating_add(at), out);
        let volume = Volume::open(&source).context("the data partition")?;
        let text = volume.file(below_data(layout::SETTINGS), conf::MAX_BYTES as u64)?;
        let mut shown = Shown { not_unmounted: volume.needs_recovery(), ..Shown::default() };
        let there = |path: &str| volume.stat(below_data(path));
        let in_workloads = |path: &str| there(&format!("{}/{path}", layout::WORKLOADS));
        shown.token = in_workloads(&format!("{UPDATE_WORKLOAD}/token"))?.is_some();
        let Some(text) = text else { return Ok(shown) };
        let wrong = |e: formats::Error| anyhow!(e.within(layout::SETTINGS));
        let found = settings::parse(&text).map_err(wrong)?;
        shown.hostname = settings::hostname(&found).map_err(wrong)?.map(str::to_owned);
        shown.timezone =
            settings::timezone(&found).map_err(wrong)?.map(|zone| zone.name.to_owned());
        if let Some(ssid) = settings::wifi(&found).map_err(wrong)? {
            let passphrase = there(layout::WIFI_PASSPHRASE)?.is_some();
            shown.wifi = Some(Wifi { ssid: ssid.to_owned(), passphrase });
        }
        for key in settings::ssh_keys(&found).map_err(wrong)? {
            let words: Vec<&str> = key.splitn(3, ' ').collect();
            let comment = words.get(2).copied().unwrap_or("no comment");
            shown.ssh_keys.push(format!("{} ({comment})", words.first().unwrap_or(&"")));
        }
        for line in found.head.iter().filter(|line| line.key == "file") {
            let bytes =
                in_workloads(line.value)?.filter(|stat| stat.is_file()).map(|stat| stat.size);
            shown.files.push(ShownFile { path: line.value.to_owned(), bytes });
        }
        Ok(shown)
    }
}

impl fmt::Display for Shown {
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

//! What one device gets when it is flashed and its image never has: a name, a time zone, secrets,
//! files. All of it is looked at before anything is written; it goes onto the data partition, in
//! the form of `formats::settings` and beside it.

mod secret;
pub mod shown;
mod ssh_key;
mod timezone;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use formats::conf::Writer;
use formats::{layout, settings};

use crate::assembly::device_conf::user_id;
use crate::config::image::UPDATE_WORKLOAD;
use crate::config::values::Name;
use imagefs::ext4;
use imagefs::tree::{Content, Kind, Node, Tree};

/// Longest token, in bytes: what `ota` takes.
const MAX_TOKEN: u64 = 4096;
/// Most files of one device.
const MAX_FILES: usize = 100;

/// The settings on the command line.
#[allow(rustdoc::broken_intra_doc_links, reason = "clap prints these comments as they stand")]
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings of this one device, kept on its data partition")]
pub struct SettingsArgs {
    /// Its host name, instead of the image's
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Its time zone, like Europe/Berlin: TZ of every workload
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Its wireless network; the passphrase is asked for. For images with [network] wifi
    #[arg(long, value_name = "SSID")]
    wifi: Option<String>,
    /// The file with that passphrase in its first line
    #[arg(long, value_name = "FILE", requires = "wifi")]
    wifi_passphrase_file: Option<PathBuf>,
    /// A public SSH key (a .pub file) that root may log in with; may be repeated. For images with
    /// [network] ssh
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// The file with the token that it shows the update server
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// A file for a workload: SRC is here, DST is WORKLOAD/PATH, seen there as /data/PATH; may be
    /// repeated
    #[arg(long, value_name = "SRC:DST")]
    file: Vec<String>,
}

/// What settings need of an image, to be more than bytes on its data partition.
#[derive(Debug, Default)]
pub struct Wants {
    /// It joins wireless networks.
    pub wifi: bool,
    /// It has an SSH server.
    pub ssh: bool,
    /// Options, and the workloads that have to see their files.
    pub workloads: Vec<(String, String)>,
}

impl Wants {
    /// Any image will do.
    pub fn is_empty(&self) -> bool {
        !self.wifi && !self.ssh && self.workloads.is_empty()
    }
}

/// Settings that hold what they should.
pub struct Settings {
    /// What goes onto the data partition.
    pub tree: Tree,
}

impl SettingsArgs {
    /// Nothing was set.
    pub fn is_empty(&self) -> bool {
        self.hostname.is_none()
            && self.timezone.is_none()
            && self.wifi.is_none()
            && self.ssh_key.is_empty()
            && self.token.is_none()
            && self.file.is_empty()
    }

    /// What they need of the image.
    pub fn wants(&self) -> Wants {
        let token = self.token.iter().map(|_| ("--token".to_owned(), UPDATE_WORKLOAD.to_owned()));
        let files = self.file.iter().filter_map(|both| {
            let (workload, _) = both.rsplit_once(':')?.1.split_once('/')?;
            Some((format!("--file {both}"), workload.to_owned()))
        });
        Wants {
            wifi: self.wifi.is_some(),
            ssh: !self.ssh_key.is_empty(),
            workloads: token.chain(files).collect(),
        }
    }

    /// Looks at every setting and reads what it names. Asks for the passphrase if there is to be
    /// one and no file has it. `None` when nothing was set.
    pub fn collect(&self) -> Result<Option<Settings>> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut text = Writer::new(settings::FORM);
        let mut tree = Tree::new(0);
        if let Some(name) = &self.hostname {
            ensure!(
                settings::is_hostname(name),
                "--hostname {name}: not a host name; use up to 63 letters, digits and - inside"
            );
            text.line("hostname", name);
        }
        if let Some(zone) = &self.timezone {
            let rule = timezone::rule(Path::new(timezone::DATABASE), zone)?;
            text.line("timezone", &format!("{zone} {rule}"));
        }
        if let Some(ssid) = &self.wifi {
            ensure!(
                settings::is_ssid(ssid),
                "--wifi {ssid:?}: not a network's name; it has 1 to 32 bytes and no control characters"
            );
            let passphrase = match &self.wifi_passphrase_file {
                Some(path) => secret::passphrase(path)?,
                None => secret::ask_passphrase(ssid)?,
            };
            text.line("wifi", ssid);
            let path = below_data(layout::WIFI_PASSPHRASE);
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            tree.dir(folder, 0o700)?;
            tree.file(path, 0o600, passphrase.into_bytes())?;
        }
        ensure!(
            self.ssh_key.len() <= settings::MAX_SSH_KEYS,
            "--ssh-key: at most {} keys are kept",
            settings::MAX_SSH_KEYS
        );
        for path in &self.ssh_key {
            text.line("ssh-key", &ssh_key::read(path)?);
        }
        if let Some(path) = &self.token {
            let token = secret::token(path)?.into_bytes();
            add(&mut tree, UPDATE_WORKLOAD, "token", 0o600, token.into())?;
        }
        ensure!(self.file.len() <= MAX_FILES, "--file: at most {MAX_FILES} files");
        for both in &self.file {
            let added = add_file(&mut tree, both).with_context(|| format!("--file {both}"))?;
            text.line("file", &added);
        }
        tree.file(below_data(layout::SETTINGS), 0o644, text.finish().into_bytes())?;
        Ok(Some(Settings { tree }))
    }
}

/// The path within the data partition's file system.
fn below_data(path: &str) -> &str {
    path.strip_prefix("/data/").unwrap_or(path)
}

/// Adds the file that `SRC:DST` names; returns DST.
fn add_file(tree: &mut Tree, both: &str) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let (source, target) = both
        .rsplit_once(':')
        .context("give SRC:DST, like ca.pem:face/ca.pem for the workload `face`")?;
    let (workload, path) = target
        .split_once('/')
        .context("DST is WORKLOAD/PATH, like face/ca.pem for the workload `face`")?;
    Name::new(workload).map_err(|e| anyhow!(e))?;
    let good = path.split('/').all(|part| {
        !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control) && part.len() <= 255
    });
    ensure!(good && target.len() <= 1000, "DST needs a path without `.`, `..` and empty parts");
    let mut file = File::open(source).with_context(|| format!("{source} cannot be read"))?;
    let about = file.metadata().with_context(|| source.to_owned())?;
    ensure!(about.is_file(), "{source} is not a file");
    ensure!(
        about.len() <= ext4::SIZE_MAX,
        "{source} is too large for a data partition when flashing; let the workload fetch it"
    );
    let mut bytes = Vec::new();
    file.by_ref()
        .take(ext4::SIZE_MAX)
        .read_to_end(&mut bytes)
        .with_context(|| source.to_owned())?;
    let mode = if about.permissions().mode() & 0o100 != 0 { 0o700 } else { 0o600 };
    add(tree, workload, path, mode, bytes.into())?;
    Ok(target.to_owned())
}

/// Adds a file to a workload's own folder, which `init` makes alike for those that have none.
fn add(tree: &mut Tree, workload: &str, path: &str, mode: u16, content: Content) -> Result<()> {
    let workloads = below_data(layout::WORKLOADS);
    let user = user_id(workload);
    tree.dir(workloads, 0o711)?;
    let mut folder = format!("{workloads}/{workload}");
    let own = |kind: Kind, mode: u16| Node::new(kind, mode).owned_by(user, user);
    tree.insert(&folder, own(Kind::Dir, 0o700))?;
    let parts: Vec<&str> = path.split('/').collect();
    let Some((name, folders)) = parts.split_last() else { bail!("a file needs a name") };
    for part in folders {
        folder = format!("{folder}/{part}");
        tree.insert(&folder, own(Kind::Dir, 0o700))?;
    }
    tree.insert(&format!("{folder}/{name}"), own(Kind::File(content), mode))
}

#[cfg(test)]
mod tests;

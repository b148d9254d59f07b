//! What one device gets when it is flashed and its image never has: a name, a time zone, secrets,
//! files. All of it is looked at before anything is written; it goes onto the data partition, in
//! the form of `formats::settings` and beside it.

mod secret;
mod ssh_key;
mod timezone;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use formats::workload::{self, UPDATE_WORKLOAD, user_id};
use formats::{layout, settings};
use imagefs::ext4;
use imagefs::tree::{Content, Kind, Node, Tree};

/// Most files of one device.
const MAX_FILES: usize = 100;

/// The settings of one device, as they are named on a command line: what they say, or the files that
/// say it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Its host name, instead of the image's.
    pub hostname: Option<String>,
    /// Its time zone, like Europe/Berlin.
    pub timezone: Option<String>,
    /// Its wireless network.
    pub wifi: Option<String>,
    /// The file with that network's passphrase; without one it is asked for.
    pub wifi_passphrase_file: Option<PathBuf>,
    /// Files with public SSH keys that root may log in with.
    pub ssh_keys: Vec<PathBuf>,
    /// The file with the token that it shows the update server.
    pub token: Option<PathBuf>,
    /// Files for workloads, as `SRC:WORKLOAD/PATH`.
    pub files: Vec<String>,
}

/// What settings need of an image, to be more than bytes on its data partition.
#[derive(Debug, Default)]
pub struct Requirements {
    /// It joins wireless networks.
    pub wifi: bool,
    /// It has an SSH server.
    pub ssh: bool,
    /// Options, and the workloads that have to see their files.
    pub workloads: Vec<(String, String)>,
}

impl Requirements {
    /// Any image will do.
    pub fn is_empty(&self) -> bool {
        !self.wifi && !self.ssh && self.workloads.is_empty()
    }
}

/// What settings put onto the data partition, all of it looked at.
pub struct DataFiles {
    /// The files.
    pub tree: Tree,
}

impl Settings {
    /// Nothing was set.
    pub fn is_empty(&self) -> bool {
        self.hostname.is_none()
            && self.timezone.is_none()
            && self.wifi.is_none()
            && self.ssh_keys.is_empty()
            && self.token.is_none()
            && self.files.is_empty()
    }

    /// What they need of the image.
    pub fn requirements(&self) -> Requirements {
        let token = self.token.iter().map(|_| ("--token".to_owned(), UPDATE_WORKLOAD.to_owned()));
        let files = self.files.iter().filter_map(|both| {
            let (workload, _) = both.rsplit_once(':')?.1.split_once('/')?;
            Some((format!("--file {both}"), workload.to_owned()))
        });
        Requirements {
            wifi: self.wifi.is_some(),
            ssh: !self.ssh_keys.is_empty(),
            workloads: token.chain(files).collect(),
        }
    }

    /// Looks at every setting and reads what it names. `ask_passphrase` is given the network whose
    /// passphrase no file has. `None` when nothing was set.
    pub fn read(
        &self,
        ask_passphrase: impl FnOnce(&str) -> Result<String>,
    ) -> Result<Option<DataFiles>> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut own = settings::Settings::default();
        let mut tree = Tree::new(0);
        if let Some(name) = &self.hostname {
            ensure!(
                settings::is_hostname(name),
                "--hostname {name}: not a host name; use up to 63 letters, digits and - inside"
            );
            own.hostname = Some(name.clone());
        }
        if let Some(zone) = &self.timezone {
            let rule = timezone::rule(Path::new(timezone::DATABASE), zone)?;
            own.timezone = Some((zone.clone(), rule));
        }
        if let Some(ssid) = &self.wifi {
            ensure!(
                settings::is_ssid(ssid),
                "--wifi {ssid:?}: not a network's name; it has 1 to 32 bytes and no control characters"
            );
            let passphrase = match &self.wifi_passphrase_file {
                Some(path) => secret::passphrase(path)?,
                None => secret::checked_passphrase(ask_passphrase(ssid)?)?,
            };
            own.wifi = Some(ssid.clone());
            let path = below_data(layout::WIFI_PASSPHRASE);
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            tree.dir(folder, 0o700)?;
            tree.file(path, 0o600, passphrase.into_bytes())?;
        }
        ensure!(
            self.ssh_keys.len() <= settings::MAX_SSH_KEYS,
            "--ssh-key: at most {} keys are kept",
            settings::MAX_SSH_KEYS
        );
        for path in &self.ssh_keys {
            own.ssh_keys.push(ssh_key::read(path)?);
        }
        if let Some(path) = &self.token {
            let token = secret::token(path)?.into_bytes();
            add(&mut tree, UPDATE_WORKLOAD, "token", 0o600, token.into())?;
        }
        ensure!(self.files.len() <= MAX_FILES, "--file: at most {MAX_FILES} files");
        for both in &self.files {
            let added = add_file(&mut tree, both).with_context(|| format!("--file {both}"))?;
            own.files.push(added);
        }
        tree.file(below_data(layout::SETTINGS), 0o644, own.to_text().into_bytes())?;
        Ok(Some(DataFiles { tree }))
    }
}

/// The path within the data partition's file system.
pub(crate) fn below_data(path: &str) -> &str {
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
    ensure!(
        workload::is_name(workload),
        "{workload:?} is not a name: use 1 to 32 of a-z, 0-9 and -, not starting with -"
    );
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

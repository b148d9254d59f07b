//! Packages by name and by pin: looked up in the archive, fetched into the cache, opened.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::apt::{Archive, Component, Mirror};
use super::cache::Cache;
use super::deb::Deb;
use super::download::megabytes;
use super::lock::{BoardPins, DebPin, Request};
use super::openpgp::Keyring;
use super::packages::{Index, Package};
use super::release::Expired;
use super::resolver;

/// Where apt's configuration lies.
const APT: &str = "/etc/apt";
/// The keyring of Debian's archive, from the package `debian-archive-keyring`.
pub const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where packages come from, and whom to trust about them.
#[derive(Debug, Clone)]
pub struct Options {
    /// The mirror of Debian; else the one in this machine's apt configuration.
    pub mirror: Option<String>,
    /// Who may sign the archive.
    pub keyring: PathBuf,
    /// What to do with expired indexes.
    pub expired: Expired,
    /// Where downloads are kept.
    pub cache: Cache,
}

/// The archive as [`Options`] say; not asked before something is needed of it.
pub struct PackageSource {
    options: Options,
    archive: Option<Archive>,
}

impl PackageSource {
    /// Touches neither the network nor a file.
    pub fn new(options: Options) -> PackageSource {
        PackageSource { options, archive: None }
    }

    fn archive(&mut self) -> Result<&mut Archive> {
        if self.archive.is_none() {
            let mirror = match &self.options.mirror {
                Some(url) => Mirror::at(url)?,
                None => Mirror::of_machine(APT.as_ref())?,
            };
            let keyring = Keyring::read(&self.options.keyring)?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .context("this machine's clock is before 1970")?
                .as_secs();
            let (expired, cache) = (self.options.expired, self.options.cache.clone());
            self.archive = Some(Archive::new(mirror, keyring, expired, now, cache));
        }
        self.archive.as_mut().context("no archive")
    }

    /// Looks up all packages that `wanted` comes to on the board of that name, staying with those
    /// of `pinned` that the mirror still lists as they were. Returns the board's lists and the pins
    /// of everything in them.
    pub fn resolve(
        &mut self,
        board: &str,
        architecture: &str,
        wanted: Request,
        pinned: &[DebPin],
    ) -> Result<(BoardPins, Vec<DebPin>)> {
        let suites: Vec<&str> = wanted.suites.iter().map(String::as_str).collect();
        let archive = self.archive()?;
        let index = archive.index(&suites, Component::Main, architecture)?;
        let kernel_index = match wanted.kernel.is_empty() {
            true => Index::default(),
            false => archive.index(&[&wanted.kernel_suite], Component::Main, architecture)?,
        };
        // Only a board that carries such firmware has its index read.
        let firmware_index = match (&wanted.board_firmware, &wanted.wifi_firmware[..]) {
            (None, []) => Index::default(),
            _ => archive.index(&suites, Component::NonFreeFirmware, architecture)?,
        };
        let is_pinned = |package: &Package| pinned.iter().any(|pin| pin.pins(package));
        let packages: Vec<&str> = wanted.packages.iter().map(String::as_str).collect();
        let without: Vec<&str> = wanted.without.iter().map(String::as_str).collect();
        let root = resolver::resolve(&index, &packages, &without, &is_pinned)?;
        let exact = |name: &String| resolver::exact(&kernel_index, name, &wanted.kernel_version);
        let kernel = wanted.kernel.iter().map(exact).collect::<Result<Vec<_>>>()?;
        let of_main = |name: &String| resolver::newest(&index, name, &is_pinned);
        let of_firmware = |name: &String| resolver::newest(&firmware_index, name, &is_pinned);
        let firmware = wanted.firmware.as_ref().map(of_main).transpose()?;
        let board_firmware = wanted.board_firmware.as_ref().map(of_firmware).transpose()?;
        let wifi_firmware =
            wanted.wifi_firmware.iter().map(of_firmware).collect::<Result<Vec<_>>>()?;
        let stub = wanted.stub.as_ref().map(of_main).transpose()?;

        let all = root.iter().chain(&kernel).chain(&firmware).chain(&board_firmware);
        let all = all.chain(&wifi_firmware).chain(&stub);
        let debs = all.map(|package| DebPin::new(package, architecture)).collect();
        let id = |package: &Package| format!("{} {}", package.name, package.version);
        let ids = |packages: &[&Package]| packages.iter().map(|p| id(p)).collect::<Vec<_>>();
        let pins = BoardPins {
            name: board.to_owned(),
            architecture: architecture.to_owned(),
            root: ids(&root),
            kernel: ids(&kernel),
            firmware: firmware.map(id),
            board_firmware: board_firmware.map(id),
            wifi_firmware: ids(&wifi_firmware),
            stub: stub.map(id),
            request: wanted,
        };
        Ok((pins, debs))
    }

    /// Fetches the packages of these pins into the cache, those that are not there. Says how many
    /// and how much that is, and where it stands.
    pub fn fetch(&mut self, pins: &[&DebPin]) -> Result<()> {
        let mut missing: Vec<&DebPin> = Vec::new();
        for pin in pins {
            let is_new = missing.iter().all(|other| other.sha256 != pin.sha256);
            if is_new && self.options.cache.find(&pin.sha256)?.is_none() {
                missing.push(pin);
            }
        }
        let (total, each) = announcements(&missing);
        total.iter().for_each(|line| eprintln!("{line}"));
        for (pin, line) in missing.iter().zip(each) {
            eprintln!("{line}");
            self.fetch_one(pin)?;
        }
        Ok(())
    }

    fn fetch_one(&mut self, pin: &DebPin) -> Result<()> {
        let cache = self.options.cache.clone();
        let archive = self.archive()?;
        cache
            .store(&pin.sha256, |to| archive.fetch(&pin.suite, &pin.path, pin.size, to))
            .with_context(|| format!("package {}", pin.id()))?;
        Ok(())
    }

    /// Opens a package that was fetched.
    pub fn open(&self, pin: &DebPin) -> Result<Deb> {
        let cache = &self.options.cache;
        let path = cache
            .find(&pin.sha256)?
            .with_context(|| format!("{} vanished from the cache", pin.id()))?;
        Deb::open(cache, &path, pin.sha256, &pin.name, &pin.version, &pin.architecture)
    }
}

/// How many packages are to be fetched and how much that is, where they are several, and a line
/// before each.
fn announcements(missing: &[&DebPin]) -> (Option<String>, Vec<String>) {
    let count = missing.len();
    let total = missing.iter().map(|pin| pin.size).sum();
    let all = format!("fetching {count} packages, {}", megabytes(total));
    let each = (1..).zip(missing).map(|(number, pin)| {
        let place = if count > 1 { format!("[{number}/{count}] ") } else { String::new() };
        format!("{place}fetching {} ({})", pin.id(), megabytes(pin.size))
    });
    ((count > 1).then_some(all), each.collect())
}

#[cfg(test)]
mod tests {
    use super::super::hash::Sha256;
    use super::*;

    #[test]
    fn many_packages_are_fetched_with_their_number_their_size_and_where_it_stands() {
        let pin = |name: &str, size| DebPin {
            name: name.into(),
            version: "1".into(),
            architecture: "arm64".into(),
            suite: "trixie".into(),
            path: "pool/x.deb".into(),
            size,
            sha256: Sha256::of(name.as_bytes()),
        };
        let (one, other) = (pin("aa", 2_000_000), pin("bb", 500_000));
        let (total, each) = announcements(&[&one, &other]);
        assert_eq!(total.as_deref(), Some("fetching 2 packages, 2.5 MB"));
        assert_eq!(each, ["[1/2] fetching aa 1 (2.0 MB)", "[2/2] fetching bb 1 (500 kB)"]);
        assert_eq!(announcements(&[&one]), (None, vec!["fetching aa 1 (2.0 MB)".to_owned()]));
    }
}

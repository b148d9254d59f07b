//! One run over an image's inputs: obey the lock, add what it lacks, fetch what it names.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::apt::{self, Component, Mirror};
use super::archive::{self, Archive, Found};
use super::cache::{Cache, WrongHash};
use super::deb::Deb;
use super::download::{Missing, TooMuch};
use super::inputs::Inputs;
use super::local::{self, LocalFile};
use super::lock::{self, ArchivePin, BoardPins, DebPin, FilePin, Lock};
use super::openpgp::Keyring;
use super::packages::{Index, Package};
use super::release::Expired;
use super::wheel::Wheel;
use super::{pypi, request, resolve};
use crate::config::{Board, Image};

/// Where apt's configuration lies.
const APT: &str = "/etc/apt";
/// Names a mirror of Debian where no option does.
const MIRROR: &str = "FERRITE_MIRROR";

/// How to resolve and fetch.
#[derive(Debug, Clone)]
pub struct Options {
    /// The lock must fit as it is: every difference is an error.
    pub locked: bool,
    /// The mirror of Debian; else the machine's.
    pub mirror: Option<String>,
    /// Who may sign the archive.
    pub keyring: PathBuf,
    /// What to do with expired indexes.
    pub expired: Expired,
    /// Where downloads are kept.
    pub cache: Cache,
}

/// The keyring of Debian's archive, from the package `debian-archive-keyring`.
pub const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An image's inputs on one board, every one of them pinned in the lock.
pub struct Locked<'a> {
    image: &'a Image,
    board: &'a Board,
    options: &'a Options,
    archive: Option<apt::Archive>,
    lock: Lock,
    written: Lock,
    path: PathBuf,
    files: Vec<LocalFile>,
    kernel_archives: Vec<Found>,
    archives: Vec<Found>,
}

/// Resolves every input of `image` on `board` against its lock. What the lock has is taken as it
/// is, without the network; what it lacks is looked up and added to it. Under `locked` it must
/// have everything.
pub fn resolve_all<'a>(
    image: &'a Image,
    board: &'a Board,
    options: &'a Options,
) -> Result<Locked<'a>> {
    let path = lock::path_for(image.path());
    let lock = Lock::read(&path)?;
    if options.locked && lock == Lock::default() {
        bail!(
            "{}: there is no lock; write one with `imager lock --image {}`",
            path.display(),
            image.path().display()
        );
    }
    let mut locked = Locked {
        image,
        board,
        options,
        archive: None,
        written: lock.clone(),
        lock,
        path,
        files: Vec::new(),
        kernel_archives: Vec::new(),
        archives: Vec::new(),
    };
    locked.resolve_files()?;
    let wanted = request::packages(image, board);
    let pins = locked.lock.board(board.name());
    if pins
        .is_none_or(|p| p.request != wanted || p.architecture != board.debian.architecture.as_str())
    {
        if options.locked {
            bail!(
                "{}: was not made for the packages that the image and {} ask for now; {}",
                locked.path.display(),
                board.name(),
                locked.relock()
            );
        }
        locked.resolve_debs()?;
    }
    locked.resolve_archives()?;
    locked.resolve_wheels()?;
    locked.save()?;
    Ok(locked)
}

impl Locked<'_> {
    /// Fetches everything into the cache and opens it. A pin that the mirror no longer has is
    /// looked up again, with a notice; under `locked` that is an error.
    pub fn fetch(mut self) -> Result<Inputs> {
        if let Err(e) = self.fetch_debs() {
            let gone = e.is::<Missing>() || e.is::<WrongHash>() || e.is::<TooMuch>();
            if !gone {
                return Err(e);
            }
            if self.options.locked {
                return Err(e.context(format!(
                    "a locked package is gone from the mirror; {}",
                    self.relock()
                )));
            }
            eprintln!("NOTICE: a locked package is gone from the mirror: {e:#}");
            self.resolve_debs()?;
            self.save()?;
            self.fetch_debs().context(
                "the mirror lists a package that it does not have; try another with --mirror",
            )?;
        }
        let wheels = self.fetch_wheels()?;
        let cache = &self.options.cache;
        let open = |found: Vec<Found>| -> Result<Vec<Archive>> {
            found.into_iter().map(|f| f.open(cache)).collect()
        };
        let kernel_archives =
            open(std::mem::take(&mut self.kernel_archives)).context("the kernel")?;
        let archives = open(std::mem::take(&mut self.archives))?;
        self.save()?;
        let pins = self.pins()?;
        let open_all =
            |ids: &[String]| ids.iter().map(|id| self.open_deb(id)).collect::<Result<Vec<_>>>();
        Ok(Inputs {
            root: open_all(&pins.root)?,
            kernel: open_all(&pins.kernel)?,
            kernel_archives,
            archives,
            firmware: pins.firmware.as_deref().map(|id| self.open_deb(id)).transpose()?,
            board_firmware: pins
                .board_firmware
                .as_deref()
                .map(|id| self.open_deb(id))
                .transpose()?,
            wifi_firmware: open_all(&pins.wifi_firmware)?,
            stub: pins.stub.as_deref().map(|id| self.open_deb(id)).transpose()?,
            wheels,
            files: self.files,
        })
    }

    /// The lock as it stands.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    fn relock(&self) -> String {
        format!(
            "run `imager lock --image {}` and look at what changes",
            self.image.path().display()
        )
    }

    fn pins(&self) -> Result<&BoardPins> {
        self.lock
            .board(self.board.name())
            .with_context(|| format!("{}: has no board {}", self.path.display(), self.board.name()))
    }

    fn save(&mut self) -> Result<()> {
        self.lock.tidy();
        if self.lock != self.written {
            self.lock.write(&self.path)?;
            self.written = self.lock.clone();
            eprintln!("{}: written", self.path.display());
        }
        Ok(())
    }

    fn resolve_files(&mut self) -> Result<()> {
        for source in request::local(self.image) {
            self.files.extend(local::find(self.image.folder(), source)?);
        }
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.files.dedup();
        let pins: Vec<FilePin> = self
            .files
            .iter()
            .map(|f| FilePin { path: f.path.clone(), size: f.size, sha256: f.sha256 })
            .collect();
        if pins == self.lock.files {
            return Ok(());
        }
        let differences = differences(&self.lock.files, &pins);
        if self.options.locked {
            bail!(
                "{}: local files differ from the lock: {}; {}",
                self.path.display(),
                differences.join(", "),
                self.relock()
            );
        }
        if self.lock != Lock::default() {
            for difference in differences {
                eprintln!(
                    "NOTICE: local file {difference} since {} was written",
                    self.path.display()
                );
            }
        }
        self.lock.files = pins;
        Ok(())
    }

    /// Finds the archives, and compares their hashes with the lock's as it is done for local files.
    fn resolve_archives(&mut self) -> Result<()> {
        let (image, board) = (self.image, self.board);
        let of_board = board.kernel.archives().map(|entry| archive::find(board.folder(), entry));
        self.kernel_archives = of_board.collect::<Result<_>>()?;
        let of_image = image.archives().map(|entry| archive::find(image.folder(), entry));
        self.archives = of_image.collect::<Result<_>>()?;
        let name = board.name().to_string();
        let pin = |found: &Found, board: Option<String>| ArchivePin {
            board,
            from: found.from.clone(),
            sha256: found.sha256,
        };
        let mut pins: Vec<ArchivePin> =
            self.kernel_archives.iter().map(|found| pin(found, Some(name.clone()))).collect();
        pins.extend(self.archives.iter().map(|found| pin(found, None)));
        pins.sort();
        let is_ours = |pin: &ArchivePin| pin.board.as_ref().is_none_or(|board| *board == name);
        let before: Vec<ArchivePin> =
            self.lock.archives.iter().filter(|pin| is_ours(pin)).cloned().collect();
        if pins == before {
            return Ok(());
        }
        for pin in &pins {
            let same = |old: &&ArchivePin| (&old.board, &old.from) == (&pin.board, &pin.from);
            let Some(old) = before.iter().find(same).filter(|old| old.sha256 != pin.sha256) else {
                continue;
            };
            let change = format!(
                "archive {} has changed: its SHA-256 is {} instead of {}",
                pin.from, pin.sha256, old.sha256
            );
            if self.options.locked {
                bail!("{}: {change}; {}", self.path.display(), self.relock());
            }
            eprintln!("NOTICE: {change} since {} was written", self.path.display());
        }
        if self.options.locked {
            bail!(
                "{}: was made for other archives than the image and {} name now; {}",
                self.path.display(),
                board.name(),
                self.relock()
            );
        }
        self.lock.archives.retain(|pin| !is_ours(pin));
        self.lock.archives.extend(pins);
        Ok(())
    }

    fn archive(&mut self) -> Result<&mut apt::Archive> {
        if self.archive.is_none() {
            let named = self.options.mirror.clone().or_else(|| std::env::var(MIRROR).ok());
            let named = named.filter(|url| !url.is_empty());
            let mirror = match named {
                Some(url) => Mirror::at(&url)?,
                None => Mirror::of_machine(APT.as_ref())?,
            };
            let keyring = Keyring::read(&self.options.keyring)?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .context("this machine's clock is before 1970")?
                .as_secs();
            self.archive = Some(apt::Archive::new(
                mirror,
                keyring,
                self.options.expired,
                now,
                self.options.cache.clone(),
            ));
        }
        self.archive.as_mut().context("no archive")
    }

    /// Looks all packages of the board up afresh, staying with locked ones that the mirror still
    /// lists as they were.
    fn resolve_debs(&mut self) -> Result<()> {
        let wanted = request::packages(self.image, self.board);
        let architecture = self.board.debian.architecture.as_str();
        let old = self.lock.clone();
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
        let pinned = |p: &Package| {
            old.debs
                .iter()
                .any(|d| d.name == p.name && d.version == p.version && d.sha256 == p.sha256)
        };
        let names = |list: &'_ [String]| list.to_vec();
        let (packages, without) = (names(&wanted.packages), names(&wanted.without));
        let root = resolve::resolve(
            &index,
            &packages.iter().map(String::as_str).collect::<Vec<_>>(),
            &without.iter().map(String::as_str).collect::<Vec<_>>(),
            &pinned,
        )?;
        let kernel = wanted
            .kernel
            .iter()
            .map(|name| resolve::exact(&kernel_index, name, &wanted.kernel_version))
            .collect::<Result<Vec<_>>>()?;
        let firmware = wanted
            .firmware
            .as_deref()
            .map(|name| resolve::newest(&index, name, &pinned))
            .transpose()?;
        let board_firmware = wanted
            .board_firmware
            .as_deref()
            .map(|name| resolve::newest(&firmware_index, name, &pinned))
            .transpose()?;
        let wifi_firmware = wanted
            .wifi_firmware
            .iter()
            .map(|name| resolve::newest(&firmware_index, name, &pinned))
            .collect::<Result<Vec<_>>>()?;
        let stub = wanted
            .stub
            .as_deref()
            .map(|name| resolve::newest(&index, name, &pinned))
            .transpose()?;
        let ids = |all: &[&Package]| {
            all.iter().map(|p| format!("{} {}", p.name, p.version)).collect::<Vec<_>>()
        };
        let pins = BoardPins {
            name: self.board.name().to_string(),
            architecture: architecture.to_owned(),
            root: ids(&root),
            kernel: ids(&kernel),
            firmware: firmware.map(|p| format!("{} {}", p.name, p.version)),
            board_firmware: board_firmware.map(|p| format!("{} {}", p.name, p.version)),
            wifi_firmware: ids(&wifi_firmware),
            stub: stub.map(|p| format!("{} {}", p.name, p.version)),
            request: wanted,
        };
        if let Some(before) = old.board(&pins.name) {
            report_changes(before, &pins);
        }
        let all = root
            .iter()
            .chain(&kernel)
            .chain(&firmware)
            .chain(&board_firmware)
            .chain(&wifi_firmware)
            .chain(&stub);
        let debs = all.map(|p| pin(p, architecture)).collect();
        self.lock.set_board(pins, debs);
        Ok(())
    }

    fn fetch_debs(&mut self) -> Result<()> {
        let pins = self.pins()?;
        let ids: Vec<String> = pins.ids().cloned().collect();
        for id in ids {
            let deb = self.lock.deb(&id, self.board.debian.architecture.as_str())?.clone();
            if self.options.cache.find(&deb.sha256)?.is_some() {
                continue;
            }
            eprintln!("fetching {id} ({})", megabytes(deb.size));
            let cache = self.options.cache.clone();
            let archive = self.archive()?;
            cache
                .store(&deb.sha256, |to| archive.fetch(&deb.suite, &deb.path, deb.size, to))
                .with_context(|| format!("package {id}"))?;
        }
        Ok(())
    }

    fn open_deb(&self, id: &str) -> Result<Deb> {
        let deb = self.lock.deb(id, self.board.debian.architecture.as_str())?;
        let path = self
            .options
            .cache
            .find(&deb.sha256)?
            .with_context(|| format!("{id} vanished from the cache"))?;
        Deb::open(
            &self.options.cache,
            &path,
            deb.sha256,
            &deb.name,
            &deb.version,
            &deb.architecture,
        )
    }

    fn resolve_wheels(&mut self) -> Result<()> {
        let wanted = request::wheels(self.image, self.board);
        self.lock
            .wheels
            .retain(|pin| wanted.iter().any(|w| w.name == pin.name && w.version == pin.version));
        for wheel in wanted {
            if self.lock.wheels.iter().any(|pin| wheel.is_met_by(pin)) {
                continue;
            }
            if self.options.locked {
                bail!(
                    "{}: has no wheel {} {} for {}; {}",
                    self.path.display(),
                    wheel.name,
                    wheel.version,
                    wheel.platform,
                    self.relock()
                );
            }
            eprintln!("fetching wheel {} {} for {}", wheel.name, wheel.version, wheel.platform);
            self.lock.wheels.push(pypi::fetch(&self.options.cache, &wheel, None)?);
        }
        if self.options.locked && self.lock.wheels.len() != self.written.wheels.len() {
            bail!(
                "{}: has wheels that the image no longer names; {}",
                self.path.display(),
                self.relock()
            );
        }
        Ok(())
    }

    fn fetch_wheels(&mut self) -> Result<Vec<Wheel>> {
        let mut wheels = Vec::new();
        for wanted in request::wheels(self.image, self.board) {
            let at = self.lock.wheels.iter().position(|pin| wanted.is_met_by(pin));
            let at = at.with_context(|| format!("wheel {} is not in the lock", wanted.name))?;
            let pin = self.lock.wheels[at].clone();
            if self.options.cache.find(&pin.sha256)?.is_none() {
                eprintln!("fetching {} ({})", pin.file, megabytes(pin.size));
                if let Err(e) = pypi::fetch(&self.options.cache, &wanted, Some(&pin)) {
                    if self.options.locked {
                        return Err(e.context(format!(
                            "the locked wheel {} cannot be had; {}",
                            pin.file,
                            self.relock()
                        )));
                    }
                    eprintln!("NOTICE: the locked wheel {} cannot be had: {e:#}", pin.file);
                    let new = pypi::fetch(&self.options.cache, &wanted, None)?;
                    eprintln!(
                        "NOTICE: wheel {} is now {} (SHA-256 {})",
                        pin.file, new.file, new.sha256
                    );
                    self.lock.wheels[at] = new;
                }
            }
            let pin = &self.lock.wheels[at];
            let path = self
                .options
                .cache
                .find(&pin.sha256)?
                .with_context(|| format!("{} vanished from the cache", pin.file))?;
            wheels.push(Wheel {
                name: pin.name.clone(),
                version: pin.version.clone(),
                file: pin.file.clone(),
                sha256: pin.sha256,
                path,
            });
        }
        wheels.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(wheels)
    }
}

fn pin(package: &Package, architecture: &str) -> DebPin {
    DebPin {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: architecture.to_owned(),
        suite: package.suite.clone(),
        path: package.path.clone(),
        size: package.size,
        sha256: package.sha256,
    }
}

/// How the files on the disk differ from the locked ones.
fn differences(old: &[FilePin], new: &[FilePin]) -> Vec<String> {
    let find = |all: &[FilePin], path: &str| all.iter().find(|f| f.path == path).cloned();
    let mut found = Vec::new();
    for file in new {
        match find(old, &file.path) {
            None => found.push(format!("{} is new", file.path)),
            Some(before) if before != *file => found.push(format!("{} has changed", file.path)),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|f| find(new, &f.path).is_none());
    found.extend(gone.map(|f| format!("{} is no longer used", f.path)));
    found
}

/// Says which packages changed against the lock, each in one line.
fn report_changes(old: &BoardPins, new: &BoardPins) {
    let all = |pins: &BoardPins| -> Vec<String> { pins.ids().cloned().collect() };
    let (old, new) = (all(old), all(new));
    for id in old.iter().filter(|id| !new.contains(id)) {
        let name = id.split(' ').next().unwrap_or_default();
        match new.iter().find(|n| n.split(' ').next() == Some(name)) {
            Some(now) => eprintln!("NOTICE: {id} is replaced by {now}"),
            None => eprintln!("NOTICE: {id} is no longer needed"),
        }
    }
    for id in &new {
        let name = id.split(' ').next();
        if !old.iter().any(|o| o.split(' ').next() == name) {
            eprintln!("adding {id}");
        }
    }
}

fn megabytes(size: u64) -> String {
    if size < 1_000_000 {
        return format!("{} kB", size.div_ceil(1000));
    }
    format!("{}.{} MB", size / 1_000_000, size % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests;

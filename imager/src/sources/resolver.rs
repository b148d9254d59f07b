//! One run over an image's inputs: obey the lock, add what it lacks, fetch what it names.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use debian::cache::{Cache, WrongHash};
use debian::deb::Deb;
use debian::download::{Missing, TooMuch, megabytes};
use debian::lock::BoardPins;
use debian::package_source::{self, PackageSource};
use debian::release::Expired;

use super::archive::{self, Archive, ResolvedArchive};
use super::inputs::Inputs;
use super::local::{self, LocalFile};
use super::lock::{self, ArchivePin, FilePin, Lock};
use super::lock_changes::{archives_of, changed_archive, changed_files, report_changed_packages};
use super::wheel::Wheel;
use super::{pypi, request};
use crate::config::{Board, Image};
use crate::outputs::is_same_file;

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

impl Options {
    fn packages(&self) -> PackageSource {
        let named = self.mirror.clone().or_else(|| std::env::var(MIRROR).ok());
        PackageSource::new(package_source::Options {
            mirror: named.filter(|url| !url.is_empty()),
            keyring: self.keyring.clone(),
            expired: self.expired,
            cache: self.cache.clone(),
        })
    }
}

/// An image's inputs on one board, every one of them pinned in the lock.
pub struct LockedInputs<'a> {
    image: &'a Image,
    board: &'a Board,
    options: &'a Options,
    packages: PackageSource,
    lock: Lock,
    written: Lock,
    path: PathBuf,
    files: Vec<LocalFile>,
    kernel_archives: Vec<ResolvedArchive>,
    archives: Vec<ResolvedArchive>,
}

/// Resolves every input of `image` on `board` against its lock. What the lock has is taken as it
/// is, without the network; what it lacks is looked up and added to it. Under `locked` it must
/// have everything.
pub fn resolve_all<'a>(
    image: &'a Image,
    board: &'a Board,
    options: &'a Options,
) -> Result<LockedInputs<'a>> {
    let path = lock::path_for(image.path());
    let lock = Lock::read(&path)?;
    if options.locked && lock == Lock::default() {
        bail!(
            "{}: there is no lock; write one with `imager lock --image {}`",
            path.display(),
            image.path().display()
        );
    }
    let mut locked = LockedInputs {
        image,
        board,
        options,
        packages: options.packages(),
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

impl LockedInputs<'_> {
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
        let open = |found: Vec<ResolvedArchive>| -> Result<Vec<Archive>> {
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
        let folder = self.image.folder();
        for source in request::local(self.image) {
            let found = local::find(folder, source.path, &|inside| source.excludes(inside))?;
            // The lock pins what it lies among, and cannot pin itself.
            let is_lock = |file: &LocalFile| is_same_file(&folder.join(&file.path), &self.path);
            self.files.extend(found.into_iter().filter(|file| !is_lock(file)));
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
        let differences = changed_files(&self.lock.files, &pins);
        if self.options.locked {
            bail!(
                "{}: local files differ from the lock: {}; {}",
                self.path.display(),
                differences.join(", "),
                self.relock()
            );
        }
        // One's own files change from build to build: that is what they are for.
        if let (Some(first), false) = (differences.first(), self.lock == Lock::default()) {
            let more = match differences.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            eprintln!("{}: {first}{more}", self.path.display());
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
        let name = board.name();
        let pin = |found: &ResolvedArchive, board: Option<&str>| ArchivePin {
            board: board.map(str::to_owned),
            from: found.from.clone(),
            sha256: found.sha256,
        };
        let of_board = self.kernel_archives.iter().map(|found| pin(found, Some(name)));
        let of_image = self.archives.iter().map(|found| pin(found, None));
        let mut pins: Vec<ArchivePin> = of_board.chain(of_image).collect();
        pins.sort();
        let before = archives_of(name, &self.lock.archives);
        if pins == before {
            return Ok(());
        }
        for change in pins.iter().filter_map(|pin| changed_archive(&before, pin)) {
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
        self.lock.archives.retain(|pin| !before.contains(pin));
        self.lock.archives.extend(pins);
        Ok(())
    }

    /// Looks all packages of the board up afresh, staying with locked ones that the mirror still
    /// lists as they were.
    fn resolve_debs(&mut self) -> Result<()> {
        let wanted = request::packages(self.image, self.board);
        let (name, architecture) = (self.board.name(), self.board.debian.architecture.as_str());
        let (pins, debs) = self.packages.resolve(name, architecture, wanted, &self.lock.debs)?;
        if let Some(before) = self.lock.board(&pins.name) {
            report_changed_packages(before, &pins);
        }
        self.lock.set_board(pins, debs);
        Ok(())
    }

    fn fetch_debs(&mut self) -> Result<()> {
        let ids: Vec<String> = self.pins()?.ids().cloned().collect();
        let architecture = self.board.debian.architecture.as_str();
        let debs = ids.iter().map(|id| self.lock.deb(id, architecture));
        let debs = debs.collect::<Result<Vec<_>>>()?;
        self.packages.fetch(&debs)
    }

    fn open_deb(&self, id: &str) -> Result<Deb> {
        self.packages.open(self.lock.deb(id, self.board.debian.architecture.as_str())?)
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

#[cfg(test)]
mod tests;

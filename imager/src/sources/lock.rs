//! The lock file: every input of an image by version and SHA-256. It lies beside the image file
//! (`demo.toml`, `demo.lock`), is written by `imager` and meant to be committed with it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use debian::hash::Sha256;
use debian::lock::{BoardPins, DebPin};
use serde::{Deserialize, Serialize};

use crate::config::diagnostics::Document;

const HEADER: &str =
    "# Written by `imager lock`: what the image is made of. Commit it; do not edit it.\n\n";
const FORMAT: u32 = 1;

/// All pins of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    format: u32,
    /// What was resolved for each board.
    #[serde(default, rename = "board", skip_serializing_if = "Vec::is_empty")]
    pub boards: Vec<BoardPins>,
    /// Debian packages.
    #[serde(default, rename = "deb", skip_serializing_if = "Vec::is_empty")]
    pub debs: Vec<DebPin>,
    /// Archives.
    #[serde(default, rename = "archive", skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<ArchivePin>,
    /// Wheels.
    #[serde(default, rename = "wheel", skip_serializing_if = "Vec::is_empty")]
    pub wheels: Vec<WheelPin>,
    /// Files beside the image file.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FilePin>,
}

/// One wheel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelPin {
    /// The project's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it was resolved for: a platform tag, or the board's processor as wheels name it.
    pub platform: String,
    /// The CPython version it was resolved for.
    pub python: String,
    /// The wheel's file name.
    pub file: String,
    /// Its bytes' number.
    pub size: u64,
    /// Its bytes' hash.
    pub sha256: Sha256,
}

/// One archive that a board or the image file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchivePin {
    /// The board whose kernel it has a part of; none where the image file names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// Its path or address, as the file that names it has it.
    pub from: String,
    /// Its bytes' hash; of a folder, the hash over all that is in it.
    pub sha256: Sha256,
}

/// One file, or symbolic link, beside the image file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePin {
    /// Its path relative to the image file's folder.
    pub path: String,
    /// Its bytes' number.
    pub size: u64,
    /// Its bytes' hash.
    pub sha256: Sha256,
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            format: FORMAT,
            boards: vec![],
            debs: vec![],
            archives: vec![],
            wheels: vec![],
            files: vec![],
        }
    }
}

/// The lock's path for an image file: `demo.lock` beside `demo.toml`.
pub fn path_for(image: &Path) -> PathBuf {
    image.with_extension("lock")
}

impl Lock {
    /// Reads the lock at `path`; an empty one if there is none.
    pub fn read(path: &Path) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            _ => {}
        }
        let document = Document::read(path)?;
        let lock: Lock = document.parse()?;
        if lock.format != FORMAT {
            bail!(
                "{}: has format {}, this imager writes {FORMAT}: use the imager that wrote it, or remove it",
                path.display(),
                lock.format
            );
        }
        lock.check().with_context(|| {
            format!("{}: was changed by hand; remove it and run `imager lock`", path.display())
        })?;
        Ok(lock)
    }

    /// Nothing in a lock may lead outside the archive or the cache, or become an option of pip.
    fn check(&self) -> Result<()> {
        for deb in &self.debs {
            deb.check()?;
        }
        for wheel in &self.wheels {
            if wheel.file.contains(['/', '\0']) || wheel.file.starts_with(['.', '-']) {
                bail!("{:?} is not a wheel's file name", wheel.file);
            }
        }
        for board in &self.boards {
            for id in board.ids() {
                self.deb(id, &board.architecture)?;
            }
        }
        Ok(())
    }

    /// The pin of a package that a board's list names by `id`.
    pub fn deb(&self, id: &str, architecture: &str) -> Result<&DebPin> {
        self.debs
            .iter()
            .find(|d| d.architecture == architecture && d.id() == id)
            .with_context(|| format!("[[deb]] for {id} ({architecture}) is missing"))
    }

    /// The pins of one board.
    pub fn board(&self, name: &str) -> Option<&BoardPins> {
        self.boards.iter().find(|b| b.name == name)
    }

    /// Puts a board's pins in, in place of older ones.
    pub fn set_board(&mut self, pins: BoardPins, debs: Vec<DebPin>) {
        self.boards.retain(|b| b.name != pins.name);
        self.boards.push(pins);
        for deb in debs {
            self.debs.retain(|d| d.architecture != deb.architecture || d.id() != deb.id());
            self.debs.push(deb);
        }
        self.tidy();
    }

    /// Sorts everything and drops packages that no board uses, so that the same pins always make
    /// the same file.
    pub fn tidy(&mut self) {
        let used: std::collections::BTreeSet<(String, String)> = self
            .boards
            .iter()
            .flat_map(|b| b.ids().map(|id| (b.architecture.clone(), id.clone())))
            .collect();
        self.debs.retain(|d| used.contains(&(d.architecture.clone(), d.id())));
        let boards = &self.boards;
        let is_used = |name: &String| boards.iter().any(|board| board.name == *name);
        self.archives.retain(|pin| pin.board.as_ref().is_none_or(is_used));
        self.archives.sort();
        self.boards.sort_by(|a, b| a.name.cmp(&b.name));
        self.debs.sort_by(|a, b| {
            (&a.name, &a.architecture, &a.version).cmp(&(&b.name, &b.architecture, &b.version))
        });
        self.wheels.sort_by(|a, b| {
            (&a.name, &a.platform, &a.python).cmp(&(&b.name, &b.platform, &b.python))
        });
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// The file's text.
    pub fn text(&self) -> Result<String> {
        let body = toml::to_string(self).context("the lock cannot be written as TOML")?;
        Ok(format!("{HEADER}{body}"))
    }

    /// Writes the lock whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let named = || format!("{}: cannot be written", path.display());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(named)?;
        file.write_all(self.text()?.as_bytes()).with_context(named)?;
        file.as_file().sync_all().with_context(named)?;
        file.persist(path).map_err(|e| e.error).with_context(named)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use debian::lock::Request;

    fn pin(name: &str, version: &str) -> DebPin {
        DebPin {
            name: name.into(),
            version: version.into(),
            architecture: "arm64".into(),
            suite: "trixie".into(),
            path: format!("pool/{name}.deb"),
            size: 3,
            sha256: Sha256::of(b"abc"),
        }
    }

    fn pins(root: &[&str]) -> BoardPins {
        BoardPins {
            name: "b".into(),
            architecture: "arm64".into(),
            request: Request {
                suites: vec!["trixie".into()],
                packages: vec!["aa".into()],
                without: vec![],
                kernel_suite: "trixie-backports".into(),
                kernel_version: "1".into(),
                kernel: vec![],
                firmware: None,
                board_firmware: None,
                wifi_firmware: vec![],
                stub: None,
            },
            root: root.iter().map(|s| (*s).to_owned()).collect(),
            kernel: vec![],
            firmware: None,
            board_firmware: None,
            wifi_firmware: vec![],
            stub: None,
        }
    }

    #[test]
    fn written_and_read_again_sorted_and_without_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.lock");
        assert_eq!(Lock::read(&path).unwrap(), Lock::default());
        let mut lock = Lock::default();
        lock.set_board(pins(&["bb 1", "aa 1"]), vec![pin("bb", "1"), pin("aa", "1")]);
        assert_eq!(lock.debs[0].name, "aa");
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        assert_eq!(fs::read_to_string(&path).unwrap(), lock.text().unwrap());
        lock.set_board(pins(&["aa 2"]), vec![pin("aa", "2")]);
        assert_eq!(lock.debs, [pin("aa", "2")]);
    }

    #[test]
    fn a_lock_changed_by_hand_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.lock");
        let mut lock = Lock::default();
        lock.set_board(pins(&["aa 1"]), vec![pin("aa", "1")]);
        let text = lock.text().unwrap();
        for (from, to) in [
            ("pool/aa.deb", "../aa.deb"),
            ("format = 1", "format = 2"),
            ("root = [\"aa 1\"]", "root = [\"zz 1\"]"),
            ("size = 3", "size = -3"),
            ("sha256 = \"b", "sha256 = \"x"),
            ("suite = \"trixie\"", "suite = \"a/b\""),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            fs::write(&path, text.replace(from, to)).unwrap();
            assert!(Lock::read(&path).is_err(), "{to}");
        }
    }
}

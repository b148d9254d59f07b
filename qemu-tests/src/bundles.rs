//! Bundles, made by `imager` from a repository that no server shows to anybody.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::fixture::{Built, keys, run};
use crate::machine::imager;

/// What an update starts with (docs/architecture.md).
const MAGIC: &[u8] = b"FERRSLOT";

/// A repository that is only packed into bundles, and the bundles.
#[derive(Debug)]
pub struct BundleFixture {
    folder: tempfile::TempDir,
}

impl BundleFixture {
    /// An empty one.
    pub fn new() -> Result<BundleFixture> {
        let folder =
            tempfile::Builder::new().prefix("ferrite-bundles").tempdir().context("folder")?;
        Ok(BundleFixture { folder })
    }

    /// Publishes this version too, and packs it with all metadata.
    pub fn bundle(&self, built: &Built) -> Result<PathBuf> {
        let repository = self.folder.path().join("repo");
        let bundle = self.folder.path().join(format!("{}.bundle", built.version));
        let mut publish = Command::new(imager()?);
        publish.arg("publish").arg("--repo").arg(&repository).arg("--keys").arg(keys("keys")?);
        run(publish.args(["--deltas", "0"]).arg(&built.update))?;
        let mut pack = Command::new(imager()?);
        pack.arg("bundle").arg("--repo").arg(&repository).arg("--out").arg(&bundle);
        run(pack.args(["--version", &built.version]))?;
        Ok(bundle)
    }

    /// A copy of a bundle with every byte of the update in it changed that is in this range. Which of
    /// its chunks are read is for the device to say: what it has in its running slot it need not fetch.
    pub fn altered(&self, bundle: &Path, range: Range<u64>) -> Result<PathBuf> {
        let mut bytes = fs::read(bundle).with_context(|| bundle.display().to_string())?;
        let update = bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
        let update = update.with_context(|| format!("{} has no update", bundle.display()))?;
        let range = update + range.start as usize..update + range.end as usize;
        let part = bytes.get_mut(range).context("the update in the bundle is cut off")?;
        part.iter_mut().for_each(|byte| *byte = !*byte);
        let altered = self.folder.path().join("altered.bundle");
        fs::write(&altered, bytes).context("altered bundle")?;
        Ok(altered)
    }

    /// A file that is called a bundle and is none.
    pub fn garbage(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("garbage.bundle");
        fs::write(&path, vec![0xA5; 1 << 20]).context("garbage")?;
        Ok(path)
    }
}

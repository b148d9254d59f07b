//! All inputs of an image, fetched and checked, to be read by the assembly.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::local::LocalFile;
use super::wheel::Wheel;
use debian::deb::Deb;
use debian::tarball::Tarball;

/// All inputs of an image on one board.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The packages of the root, sorted by name.
    pub root: Vec<Deb>,
    /// The packages of the kernel, sorted by name.
    pub kernel: Vec<Deb>,
    /// The archives with the user's own kernel, in the board file's order; empty where it is
    /// Debian's.
    pub kernel_archives: Vec<Archive>,
    /// The archives that the image file names, in its order.
    pub archives: Vec<Archive>,
    /// The package with QEMU's firmware; not part of the image.
    pub firmware: Option<Deb>,
    /// The package with the firmware that the board's own loader reads from its boot partitions.
    pub board_firmware: Option<Deb>,
    /// The packages with the radio's firmware, sorted by name.
    pub wifi_firmware: Vec<Deb>,
    /// The package with the head of unified kernel images.
    pub stub: Option<Deb>,
    /// The wheels, sorted by name.
    pub wheels: Vec<Wheel>,
    /// All local files, sorted by path.
    pub files: Vec<LocalFile>,
}

impl Inputs {
    /// What the kernel, its modules and device trees are taken out of.
    pub fn kernel_contents(&self) -> Vec<&Tarball> {
        let archives = self.kernel_archives.iter().map(|archive| &archive.contents);
        self.kernel.iter().map(Deb::contents).chain(archives).collect()
    }

    /// When the newest part of the root's packages was made, in seconds since 1970: a date that the
    /// locked packages bring along, on whatever day an image is built of them. The kernel's do not
    /// count: a kernel of one's own in an archive is to give the same image. `None` without packages.
    pub fn newest(&self) -> Result<Option<u64>> {
        let dates =
            self.root.iter().map(|deb| deb.contents().newest()).collect::<Result<Vec<u64>>>()?;
        Ok(dates.into_iter().max().filter(|date| *date > 0))
    }

    /// The wheel of that project.
    pub fn wheel(&self, name: &str) -> Result<&Wheel> {
        self.wheels
            .iter()
            .find(|w| w.name == name)
            .with_context(|| format!("no wheel is named {name}"))
    }

    /// The bytes of one local file, by its path in the image file.
    pub fn local(&self, source: &Path) -> Result<Vec<u8>> {
        match &self.local_tree(source)[..] {
            [(file, "")] => file.read(),
            [] => bail!("{}: is not among the image's files", source.display()),
            _ => bail!("{}: is a folder where a file is needed", source.display()),
        }
    }

    /// A local file or all files of a folder, by its path in the image file: each with its path
    /// inside the folder, empty for a source that is a file itself. Sorted by path.
    pub fn local_tree<'a>(&'a self, source: &Path) -> Vec<(&'a LocalFile, &'a str)> {
        let found = self.files.iter().filter_map(|file| {
            let inside = Path::new(&file.path).strip_prefix(source).ok()?;
            Some((file, inside.to_str()?))
        });
        found.collect()
    }
}

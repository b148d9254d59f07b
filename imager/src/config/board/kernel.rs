//! `[kernel]`: which kernel, and what is taken out of it.

use serde::Deserialize;
use toml::Spanned;

use crate::config::archive::{self, ArchiveEntry, Only};
use crate::config::diagnostics::{Document, Finding};
use crate::config::values::{Line, PackageName, PackageVersion, Suite};

/// `[kernel]`: where the kernel comes from and what is taken out of it.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    #[cfg_attr(feature = "schema", schemars(with = "Option<Suite>"))]
    suite: Option<Spanned<Suite>>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<PackageVersion>"))]
    version: Option<Spanned<PackageVersion>>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<PackageName>>"))]
    packages: Option<Spanned<Vec<PackageName>>>,
    #[serde(default, rename = "archive")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<ArchiveEntry>"))]
    archives: Vec<Spanned<ArchiveEntry>>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<Line>"))]
    image: Option<Spanned<Line>>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<Line>"))]
    device_tree_folder: Option<Spanned<Line>>,
    /// What `uname -r` says: names the files in packages and archives.
    pub release: Line,
    /// Kernel arguments on top of the ones `imager` adds, console included.
    pub arguments: Line,
    /// Device trees for the boot partition, by their paths under the device tree folder; empty
    /// where the loader passes its own.
    #[serde(default)]
    pub device_trees: Vec<String>,
    /// Modules that the initrd loads before it chooses the slot, where that is its part: disk
    /// and watchdog, without those they depend on.
    #[serde(default)]
    pub chooser_modules: Vec<Line>,
    /// Modules the initrd loads, without those they depend on: disk, verity, EROFS, watchdog.
    #[serde(alias = "first_life_modules")]
    pub initrd_modules: Vec<Line>,
    /// Whether modules keep the signatures that the kernel checks when it loads them.
    #[serde(default)]
    pub module_signatures: ModuleSignatures,
    /// Modules the rootfs loads: network.
    #[serde(alias = "second_life_modules")]
    pub rootfs_modules: Vec<Line>,
    /// Modules for USB sticks, which the rootfs loads too where an image uses them; empty on
    /// a board without a socket for them.
    #[serde(default)]
    pub media_modules: Vec<Line>,
}

/// Where a kernel comes from.
#[derive(Debug, Clone, Copy)]
pub enum KernelSource<'a> {
    /// Debian's packages. They are taken without what they depend on: that is for a Debian that
    /// installs kernels on itself.
    Debian {
        /// The suite that keeps this version.
        suite: &'a Suite,
        /// The exact version of all its packages.
        version: &'a PackageVersion,
        /// The packages that carry the kernel, its modules and device trees.
        packages: &'a [PackageName],
    },
    /// The user's own, in [`Kernel::archives`].
    Own {
        /// The path of the kernel image in one of them.
        image: &'a str,
        /// The path of the folder with the device trees in one of them.
        device_tree_folder: &'a str,
    },
}

/// What becomes of the modules' own signatures. Where modules come from is verified with or without
/// them: they lie in the initramfs and on the verified root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ModuleSignatures {
    /// They stay: a kernel in lockdown, as under Secure Boot, loads no others.
    #[default]
    Keep,
    /// They are left out, for a processor that takes long to check them.
    Strip,
}

impl Kernel {
    /// Where it comes from.
    pub fn source(&self) -> KernelSource<'_> {
        fn text(value: &Option<Spanned<Line>>) -> &str {
            value.as_ref().map_or("", |value| value.get_ref().as_str().trim_matches('/'))
        }
        match (&self.suite, &self.version) {
            (Some(suite), Some(version)) => KernelSource::Debian {
                suite: suite.get_ref(),
                version: version.get_ref(),
                packages: self.packages.as_ref().map_or(&[], |packages| packages.get_ref()),
            },
            _ => KernelSource::Own {
                image: text(&self.image),
                device_tree_folder: text(&self.device_tree_folder),
            },
        }
    }

    /// The archives with the user's own kernel; none where it is Debian's.
    pub fn archives(&self) -> impl Iterator<Item = &ArchiveEntry> {
        self.archives.iter().map(|entry| entry.get_ref())
    }

    pub(super) fn check(&self, document: &Document) -> Result<(), Finding> {
        self.check_source(document)?;
        archive::check(&self.archives, Only::Refused, document)?;
        let release = self.release.as_str();
        if release.is_empty() || release.contains(['/', ' ']) || release.starts_with('.') {
            return Err(document
                .whole(format!("[kernel] `release` {release:?} is not what `uname -r` prints")));
        }
        for tree in &self.device_trees {
            if !tree.ends_with(".dtb") || !is_inside(tree) {
                return Err(document.whole(format!(
                    "[kernel] device tree {tree:?} is not a relative path to a .dtb"
                )));
            }
        }
        Ok(())
    }

    /// A kernel is Debian's or the user's own, and has all that its kind needs.
    fn check_source(&self, document: &Document) -> Result<(), Finding> {
        let Some(first) = self.archives.first() else {
            for (key, span) in [
                ("image", self.image.as_ref().map(Spanned::span)),
                ("device_tree_folder", self.device_tree_folder.as_ref().map(Spanned::span)),
            ] {
                if let Some(span) = span {
                    let why = format!(
                        "[kernel] `{key}` is for a kernel of your own: add a [[kernel.archive]] that has it, or remove the key"
                    );
                    return Err(document.at(span, why));
                }
            }
            let (Some(_), Some(_), Some(packages)) = (&self.suite, &self.version, &self.packages)
            else {
                return Err(document.whole("[kernel] needs `suite`, `version` and `packages` for Debian's kernel, or [[kernel.archive]] and `image` for one of your own"));
            };
            if packages.get_ref().is_empty() {
                return Err(document.at(packages.span(), "[kernel] `packages` is empty"));
            }
            return Ok(());
        };
        for (key, span) in [
            ("suite", self.suite.as_ref().map(Spanned::span)),
            ("version", self.version.as_ref().map(Spanned::span)),
            ("packages", self.packages.as_ref().map(Spanned::span)),
        ] {
            if let Some(span) = span {
                let why = format!(
                    "[kernel] `{key}` is for Debian's kernel, and [[kernel.archive]] names another: remove one of the two"
                );
                return Err(document.at(span, why));
            }
        }
        let Some(image) = &self.image else {
            let why = "[[kernel.archive]] needs [kernel] `image`: the path of the kernel image in an archive, like `image = \"boot/Image\"`";
            return Err(document.at(first.span(), why));
        };
        for (key, value) in
            [("image", Some(image)), ("device_tree_folder", self.device_tree_folder.as_ref())]
        {
            if let Some(value) = value.filter(|value| !is_inside(value.get_ref())) {
                let why = format!(
                    "[kernel] `{key}` {:?} is not a path inside an archive",
                    value.get_ref().as_str()
                );
                return Err(document.at(value.span(), why));
            }
        }
        if !self.device_trees.is_empty() && self.device_tree_folder.is_none() {
            let why = "[[kernel.archive]] with `device_trees` needs [kernel] `device_tree_folder`: the path of the folder that they lie in";
            return Err(document.at(first.span(), why));
        }
        Ok(())
    }
}

/// Whether this is a relative path that stays where it starts.
fn is_inside(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Board;

    const DEBIAN: &str = "suite = \"trixie-backports\"\nversion = \"7.2.12-1~bpo13+1\"\n";
    const OWN: &str = "image = \"boot/Image\"\ndevice_tree_folder = \"boot/dtb\"\ndevice_trees = [\"nvidia/a.dtb\"]\n";
    const ARCHIVES: &str = "[[kernel.archive]]\npath = \"k.tar.xz\"\n[[kernel.archive]]\nurl = \"https://example.org/m.deb\"\nsha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n";

    fn read(keys: &str, archives: &str) -> Result<Board, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let text = format!(
            "name = \"mine\"\ndescription = \"x\"\n[debian]\narchitecture = \"arm64\"\nsuites = [\"trixie\"]\n[kernel]\nrelease = \"5.15.148-tegra\"\narguments = \"\"\ninitrd_modules = []\nrootfs_modules = []\n{keys}{archives}[boot]\nchooser = \"uboot\"\n[partitions]\nfirmware = \"8M\"\nboot = \"64M\"\nroot = \"96M\"\ndata = \"16M\"\n"
        );
        std::fs::write(&path, text).unwrap();
        Board::load(path.to_str().unwrap(), Path::new(".")).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn the_keys_of_version_0_1_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu-arm64.toml");
        let project = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let now = std::fs::read_to_string(format!("{project}/board-configs/qemu-arm64.toml"));
        let then = now.unwrap().replace("initrd_modules", "first_life_modules");
        let then = then.replace("rootfs_modules", "second_life_modules");
        std::fs::write(&path, then).unwrap();
        let board = Board::load(path.to_str().unwrap(), Path::new(".")).unwrap();
        assert_eq!(board.kernel.initrd_modules[0].as_str(), "virtio_blk");
        assert_eq!(board.kernel.rootfs_modules[0].as_str(), "virtio_net");
    }

    #[test]
    fn a_kernel_is_debians_or_ones_own() {
        let board = read(OWN, ARCHIVES).unwrap();
        let KernelSource::Own { image, device_tree_folder } = board.kernel.source() else {
            panic!("{:?}", board.kernel.source())
        };
        assert_eq!((image, device_tree_folder), ("boot/Image", "boot/dtb"));
        let from: Vec<_> = board.kernel.archives().map(ArchiveEntry::from).collect();
        assert_eq!(from, ["k.tar.xz", "https://example.org/m.deb"]);
        let board = read(&format!("{DEBIAN}packages = [\"linux-binary\"]\n"), "").unwrap();
        assert!(matches!(board.kernel.source(), KernelSource::Debian { packages: [_], .. }));
    }

    #[test]
    fn clashing_and_missing_keys_are_named_with_what_to_do() {
        let packages = format!("{DEBIAN}packages = [\"linux-binary\"]\n");
        for (keys, archives, words) in [
            (&*format!("{OWN}{DEBIAN}"), ARCHIVES, &["mine.toml:14", "`suite`", "remove one"][..]),
            (&*format!("{OWN}packages = [\"aa\"]\n"), ARCHIVES, &["mine.toml:14", "`packages`"]),
            ("", "", &["needs `suite`, `version` and `packages`", "[[kernel.archive]]"]),
            (DEBIAN, "", &["needs `suite`, `version` and `packages`"]),
            (&*format!("{packages}image = \"x\"\n"), "", &["mine.toml:14", "`image`", "add a"]),
            ("", ARCHIVES, &["mine.toml:11", "needs [kernel] `image`"]),
            ("image = \"../x\"\n", ARCHIVES, &["mine.toml:11", "not a path inside"]),
            ("image = \"/x\"\n", ARCHIVES, &["mine.toml:11", "not a path inside"]),
            ("image = \"x\"\ndevice_trees = [\"a.dtb\"]\n", ARCHIVES, &["device_tree_folder"]),
            (OWN, "[[kernel.archive]]\n", &["mine.toml:14", "needs `path`, or `url`"]),
            (OWN, "[[kernel.archive]]\npath = \"\"\n", &["mine.toml:15", "is empty"]),
            (
                OWN,
                "[[kernel.archive]]\npath = \"a\"\nurl = \"http://x/a\"\n",
                &["mine.toml:16", "not both"],
            ),
            (OWN, "[[kernel.archive]]\nurl = \"http://x/a\"\n", &["mine.toml:15", "sha256sum"]),
            (OWN, "[[kernel.archive]]\nurl = \"file:///a\"\n", &["mine.toml:15", "use `path`"]),
            (
                OWN,
                "[[kernel.archive]]\npath = \"a\"\nsha256 = \"b\"\n",
                &["mine.toml:16", "not a SHA-256"],
            ),
            (
                OWN,
                "[[kernel.archive]]\npath = \"a\"\nonly = [\"b\"]\n",
                &["mine.toml:16", "image file"],
            ),
            (OWN, "[[kernel.archive]]\npaht = \"a\"\n", &["mine.toml:15", "did you mean `path`?"]),
            (OWN, &*format!("{ARCHIVES}[[kernel.archive]]\npath = \"k.tar.xz\"\n"), &["twice"]),
        ] {
            let message = read(keys, archives).unwrap_err();
            for word in words {
                assert!(message.contains(word), "no {word:?} in {message}");
            }
        }
    }
}

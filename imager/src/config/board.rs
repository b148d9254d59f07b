//! Board files: what an image runs on. One TOML file a board, `docs/board-file.md` explains it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::archive::Place;
use super::diagnostics::{Document, Finding};
use super::disk::Disk;
use super::values::{BoardName, Line, Size, Suite};
use crate::boot_method::{self, BootKeys, Target};

mod boot;
mod kernel;
pub mod loader;
mod lookup;
pub mod machine;
mod shipped;
mod wifi;

pub use boot::Boot;
pub use kernel::{Kernel, KernelSource, ModuleSignatures};
pub use machine::{Architecture, Firmware, Qemu, Watchdog, WatchdogKind};
pub use wifi::Wifi;

/// A checked board file.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Board {
    #[cfg_attr(feature = "schema", schemars(with = "BoardName"))]
    name: Spanned<BoardName>,
    /// One line for people.
    pub description: Line,
    /// How much has been seen of its images.
    #[serde(default)]
    pub proof: Proof,
    /// Which Debian its packages come from.
    pub debian: Debian,
    /// Its kernel.
    pub kernel: Kernel,
    /// How a slot is chosen.
    pub boot: Boot,
    /// Sizes of the partitions.
    pub partitions: Partitions,
    /// Its radio, if it has one.
    pub wifi: Option<Wifi>,
    /// The hardware watchdog, if it has one.
    pub watchdog: Option<Watchdog>,
    /// How QEMU plays it, if it can.
    pub qemu: Option<Qemu>,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    text: String,
}

/// How much has been seen of a board's images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Nothing, or nobody has said.
    #[default]
    Nothing,
    /// The finished card is checked by the rules of the board's firmware; nothing was started.
    Checked,
    /// The tests boot it in QEMU; its page in docs/boards/ says what that leaves open.
    Qemu,
    /// Somebody has seen a real one boot, update itself and fall back.
    Hardware,
}

impl Proof {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Proof::Nothing => "not seen by anybody",
            Proof::Checked => "card checked by its firmware's rules",
            Proof::Qemu => "boots in QEMU",
            Proof::Hardware => "seen on hardware",
        }
    }
}

/// `[debian]`: where the root's packages come from.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// The architecture.
    pub architecture: Architecture,
    /// The suites; a package is taken from the one that has its highest version.
    pub suites: Vec<Suite>,
}

/// What lies in the disk's first sector, for firmware that knows no GPT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mbr {
    /// One entry over the whole disk that keeps others away (UEFI 5.2.3).
    #[default]
    Protective,
    /// `firmware` and both boot partitions under the numbers they have in the GPT, too.
    Hybrid,
}

/// `[partitions]`: their sizes. Each is there once for each slot, `firmware` and `data` apart.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// The MBR beside the GPT.
    #[serde(default)]
    pub mbr: Mbr,
    #[cfg_attr(feature = "schema", schemars(with = "Size"))]
    firmware: Spanned<Size>,
    #[cfg_attr(feature = "schema", schemars(with = "Size"))]
    boot: Spanned<Size>,
    #[cfg_attr(feature = "schema", schemars(with = "Size"))]
    root: Spanned<Size>,
    #[cfg_attr(feature = "schema", schemars(with = "Size"))]
    data: Spanned<Size>,
}

impl Partitions {
    /// Bytes of `firmware`.
    pub fn firmware(&self) -> u64 {
        self.firmware.get_ref().0
    }
    /// Bytes of `boot-a` and of `boot-b`.
    pub fn boot(&self) -> u64 {
        self.boot.get_ref().0
    }
    /// Bytes of `root-a` and of `root-b`.
    pub fn root(&self) -> u64 {
        self.root.get_ref().0
    }
    /// Bytes of `data` before it grows.
    pub fn data(&self) -> u64 {
        self.data.get_ref().0
    }
}

impl Board {
    /// The same board with the partitions' sizes that an image asks for.
    pub fn with_sizes(mut self, disk: &Disk) -> Board {
        let partitions = &mut self.partitions;
        for (size, wanted) in [
            (&mut partitions.boot, disk.boot()),
            (&mut partitions.root, disk.root()),
            (&mut partitions.data, disk.data()),
        ] {
            if let Some(bytes) = wanted {
                *size = Spanned::new(size.span(), Size(bytes));
            }
        }
        self
    }

    /// Its name.
    pub fn name(&self) -> &BoardName {
        self.name.get_ref()
    }

    /// The board file's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The folder that relative paths in it start from. For a board file of imager's own, that is
    /// the folder where one of the user's would lie.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// The first file or folder of its own kernel that is not there, if any.
    pub fn missing_archive(&self) -> Option<PathBuf> {
        let mut paths = self.kernel.archives().filter_map(|archive| match archive.place() {
            Place::Path(path) => Some(self.folder().join(path)),
            Place::Url(..) => None,
        });
        paths.find(|path| !path.exists())
    }

    fn load_file(path: &Path) -> Result<Self> {
        Self::from_document(&Document::read(path)?, path)
    }

    fn from_document(document: &Document, path: &Path) -> Result<Self> {
        Ok(Self::read(document, path)?)
    }

    fn read(document: &Document, path: &Path) -> Result<Self, Finding> {
        let mut board: Board = document.parse()?;
        board.path = path.to_path_buf();
        document.text().clone_into(&mut board.text);
        board.check(document)?;
        Ok(board)
    }

    /// What its boot method has to know of it.
    pub fn target(&self) -> Target<'_> {
        Target {
            board: self.name(),
            architecture: self.debian.architecture,
            kernel_arguments: &self.kernel.arguments,
            kernel_release: &self.kernel.release,
            watchdog: self.watchdog.as_ref(),
            config: &self.boot.config,
            memory: self.boot.memory.as_ref(),
            firmware: self.boot.firmware.as_ref(),
            stub: self.boot.stub.as_ref(),
        }
    }

    /// Whether the keys of `[boot]` are those of its method.
    fn check_boot(&self) -> Result<(), String> {
        let (boot, keys) = (&self.boot, self.boot.method.keys());
        if boot.stub.is_some() != keys.stub {
            let takers = methods_that(|keys| keys.stub);
            return Err(format!("[boot.stub] is for the {takers} chooser, which needs it"));
        }
        for (name, is_there, is_taken, takers) in [
            ("`secure_boot`", boot.secure_boot, keys.secure_boot, methods_that(|k| k.secure_boot)),
            ("`firmware`", boot.firmware.is_some(), keys.firmware, methods_that(|k| k.firmware)),
            ("`memory`", boot.memory.is_some(), keys.memory, methods_that(|k| k.memory)),
        ] {
            if is_there && !is_taken {
                return Err(format!("[boot] {name} is for the chooser {takers}: remove it"));
            }
        }
        if let Some(memory) = &boot.memory {
            let aligned =
                memory.kernel.is_multiple_of(2 << 20) && memory.scratch.is_multiple_of(4096);
            if memory.kernel == 0 || !aligned {
                return Err("[boot.memory] `kernel` is a multiple of 2 MiB (0x200000), `scratch` one of 4 KiB".to_owned());
            }
        }
        Ok(())
    }

    fn check(&self, document: &Document) -> Result<(), Finding> {
        let stem = self.path.file_stem().and_then(|s| s.to_str());
        if stem != Some(self.name().as_str()) {
            let why = format!("the board is named `{}`, its file is not", self.name());
            return Err(document.at(self.name.span(), why));
        }
        if self.debian.suites.is_empty() {
            return Err(document.whole("[debian] `suites` is empty: name at least one"));
        }
        self.kernel.check(document)?;
        let sizes = &self.partitions;
        for size in [&sizes.firmware, &sizes.boot, &sizes.root, &sizes.data] {
            let bytes = size.get_ref().0;
            if bytes == 0 || bytes % (1 << 20) != 0 {
                return Err(
                    document.at(size.span(), "a partition's size is a multiple of 1 MiB, above 0")
                );
            }
        }
        self.check_boot().map_err(|why| document.whole(why))?;
        if let Some(watchdog) = &self.watchdog {
            let possible = watchdog.kind.seconds();
            if !possible.contains(&watchdog.seconds()) {
                let (least, most) = (possible.start(), possible.end());
                let why = format!("[watchdog] `seconds` is between {least} and {most}");
                return Err(document.at(watchdog.seconds.span(), why));
            }
        }
        if let Some(qemu) = &self.qemu
            && (!(1..=64).contains(&qemu.processors) || qemu.memory.0 < 64 << 20)
        {
            return Err(
                document.whole("[qemu] needs 1 to 64 `processors` and at least 64M of `memory`")
            );
        }
        Ok(())
    }
}

/// The boot methods for which `takes` holds, for people.
fn methods_that(takes: impl Fn(BootKeys) -> bool) -> String {
    let takers = boot_method::ALL.into_iter().filter(|method| takes(method.keys()));
    let names: Vec<&str> = takers.map(|method| method.name()).collect();
    names.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> (PathBuf, String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../board-configs/qemu-arm64.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    }

    fn changed(from: &str, to: &str) -> String {
        let (path, text) = shipped();
        assert!(text.contains(from), "{from}");
        let document = Document::new(&path, text.replacen(from, to, 1));
        Board::read(&document, &path).unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_board_file_is_valid() {
        let (path, _) = shipped();
        let board = Board::load(path.to_str().unwrap(), Path::new(".")).unwrap();
        assert_eq!(board.name().as_str(), "qemu-arm64");
        assert_eq!(board.partitions.firmware(), 8 << 20);
        assert_eq!(board.partitions.boot(), 64 << 20);
        assert_eq!(board.partitions.root(), 96 << 20);
        assert_eq!(board.partitions.data(), 16 << 20);
    }

    #[test]
    fn wrong_values_are_refused_with_their_line() {
        assert!(changed("\"64M\"", "\"65000K\"").contains("multiple of 1 MiB"));
        assert!(changed("name = \"qemu-arm64\"", "name = \"qemu\"").contains("qemu-arm64.toml:"));
        assert!(
            changed("chooser = \"uboot\"", "chooser = \"grub\"").contains("`grub` is not known")
        );
        assert!(changed("suites = ", "suits = ").contains("did you mean `suites`?"));
        assert!(changed("seconds = 60", "seconds = 1").contains("between 10 and 600"));
        let signed = "chooser = \"uboot\"\nsecure_boot = true";
        assert!(
            changed("chooser = \"uboot\"", signed).contains("for the chooser rpi and rpi-tryboot")
        );
        let broadcom = "kind = \"bcm2835\"";
        assert!(changed("kind = \"i6300esb\"", broadcom).contains("between 10 and 15"));
        let kept = "device = \"/dev/watchdog0\"\nseconds = ";
        let tegra = format!("kind = \"tegra\"\n{kept}1343");
        let shipped = format!("kind = \"i6300esb\"\n{kept}60");
        assert!(changed(&shipped, &tegra).contains("between 10 and 1342"));
        assert!(changed("kernel = 0x4040_0000", "kernel = 0x4040_1000").contains("2 MiB"));
        assert!(changed("scratch = 0x4024_0000", "scratch = 0x4024_0100").contains("4 KiB"));
        let rpi = changed("chooser = \"uboot\"", "chooser = \"rpi\"");
        assert!(rpi.contains("[boot] `memory` is for the chooser uboot"), "{rpi}");
    }
}

//! Image files: what runs on the device. `docs/image-file.md` is the reference for users.

use std::path::{Path, PathBuf};

use anyhow::Result;
use formats::layout::TLS_ROOTS;
pub use formats::ota_settings::Reboot;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::archive::{self, ArchiveEntry, Only};
use super::diagnostics::{Document, Finding};
use super::disk::Disk;
use super::pattern::{is_pattern, names};
pub use super::secure_boot::SecureBoot;
use super::update;
pub use super::update::{Tls, Update};
use super::values::{
    Country, DevicePath, Line, Mode, Name, PackageName, PlatformTag, ProjectName, ProjectVersion,
    PythonVersion, Version,
};
pub use super::workload::{Group, Ready, Restart, Workload};

pub use formats::workload::{UPDATE_WORKLOAD, WRITER_WORKLOAD};
/// Name of the workload that it adds for `[network] wifi`.
pub const WIFI_WORKLOAD: &str = "wifi";

/// A checked image file.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The image's name, the same for all its versions.
    pub name: Name,
    /// The version for people.
    pub version: Version,
    /// Orders versions: at least 1, higher with each release.
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    sequence: Spanned<u64>,
    /// The rollback floor: the lowest sequence an update may still go back to.
    #[serde(default = "zero", rename = "floor")]
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    rollback_floor: Spanned<u64>,
    /// The host name; the image's name if absent.
    hostname: Option<Name>,
    /// Puts a root shell on the console.
    #[serde(default)]
    pub debug: bool,
    /// Where updates come from; none if absent.
    pub update: Option<Update>,
    /// What the board's own loader checks before it starts a slot.
    #[serde(default)]
    pub secure_boot: SecureBoot,
    /// The network and the time.
    #[serde(default)]
    pub network: Network,
    /// Sizes of partitions instead of the board's.
    #[serde(default)]
    pub disk: Disk,
    /// Packages to add.
    #[serde(default)]
    pub debian: Debian,
    /// Local files and folders to add.
    #[serde(default, rename = "file")]
    pub files: Vec<FileEntry>,
    /// Somebody else's files, that are not Debian's.
    #[serde(default, rename = "archive")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<ArchiveEntry>"))]
    archives: Vec<Spanned<ArchiveEntry>>,
    /// Wheels to take files out of.
    #[serde(default, rename = "wheel")]
    pub wheels: Vec<WheelEntry>,
    /// Models to add under `/usr/share/models`.
    #[serde(default, rename = "model")]
    pub models: Vec<ModelEntry>,
    /// What runs.
    #[serde(default, rename = "workload")]
    pub workloads: Vec<Workload>,
    #[serde(skip)]
    path: PathBuf,
}

/// `[network]`: wired, wireless, and the time.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Ask for an address by DHCP; without it only loopback is up.
    #[serde(default = "yes")]
    pub dhcp: bool,
    /// The image can join a wireless network, which each device's settings name.
    pub wifi: Option<Wifi>,
    /// Root may log in over SSH with the keys of the device's settings; in debug images only.
    #[serde(default)]
    pub ssh: bool,
    /// Time servers' names or addresses.
    #[serde(default)]
    pub ntp: Vec<Line>,
}

impl Default for Network {
    fn default() -> Self {
        Self { dhcp: true, wifi: None, ssh: false, ntp: Vec::new() }
    }
}

/// `[network] wifi`: what is the same for all devices with this image.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wifi {
    /// The country whose rules the radio obeys.
    pub country: Country,
}

/// `[debian]`: packages to add.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Packages that are added with everything they depend on.
    #[serde(default)]
    pub packages: Vec<PackageName>,
    /// Packages that are left out even where another one depends on them.
    #[serde(default)]
    pub without: Vec<PackageName>,
}

/// `[[file]]`: a local file or folder to add.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// File or folder, relative to the image file.
    pub source: PathBuf,
    /// Where it goes.
    pub path: DevicePath,
    /// Its permissions; else 0755 for what its owner may execute and 0644 for the rest.
    pub mode: Option<Mode>,
    /// Of a folder: files and folders to leave out, by their paths inside it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Line>"))]
    exclude: Vec<Spanned<Line>>,
}

impl FileEntry {
    /// Whether a path inside the folder is left out.
    pub fn excludes(&self, inside: &str) -> bool {
        let mut patterns = self.exclude.iter().map(|pattern| pattern.get_ref().trim_matches('/'));
        patterns.any(|pattern| names(pattern, inside))
    }
}

/// `[[wheel]]`: a Python wheel to take files out of. Nothing of it is installed or run.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WheelEntry {
    /// The project.
    pub name: ProjectName,
    /// The exact version.
    pub version: ProjectVersion,
    /// Platform tag of the wheel; else the board's architecture with any glibc the image has.
    pub platform: Option<PlatformTag>,
    /// CPython version whose wheel is taken.
    #[serde(default = "default_python")]
    pub python: PythonVersion,
    /// What to take out of it.
    #[serde(default)]
    pub files: Vec<WheelFile>,
}

/// One member of a wheel and where it goes.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WheelFile {
    /// The member's exact path in the wheel.
    pub from: String,
    /// Where it goes.
    pub path: DevicePath,
    /// Its permissions; 0644 if absent.
    pub mode: Option<Mode>,
}

/// `[[model]]`: a model with what the runner must know of it.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// Its name, unique in the image: the folder under `/usr/share/models`.
    #[cfg_attr(feature = "schema", schemars(with = "Name"))]
    name: Spanned<Name>,
    /// The `.tflite` file: a path, or `wheel:NAME:MEMBER`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    model: Spanned<Origin>,
    /// The runner's settings for it, relative to the image file.
    pub config: PathBuf,
    /// Files that lie beside it under their own names, such as its golden sample.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    files: Vec<Spanned<Origin>>,
}

/// Where one file of a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A path relative to the image file.
    Local(PathBuf),
    /// `wheel:NAME:MEMBER`: a member of a wheel that a `[[wheel]]` names.
    Wheel {
        /// The wheel's project name as `[[wheel]]` writes it.
        name: String,
        /// The member's path.
        member: String,
    },
}

impl Origin {
    /// The file's own name, without its folders.
    pub fn file_name(&self) -> &str {
        match self {
            Self::Local(path) => path.file_name().and_then(|n| n.to_str()).unwrap_or_default(),
            Self::Wheel { member, .. } => member.rsplit('/').next().unwrap_or_default(),
        }
    }
}

impl ModelEntry {
    /// Its name, unique in the image: the folder under `/usr/share/models`.
    pub fn name(&self) -> &Name {
        self.name.get_ref()
    }

    /// Where the `.tflite` file comes from.
    pub fn model(&self) -> &Origin {
        self.model.get_ref()
    }

    /// Files that lie beside it under their own names, such as its golden sample.
    pub fn files(&self) -> impl Iterator<Item = &Origin> {
        self.files.iter().map(|f| f.get_ref())
    }
}

/// The roots of `[update.tls]` as a file of the image.
fn tls_roots(tls: &Tls) -> Option<FileEntry> {
    let path = DevicePath::new(TLS_ROOTS).ok()?;
    let (source, mode) = (tls.roots.clone(), Some(Mode(0o644)));
    Some(FileEntry { source, path, mode, exclude: Vec::new() })
}

fn zero() -> Spanned<u64> {
    Spanned::new(0..0, 0)
}
fn yes() -> bool {
    true
}
fn default_python() -> PythonVersion {
    PythonVersion::new("3.12").unwrap_or_else(|_| unreachable!("a constant"))
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let Some(rest) = text.strip_prefix("wheel:") else {
            return Ok(Self::Local(text.into()));
        };
        match rest.split_once(':') {
            Some((name, member)) if !name.is_empty() && !member.is_empty() => {
                Ok(Self::Wheel { name: name.to_owned(), member: member.to_owned() })
            }
            _ => Err(D::Error::custom(format!("{text:?} is not `wheel:NAME:PATH-IN-THE-WHEEL`"))),
        }
    }
}

impl Image {
    /// Reads and checks the image file at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let document = Document::read(path)?;
        Ok(Self::read(&document, path)?)
    }

    /// The number that orders versions, at least 1.
    pub fn sequence(&self) -> u64 {
        *self.sequence.get_ref()
    }

    /// The lowest sequence that an update may go back to, at most [`Image::sequence`].
    pub fn rollback_floor(&self) -> u64 {
        *self.rollback_floor.get_ref()
    }

    /// The device's host name.
    pub fn hostname(&self) -> &Name {
        self.hostname.as_ref().unwrap_or(&self.name)
    }

    /// Whether anything on the device looks at USB sticks: without that they are not even mounted.
    pub fn uses_media(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.sticks)
            || self.workloads.iter().any(|workload| workload.media)
    }

    /// Archives to take files out of.
    pub fn archives(&self) -> impl Iterator<Item = &ArchiveEntry> {
        self.archives.iter().map(|entry| entry.get_ref())
    }

    /// Where the image file lies; its lock lies beside it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that relative paths in it start from.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    pub(super) fn read(document: &Document, path: &Path) -> Result<Self, Finding> {
        let mut image: Image = document.parse()?;
        image.path = path.to_path_buf();
        let roots = image.update.as_ref().and_then(|update| tls_roots(update.tls.as_ref()?));
        image.files.extend(roots);
        image.check(document)?;
        Ok(image)
    }

    fn check(&self, document: &Document) -> Result<(), Finding> {
        if self.sequence() == 0 {
            return Err(document.at(self.sequence.span(), "`sequence` starts at 1"));
        }
        if self.rollback_floor() > self.sequence() {
            let why = "`floor` is above `sequence`: the image would refuse itself";
            return Err(document.at(self.rollback_floor.span(), why));
        }
        self.update.as_ref().map_or(Ok(()), |update| update::check(update, document))?;
        if let Some(host) = self.network.ntp.iter().find(|h| h.is_empty() || h.contains(' ')) {
            return Err(document.whole(format!("`ntp`: {:?} is not a host", host.as_str())));
        }
        self.update.as_ref().map_or(Ok(()), |update| update::check_link(update, document))?;
        self.disk.check(document)?;
        archive::check(&self.archives, Only::Needed, document)?;
        let patterns = self.files.iter().flat_map(|file| &file.exclude);
        if let Some(bad) = patterns.into_iter().find(|pattern| !is_pattern(pattern.get_ref())) {
            let why = "`exclude` names files or folders by their paths inside `source`";
            return Err(document.at(bad.span(), why));
        }
        self.check_models(document)?;
        if self.network.ssh && !self.debug {
            return Err(document.whole(
                "[network] `ssh` needs `debug = true`: an image that is shipped has no shell to log in to",
            ));
        }
        if self.network.ssh && !self.network.dhcp {
            return Err(document.whole("[network] `ssh` needs `dhcp`: leave `dhcp = false` out"));
        }
        if self.network.wifi.is_some() && !self.network.dhcp {
            return Err(document.whole("[network] `wifi` needs `dhcp`: leave `dhcp = false` out"));
        }
        super::workload::check(&self.workloads, &self.own_workloads(), document)
    }

    /// The workloads that the imager adds: the name of each, and the key that asks for it.
    pub fn own_workloads(&self) -> Vec<(&'static str, &'static str)> {
        let update = self
            .update
            .iter()
            .flat_map(|_| [(UPDATE_WORKLOAD, "[update]"), (WRITER_WORKLOAD, "[update]")]);
        let wifi = self.network.wifi.as_ref().map(|_| (WIFI_WORKLOAD, "[network] wifi"));
        update.chain(wifi).collect()
    }

    /// What the image gives workloads of its own that steers the device: said when it is built, since
    /// whoever takes such a workload over has it, too.
    pub fn warnings(&self) -> Vec<String> {
        let given = |w: &Workload| {
            let groups = w.groups.iter();
            groups.map(|group| group.warning(w.name().as_str())).collect::<Vec<_>>()
        };
        self.workloads.iter().flat_map(given).collect()
    }

    fn check_models(&self, document: &Document) -> Result<(), Finding> {
        for (i, wheel) in self.wheels.iter().enumerate() {
            if self.wheels[..i].iter().any(|w| w.name == wheel.name) {
                return Err(document.whole(format!("wheel `{}` is listed twice", wheel.name)));
            }
        }
        for (i, model) in self.models.iter().enumerate() {
            if self.models[..i].iter().any(|m| m.name() == model.name()) {
                let why = format!("model `{}` is listed twice", model.name());
                return Err(document.at(model.name.span(), why));
            }
            for origin in std::iter::once(&model.model).chain(&model.files) {
                if let Origin::Wheel { name, .. } = origin.get_ref()
                    && !self.wheels.iter().any(|w| w.name.as_str() == name)
                {
                    let why = format!("no [[wheel]] is named `{name}`: add one with its version");
                    return Err(document.at(origin.span(), why));
                }
                if origin.get_ref().file_name().is_empty() {
                    return Err(document.at(origin.span(), "names no file"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

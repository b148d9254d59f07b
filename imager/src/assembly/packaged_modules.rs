//! The modules of a kernel where its packages or archives have them, and what they drive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, Result, bail};

use super::drivers::Drivers;
use super::elf::section;
use super::modules::{self, ModuleSource, canonical};
use crate::config::board::ModuleSignatures;
use debian::tarball::{MemberKind, Tarball};

/// A module is at most this long unpacked; the largest of Debian's has a third of it.
const MAX_MODULE: u64 = 32 << 20;
/// The folder of modules that were built outside of the kernel.
const UPDATES: &str = "updates/";
/// Where the drivers of disks lie, and of what disks wait for.
const DRIVER_FOLDERS: [&str; 21] = [
    "/drivers/bus/",
    "/drivers/clk/",
    "/drivers/firmware/",
    "/drivers/gpio/",
    "/drivers/i2c/",
    "/drivers/interconnect/",
    "/drivers/iommu/",
    "/drivers/irqchip/",
    "/drivers/mailbox/",
    "/drivers/memory/",
    "/drivers/mfd/",
    "/drivers/mmc/",
    "/drivers/nvmem/",
    "/drivers/phy/",
    "/drivers/pinctrl/",
    "/drivers/pmdomain/",
    "/drivers/power/",
    "/drivers/regulator/",
    "/drivers/reset/",
    "/drivers/soc/",
    "/drivers/spi/",
];
/// The first file whose path is `end` or ends with a slash and it.
pub fn ending_with(sources: &[&Tarball], end: &str) -> Result<Option<Vec<u8>>> {
    let is_it = |path: &str| {
        path.strip_suffix(end).is_some_and(|above| above.is_empty() || above.ends_with('/'))
    };
    for source in sources {
        for member in source.members(is_it)? {
            if let MemberKind::File(bytes) = member.kind {
                return Ok(Some(bytes));
            }
        }
    }
    Ok(None)
}

/// The modules of a kernel's packages or archives: where each lies, unpacked when asked for.
pub struct PackagedModules<'a> {
    sources: &'a [&'a Tarball],
    paths: BTreeMap<String, (usize, String)>,
    built_in: BTreeSet<String>,
    signatures: ModuleSignatures,
}

impl<'a> PackagedModules<'a> {
    /// Lists the modules of this release.
    ///
    /// Fails without the list of what is built in.
    pub fn read(
        sources: &'a [&'a Tarball],
        release: &str,
        signatures: ModuleSignatures,
    ) -> Result<Self> {
        let folder = format!("lib/modules/{release}/");
        let mut paths: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for (index, source) in sources.iter().enumerate() {
            for path in source.paths()? {
                let Some((_, inside)) = path.split_once(&folder) else { continue };
                let Some(name) = module_name(inside) else { continue };
                // depmod takes what lies in `updates` before anything else (depmod.d(5), "search").
                let is_first = inside.starts_with(UPDATES) || !paths.contains_key(&name);
                if is_first {
                    paths.insert(name, (index, path));
                }
            }
        }
        let built_in = ending_with(sources, &format!("{folder}modules.builtin"))?
            .with_context(|| no_list(release, "modules.builtin"))?;
        let built_in = String::from_utf8_lossy(&built_in).lines().filter_map(module_name).collect();
        Ok(PackagedModules { sources, paths, built_in, signatures })
    }
}

/// What to say when a list is missing that is made where modules are installed.
fn no_list(release: &str, list: &str) -> String {
    format!(
        "the kernel has no lib/modules/{release}/{list}: `make modules_install` of Linux 5.2 or newer writes it; is `release` right?"
    )
}

impl PackagedModules<'_> {
    /// Whether there is a module of this name to load.
    pub fn has(&self, name: &str) -> bool {
        self.paths.contains_key(name)
    }

    /// What the kernel's drivers drive, as far as a disk depends on it.
    pub fn drivers(&self, release: &str) -> Result<Drivers> {
        let mut drivers = Drivers::default();
        let list = "modules.builtin.modinfo";
        let built_in = ending_with(self.sources, &format!("lib/modules/{release}/{list}"))?
            .with_context(|| no_list(release, list))?;
        drivers.add_built_in(&built_in);
        let mut wanted: BTreeMap<usize, BTreeMap<&str, &str>> = BTreeMap::new();
        for (name, (index, path)) in &self.paths {
            if DRIVER_FOLDERS.iter().any(|folder| path.contains(folder)) {
                wanted.entry(*index).or_default().insert(path, name);
            }
        }
        for (index, wanted) in wanted {
            for member in self.sources[index].members(|path| wanted.contains_key(path))? {
                let (Some(name), MemberKind::File(packed)) =
                    (wanted.get(member.path.as_str()), member.kind)
                else {
                    continue;
                };
                let object = unpack(&member.path, packed)
                    .with_context(|| format!("kernel module {}", member.path))?;
                drivers.add_module(name, section(&object, b".modinfo").unwrap_or_default());
            }
        }
        Ok(drivers)
    }
}

impl ModuleSource for PackagedModules<'_> {
    fn object(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((index, path)) = self.paths.get(name) else {
            return Ok(None);
        };
        let packed = self.sources[*index].file(path)?;
        let mut object = unpack(path, packed).with_context(|| format!("kernel module {path}"))?;
        if self.signatures == ModuleSignatures::Strip {
            object.truncate(modules::unsigned_length(&object));
        }
        Ok(Some(object))
    }

    fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }
}

/// `kernel/fs/ext4/ext4.ko.xz` is module `ext4`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem =
        [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().find_map(|end| file.strip_suffix(end))?;
    Some(canonical(stem))
}

fn unpack(path: &str, packed: Vec<u8>) -> Result<Vec<u8>> {
    let mut object = Vec::new();
    let read = if path.ends_with(".xz") {
        liblzma::read::XzDecoder::new_multi_decoder(packed.as_slice())
            .take(MAX_MODULE + 1)
            .read_to_end(&mut object)
    } else if path.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(packed.as_slice())
            .take(MAX_MODULE + 1)
            .read_to_end(&mut object)
    } else if path.ends_with(".zst") {
        unzstd::reader(packed.as_slice())?.take(MAX_MODULE + 1).read_to_end(&mut object)
    } else {
        return Ok(packed);
    };
    read.context("does not unpack")?;
    if object.len() as u64 > MAX_MODULE {
        bail!("is longer than {MAX_MODULE} bytes unpacked");
    }
    Ok(object)
}

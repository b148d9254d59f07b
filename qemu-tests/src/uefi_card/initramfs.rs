//! The initramfs of a unified kernel image: an archive that the kernel unpacks by itself
//! (Documentation/driver-api/early-userspace/buffer-format.rst), whose `/init` finds in
//! `/etc/ferrite/boot.conf` what to load (docs/architecture.md).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::{Board, Processor};
use crate::card::little;

/// ELF: `e_type` of what is linked by the kernel.
const RELOCATABLE: u64 = 1;
/// ELF: the program header that names a dynamic linker.
const INTERPRETER: u64 = 3;
const FORM: &str = "ferrite-boot 1";

struct Entry<'a> {
    mode: u64,
    device: (u64, u64),
    content: &'a [u8],
}

/// An archive by its paths, without the slash they start with.
pub struct Initramfs<'a>(BTreeMap<&'a str, Entry<'a>>);

impl<'a> Initramfs<'a> {
    /// Reads a plain archive in the new ASCII format.
    pub fn read(archive: &'a [u8]) -> Result<Initramfs<'a>> {
        let mut entries = BTreeMap::new();
        let mut at = 0;
        loop {
            let header = archive.get(at..at + 110).context("ends without TRAILER!!!")?;
            ensure!(header.starts_with(b"070701"), "is no cpio archive at {at:#x}");
            let field = |number: usize| -> Result<u64> {
                let digits = std::str::from_utf8(&header[6 + number * 8..][..8])?;
                Ok(u64::from_str_radix(digits, 16)?)
            };
            let (size, name_size) = (field(6)? as usize, field(11)? as usize);
            let name = archive.get(at + 110..).and_then(|rest| rest.get(..name_size));
            let name = name.and_then(|name| name.strip_suffix(b"\0")).context("a bad name")?;
            let start = (at + 110 + name_size).next_multiple_of(4);
            let content = archive.get(start..).and_then(|rest| rest.get(..size));
            let content = content.context("a file is cut off")?;
            at = (start + size).next_multiple_of(4);
            let name = std::str::from_utf8(name)?;
            if name == "TRAILER!!!" {
                break;
            }
            let entry = Entry { mode: field(1)?, device: (field(9)?, field(10)?), content };
            let name = name.trim_start_matches("./").trim_start_matches('/');
            ensure!(entries.insert(name, entry).is_none(), "has {name} twice");
        }
        Ok(Initramfs(entries))
    }

    fn file(&self, path: &str) -> Result<&'a [u8]> {
        let entry = self.0.get(path.trim_start_matches('/'));
        let entry = entry.with_context(|| format!("has no {path}"))?;
        ensure!(entry.mode & 0o170_000 == 0o100_000, "{path} is no file");
        Ok(entry.content)
    }

    /// What the initrd of this board counts on, for a kernel of this release. Gives what the
    /// loaded modules drive: the compatible strings in their aliases.
    pub fn check(&self, board: &Board, release: &str) -> Result<Vec<String>> {
        // init/main.c, `console_on_rootfs`: opened before anything is mounted.
        let console = self.0.get("dev/console").context("has no /dev/console")?;
        ensure!(
            console.mode & 0o170_000 == 0o020_000 && console.device == (5, 1),
            "/dev/console is not the console"
        );
        // init/main.c, `kernel_init`: `/init`, or a panic.
        ensure!(
            self.0.get("init").is_some_and(|init| init.mode & 0o111 != 0),
            "has no /init to run"
        );
        check_static(self.file("init")?, board.processor).context("/init")?;
        let conf = std::str::from_utf8(self.file("etc/ferrite/boot.conf")?)?;
        ensure!(conf.lines().next() == Some(FORM), "boot.conf is not in the form {FORM:?}");
        let one = |key: &str| -> Result<&str> {
            let mut found = values(conf, key);
            match (found.next(), found.next()) {
                (Some(value), None) => Ok(value),
                _ => bail!("boot.conf has not one line {key}"),
            }
        };
        ensure!(one("board")? == board.name, "boot.conf is for {}", one("board")?);
        ensure!(one("chooser")? == "efi", "boot.conf has the chooser {}", one("chooser")?);
        ensure!(values(conf, "key").next().is_some(), "boot.conf trusts no key");
        let watchdog = one("watchdog")?;
        ensure!(watchdog.starts_with("/dev/watchdog0 "), "boot.conf has the watchdog {watchdog}");
        self.check_modules(conf, board, release)
    }

    /// Each module is there, is one for this kernel, and comes behind what it depends on: `init`
    /// loads them in this order and asks nobody (kernel/module/main.c resolves symbols of what is
    /// loaded, and takes no module of another `vermagic`).
    fn check_modules(&self, conf: &str, board: &Board, release: &str) -> Result<Vec<String>> {
        let mut loaded: Vec<String> = Vec::new();
        let mut driven = Vec::new();
        let chains = ["modules", "later-modules"].map(|key| values(conf, key));
        for path in chains.into_iter().flatten().flat_map(|chain| chain.split(' ')) {
            let object = self.file(path)?;
            let info = Modinfo::read(object, board.processor).context(path.to_owned())?;
            let magic = info.one("vermagic").context(path.to_owned())?;
            ensure!(
                magic.split(' ').next() == Some(release),
                "{path} is for the kernel {magic:?}, not {release}"
            );
            for needed in info.one("depends")?.split(',').filter(|name| !name.is_empty()) {
                let needed = needed.replace('-', "_");
                ensure!(loaded.contains(&needed), "{path} is loaded before {needed}");
            }
            driven.extend(info.all("alias").filter_map(compatible).map(str::to_owned));
            loaded.push(info.one("name").context(path.to_owned())?.replace('-', "_"));
        }
        // Which disk this is stands in an EFI variable.
        for module in board.modules.iter().chain(&["efivarfs"]) {
            ensure!(loaded.iter().any(|name| name == module), "boot.conf loads no {module}");
        }
        Ok(driven)
    }
}

/// The values of a key, in the order of the lines before the first section.
fn values<'a>(conf: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let head = conf.lines().take_while(|line| !line.starts_with('['));
    let lines: Vec<&str> =
        head.filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).collect();
    lines.into_iter()
}

/// A program that needs no other file to start.
fn check_static(program: &[u8], processor: Processor) -> Result<()> {
    check_elf(program, processor)?;
    let (table, size, count) =
        (little::<8>(program, 32)?, little::<2>(program, 54)?, little::<2>(program, 56)?);
    for number in 0..count {
        let kind = little::<4>(program, (table + number * size) as usize)?;
        ensure!(kind != INTERPRETER, "needs a dynamic linker, which the initramfs does not have");
    }
    Ok(())
}

fn check_elf(object: &[u8], processor: Processor) -> Result<()> {
    ensure!(object.starts_with(b"\x7FELF\x02\x01"), "is no 64-bit little-endian ELF");
    let machine = little::<2>(object, 18)?;
    ensure!(machine == processor.elf_machine(), "is for the processor {machine}");
    Ok(())
}

/// What a module says about itself: `name=value` texts in its section `.modinfo` (kernel/module/
/// main.c, `setup_load_info`).
struct Modinfo<'a>(&'a [u8]);

impl<'a> Modinfo<'a> {
    fn read(object: &'a [u8], processor: Processor) -> Result<Modinfo<'a>> {
        check_elf(object, processor)?;
        ensure!(little::<2>(object, 16)? == RELOCATABLE, "is no kernel module");
        let (table, size) = (little::<8>(object, 40)?, little::<2>(object, 58)?);
        let (count, names) = (little::<2>(object, 60)?, little::<2>(object, 62)?);
        let place = |number: u64| -> Result<(u64, &'a [u8])> {
            let header = (table + number * size) as usize;
            let (at, length) =
                (little::<8>(object, header + 24)?, little::<8>(object, header + 32)?);
            let content = object.get(at as usize..).and_then(|rest| rest.get(..length as usize));
            // A section without bytes in the file, such as `.bss`, may lie anywhere.
            Ok((little::<4>(object, header)?, content.unwrap_or_default()))
        };
        let (_, texts) = place(names)?;
        for number in 0..count {
            let (name, content) = place(number)?;
            if texts.get(name as usize..).is_some_and(|rest| rest.starts_with(b".modinfo\0")) {
                return Ok(Modinfo(content));
            }
        }
        bail!("has no .modinfo")
    }

    fn all(&self, key: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let texts =
            self.0.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
        texts.filter_map(move |text| text.strip_prefix(key)?.strip_prefix('='))
    }

    fn one(&self, key: &'static str) -> Result<&'a str> {
        self.all(key).next().with_context(|| format!("does not say its {key}"))
    }
}

/// `of:N*T*Cnvidia,tegra194-sdhci` names what stands behind `C` (scripts/mod/file2alias.c,
/// `do_of_entry`).
fn compatible(alias: &str) -> Option<&str> {
    let (_, compatible) = alias.strip_prefix("of:N")?.split_once('C')?;
    Some(compatible.trim_end_matches("C*"))
}

//! Kernel modules: from the names a board file gives to the files in load order.
//!
//! A kernel package has no `modules.dep` (depmod makes it where a kernel is installed), so what a
//! module needs is read from the module itself: `depends=` in its `.modinfo` section.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::elf::section;

/// One module, decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// The names of the modules it needs itself, those built into the kernel included.
    pub needs: Vec<String>,
    /// The ELF object.
    pub object: Vec<u8>,
}

/// What the kernel package holds, without reading it all.
pub trait ModuleSource {
    /// The decompressed object of this module, or `None` if the package has none of that name.
    fn object(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Whether the module is built into the kernel.
    fn is_built_in(&self, name: &str) -> bool;
}

/// The named modules and all they depend on, each after what it needs, without those in `loaded`.
///
/// Fails on a name that is neither a module nor built in, and on a circle of dependencies.
pub fn in_load_order(
    source: &impl ModuleSource,
    names: &[&str],
    loaded: &BTreeSet<String>,
) -> Result<Vec<Module>> {
    let mut walk = Walk { source, loaded, done: Vec::new(), state: BTreeMap::new() };
    for name in names {
        walk.visit(&canonical(name))?;
    }
    Ok(walk.done)
}

/// Splits modules in load order into chains: two modules are in one chain if one needs the other,
/// directly or by way of others. What is in different chains can be loaded at the same time.
///
/// Each chain is in load order; the chains are in the order of their last modules.
pub fn chains(modules: Vec<Module>) -> Vec<Vec<Module>> {
    let mut chains: Vec<Vec<Module>> = Vec::new();
    for module in modules {
        let is_needed = |other: &Module| module.needs.contains(&other.name);
        let (needed, rest): (Vec<_>, Vec<_>) =
            chains.into_iter().partition(|chain| chain.iter().any(is_needed));
        chains = rest;
        chains.push(needed.into_iter().flatten().chain([module]).collect());
    }
    chains
}

/// A module's name as the kernel compares it.
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

struct Walk<'a, S> {
    source: &'a S,
    loaded: &'a BTreeSet<String>,
    done: Vec<Module>,
    /// `true`: in `done`; `false`: being visited.
    state: BTreeMap<String, bool>,
}

impl<S: ModuleSource> Walk<'_, S> {
    fn visit(&mut self, name: &str) -> Result<()> {
        match self.state.get(name) {
            Some(true) => return Ok(()),
            Some(false) => bail!("kernel module {name} depends on itself"),
            None if self.loaded.contains(name) || self.source.is_built_in(name) => return Ok(()),
            None => {}
        }
        self.state.insert(name.to_owned(), false);
        let object = self.source.object(name)?.with_context(|| {
            format!("the kernel has no module `{name}`, neither built in nor to load; correct the board file")
        })?;
        let needs = depends(&object).with_context(|| format!("kernel module {name}"))?;
        for needed in &needs {
            self.visit(needed)?;
        }
        self.state.insert(name.to_owned(), true);
        self.done.push(Module { name: name.to_owned(), needs, object });
        Ok(())
    }
}

/// The modules named in `depends=` of an ELF object's `.modinfo` section.
fn depends(object: &[u8]) -> Result<Vec<String>> {
    let modinfo =
        section(object, b".modinfo").context("is no ELF object with a .modinfo section")?;
    let depends = modinfo
        .split(|byte| *byte == 0)
        .filter_map(|field| field.strip_prefix(b"depends="))
        .filter_map(|list| std::str::from_utf8(list).ok());
    Ok(depends.flat_map(|list| list.split(',')).filter(|n| !n.is_empty()).map(canonical).collect())
}

/// The length of a module without the signature behind it: the signature, a `struct
/// module_signature` that ends with the signature's length, and a magic line (Linux
/// `include/linux/module_signature.h`). The whole length if it has none.
pub fn unsigned_length(object: &[u8]) -> usize {
    const MAGIC: &[u8] = b"~Module signature appended~\n";
    const STRUCT: usize = 12;
    let unsigned = || {
        let end = object.strip_suffix(MAGIC)?.len();
        let signature = u32::from_be_bytes(object.get(end.checked_sub(4)?..end)?.try_into().ok()?);
        end.checked_sub(STRUCT)?.checked_sub(usize::try_from(signature).ok()?)
    };
    unsigned().unwrap_or(object.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal ELF object with a `.modinfo` section.
    fn object(depends: &str) -> Vec<u8> {
        let modinfo = format!("license=GPL\0depends={depends}\0name=x\0");
        let names = b"\0.shstrtab\0.modinfo\0";
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7FELF\x02\x01");
        let (names_at, info_at) = (64, 64 + names.len());
        let table = info_at + modinfo.len();
        elf.extend_from_slice(names);
        elf.extend_from_slice(modinfo.as_bytes());
        for (name, at, size) in
            [(0, 0, 0), (1, names_at, names.len()), (11, info_at, modinfo.len())]
        {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&(name as u32).to_le_bytes());
            header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        elf[58..60].copy_from_slice(&64u16.to_le_bytes());
        elf[60..62].copy_from_slice(&3u16.to_le_bytes());
        elf[62..64].copy_from_slice(&1u16.to_le_bytes());
        elf
    }

    struct Fake(&'static [(&'static str, &'static str)]);

    impl ModuleSource for Fake {
        fn object(&self, name: &str) -> Result<Option<Vec<u8>>> {
            Ok(self.0.iter().find(|(n, _)| *n == name).map(|(_, depends)| object(depends)))
        }
        fn is_built_in(&self, name: &str) -> bool {
            name == "virtio"
        }
    }

    fn order(fake: &Fake, names: &[&str], loaded: &[&str]) -> Result<Vec<String>> {
        let loaded = loaded.iter().map(|n| (*n).to_owned()).collect();
        Ok(in_load_order(fake, names, &loaded)?.into_iter().map(|m| m.name).collect())
    }

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let fake = Fake(&[
            ("ext4", "jbd2,mbcache,crc-x"),
            ("jbd2", ""),
            ("mbcache", ""),
            ("crc_x", "jbd2"),
        ]);
        assert_eq!(order(&fake, &["ext4"], &[]).unwrap(), ["jbd2", "mbcache", "crc_x", "ext4"]);
        assert_eq!(
            order(&fake, &["ext4", "virtio"], &["jbd2"]).unwrap(),
            ["mbcache", "crc_x", "ext4"]
        );
    }

    #[test]
    fn chains_hold_what_needs_one_another() {
        let fake = Fake(&[("disk", ""), ("dm", ""), ("bufio", "dm"), ("rs", ""), ("fs", "")]);
        let verity = Fake(&[("verity", "bufio,rs")]);
        let mut modules =
            in_load_order(&fake, &["disk", "bufio", "rs", "fs"], &BTreeSet::new()).unwrap();
        let named = |chains: Vec<Vec<Module>>| -> Vec<String> {
            let names = |chain: Vec<Module>| chain.into_iter().map(|m| m.name).collect::<Vec<_>>();
            chains.into_iter().map(|chain| names(chain).join(" ")).collect()
        };
        assert_eq!(named(chains(modules.clone())), ["disk", "dm bufio", "rs", "fs"]);
        let loaded = modules.iter().map(|module| module.name.clone()).collect();
        modules.extend(in_load_order(&verity, &["verity"], &loaded).unwrap());
        assert_eq!(named(chains(modules)), ["disk", "fs", "dm bufio rs verity"]);
    }

    #[test]
    fn an_unknown_module_and_a_circle_are_named() {
        let fake = Fake(&[("a", "b"), ("b", "a"), ("c", "gone")]);
        for (start, word) in [("a", "itself"), ("c", "`gone`"), ("d", "`d`")] {
            let message = format!("{:#}", order(&fake, &[start], &[]).unwrap_err());
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_signature_behind_a_module_is_found() {
        let whole = object("a");
        let signed = |length: u32| {
            let head = [0, 0, 2, 0, 0, 0, 0, 0];
            [&whole[..], &[7; 20], &head, &length.to_be_bytes(), b"~Module signature appended~\n"]
                .concat()
        };
        assert_eq!(unsigned_length(&whole), whole.len());
        assert_eq!(unsigned_length(&signed(20)), whole.len());
        for length in [u32::MAX, 1 << 20] {
            assert_eq!(unsigned_length(&signed(length)), signed(length).len());
        }
        assert_eq!(unsigned_length(b"~Module signature appended~\n"), 28);
    }

    #[test]
    fn a_damaged_object_is_refused() {
        let whole = object("a");
        for length in 0..whole.len() {
            let _ = depends(&whole[..length]);
        }
        assert!(depends(b"\x7FELF").is_err());
        assert_eq!(depends(&whole).unwrap(), ["a"]);
    }
}

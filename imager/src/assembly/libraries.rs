//! What a program reads while it starts: its interpreter and its shared libraries, so that PID 1
//! can have them read ahead.

use std::collections::BTreeSet;

use super::elf::section;
use imagefs::tree::{Kind, Tree};

/// More libraries than a program of a device has.
const MOST: usize = 64;
/// `d_tag` of the name of a library that is needed, and of the end (gABI, chapter 5).
const NEEDED: u64 = 1;
const END: u64 = 0;

/// The paths of the interpreter and the libraries of the program at `program`, nearest first, as
/// far as they lie where Debian's dynamic linker looks without being told. What is not found or
/// not understood is left out: it is read when it is needed.
pub fn of(tree: &Tree, program: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut names: Vec<String> = interpreter(tree, program).into_iter().collect();
    let mut known = BTreeSet::new();
    found.append(&mut names);
    let folders = folders(&found);
    let mut queue = vec![program.to_owned()];
    let mut next = 0;
    while let Some(path) = queue.get(next).cloned() {
        next += 1;
        for name in bytes(tree, &path).map(needed).unwrap_or_default() {
            let place = || folders.iter().map(|folder| format!("{folder}/{name}"));
            let Some(path) = place().find(|path| bytes(tree, path).is_some()) else { continue };
            if known.len() < MOST && known.insert(name) && !found.contains(&path) {
                found.push(path.clone());
                queue.push(path);
            }
        }
    }
    found
}

/// `/usr/lib` and, from the interpreter's name, the architecture's folder below it.
fn folders(interpreter: &[String]) -> Vec<String> {
    let triplet = match interpreter.first().and_then(|path| path.rsplit('/').next()) {
        Some("ld-linux-aarch64.so.1") => Some("/usr/lib/aarch64-linux-gnu"),
        Some("ld-linux-x86-64.so.2") => Some("/usr/lib/x86_64-linux-gnu"),
        _ => None,
    };
    triplet.into_iter().chain(["/usr/lib"]).map(String::from).collect()
}

fn interpreter(tree: &Tree, program: &str) -> Option<String> {
    let name = section(bytes(tree, program)?, b".interp")?;
    let path = std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()?;
    bytes(tree, path).map(|_| path.to_owned())
}

fn bytes<'a>(tree: &'a Tree, path: &str) -> Option<&'a [u8]> {
    match &tree.follow(path)?.kind {
        Kind::File(content) => Some(content.bytes()),
        _ => None,
    }
}

/// The names of the libraries that an object needs.
fn needed(elf: &[u8]) -> Vec<String> {
    let (Some(dynamic), Some(names)) = (section(elf, b".dynamic"), section(elf, b".dynstr")) else {
        return Vec::new();
    };
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(END);
    let entries = dynamic.chunks_exact(16).map(|entry| (word(&entry[..8]), word(&entry[8..])));
    let name = |at: u64| {
        let name = names.get(usize::try_from(at).ok()?..)?.split(|byte| *byte == 0).next()?;
        let name = std::str::from_utf8(name).ok()?;
        (!name.is_empty() && !name.contains(['/', '\n', ' '])).then(|| name.to_owned())
    };
    entries
        .take_while(|(tag, _)| *tag != END)
        .filter(|(tag, _)| *tag == NEEDED)
        .filter_map(|(_, value)| name(value))
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF object with these sections and nothing else.
    fn object(sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7FELF\x02\x01");
        let (mut names, mut headers) = (vec![0], vec![0; 64]);
        for (name, bytes) in sections.iter().map(|(n, b)| (*n, b.clone())).chain([("", vec![])]) {
            let name = if name.is_empty() { ".shstrtab" } else { name };
            let mut header = [0; 64];
            header[..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            let bytes = if name == ".shstrtab" { names.clone() } else { bytes };
            header[24..32].copy_from_slice(&(elf.len() as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            elf.extend_from_slice(&bytes);
            headers.extend_from_slice(&header);
        }
        let table = elf.len() as u64;
        elf.extend_from_slice(&headers);
        elf[40..48].copy_from_slice(&table.to_le_bytes());
        elf[58..60].copy_from_slice(&64u16.to_le_bytes());
        elf[60..62].copy_from_slice(&(sections.len() as u16 + 2).to_le_bytes());
        elf[62..64].copy_from_slice(&(sections.len() as u16 + 1).to_le_bytes());
        elf
    }

    fn dynamic(interpreter: Option<&str>, libraries: &[&str]) -> Vec<u8> {
        let (mut names, mut entries) = (vec![0], Vec::new());
        for library in libraries {
            entries.extend_from_slice(&[NEEDED, names.len() as u64].map(u64::to_le_bytes).concat());
            names.extend_from_slice(library.as_bytes());
            names.push(0);
        }
        entries.extend_from_slice(&[0; 16]);
        let mut sections = vec![(".dynamic", entries), (".dynstr", names)];
        sections.extend(interpreter.map(|path| (".interp", format!("{path}\0").into_bytes())));
        object(&sections)
    }

    fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
        let mut tree = Tree::usr_merged(0);
        for (path, bytes) in files {
            tree.file(path, 0o755, bytes.as_slice()).unwrap();
        }
        tree
    }

    #[test]
    fn libraries_of_libraries_are_found_and_each_once() {
        let loader = "/lib/ld-linux-aarch64.so.1";
        let folder = "/usr/lib/aarch64-linux-gnu";
        let tree = tree(&[
            ("/usr/bin/x", dynamic(Some(loader), &["liba.so", "libc.so.6", "libgone.so"])),
            (loader, dynamic(None, &[])),
            ("/usr/lib/liba.so", dynamic(None, &["libb.so", "libc.so.6"])),
            (&format!("{folder}/libb.so"), dynamic(None, &["liba.so"])),
            (&format!("{folder}/libc.so.6"), dynamic(None, &["ld-linux-aarch64.so.1"])),
        ]);
        let found = of(&tree, "/usr/bin/x");
        let expected = [
            loader.to_owned(),
            "/usr/lib/liba.so".into(),
            format!("{folder}/libc.so.6"),
            format!("{folder}/libb.so"),
            "/usr/lib/ld-linux-aarch64.so.1".into(),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_static_program_and_a_damaged_one_need_nothing() {
        let whole = dynamic(Some("/lib/l"), &["liba.so"]);
        let files: Vec<_> =
            (0..whole.len()).map(|n| (format!("/usr/bin/{n}"), whole[..n].to_vec())).collect();
        let files: Vec<_> =
            files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
        let tree = tree(&files);
        for (path, _) in &files {
            assert!(of(&tree, path).is_empty(), "{path}");
        }
        assert!(of(&tree, "/usr/bin/missing").is_empty());
    }
}

//! What a program reads while it starts: its interpreter and its shared libraries. PID 1 has them
//! read ahead; what is not on the root is found out here and not on the device.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::elf::{self, Object};
use imagefs::tree::{Kind, Tree};

/// More libraries than a program has; what lies behind them would go unchecked.
const MOST: usize = 4096;
/// Of one program, so many are read ahead.
const READ_AHEAD: usize = 64;

/// What a program needs that is not on the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The library's name.
    pub name: String,
    /// The path of the program or library that needs it.
    pub by: String,
    /// What is there instead.
    pub instead: Instead,
}

/// What there is in the place of a library that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// Nothing.
    Nothing,
    /// A file of that name that is for another processor.
    OtherProcessor(String),
    /// The library without this version of its interface.
    WithoutVersion(String),
}

/// The interpreter and the libraries of a program.
#[derive(Debug, Default)]
pub struct Needs {
    /// The paths of those that are there, nearest first.
    pub found: Vec<String>,
    /// Those that are not.
    pub missing: Vec<Missing>,
    /// Whether there are more than were looked for.
    pub more: bool,
}

/// The paths of the interpreter and the libraries of the program at `program`, nearest first, as
/// far as they lie where the dynamic linker looks without being told. What is not found or not
/// understood is left out, and so is what is behind the first 64: it is read when it is needed.
pub fn of(tree: &Tree, program: &str) -> Vec<String> {
    search(tree, program, &[], READ_AHEAD).found
}

/// What the dynamic linker finds of the libraries of the program at `program`, and what it does not.
/// `first` are the folders of the variable `LD_LIBRARY_PATH` (ld.so(8)).
///
/// Fails when there are too many to tell.
pub fn needs(tree: &Tree, program: &str, first: &[&str]) -> Result<Needs> {
    let needs = search(tree, program, first, MOST);
    ensure!(
        !needs.more,
        "{program} needs more than {MOST} libraries, which are not checked; link those that are its \
         own into one"
    );
    Ok(needs)
}

/// As [`needs`], for libraries of at most so many names.
fn search(tree: &Tree, program: &str, first: &[&str], most: usize) -> Needs {
    let mut needs = Needs::default();
    let Some(object) = object(tree, program) else { return needs };
    let machine = bytes(tree, program).and_then(elf::machine);
    let interpreter = object.interpreter().filter(|path| bytes(tree, path).is_some());
    needs.found.extend(interpreter.map(str::to_owned));
    let own = run_folders(&object, program);
    let usual = folders(object.interpreter());
    let mut known = BTreeSet::new();
    let mut queue = vec![program.to_owned()];
    let mut next = 0;
    while let Some(path) = queue.get(next).cloned() {
        next += 1;
        let Some(object) = self::object(tree, &path) else { continue };
        let here = run_folders(&object, &path);
        for name in object.needed() {
            if known.contains(name) {
                continue;
            }
            if known.len() >= most {
                needs.more = true;
                continue;
            }
            known.insert(name.to_owned());
            let places = first.iter().map(|folder| (*folder).to_owned());
            let places = places.chain(here.clone()).chain(own.clone()).chain(usual.clone());
            match look_up(tree, name, places, machine) {
                Ok(found) if needs.found.contains(&found) => {}
                Ok(found) => {
                    needs.found.push(found.clone());
                    queue.push(found);
                }
                Err(instead) => {
                    let (name, by) = (name.to_owned(), path.clone());
                    needs.missing.push(Missing { name, by, instead });
                }
            }
        }
    }
    let users: Vec<&String> = queue.iter().collect();
    needs
        .missing
        .extend(users.into_iter().filter_map(|user| old_library(tree, user, &needs.found)));
    needs
}

/// The first library among `found` that lacks a version of its interface which `user` was linked
/// with: the dynamic linker ends such a program.
fn old_library(tree: &Tree, user: &str, found: &[String]) -> Option<Missing> {
    for (library, version) in object(tree, user)?.versions() {
        let is_it = |path: &&String| path.rsplit('/').next() == Some(library);
        let Some(path) = found.iter().find(is_it) else { continue };
        if object(tree, path).is_some_and(|object| !object.names_version(version)) {
            let instead = Instead::WithoutVersion(version.to_owned());
            return Some(Missing { name: library.to_owned(), by: user.to_owned(), instead });
        }
    }
    None
}

/// The first file of that name for this processor; else one for another, if there is any.
fn look_up(
    tree: &Tree,
    name: &str,
    folders: impl Iterator<Item = String>,
    machine: Option<u16>,
) -> Result<String, Instead> {
    let places: Vec<String> = match name.contains('/') {
        true => vec![name.to_owned()],
        false => folders.map(|folder| format!("{folder}/{name}")).collect(),
    };
    let mut instead = Instead::Nothing;
    for place in places {
        match bytes(tree, &place) {
            Some(content) if elf::machine(content) == machine => return Ok(place),
            Some(_) => instead = Instead::OtherProcessor(place),
            None => {}
        }
    }
    Err(instead)
}

/// The folders that an object names itself, `$ORIGIN` being its own.
fn run_folders(object: &Object, path: &str) -> Vec<String> {
    let origin = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let paths = object.run_paths().into_iter();
    paths.map(|path| plain(&path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))).collect()
}

/// A path without `..`, which a tree does not look up.
fn plain(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        match name {
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// `/usr/lib` and, from the interpreter's name, the architecture's folder below it.
fn folders(interpreter: Option<&str>) -> Vec<String> {
    let triplet = match interpreter.and_then(|path| path.rsplit('/').next()) {
        Some("ld-linux-aarch64.so.1") => Some("/usr/lib/aarch64-linux-gnu"),
        Some("ld-linux-x86-64.so.2") => Some("/usr/lib/x86_64-linux-gnu"),
        _ => None,
    };
    triplet.into_iter().chain(["/usr/lib", "/usr/lib64"]).map(String::from).collect()
}

fn object<'a>(tree: &'a Tree, path: &str) -> Option<Object<'a>> {
    Object::parse(bytes(tree, path)?)
}

/// What is in the file at `path`.
pub fn bytes<'a>(tree: &'a Tree, path: &str) -> Option<&'a [u8]> {
    match &tree.follow(path)?.kind {
        Kind::File(content) => Some(content.bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::elf::made::object;
    use super::*;

    const LOADER: &str = "/lib/ld-linux-aarch64.so.1";

    fn dynamic(interpreter: Option<&str>, libraries: &[&str]) -> Vec<u8> {
        object(interpreter, libraries, None)
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
        let folder = "/usr/lib/aarch64-linux-gnu";
        let tree = tree(&[
            ("/usr/bin/x", dynamic(Some(LOADER), &["liba.so", "libc.so.6", "libgone.so"])),
            (LOADER, dynamic(None, &[])),
            ("/usr/lib/liba.so", dynamic(None, &["libb.so", "libc.so.6"])),
            (&format!("{folder}/libb.so"), dynamic(None, &["liba.so"])),
            (&format!("{folder}/libc.so.6"), dynamic(None, &["ld-linux-aarch64.so.1"])),
        ]);
        let found = of(&tree, "/usr/bin/x");
        let expected = [
            LOADER.to_owned(),
            "/usr/lib/liba.so".into(),
            format!("{folder}/libc.so.6"),
            format!("{folder}/libb.so"),
            "/usr/lib/ld-linux-aarch64.so.1".into(),
        ];
        assert_eq!(found, expected);
        let missing = needs(&tree, "/usr/bin/x", &[]).unwrap().missing;
        let (name, by) = ("libgone.so".to_owned(), "/usr/bin/x".to_owned());
        assert_eq!(missing, [Missing { name, by, instead: Instead::Nothing }]);
    }

    #[test]
    fn libraries_are_found_where_the_program_or_its_environment_says() {
        let mut other = dynamic(None, &[]);
        other[18] = 62;
        let tree = tree(&[
            ("/opt/bin/x", object(Some(LOADER), &["liba.so", "libb.so"], Some("$ORIGIN/../lib"))),
            (LOADER, dynamic(None, &[])),
            ("/opt/lib/liba.so", dynamic(None, &[])),
            ("/usr/lib/libb.so", other),
        ]);
        let missing = needs(&tree, "/opt/bin/x", &[]).unwrap().missing;
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].instead, Instead::OtherProcessor("/usr/lib/libb.so".into()));
        let tree = {
            let mut tree = tree;
            tree.file("/opt/more/libb.so", 0o644, dynamic(None, &[])).unwrap();
            tree
        };
        assert_eq!(needs(&tree, "/opt/bin/x", &["/opt/more"]).unwrap().missing, []);
    }

    #[test]
    fn every_library_is_checked_and_only_the_first_are_read_ahead() {
        let program = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("lib{n}.so")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut tree = tree(&[
                ("/usr/bin/x", dynamic(Some(LOADER), &names)),
                (LOADER, dynamic(None, &[])),
            ]);
            for name in &names[..count - 1] {
                tree.file(&format!("/usr/lib/{name}"), 0o644, dynamic(None, &[])).unwrap();
            }
            tree
        };
        let tree = program(100);
        let missing = needs(&tree, "/usr/bin/x", &[]).unwrap().missing;
        assert_eq!(missing.iter().map(|one| &one.name).collect::<Vec<_>>(), ["lib99.so"]);
        assert_eq!(of(&tree, "/usr/bin/x").len(), READ_AHEAD + 1);
        let lists: Vec<(String, Vec<u8>)> = (0..5)
            .map(|part| {
                let names: Vec<String> = (0..1000).map(|n| format!("l{part}-{n}")).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                (format!("/usr/lib/lib{part}.so"), dynamic(None, &names))
            })
            .collect();
        let mut files: Vec<_> =
            lists.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
        let names = ["lib0.so", "lib1.so", "lib2.so", "lib3.so", "lib4.so"];
        files.push(("/usr/bin/x", dynamic(Some(LOADER), &names)));
        let many = self::tree(&files);
        let message = needs(&many, "/usr/bin/x", &[]).unwrap_err().to_string();
        assert!(message.contains("more than 4096 libraries"), "{message}");
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

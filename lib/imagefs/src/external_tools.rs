//! What the unit tests share: calling somebody else's tool, and comparing what it
//! unpacked with the tree it came from.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::tree::{Kind, Tree};

/// Runs `tool` and returns its output; panics with both streams if it fails, and with the name of
/// Debian's package if it is not there.
pub fn run(tool: &str, package: &str, args: &[OsString]) -> String {
    finish(Command::new(tool).args(args), tool, package).0
}

/// Like [`run`], with what it wrote to stderr behind its output.
pub fn run_all(tool: &str, package: &str, args: &[OsString]) -> String {
    let (text, errors) = finish(Command::new(tool).args(args), tool, package);
    text + &errors
}

/// Like [`run`], with `stdin` read from a file and `last` as the last argument.
pub fn run_from(
    tool: &str,
    package: &str,
    args: &[OsString],
    last: Option<&Path>,
    stdin: &Path,
) -> String {
    let input = fs::File::open(stdin).unwrap();
    finish(Command::new(tool).args(args).args(last).stdin(Stdio::from(input)), tool, package).0
}

fn finish(command: &mut Command, tool: &str, package: &str) -> (String, String) {
    // Debian keeps the fsck family where a user's PATH does not look.
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}; install the package {package}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{tool}: {}\n{text}\n{errors}", output.status);
    (text, errors)
}

/// Panics at the first difference between `tree` and the folder `at`: names, kinds, permissions,
/// targets and bytes. Devices are not looked for: they need root.
pub fn assert_same(tree: &Tree, at: &Path) {
    let mut expected = BTreeSet::new();
    for (path, node) in tree.iter() {
        let there = at.join(path);
        let meta = fs::symlink_metadata(&there).unwrap_or_else(|error| panic!("{path}: {error}"));
        match &node.kind {
            Kind::Dir => assert!(meta.is_dir(), "{path}"),
            Kind::File(content) => {
                assert!(meta.is_file(), "{path}");
                let bytes = fs::read(&there).unwrap();
                assert!(bytes == content.bytes(), "{path}: other bytes");
            }
            Kind::Symlink(target) => {
                assert_eq!(fs::read_link(&there).unwrap().to_str(), Some(&**target), "{path}")
            }
            Kind::CharDevice { .. } => panic!("{path}: give a tree without devices"),
        }
        if !matches!(node.kind, Kind::Symlink(_)) && !path.is_empty() {
            let mode = meta.permissions().mode() & 0o7777;
            assert_eq!(mode, u32::from(node.mode), "{path}: {mode:o}");
        }
        expected.insert(path.to_string());
    }
    let mut found = BTreeSet::new();
    list(at, "", &mut found);
    assert_eq!(found, expected);
}

fn list(root: &Path, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_string());
    if !root.join(path).symlink_metadata().unwrap().is_dir() {
        return;
    }
    for entry in fs::read_dir(root.join(path)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let below = if path.is_empty() { name } else { format!("{path}/{name}") };
        list(root, &below, found);
    }
}

//! A folder with a copy of the demo, keys and stand-ins for the device's programs, and the built
//! `imager` to let loose on it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The project's folder.
pub const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What a build of the demo writes.
pub const IMG: &str = "out/demo-qemu-arm64-1.0.0.img";
/// The update of the same build.
pub const UPDATE: &str = "out/demo-qemu-arm64-1.0.0.update";

/// By these numbers ELF objects name their processors.
pub const ARM64: u8 = 183;
pub const AMD64: u8 = 62;

/// What stands in for a program: the start of an ELF object for this processor.
pub fn program_for(machine: u8) -> Vec<u8> {
    [b"\x7FELF\x02\x01\x01".as_slice(), &[0; 9], &[2, 0, machine, 0], b"stands in"].concat()
}

/// The folder, gone when dropped.
pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// `demo/`, `device/` and `keys/` in a folder of their own.
    pub fn new() -> World {
        let world = World { folder: tempfile::tempdir().unwrap() };
        copy_folder(&Path::new(PROJECT).join("demo"), &world.at("demo"));
        fs::create_dir(world.at("device")).unwrap();
        for program in ["init", "ota", "runner"] {
            fs::write(world.at("device").join(program), program_for(ARM64)).unwrap();
        }
        let made = world.imager(&["keygen", "--out", "keys"]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        world
    }

    /// A path in the folder.
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// `imager` in the folder.
    pub fn imager(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imager"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("FERRITE_DEVICE", self.at("device"));
        command
    }

    /// `imager build` of the demo into `out/`, with these arguments too.
    pub fn build(&self, more: &[&str]) -> Command {
        let mut command = self.build_to("out");
        command.args(more);
        command
    }

    /// `imager build` of the demo into this folder.
    pub fn build_to(&self, out: &str) -> Command {
        let image = ["build", "--image", "demo/demo.toml", "--board", "qemu-arm64", "--out", out];
        self.imager(&image)
    }

    /// Replaces the only `old` in a file.
    pub fn edit(&self, path: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.at(path)).unwrap();
        assert_eq!(text.matches(old).count(), 1, "{path}: {old}");
        fs::write(self.at(path), text.replace(old, new)).unwrap();
    }

    /// Every file's path, permissions and bytes (of a long one its length).
    pub fn everything(&self) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let about = fs::metadata(&path).unwrap();
                let short = about.is_file() && about.len() < 1 << 20;
                let bytes = if short { fs::read(&path).unwrap() } else { Vec::new() };
                let length = if about.is_file() { about.len() } else { 0 };
                if about.is_dir() {
                    folders.push(path.clone());
                }
                found.insert(path, (about.permissions().mode(), length, bytes));
            }
        }
        found
    }

    /// Runs a command that has to fail: with exit code 1, one message that names all of `words`,
    /// nothing on standard output, and the folder as it was.
    pub fn refuses(&self, command: &mut Command, words: &[&str]) {
        let before = self.everything();
        let output = command.output().unwrap();
        complaint(&output, words);
        assert!(self.everything() == before, "{command:?} changed something");
    }
}

/// Checks that a command failed with exit code 1 and one message that names all of `words`.
pub fn complaint(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let messages = text.lines().filter(|line| line.starts_with("imager: ")).count();
    assert_eq!(messages, 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

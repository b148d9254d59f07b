//! Real loop devices, for tests that run as root where the kernel has some. Where that is not so a
//! test says so and ends; the same code is then tested on files only.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A loop device, detached when dropped.
pub struct Loop(String);

/// A mount, gone when dropped.
pub struct Mounted<'a>(&'a Path);

impl Loop {
    /// Shows a file as a disk. `None`, and a line that says why, where this machine cannot.
    pub fn attach(file: &Path) -> Option<Loop> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("NOT TESTED: needs root and loop devices");
            return None;
        }
        let output = tool("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            eprintln!("NOT TESTED: losetup: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Loop(text))
    }

    /// Its node.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// Mounts it. `None`, and a line that says why, where this machine does not let it.
    pub fn mount<'a>(&self, at: &'a std::path::PathBuf) -> Option<Mounted<'a>> {
        fs::create_dir(at).unwrap();
        let output = tool("mount").arg(&self.0).arg(at).output().ok()?;
        if !output.status.success() {
            eprintln!("NOT TESTED: mount: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Mounted(at))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = tool("losetup").args(["--detach", &self.0]).status();
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = tool("umount").arg(self.0).status();
    }
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    command
}

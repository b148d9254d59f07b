//! What the boot is compared with: the same kernel, runner and model started by a bare shell
//! script (the floor), and by systemd from a Debian root on ext4 (what one would have otherwise).
//!
//! Both get our initramfs with an archive behind it that has another `/init`, so that the modules
//! are the same files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::direct::{Direct, Start};
use crate::guest::{Boot, number, result};
use crate::workspace::{Built, Variant, Workspace, output, package_cache, read};

/// The demo beside systemd, as Debian's minimal images have it; without maintainer scripts.
const SYSTEMD: Variant<'static> =
    Variant { name: "systemd", packages: &["systemd", "udev"], ..Variant::DEMO };
/// The fourth partition is `root-a` (docs/architecture.md, "Disk").
const ROOT_A: &str = "/dev/vda4";
/// What our own slot gives the kernel, without our own words.
const ARGUMENTS: &str = "console=ttyAMA0 panic=5 quiet loglevel=4 cryptomgr.notests=1";
const RUNNER: &str = "/usr/bin/runner --model=/usr/share/models/face";
/// Room for the Debian root.
const DISK: &str = "400M";
/// What has nothing to do on an installed system, because its packages' scripts did it; and the
/// login, which needs a program that is not there.
const DONE_AT_INSTALLATION: [&str; 6] = [
    "ldconfig.service",
    "serial-getty@ttyAMA0.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
];
/// Says when, in seconds of the boot clock; `read` is the shell's own and starts no process.
const SAY: &str = "say() { read up idle < /proc/uptime; echo \"bench: $1 $up\"; }\n";

/// The peers, ready to start.
pub struct Peers {
    img: PathBuf,
    kernel: PathBuf,
    floor: PathBuf,
    systemd: PathBuf,
    /// The Debian root.
    debian: PathBuf,
}

impl Peers {
    /// Makes the initramfs archives and the Debian root. `demo` has the kernel and the modules.
    pub fn make(workspace: &Workspace, demo: &Built) -> Result<Peers> {
        let peers = Peers {
            img: demo.img.clone(),
            kernel: workspace.path("kernel"),
            floor: workspace.path("floor.initrd"),
            systemd: workspace.path("systemd.initrd"),
            debian: workspace.path("debian.ext4"),
        };
        let own = workspace.path("own.initrd");
        workspace.boot_file(&demo.img, "kernel", &peers.kernel)?;
        workspace.boot_file(&demo.img, "initrd", &own)?;
        let own = fs::read(&own).with_context(|| own.display().to_string())?;

        let built = workspace.build(&SYSTEMD)?;
        let root = workspace.unpack_root(&built.img, "debian")?;
        unpack_packages(&read(&built.lock)?, &root)?;
        let model = read(&root.join("usr/share/models/face/model.toml"))?;
        let model: toml::Table = toml::from_str(&model).context("model.toml")?;
        let hash = model.get("sha256").and_then(toml::Value::as_str);
        let runner =
            format!("{RUNNER} --expect-sha256={}", hash.context("model.toml has no sha256")?);

        let busybox = root.join("usr/bin/busybox");
        let busybox = fs::read(&busybox).with_context(|| busybox.display().to_string())?;
        write(&peers.floor, &initrd(&own, &busybox, &floor_script(&runner)))?;
        write(&peers.systemd, &initrd(&own, &busybox, &systemd_script()))?;
        finish_debian(&root, &runner)?;
        make_ext4(&root, &peers.debian)?;
        Ok(peers)
    }

    /// Boots the floor once.
    pub fn boot_floor(&self, workspace: &Workspace) -> Result<Boot> {
        let disk = crate::direct::scratch(&self.img)?;
        let start = Start { kernel: &self.kernel, initrd: &self.floor, arguments: ARGUMENTS };
        let mut machine = Direct::start(workspace, "floor", &self.img, disk.path(), &start)?;
        let first = seconds(&mut machine, "bench: init ")?;
        let exec = seconds(&mut machine, "bench: exec ")?;
        Ok(Boot { first, second: exec, exec, result: result(&mut machine.console)? })
    }

    /// Boots systemd once.
    pub fn boot_systemd(&self, workspace: &Workspace) -> Result<Boot> {
        let disk = crate::direct::scratch(&self.debian)?;
        let start = Start { kernel: &self.kernel, initrd: &self.systemd, arguments: ARGUMENTS };
        let mut machine = Direct::start(workspace, "systemd", &self.img, disk.path(), &start)?;
        let first = seconds(&mut machine, "bench: init ")?;
        let second = seconds(&mut machine, "bench: root ")?;
        let exec = seconds(&mut machine, "bench: exec ")?;
        Ok(Boot { first, second, exec, result: result(&mut machine.console)? })
    }
}

fn seconds(machine: &mut Direct, word: &str) -> Result<f64> {
    number(&mut machine.console, word).map(|seconds| seconds * 1000.0)
}

/// Our initramfs with one behind it whose files come instead of or beside ours.
fn initrd(own: &[u8], busybox: &[u8], script: &str) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["bin", "newroot"] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", busybox);
    archive.file("init", script.as_bytes());
    let mut all = own.to_vec();
    // The kernel looks for the next archive at a multiple of four.
    all.resize(all.len().next_multiple_of(4), 0);
    all.extend_from_slice(&archive.finish());
    all
}

/// The least that starts the runner: the disk's driver and EROFS, no verity, no supervision.
fn floor_script(runner: &str) -> String {
    format!(
        "#!/bin/busybox sh\n{SAY}b=/bin/busybox\n$b mount -t proc proc /proc\nsay init\n\
         $b mount -t devtmpfs dev /dev\n$b insmod /lib/modules/virtio_blk.ko\n\
         $b insmod /lib/modules/erofs.ko\nuntil [ -b {ROOT_A} ]; do $b usleep 2000; done\n\
         $b mount -t erofs -o ro {ROOT_A} /newroot\n$b mount -t proc proc /newroot/proc\n\
         $b mount -t sysfs sys /newroot/sys\n\
         $b mount -t tmpfs run /newroot/run\n$b mount -t devtmpfs dev /newroot/dev\nsay exec\n\
         exec $b chroot /newroot {runner} --results=/run/results.jsonl\n"
    )
}

/// From the initramfs to systemd on the Debian root, which is the whole disk.
fn systemd_script() -> String {
    format!(
        "#!/bin/busybox sh\n{SAY}b=/bin/busybox\n$b mount -t proc proc /proc\nsay init\n\
         $b mount -t devtmpfs dev /dev\n$b insmod /lib/modules/virtio_blk.ko\n\
         for m in $($b sed -n 's/^later-modules //p' /etc/ferrite/boot.conf); do\n\
         $b insmod $m\ndone\n\
         until [ -b /dev/vda ]; do $b usleep 2000; done\n\
         $b mount -t ext4 -o rw,noatime /dev/vda /newroot\nsay root\n\
         $b mount --move /proc /newroot/proc\n$b mount --move /dev /newroot/dev\n\
         exec $b switch_root /newroot /usr/lib/systemd/systemd\n"
    )
}

/// Unpacks the lock's packages from imager's cache over the root: `imager` leaves out what only
/// systemd reads. Kernel and loader stay out.
fn unpack_packages(lock: &str, root: &Path) -> Result<()> {
    let lock: toml::Table = toml::from_str(lock).context("the lock")?;
    let packages = lock.get("deb").and_then(toml::Value::as_array);
    let cache = package_cache()?;
    for package in packages.context("the lock names no packages")? {
        let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
        let name = text("name").context("a package without a name")?;
        let hash = text("sha256").with_context(|| format!("{name} has no sha256"))?;
        if !["linux-", "u-boot-"].iter().any(|start| name.starts_with(start)) {
            let mut command = Command::new("dpkg-deb");
            command.arg("--extract").arg(cache.join(hash)).arg(root);
            output(&mut command).with_context(|| format!("{name}, in imager's cache"))?;
        }
    }
    Ok(())
}

/// Gives the root what an installed system has: an identity, the runner's unit, and the marks
/// that nothing is left to be done at a first boot.
fn finish_debian(root: &Path, runner: &str) -> Result<()> {
    let units = root.join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).with_context(|| wants.display().to_string())?;
    let start = root.join("usr/bin/start-face");
    let script = format!(
        "#!/usr/bin/busybox sh\n{SAY}say exec\nexec {runner} --results=/run/results.jsonl\n"
    );
    write(&start, script.as_bytes())?;
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).context("start-face")?;
    let unit = "[Unit]\nDescription=The runner\n\n[Service]\nExecStart=/usr/bin/start-face\n\
                StandardOutput=file:/dev/console\nStandardError=file:/dev/console\n\n\
                [Install]\nWantedBy=multi-user.target\n";
    write(&units.join("face.service"), unit.as_bytes())?;
    link("../face.service", &wants.join("face.service"))?;
    link("/usr/lib/systemd/system/multi-user.target", &units.join("default.target"))?;
    write(&root.join("etc/machine-id"), b"0123456789abcdef0123456789abcdef\n")?;
    for mark in ["etc/.updated", "var/.updated"] {
        write(&root.join(mark), b"")?;
    }
    for unit in DONE_AT_INSTALLATION {
        link("/dev/null", &units.join(unit))?;
    }
    Ok(())
}

fn make_ext4(root: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_file(to).with_context(|| to.display().to_string())?;
    }
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"]);
    // Debian keeps it where a user's PATH does not look.
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    output(command.arg(root).arg(to).arg(DISK)).context("mke2fs (package e2fsprogs)").map(drop)
}

fn link(target: &str, at: &Path) -> Result<()> {
    let _ = fs::remove_file(at);
    symlink(target, at).with_context(|| at.display().to_string())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_behind_ours_begins_at_a_multiple_of_four() {
        let all = initrd(b"12345", b"busybox", "script");
        assert_eq!(&all[..8], b"12345\0\0\0");
        assert_eq!(&all[8..14], b"070701");
    }
}

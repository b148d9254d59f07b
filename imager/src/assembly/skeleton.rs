//! The files of the root that come from no package: folders, users, names, `init` and its links.

use anyhow::Result;
use formats::layout::{GROUP_CTL, GROUP_RESERVE, GROUP_SLOTS, GROUP_SLOTS_READ};

use super::device_conf::User;
use crate::config::Image;
use imagefs::tree::Tree;

/// What every root has, before packages are added.
pub fn add(tree: &mut Tree, image: &Image, users: &[User], init: &[u8]) -> Result<()> {
    // Mount points and folders programs expect. /tmp, /run and the like are mounted by `init`.
    for (folder, mode) in [
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("data", 0o755),
        ("root", 0o700),
        ("var", 0o755),
        ("etc/ferrite", 0o755),
        ("usr/share/models", 0o755),
    ] {
        tree.dir(folder, mode)?;
    }
    tree.symlink("var/run", "/run")?;
    tree.symlink("var/tmp", "/tmp")?;
    tree.symlink("etc/resolv.conf", "/run/ferrite/resolv.conf")?;
    tree.symlink("etc/mtab", "/proc/self/mounts")?;
    tree.file("sbin/init", 0o755, init)?;
    tree.symlink("usr/bin/ctl", "/sbin/init")?;
    let hostname = image.hostname();
    for (path, text) in [
        ("etc/hostname", format!("{hostname}\n")),
        ("etc/hosts", format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n")),
        ("etc/passwd", passwd(users)),
        ("etc/group", group(users)),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ("etc/os-release", os_release(image)),
    ] {
        tree.file(path, 0o644, text.as_bytes())?;
    }
    Ok(())
}

fn passwd(users: &[User]) -> String {
    let mut text = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    for User { name, id } in users {
        text += &format!("{name}:x:{id}:{id}::/data:/usr/sbin/nologin\n");
    }
    text + "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
}

fn group(users: &[User]) -> String {
    let mut text = "root:x:0:\n".to_owned();
    for (name, number) in [
        ("ctl", GROUP_CTL),
        ("slots", GROUP_SLOTS),
        ("slots-read", GROUP_SLOTS_READ),
        ("reserve", GROUP_RESERVE),
    ] {
        text += &format!("{name}:x:{number}:\n");
    }
    for User { name, id } in users {
        text += &format!("{name}:x:{id}:\n");
    }
    text + "nogroup:x:65534:\n"
}

/// os-release(5) of the image, not of the Debian its libraries come from.
fn os_release(image: &Image) -> String {
    format!(
        "ID=ferrite\nNAME=Ferrite\nPRETTY_NAME=\"Ferrite {name} {version}\"\nIMAGE_ID={name}\nIMAGE_VERSION={version}\n",
        name = image.name,
        version = image.version
    )
}

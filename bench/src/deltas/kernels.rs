//! The kernel corpus: `vmlinuz` and every module, unpacked, of Debian's cloud kernels for arm64 as
//! uncompressed EROFS. Its packages stay in `trixie-backports` (pinned in `bench/images/kernels.lock`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Pair;
use super::ferrite::Origin;
use crate::workspace::{BOARD, Workspace, output, package_cache, read, write_if_new};

/// From each of these to the last one.
const VERSIONS: [&str; 3] = ["7.2.11", "7.2.6", "7.2.12"];
const TITLES: [&str; 2] = ["kernel 7.2.11 → 12", "kernel 7.2.6 → 12"];
/// What the images have instead of a random identity, so that they are the same each time.
const UUID: &str = "4b45524e-454c-4b45-524e-454c53454544";
const IMAGE: &str = "name = \"kernels\"\nversion = \"1\"\nsequence = 1\n";
/// How many files one `xz` is given.
const AT_ONCE: usize = 500;

/// Fetches the packages and makes the images, unless they are there.
pub fn pairs(workspace: &Workspace) -> Result<Vec<Pair>> {
    let folder = workspace.path("deltas/kernels");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let images = VERSIONS.map(|version| image(workspace, &folder, version));
    let [smaller, larger, newest] = images;
    let newest = newest?;
    let pair = |title, version, old| Pair {
        title,
        versions: format!("linux {version}-1~bpo13+1 → {}-1~bpo13+1, cloud, arm64", VERSIONS[2]),
        old,
        new: newest.clone(),
        origin: Origin::Files,
    };
    Ok(vec![pair(TITLES[0], VERSIONS[0], smaller?), pair(TITLES[1], VERSIONS[1], larger?)])
}

fn image(workspace: &Workspace, folder: &Path, version: &str) -> Result<PathBuf> {
    let image = folder.join(format!("{version}.erofs"));
    if image.is_file() {
        return Ok(image);
    }
    eprintln!("bench: deltas: the image of kernel {version}");
    let root = workspace.fresh_folder(&format!("deltas/kernels/{version}"))?;
    for package in packages(workspace, folder, version)? {
        output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&root))
            .context("dpkg-deb (package dpkg)")?;
    }
    let release = format!("{version}+deb13-cloud-arm64");
    let tree = workspace.fresh_folder(&format!("deltas/kernels/{version}-tree"))?;
    for made in ["boot", "modules"] {
        let path = tree.join(made);
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
    }
    let modules = tree.join("modules").join(&release);
    let moves = [
        (root.join("usr/lib/modules").join(&release), modules.clone()),
        (modules.join("vmlinuz"), tree.join("boot/vmlinuz")),
    ];
    for (from, to) in &moves {
        fs::rename(from, to).with_context(|| from.display().to_string())?;
    }
    let mut packed = Vec::new();
    packed_modules(&tree.join("modules"), &mut packed)?;
    for some in packed.chunks(AT_ONCE) {
        output(Command::new("xz").arg("--decompress").args(some)).context("xz")?;
    }
    let part = folder.join("part");
    let flags = ["-T0", "--all-root", "-Enoinline_data", "-U", UUID];
    output(Command::new("mkfs.erofs").args(flags).arg(&part).arg(&tree))
        .context("mkfs.erofs (package erofs-utils)")?;
    for folder in [&root, &tree] {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::rename(&part, &image).with_context(|| image.display().to_string())?;
    Ok(image)
}

/// The kernel's packages, fetched by `imager` as the lock says.
fn packages(workspace: &Workspace, folder: &Path, version: &str) -> Result<Vec<PathBuf>> {
    let name = format!("cloud-{}", version.replace('.', "-"));
    let board =
        board_file(&read(&workspace.source(&format!("board-configs/{BOARD}.toml")))?, version)?;
    let (toml, board_path) = (folder.join("kernels.toml"), folder.join(format!("{name}.toml")));
    write_if_new(&toml, IMAGE.as_bytes())?;
    write_if_new(&board_path, board.as_bytes())?;
    let lock = read(&workspace.source("bench/images/kernels.lock"))?;
    write_if_new(&folder.join("kernels.lock"), lock.as_bytes())?;
    workspace.imager(&[
        "lock".as_ref(),
        "--locked".as_ref(),
        "--image".as_ref(),
        toml.as_ref(),
        "--board".as_ref(),
        board_path.as_ref(),
    ])?;
    let lock: toml::Table = toml::from_str(&lock).context("bench/images/kernels.lock")?;
    let cache = package_cache()?;
    let release = format!("-{version}+deb13-cloud-arm64");
    let debs = lock.get("deb").and_then(toml::Value::as_array).context("it has no packages")?;
    let path = |deb: &toml::Value| {
        let text = |key: &str| deb.get(key).and_then(toml::Value::as_str);
        text("name").filter(|name| name.ends_with(&release))?;
        Some(cache.join(text("sha256")?))
    };
    Ok(debs.iter().filter_map(path).collect())
}

/// The board's file with a cloud kernel of this version.
fn board_file(board: &str, version: &str) -> Result<String> {
    let mut board: toml::Table = toml::from_str(board).context("the board's file")?;
    board.insert("name".into(), format!("cloud-{}", version.replace('.', "-")).into());
    let kernel = board.get_mut("kernel").and_then(toml::Value::as_table_mut);
    let kernel = kernel.context("the board's file has no kernel")?;
    let release = format!("{version}+deb13-cloud-arm64");
    let packages = ["binary", "modules"].map(|part| format!("linux-{part}-{release}"));
    kernel.insert("version".into(), format!("{version}-1~bpo13+1").into());
    kernel.insert("packages".into(), packages.map(toml::Value::from).to_vec().into());
    kernel.insert("release".into(), release.into());
    toml::to_string(&board).context("the board's file")
}

fn packed_modules(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry.with_context(|| folder.display().to_string())?;
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.with_context(|| path.display().to_string())?.is_dir() {
            packed_modules(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "xz") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_gets_a_cloud_kernel() {
        let board = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs/qemu-arm64.toml");
        let board = board_file(&fs::read_to_string(board).unwrap(), "7.2.6").unwrap();
        let board: toml::Table = toml::from_str(&board).unwrap();
        assert_eq!(board["name"].as_str(), Some("cloud-7-2-6"));
        assert_eq!(board["kernel"]["version"].as_str(), Some("7.2.6-1~bpo13+1"));
        let packages = board["kernel"]["packages"].as_array().unwrap();
        assert_eq!(packages[1].as_str(), Some("linux-modules-7.2.6+deb13-cloud-arm64"));
    }
}

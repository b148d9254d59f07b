//! What an output may replace: nothing, an empty file, or a file of its own kind, told by its
//! content. And where none may lie: inside a repository, or beside private keys.
//!
//! Every command that writes a file asks here before it does anything else. A slip of the fingers
//! must not cost somebody a key, a repository or a night's work.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use formats::layout::SECTOR;
use tuf::METADATA_DIR;

use crate::private_key;

/// A kind of file, told by its content.
pub struct Kind {
    /// For people, with its article.
    name: &'static str,
    is: fn(&File) -> io::Result<bool>,
}

/// A disk with a partition table or a boot sector, or a blank one.
pub const DISK: Kind = Kind { name: "a disk image", is: is_disk };
/// What `imager build` writes for devices that run.
pub const UPDATE: Kind =
    Kind { name: "an update", is: |file| starts_with(file, formats::manifest::MAGIC) };
/// A bill of materials.
pub const SBOM: Kind =
    Kind { name: "a bill of materials in SPDX", is: |file| contains(file, b"SPDXRef-DOCUMENT") };
/// What `imager bundle` writes.
pub const BUNDLE: Kind = Kind { name: "a bundle", is: is_bundle };
/// The store of a UEFI firmware's variables (UEFI PI 1.8, volume 3, 3.2.1: `Signature`).
pub const UEFI_VARIABLES: Kind =
    Kind { name: "a store of UEFI variables", is: |file| has_at(file, 40, b"_FVH") };

/// So much of a file is looked at to tell its kind.
const HEAD: usize = 4096;
/// A disk counts as blank when this much of its start is zeros.
const BLANK: usize = 1 << 20;
/// More files than a folder of keys has; in a larger folder only the first ones are looked at.
const MOST_KEYS: usize = 10_000;
/// No key file is longer.
const MAX_KEY_FILE: usize = 16 << 10;

/// Fails unless `path` is free or what is there may be replaced by a file of this kind, and unless
/// it lies where files may be written.
pub fn check(path: &Path, kind: &Kind) -> Result<()> {
    check_place(path)?;
    check_kind(path, kind)
}

/// Fails when `path` lies inside a repository or beside private keys.
pub fn check_place(path: &Path) -> Result<()> {
    check_folder(folder_of(path))
}

/// Fails when something else than a file of this kind, or an empty file, has that name.
pub fn check_kind(path: &Path, kind: &Kind) -> Result<()> {
    let about = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("{} cannot be looked at", path.display()))?,
    };
    ensure!(
        about.is_file() || about.file_type().is_block_device(),
        "{} is there and is no file; name another one",
        path.display()
    );
    if about.is_file() && about.len() == 0 {
        return Ok(());
    }
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let is_it = (kind.is)(&file).with_context(|| format!("{} cannot be read", path.display()))?;
    ensure!(
        is_it,
        "{} is there and is not {}: it is left as it is; name another file, or remove it first",
        path.display(),
        kind.name
    );
    Ok(())
}

/// Fails when files in `folder`, which need not be there, would lie inside a repository or beside
/// private keys.
pub fn check_folder(folder: &Path) -> Result<()> {
    check_outside_repositories(folder)?;
    if let Some(key) = private_key_in(folder) {
        bail!(
            "{} holds the private key {}: nothing else is written there; name another folder",
            folder.display(),
            key.display()
        );
    }
    Ok(())
}

/// Fails when `folder`, which need not be there, lies in a repository: what is in one is served to
/// everybody.
pub fn check_outside_repositories(folder: &Path) -> Result<()> {
    let place = absolute(folder)?;
    if let Some(repository) = place.ancestors().find(|above| is_repository(above)) {
        bail!(
            "{} lies in the repository {}, which only `imager publish` and `imager repo` write; name another place",
            folder.display(),
            repository.display()
        );
    }
    Ok(())
}

/// Fails when `repo` is no place for a repository: a folder with private keys, which a server would
/// hand out, or a part of another repository.
pub fn check_new_repository(repo: &Path) -> Result<()> {
    if let Some(key) = private_key_in(repo) {
        bail!(
            "{} holds the private key {}, and a repository is served to everybody; name another folder",
            repo.display(),
            key.display()
        );
    }
    let place = absolute(repo)?;
    let parts = [METADATA_DIR, tuf::TARGETS_DIR, publisher::staged::FOLDER];
    let is_part = |folder: &Path| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        parts.contains(&name) && folder.parent().is_some_and(is_repository)
    };
    if let Some(part) = place.ancestors().find(|above| is_part(above)) {
        bail!("{} is a part of a repository; name the folder above it", part.display());
    }
    Ok(())
}

/// Whether two names lead to the same file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    identity(one).is_some_and(|it| identity(other) == Some(it))
}

/// The path with all symbolic links followed of as much of it as is there.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let full =
        std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
    for above in full.ancestors() {
        if let Ok(real) = above.canonicalize() {
            let rest = full.strip_prefix(above).unwrap_or(Path::new(""));
            return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
        }
    }
    Ok(full)
}

/// What every repository has once it is published, and what it has before when it is staged.
fn is_repository(folder: &Path) -> bool {
    let metadata = folder.join(METADATA_DIR);
    metadata.join("timestamp.json").is_file()
        || metadata.join("1.root.json").is_file()
        || (folder.join(publisher::staged::FOLDER).join("1.root.json").is_file()
            && folder.join(".lock").is_file())
}

/// The first private key that lies directly in `folder` under a name that keys have.
fn private_key_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let mut keys: Vec<PathBuf> = entries
        .take(MOST_KEYS)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "key" || end == "pem"))
        .collect();
    keys.sort();
    keys.into_iter().find(|path| {
        let start = File::open(path).and_then(|file| start_of(&file, MAX_KEY_FILE));
        start.is_ok_and(|bytes| private_key::is_one(&bytes))
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The first bytes of a file, `most` of them if it has as many.
fn start_of(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn has_at(file: &File, offset: usize, magic: &[u8]) -> io::Result<bool> {
    Ok(start_of(file, offset + magic.len())?.get(offset..) == Some(magic))
}

fn starts_with(file: &File, magic: &[u8]) -> io::Result<bool> {
    has_at(file, 0, magic)
}

fn contains(file: &File, word: &[u8]) -> io::Result<bool> {
    Ok(start_of(file, HEAD)?.windows(word.len()).any(|part| part == word))
}

/// A disk has a GUID partition table in its second or its last sector (UEFI 2.10, 5.3.2), or a boot
/// sector (the same, 5.2.1); a blank one has nothing.
fn is_disk(file: &File) -> io::Result<bool> {
    const GPT: &[u8] = b"EFI PART";
    let start = start_of(file, BLANK)?;
    if start.get(510..512) == Some(&[0x55, 0xAA]) || start.get(512..520) == Some(GPT) {
        return Ok(true);
    }
    if start.iter().all(|byte| *byte == 0) {
        return Ok(true);
    }
    let end = file.metadata()?.len() / SECTOR * SECTOR;
    let mut magic = [0; 8];
    Ok(end > SECTOR && file.read_exact_at(&mut magic, end - SECTOR).is_ok() && magic == *GPT)
}

/// A `ustar` archive whose first file is a root's metadata, as `publisher::bundle` writes it.
fn is_bundle(file: &File) -> io::Result<bool> {
    let start = start_of(file, 512)?;
    let first = format!("{METADATA_DIR}/1.root.json\0");
    Ok(start.starts_with(first.as_bytes()) && start.get(257..262) == Some(b"ustar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [&Kind; 5] = [&DISK, &UPDATE, &SBOM, &BUNDLE, &UEFI_VARIABLES];

    fn refusal(result: Result<()>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn an_output_replaces_nothing_but_its_own_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut disk = vec![0; 1024];
        disk[512..520].copy_from_slice(b"EFI PART");
        let mut backup = vec![7; 4096];
        backup[3584..3592].copy_from_slice(b"EFI PART");
        let mut bundle = vec![0; 512];
        bundle[..21].copy_from_slice(b"metadata/1.root.json\0");
        bundle[257..262].copy_from_slice(b"ustar");
        let mut variables = vec![1; 64];
        variables[40..44].copy_from_slice(b"_FVH");
        let own: [(&Kind, Vec<u8>); 7] = [
            (&DISK, disk),
            (&DISK, backup),
            (&DISK, vec![0; 5000]),
            (&UPDATE, b"FERRSLOT and more".to_vec()),
            (&SBOM, b"{\n  \"SPDXID\": \"SPDXRef-DOCUMENT\"".to_vec()),
            (&BUNDLE, bundle),
            (&UEFI_VARIABLES, variables),
        ];
        for (kind, bytes) in own {
            fs::write(&path, bytes).unwrap();
            check(&path, kind).unwrap();
        }
        for kind in KINDS {
            fs::write(&path, "much work\n").unwrap();
            let message = refusal(check(&path, kind));
            assert!(message.contains(kind.name) && message.contains("remove it"), "{message}");
            fs::write(&path, "").unwrap();
            check(&path, kind).unwrap();
            check(&dir.path().join("free"), kind).unwrap();
            check(dir.path(), kind).unwrap_err();
        }
    }

    #[test]
    fn nothing_is_written_inside_a_repository_or_beside_keys() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("repo/metadata")).unwrap();
        fs::write(at("repo/metadata/timestamp.json"), "{}").unwrap();
        publisher::keys::generate(&at("keys")).unwrap();
        for path in ["repo/x.bundle", "repo/metadata/timestamp.json", "repo/new/folder/x"] {
            let message = refusal(check(&at(path), &BUNDLE));
            assert!(message.contains("lies in the repository"), "{message}");
        }
        // By another way to the same place.
        std::os::unix::fs::symlink("repo", at("link")).unwrap();
        assert!(refusal(check(&at("link/x"), &DISK)).contains("repository"));
        assert!(refusal(check_outside_repositories(&at("repo/keys"))).contains("repository"));
        for path in ["keys/x.bundle", "keys/image.key"] {
            assert!(refusal(check(&at(path), &BUNDLE)).contains("private key"), "{path}");
        }
        check(&at("out/x.bundle"), &BUNDLE).unwrap();
        check_outside_repositories(&at("keys")).unwrap();
    }

    #[test]
    fn a_folder_of_keys_becomes_no_repository_nor_a_part_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        publisher::keys::generate(&at("keys")).unwrap();
        assert!(refusal(check_new_repository(&at("keys"))).contains("served to everybody"));
        fs::create_dir_all(at("repo/metadata")).unwrap();
        fs::write(at("repo/metadata/1.root.json"), "{}").unwrap();
        let message = refusal(check_new_repository(&at("repo/metadata")));
        assert!(message.contains("the folder above it"), "{message}");
        check_new_repository(&at("repo")).unwrap();
        check_new_repository(&at("new")).unwrap();
    }

    #[test]
    fn one_file_under_two_names_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "x").unwrap();
        assert!(!is_same_file(&one, &two));
        fs::hard_link(&one, &two).unwrap();
        assert!(is_same_file(&one, &two));
    }
}

//! The files beside an update: bundle, delta, index. A delta and an index have no signature of their
//! own (the repository's metadata has their hash); what can be said of them is whether they are whole.

use std::fs;
use std::io::Read;
use std::path::{Component, Path};

use anyhow::{Context, Result, anyhow, bail};
use formats::block_index::BlockIndex;
use formats::manifest::TrustedKeys;
use publisher::hashing::Hashing;
use publisher::{keys, repository_folder};
use sha2::{Digest, Sha256};
use tuf::{METADATA_DIR, TARGETS_DIR, target_path};

use super::{Report, SlotReport};

/// The most files of a bundle: far more roots than any repository has seen.
const MAX_FILES: usize = 1024;
/// No file of metadata in a bundle is longer.
const MAX_METADATA: u64 = 4 << 20;

/// Whether a file that begins so is a `ustar` archive.
pub fn is_archive(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

/// A delta: its head, and each frame against the hash in the head.
pub fn delta(path: &Path) -> Result<Report> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let header = delta::Header::parse(&bytes)?;
    let mut problems = Vec::new();
    let mut at = header.head_length() as usize;
    for (index, group) in header.groups.iter().enumerate() {
        let frame = bytes.get(at..at + group.length as usize);
        if frame.is_none_or(|f| group.length > 0 && Sha256::digest(f)[..] != group.sha256) {
            problems.push(format!("the frame of group {index} is not the one its head names"));
        }
        at += group.length as usize;
    }
    if at != bytes.len() {
        problems.push(format!("it has {} bytes, its head says {at}", bytes.len()));
    }
    Ok(Report::Delta {
        bytes: bytes.len() as u64,
        head_bytes: header.head_length(),
        old_bytes: header.old_size.into(),
        new_bytes: header.new_size.into(),
        groups: header.groups.len(),
        groups_elsewhere: header.groups.iter().filter(|group| group.length == 0).count(),
        problems,
    })
}

/// An index, whose length has to follow from what it says that it covers.
pub fn index(path: &Path) -> Result<Report> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let mut covered = [0; 8];
    covered.copy_from_slice(bytes.get(16..24).context("it ends within its header")?);
    let covered = u64::from_le_bytes(covered);
    let index = BlockIndex::parse(&bytes, covered).map_err(|e| anyhow!(e))?;
    let (blocks, hashes) = (index.block_count(), index.hash_count());
    Ok(Report::Index { bytes: bytes.len() as u64, covered, blocks, zero_blocks: blocks - hashes })
}

/// A bundle: the chain of metadata from the root that images made with these keys carry, then the
/// update. `read_update` says what is in an update.
pub fn bundle(
    path: &Path,
    key_folder: &Path,
    trusted: &TrustedKeys,
    read_update: impl Fn(&Path, &TrustedKeys) -> Result<SlotReport>,
) -> Result<Report> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let files = unpack(path, scratch.path())?;
    let first = fs::read(scratch.path().join(METADATA_DIR).join("1.root.json"));
    if first.context("it has no 1.root.json")? != keys::tuf_root(key_folder)? {
        bail!("its first root is not the one of {}", key_folder.display());
    }
    let published = repository_folder::load(scratch.path())?.context("it has no metadata")?;
    let in_it = |name: &String| files.contains(name);
    let update = published.targets.targets.iter().find_map(|(name, target)| {
        target.ferrite()?;
        target_path(true, name, target).filter(in_it).map(|path| (target, path))
    });
    let (target, at) = update.context("it has no update that its metadata offers")?;
    let at = scratch.path().join(at);
    let mut slot = read_update(&at, trusted)?;
    let mut content = Hashing::new(fs::File::open(&at)?);
    let length = std::io::copy(&mut content, &mut std::io::sink())?;
    if target.length != length || target.sha256() != Some(content.sha256().as_str()) {
        slot.problems.push("the update is not the one that its metadata offers".into());
    }
    let until = published.timestamp.expires.to_string();
    Ok(Report::Bundle { bytes: fs::metadata(path)?.len(), files, until, slot })
}

/// Unpacks plain files one folder deep, and nothing else; their names in order.
fn unpack(bundle: &Path, into: &Path) -> Result<Vec<String>> {
    let mut archive = tar::Archive::new(fs::File::open(bundle)?);
    let mut names = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry.context("the archive is damaged")?;
        let path = entry.path()?.into_owned();
        let name = path.to_str().context("a name that is not text")?.to_owned();
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
        if !plain || entry.header().entry_type() != tar::EntryType::Regular {
            bail!("{name:?} is no file of a bundle");
        }
        let most = match folder {
            METADATA_DIR => MAX_METADATA,
            TARGETS_DIR => u64::MAX,
            _ => bail!("{name:?} is no file of a bundle"),
        };
        let length = entry.size();
        if length > most || names.len() >= MAX_FILES || names.contains(&name) {
            bail!("{name:?} is too long, one too many, or there twice");
        }
        fs::create_dir_all(into.join(folder))?;
        let mut out = fs::File::create(into.join(&path))?;
        if std::io::copy(&mut (&mut entry).take(length), &mut out)? != length {
            bail!("it ends within {name:?}");
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::{InspectArgs, run};
    use super::*;
    use publisher::bundle::{Choice, bundle};
    use publisher::publish::{Request, publish};
    use publisher::sample::update_of;
    use std::path::PathBuf;
    use tuf::Time;

    struct Project(tempfile::TempDir);

    impl Project {
        fn new() -> Project {
            let project = Project(tempfile::tempdir().unwrap());
            keys::generate(&project.keys()).unwrap();
            project
        }

        fn keys(&self) -> PathBuf {
            self.0.path().join("keys")
        }

        fn repo(&self) -> PathBuf {
            self.0.path().join("repo")
        }
    }

    fn inspect(project: &Project, file: PathBuf) -> Result<()> {
        run(InspectArgs { file, keys: project.keys(), json: true })
    }

    /// A bundle, a delta and an index, each as published.
    fn published(project: &Project) -> [PathBuf; 3] {
        let mut stream: Vec<u8> = (0..400_000u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
        stream.truncate(6 * 65536);
        for sequence in 1..=2 {
            stream[70_000] = sequence as u8;
            let dir = project.0.path();
            let version = format!("1.{sequence}");
            let file = update_of(&stream, dir, &project.keys(), "qemu-arm64", &version, sequence);
            let file = file.unwrap();
            let request = Request::new(&project.repo(), &project.keys(), &[&file]);
            publish(&request, Time(1_800_000_000), &mut |_| ()).unwrap();
        }
        let out = project.0.path().join("x.bundle");
        bundle(&project.repo(), &Choice::default(), &out).unwrap();
        let find = |ending: &str| {
            let entries = fs::read_dir(project.repo().join("targets")).unwrap();
            let mut paths = entries.map(|entry| entry.unwrap().path());
            paths.find(|path| path.to_string_lossy().ends_with(ending)).unwrap()
        };
        [out, find(".delta"), find("1.2.index")]
    }

    #[test]
    fn what_was_published_verifies_and_what_was_changed_does_not() {
        let project = Project::new();
        for path in published(&project) {
            inspect(&project, path.clone()).unwrap_or_else(|e| panic!("{path:?}: {e:#}"));
            let bytes = fs::read(&path).unwrap();
            let changed = project.0.path().join("changed");
            fs::write(&changed, &bytes[..bytes.len() * 2 / 3]).unwrap();
            inspect(&project, changed.clone()).unwrap_err();
            if !path.to_string_lossy().ends_with(".index") {
                let mut bad = bytes.clone();
                let middle = bytes.len() * 2 / 3;
                bad[middle] ^= 1;
                fs::write(&changed, bad).unwrap();
                inspect(&project, changed).unwrap_err();
            }
        }
    }

    #[test]
    fn a_bundle_of_somebody_else_does_not_verify() {
        let (project, other) = (Project::new(), Project::new());
        let [theirs, ..] = published(&other);
        let error = format!("{:#}", inspect(&project, theirs).unwrap_err());
        assert!(error.contains("first root"), "{error}");
    }
}

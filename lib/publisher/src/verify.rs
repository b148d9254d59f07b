//! All that a device would check of a repository, every file, and what expires soon.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use formats::manifest::{HEADER_SIZE, TrustedKeys};
use sha2::{Digest, Sha256, Sha512};
use tuf::author::Published;
use tuf::{Client, DirStore, FerriteTarget, Limits, TargetFile, Time, target_path};

use crate::repository_folder::{self, Folder, metadata, no_repository};
use crate::staged::read;
use crate::{keys, update_file};

/// What is checked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The repository's folder.
    pub repo: PathBuf,
    /// The root that devices were made with; `None`: the repository's `1.root.json`.
    pub root: Option<PathBuf>,
    /// A folder with the public keys of images: every update has to be signed by one of them, and
    /// every chunk in it has to be right.
    pub image_keys: Option<PathBuf>,
    /// What expires within so many days is warned of.
    pub warn_days: u64,
}

/// A repository that holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was checked, for people.
    pub lines: Vec<String>,
    /// What expires soon.
    pub warnings: Vec<String>,
}

/// Checks a repository: the metadata as a device does it, from the first root on and at this time;
/// the length and the hashes of every target, deltas and indexes among them; what the targets say
/// of one another.
pub fn verify(request: &Request, now: Time) -> Result<Verified> {
    if !repository_folder::is_there(&request.repo) {
        bail!("{}", no_repository(&request.repo));
    }
    let initial = match &request.root {
        Some(path) => read(path)?,
        None => read(&metadata(&request.repo, "1.root.json"))?,
    };
    let trusted = request.image_keys.as_deref().map(keys::trusted_image_keys).transpose()?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut store = DirStore::open(scratch.path()).context("cannot make a temporary folder")?;
    let mut folder = Folder(&request.repo);
    let mut client = Client::new(&mut folder, &mut store, now, Limits::default());
    let published = client.refresh(&initial)?;
    let delegated = client.delegated_roles(&published)?;

    let mut files = 0;
    let roles = delegated.iter().map(|(name, targets)| (name.as_str(), targets));
    for (role, targets) in roles.chain([("targets", &published.targets)]) {
        for (name, target) in &targets.targets {
            check_file(&request.repo, &published, name, target)
                .and_then(|path| match target.ferrite() {
                    Some(update) => check_update(
                        &request.repo,
                        &path,
                        &update,
                        &targets.targets,
                        &published,
                        trusted.as_ref(),
                    ),
                    None => Ok(()),
                })
                .with_context(|| format!("the target {name:?} of {role}"))?;
            files += 1;
        }
    }
    let mut lines = vec![format!(
        "root {}, targets {}, snapshot {}, timestamp {}: signed and current",
        published.root.version,
        published.targets.version,
        published.snapshot.version,
        published.timestamp.version
    )];
    if !delegated.is_empty() {
        lines.push(format!("{} delegated roles: signed and current", delegated.len()));
    }
    lines.push(format!("{files} targets: each with the length and hash it is signed with"));
    let mut expiries = vec![
        ("root".to_string(), published.root.expires),
        ("targets".to_string(), published.targets.expires),
        ("snapshot".to_string(), published.snapshot.expires),
        ("timestamp".to_string(), published.timestamp.expires),
    ];
    expiries.extend(delegated.iter().map(|(name, targets)| (name.clone(), targets.expires)));
    Ok(Verified { lines, warnings: warnings(&expiries, now, request.warn_days) })
}

fn warnings(expiries: &[(String, Time)], now: Time, days: u64) -> Vec<String> {
    expiries
        .iter()
        .filter(|(_, expires)| *expires <= now.plus_days(days))
        .map(|(name, expires)| format!("{name} expires at {expires}"))
        .collect()
}

/// Where the target lies, when it is what its metadata says.
fn check_file(
    repo: &Path,
    published: &Published,
    name: &str,
    target: &TargetFile,
) -> Result<PathBuf> {
    let path = target_path(published.root.consistent_snapshot, name, target)
        .context("it has no sound path")?;
    let path = repo.join(path);
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut sha256, mut sha512) = (Sha256::new(), Sha512::new());
    let wants_512 = target.hashes.contains_key("sha512");
    let mut input = file.take(target.length.saturating_add(1));
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let read = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        if read == 0 {
            break;
        }
        sha256.update(&buffer[..read]);
        if wants_512 {
            sha512.update(&buffer[..read]);
        }
        length += read as u64;
    }
    if length != target.length {
        bail!("{} does not have the {} bytes it is signed with", path.display(), target.length);
    }
    let (sha256, sha512) = (sha256.finalize(), sha512.finalize());
    for (algorithm, hash) in &target.hashes {
        let actual = match algorithm.as_str() {
            "sha256" => formats::hex::encode(&sha256),
            "sha512" => formats::hex::encode(&sha512),
            _ => continue,
        };
        if !hash.eq_ignore_ascii_case(&actual) {
            bail!("{} does not have the {algorithm} it is signed with", path.display());
        }
    }
    Ok(path)
}

/// What a device reads of an update before it fetches it has to be what the update says itself.
fn check_update(
    repo: &Path,
    path: &Path,
    update: &FerriteTarget,
    targets: &BTreeMap<String, TargetFile>,
    published: &Published,
    trusted: Option<&TrustedKeys>,
) -> Result<()> {
    let header = first_bytes(path, HEADER_SIZE as u64)?;
    if formats::hex::encode(&Sha256::digest(&header)) != update.header_sha256 {
        bail!("its slot header is not the one that its metadata names");
    }
    let manifest = formats::manifest::Header::new(&header)
        .and_then(|header| header.verified_before())
        .map_err(|e| anyhow!(e))?;
    let (said, is) = (
        (&update.board, &update.name, &update.version, update.sequence),
        (&manifest.board, &manifest.name, &manifest.version, manifest.sequence),
    );
    if said != is {
        bail!("its metadata says {said:?}, its manifest {is:?}");
    }
    if let Some(trusted) = trusted {
        update_file::verify(path, trusted)?;
    }
    let helper = |name: &str| {
        targets.get(name).with_context(|| format!("it names {name:?}, which is not listed"))
    };
    if let Some(index) = &update.index {
        helper(index)?;
    }
    for delta in &update.deltas {
        let target = helper(&delta.target)?;
        let at = target_path(published.root.consistent_snapshot, &delta.target, target)
            .context("a delta without a sound path")?;
        let head = first_bytes(&repo.join(at), delta.head_length)?;
        if head.len() as u64 != delta.head_length
            || formats::hex::encode(&Sha256::digest(&head)) != delta.head_sha256
        {
            bail!("the head of {:?} is not the one that its metadata names", delta.target);
        }
    }
    Ok(())
}

fn first_bytes(path: &Path, length: u64) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .with_context(cannot)?
        .take(length)
        .read_to_end(&mut bytes)
        .with_context(cannot)?;
    Ok(bytes)
}

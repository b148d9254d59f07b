//! One update with all its metadata in one file, for a stick.
//!
//! The file is a `ustar` archive of the repository's own layout (docs/updates.md, ".bundle"): a
//! device verifies it as it verifies a repository behind a URL.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use atomic_file::NewFile;
use tuf::author::Published;
use tuf::{FerriteTarget, METADATA_DIR, TargetFile, Time, target_path};

use crate::hashing::Hashing;
use crate::repository_folder;

/// Which update of a repository: the newest that fits.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Of the image with this name; needed where the repository has several.
    pub name: Option<String>,
    /// For this board; needed where the repository has several.
    pub board: Option<String>,
    /// This version instead of the newest.
    pub version: Option<String>,
}

/// What is in a bundle.
#[derive(Debug, Clone)]
pub struct Bundled {
    /// The update, as its metadata describes it.
    pub update: FerriteTarget,
    /// When devices stop to trust it.
    pub expires: Time,
}

/// Writes the bundle `out` with one update of the repository `repo`.
pub fn bundle(repo: &Path, choice: &Choice, out: &Path) -> Result<Bundled> {
    let published =
        repository_folder::load(repo)?.with_context(|| repository_folder::no_repository(repo))?;
    let (name, target, update) = choose(&published, repo, choice)?;
    let mut new = NewFile::new(out)?;
    write(&published, repo, name, target, new.file())?;
    new.finish().with_context(|| format!("{}: cannot be written", out.display()))?;
    new.persist()?;
    Ok(Bundled { update, expires: published.timestamp.expires })
}

/// The newest update that fits. Fails when they fit several images or boards.
fn choose<'a>(
    published: &'a Published,
    repo: &Path,
    choice: &Choice,
) -> Result<(&'a str, &'a TargetFile, FerriteTarget)> {
    let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
    let updates = || {
        let targets = published.targets.targets.iter();
        targets.filter_map(|(name, target)| Some((name.as_str(), target, target.ferrite()?)))
    };
    let mut found: Vec<_> = updates()
        .filter(|(_, _, f)| fits(&choice.name, &f.name) && fits(&choice.board, &f.board))
        .filter(|(_, _, f)| fits(&choice.version, &f.version))
        .collect();
    found.sort_by_key(|(_, _, ferrite)| ferrite.sequence);
    let Some(newest) = found.pop() else {
        let all: Vec<_> = updates().map(|(name, _, _)| name.to_owned()).collect();
        bail!(
            "{} has no such update; it has {}",
            repo.display(),
            if all.is_empty() { "none".into() } else { all.join(", ") }
        );
    };
    let other =
        found.iter().find(|(_, _, f)| (&f.name, &f.board) != (&newest.2.name, &newest.2.board));
    if let Some((name, _, _)) = other {
        bail!(
            "{} has updates of several images or boards ({name}, {}); say which one with --name and \
             --board",
            repo.display(),
            newest.0
        );
    }
    Ok(newest)
}

/// Writes the archive: the metadata in the order in which a device asks for it, then the update.
fn write(
    published: &Published,
    repo: &Path,
    name: &str,
    target: &TargetFile,
    out: &mut File,
) -> Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut metadata: Vec<String> =
        (1..=published.root.version).map(|version| format!("{version}.root.json")).collect();
    metadata.push("timestamp.json".into());
    metadata.push(format!("{}.snapshot.json", published.snapshot.version));
    metadata.push(format!("{}.targets.json", published.targets.version));
    for file in metadata {
        let path = format!("{METADATA_DIR}/{file}");
        append(&mut archive, repo, &path, None)?;
    }
    let path = target_path(true, name, target).context("a target without a hash")?;
    append(&mut archive, repo, &path, Some(target))?;
    archive
        .into_inner()
        .and_then(Write::flush)
        .context("the bundle cannot be written; is the disk full?")
}

/// Adds a file of the repository; that of a target has to be the one that was signed.
fn append(
    archive: &mut tar::Builder<&mut File>,
    repo: &Path,
    path: &str,
    target: Option<&TargetFile>,
) -> Result<()> {
    let at = repo.join(path);
    let cannot = || format!("{}: cannot be read", at.display());
    let file = File::open(&at).with_context(cannot)?;
    let length = file.metadata().with_context(cannot)?.len();
    let mut header = tar::Header::new_ustar();
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    let mut content = Hashing::new(file);
    if let Err(error) = archive.append_data(&mut header, path, &mut content) {
        return Err(match content.failed() {
            true => anyhow!(error).context(cannot()),
            false => anyhow!(error).context("the bundle cannot be written; is the disk full?"),
        });
    }
    let hash = content.sha256();
    if target.is_some_and(|target| target.length != length || target.sha256() != Some(&hash)) {
        bail!("{} is not the file that was published; restore it from a copy", at.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::tests::Project;
    use crate::sample::update;
    use std::fs;
    use std::process::Command;

    fn run(project: &Project, version: Option<&str>, board: Option<&str>) -> Result<Bundled> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let choice = Choice { name: None, board: own(board), version: own(version) };
        bundle(&project.repo(), &choice, &project.dir.path().join("x.bundle"))
    }

    fn two_versions() -> Project {
        let project = Project::new();
        project.publish(&[&project.update("1.0.0", 1)]).unwrap();
        project.publish(&[&project.update("1.0.1", 2)]).unwrap();
        project
    }

    #[test]
    fn tar_lists_the_metadata_before_the_update_and_gives_back_the_same_bytes() {
        let project = two_versions();
        run(&project, None, None).unwrap();
        let bundle = project.dir.path().join("x.bundle");
        let tar = |option: &str| {
            let mut command = Command::new("tar");
            let output = output_of(command.arg(option).arg(&bundle).current_dir(&project.dir));
            String::from_utf8(output).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let names = tar("-tf");
        let metadata = ["1.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"];
        assert_eq!(names[..4], metadata.map(|name| format!("metadata/{name}")));
        assert!(names[4].ends_with(".demo-qemu-arm64-1.0.1.update"), "{names:?}");
        assert_eq!(names.len(), 5);
        tar("-xf");
        for name in names {
            let same = fs::read(project.repo().join(&name)).unwrap();
            assert!(fs::read(project.dir.path().join(&name)).unwrap() == same, "{name}");
        }
    }

    fn output_of(command: &mut Command) -> Vec<u8> {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    #[test]
    fn the_same_repository_makes_the_same_bundle() {
        let project = two_versions();
        let bundle = || {
            run(&project, Some("1.0.0"), None).unwrap();
            fs::read(project.dir.path().join("x.bundle")).unwrap()
        };
        let first = bundle();
        let update = fs::File::open(project.repo().join("metadata/timestamp.json")).unwrap();
        update.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(bundle() == first);
    }

    #[test]
    fn a_full_disk_is_not_blamed_on_the_repository() {
        let project = two_versions();
        let repo = project.repo();
        let published = repository_folder::load(&repo).unwrap().unwrap();
        let (name, target, _) = choose(&published, &repo, &Choice::default()).unwrap();
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = write(&published, &repo, name, target, &mut full).unwrap_err();
        let message = format!("{error:#}");
        assert!(
            message.starts_with("the bundle cannot be written; is the disk full?"),
            "{message}"
        );
        assert!(!message.contains("cannot be read"), "{message}");
    }

    #[test]
    fn what_does_not_name_one_update_is_refused_and_leaves_no_file() {
        let project = two_versions();
        let dir = project.dir.path();
        project.publish(&[&update(dir, &project.keys(), "other", "1.0.0", 1).unwrap()]).unwrap();
        let refused = |version, board| {
            let error = run(&project, version, board).unwrap_err();
            assert!(!dir.join("x.bundle").exists());
            format!("{error:#}")
        };
        assert!(refused(None, None).contains("--name and --board"));
        let missing = refused(Some("9"), None);
        assert!(
            missing.contains("has no such update; it has demo-other-1.0.0.update"),
            "{missing}"
        );
        run(&project, None, Some("other")).unwrap();
    }

    #[test]
    fn an_update_that_is_not_the_published_one_gets_into_no_bundle() {
        let project = two_versions();
        for entry in fs::read_dir(project.repo().join("targets")).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }
        let error = run(&project, None, None).unwrap_err();
        assert!(error.to_string().contains("is not the file that was published"), "{error}");
        assert!(!project.dir.path().join("x.bundle").exists());
    }
}

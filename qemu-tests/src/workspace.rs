//! What images are built from: the demo's sources with changes, written where `imager` finds them,
//! and the commands that build and publish them. The tests, the demo and the bench share it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The files of the demo's model, but for the golden result.
const FACE: [&str; 2] = ["model.toml", "golden.png"];

/// The sources of an image, as texts.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The image file's name without its ending; the lock has the same.
    pub name: &'static str,
    /// The image file.
    pub image: String,
    /// The lock.
    pub lock: String,
    /// The board's name, and that of its file.
    pub board_name: String,
    /// The board file.
    pub board: String,
    /// The model's golden result.
    pub golden: String,
}

/// Where [`Sources::write`] has put them.
#[derive(Debug, Clone)]
pub struct SourceFiles {
    /// The image file.
    pub image: PathBuf,
    /// The lock beside it.
    pub lock: PathBuf,
    /// The board file.
    pub board: PathBuf,
}

/// What `imager build` has made.
#[derive(Debug, Clone)]
pub struct Built {
    /// The version, as lines on the console name it.
    pub version: String,
    /// The disk image.
    pub img: PathBuf,
    /// The update.
    pub update: PathBuf,
    /// The board file it was built for.
    pub board: PathBuf,
    /// What it was built of.
    pub lock: PathBuf,
}

/// The arguments of `imager build`.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// The image file.
    pub image: &'a Path,
    /// The board file, or the name of a board.
    pub board: &'a Path,
    /// The folder with the keys.
    pub keys: &'a Path,
    /// The folder with the device's programs, if not the one that `imager` finds itself.
    pub device: Option<&'a Path>,
    /// The folder for what is made.
    pub out: &'a Path,
    /// The golden result is a wrong one: only the device is to find out.
    pub wrong_golden: bool,
}

impl Sources {
    /// The demo as it stands, for this board.
    pub fn demo(board: &str) -> Result<Sources> {
        let demo = project().join("demo");
        Ok(Sources {
            name: "demo",
            image: read(&demo.join("demo.toml"))?,
            lock: read(&demo.join("demo.lock"))?,
            board_name: board.to_owned(),
            board: read(&project().join("board-configs").join(format!("{board}.toml")))?,
            golden: read(&demo.join("face/golden.json"))?,
        })
    }

    /// Writes them below `folder`. `imager build` goes by the files' bytes and times: what is the same
    /// stays untouched.
    pub fn write(&self, folder: &Path) -> Result<SourceFiles> {
        let face = folder.join("face");
        fs::create_dir_all(&face).with_context(|| face.display().to_string())?;
        for name in FACE {
            let from = project().join("demo/face").join(name);
            let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
            write_if_new(&face.join(name), &bytes)?;
        }
        write_if_new(&face.join("golden.json"), self.golden.as_bytes())?;
        let files = SourceFiles {
            image: folder.join(format!("{}.toml", self.name)),
            lock: folder.join(format!("{}.lock", self.name)),
            board: folder.join(format!("{}.toml", self.board_name)),
        };
        write_if_new(&files.image, self.image.as_bytes())?;
        write_if_new(&files.lock, self.lock.as_bytes())?;
        write_if_new(&files.board, self.board.as_bytes())?;
        Ok(files)
    }
}

impl Built {
    /// What is in `out` after a build of these sources as this version. The image is called `name`.
    pub fn of(sources: &Sources, files: &SourceFiles, version: &str, out: &Path) -> Built {
        let file =
            |end| out.join(format!("{}-{}-{version}.{end}", sources.name, sources.board_name));
        Built {
            version: version.to_owned(),
            img: file("img"),
            update: file("update"),
            board: files.board.clone(),
            lock: files.lock.clone(),
        }
    }
}

impl Build<'_> {
    /// The command line behind `imager`.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["build".into()];
        let device = self.device.map(|folder| ("--device", folder));
        let options = [("--image", self.image), ("--board", self.board), ("--keys", self.keys)];
        for (option, path) in options.into_iter().chain(device).chain([("--out", self.out)]) {
            words.extend([option.into(), path.into()]);
        }
        words.extend(self.wrong_golden.then(|| "--skip-golden".into()));
        words
    }
}

/// The command line behind `imager` that publishes an update.
pub fn publish_arguments(repo: &Path, keys: &Path, update: &Path) -> Vec<OsString> {
    ["publish".as_ref(), "--repo".as_ref(), repo, "--keys".as_ref(), keys, update]
        .map(Into::into)
        .into()
}

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs a command in the project's folder and gives what it printed; fails with what it said when it
/// fails.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.current_dir(project()).output();
    let output = output.with_context(|| format!("{program} cannot be started"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where imager keeps the files it fetched, each under its SHA-256 (docs/image-file.md, "The lock").
pub fn package_cache() -> Result<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("FERRITE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("ferrite")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/ferrite")));
    Ok(cache.context("neither FERRITE_CACHE nor HOME is set")?.join("files"))
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Writes a file, unless it has these bytes already.
pub fn write_if_new(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

pub(crate) fn fixtures_folder() -> Result<PathBuf> {
    let folder = project().join("target/qemu-fixtures");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    folder.canonicalize().context("fixture folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_the_demo_and_stay_untouched_the_second_time() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::demo("qemu-arm64").unwrap();
        let files = sources.write(folder.path()).unwrap();
        assert_eq!(read(&files.image).unwrap(), sources.image);
        let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let (before, golden) = (written(&files.board), folder.path().join("face/golden.json"));
        let changed = Sources { golden: "{}".into(), ..sources };
        changed.write(folder.path()).unwrap();
        assert_eq!((written(&files.board), read(&golden).unwrap()), (before, "{}".into()));
        let built = Built::of(&changed, &files, "1.0.0", folder.path());
        assert!(built.update.ends_with("demo-qemu-arm64-1.0.0.update"));
    }

    #[test]
    fn a_build_without_a_device_folder_leaves_it_to_imager() {
        let path = Path::new("x");
        let build = Build {
            image: path,
            board: path,
            keys: path,
            device: None,
            out: path,
            wrong_golden: false,
        };
        assert_eq!(build.arguments().len(), 9);
        assert_eq!(Build { device: Some(path), ..build }.arguments()[7], "--device");
    }
}

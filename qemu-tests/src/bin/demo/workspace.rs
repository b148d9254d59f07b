//! The host's side: the folder everything goes to, `imager`, and the versions of the image.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use qemu_tests::workspace::{Build, SourceFiles, Sources};

use crate::narrator::Narrator;

pub use qemu_tests::workspace::Built;

/// The port in `demo/demo.toml`.
const PORT: u16 = 8080;
/// The board the demo runs on.
pub const BOARD: &str = "qemu-arm64";

/// The demo's folder and tools.
pub struct Workspace {
    project: PathBuf,
    /// `out/demo`.
    pub folder: PathBuf,
    imager: PathBuf,
    /// The folder with the device's programs.
    pub device: PathBuf,
    /// The port of this machine that the update server listens on.
    pub port: u16,
}

impl Workspace {
    /// Empties `out/demo` of the last run and finds what is needed.
    pub fn open() -> Result<Workspace> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let project = project.canonicalize().context("the project's folder")?;
        let folder = project.join("out/demo");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| {
                format!("{} of the last run cannot be removed", folder.display())
            })?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let own = std::env::current_exe().context("cannot find where the demo lies")?;
        let beside = own.parent().context("the demo lies nowhere")?;
        let (imager, device) = (beside.join("imager"), project.join("target/device"));
        for needed in [&imager, &device.join("init"), &device.join("ota"), &device.join("runner")] {
            ensure!(
                needed.is_file(),
                "{} is not there; start this with `./do demo`",
                needed.display()
            );
        }
        Ok(Workspace { project, folder, imager, device, port: free_port()? })
    }

    /// Whether the port is not the one that `demo/demo.toml` names.
    pub fn port_moved(&self) -> bool {
        self.port != PORT
    }

    /// A path as the person sees it: from the project's folder.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.project).unwrap_or(path).display().to_string()
    }

    /// The repository's folder.
    pub fn repository(&self) -> PathBuf {
        self.folder.join("repo")
    }

    /// `imager keygen`.
    pub fn keygen(&self, narrator: &Narrator) -> Result<()> {
        self.run(narrator, &["keygen", "--out", "out/demo/keys"]).map(drop)
    }

    /// `imager publish` of one update.
    pub fn publish(&self, narrator: &Narrator, built: &Built) -> Result<()> {
        let update = self.shown(&built.update);
        self.run(
            narrator,
            &["publish", "--repo", "out/demo/repo", "--keys", "out/demo/keys", &update],
        )
        .map(drop)
    }

    /// What `imager inspect` says about a file; fails if it does not verify.
    pub fn inspect(&self, narrator: &Narrator, file: &Path) -> Result<serde_json::Value> {
        let file = self.shown(file);
        let said = self.run(narrator, &["inspect", &file, "--keys", "out/demo/keys", "--json"])?;
        serde_json::from_str(&said).context("`imager inspect --json` printed something else")
    }

    /// Builds `demo/demo.toml` as it stands, or a copy of it with another port.
    pub fn build_first(&self, narrator: &Narrator) -> Result<Built> {
        if self.port_moved() {
            return self.build_variant(narrator, "1.0.0", 1, |_| Ok(()));
        }
        let demo = self.project.join("demo");
        let files = SourceFiles {
            image: demo.join("demo.toml"),
            lock: demo.join("demo.lock"),
            board: BOARD.into(),
        };
        self.build(narrator, &Sources::demo(BOARD)?, &files, "1.0.0")
    }

    /// Makes a copy of the demo's sources whose image has this version, and builds it after
    /// `change` had its way with the copy.
    pub fn build_variant(
        &self,
        narrator: &Narrator,
        version: &str,
        sequence: u64,
        change: impl FnOnce(&mut Sources) -> Result<()>,
    ) -> Result<Built> {
        let mut sources = self.variant(version, sequence)?;
        change(&mut sources)?;
        let mut files = sources.write(&self.folder.join("sources").join(version))?;
        files.board = BOARD.into();
        self.build(narrator, &sources, &files, version)
    }

    fn variant(&self, version: &str, sequence: u64) -> Result<Sources> {
        let mut sources = Sources::demo(BOARD)?;
        for (old, new) in [
            ("\nversion = \"1.0.0\"\n".to_owned(), format!("\nversion = \"{version}\"\n")),
            ("\nsequence = 1\n".to_owned(), format!("\nsequence = {sequence}\n")),
            (format!("http://10.0.2.2:{PORT}\""), format!("http://10.0.2.2:{}\"", self.port)),
        ] {
            let count = sources.image.matches(&old).count();
            ensure!(count == 1, "demo/demo.toml has not one {:?}", old.trim());
            sources.image = sources.image.replace(&old, &new);
        }
        Ok(sources)
    }

    fn build(
        &self,
        narrator: &Narrator,
        sources: &Sources,
        files: &SourceFiles,
        version: &str,
    ) -> Result<Built> {
        let image = self.shown(&files.image);
        let build = Build {
            image: image.as_ref(),
            board: &files.board,
            keys: "out/demo/keys".as_ref(),
            device: None,
            out: "out/demo".as_ref(),
            wrong_golden: sources.golden != Sources::demo(BOARD)?.golden,
        };
        let arguments = build.arguments();
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        self.run(narrator, &words.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        Ok(Built::of(sources, files, version, &self.folder))
    }

    /// Runs `imager` in the project's folder, shows the command, and gives what it printed.
    fn run(&self, narrator: &Narrator, arguments: &[&str]) -> Result<String> {
        narrator.say(&format!("$ imager {}", arguments.join(" ")));
        let what = format!("imager {} at work", arguments.first().unwrap_or(&""));
        let output = narrator.during(&what, String::new, || {
            Command::new(&self.imager)
                .args(arguments)
                .current_dir(&self.project)
                .env("FERRITE_DEVICE", &self.device)
                .output()
                .with_context(|| format!("{} cannot be started", self.imager.display()))
        })?;
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("`imager {}` failed: {}", arguments.join(" "), errors.trim());
        }
        errors
            .lines()
            .filter(|l| l.to_lowercase().starts_with("notice"))
            .for_each(|l| narrator.say(l));
        String::from_utf8(output.stdout).context("imager printed something that is no text")
    }
}

/// The port of `demo/demo.toml` if nobody has it, else a free one.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", PORT))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .context("no free TCP port on 127.0.0.1")?;
    Ok(listener.local_addr().context("a free port")?.port())
}

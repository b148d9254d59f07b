//! Images for the tests, built with the real `imager` from variants of the demo's image file.
//!
//! A [`TestSlot`] is a place to test in: a TCP port that its images update from, and a folder under
//! `target/qemu-fixtures/` that keeps what was built, so that a second run builds only what has
//! changed. Tests that run at the same time, in one process or in several, get different test slots.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use test_http::{Server, listen};

use crate::locked::Locked;
use crate::machine::imager;
use crate::own_kernel::{self, OwnKernel};
use crate::workspace::{
    Build, Sources, fixtures_folder, output, project, publish_arguments, read, write_if_new,
};

pub use crate::workspace::Built;

/// As many as there are permits for machines.
const TEST_SLOTS: usize = 2;
const BOARD: &str = "qemu-arm64";
/// The folder of keys that has some for Secure Boot, too.
const SECURED: &str = "secured";

/// A place to test in, held until dropped.
#[derive(Debug)]
pub struct TestSlot {
    port: u16,
    folder: PathBuf,
    _lock: Locked,
}

/// What is special about an image. The sequence makes its version.
#[derive(Debug, Default)]
pub struct Variant {
    /// Its name: part of the version, of folders and of messages.
    pub label: &'static str,
    /// Its place in the order of versions.
    pub sequence: u64,
    /// More of the image file, in TOML, behind the demo's `[[workload]]`.
    pub workloads: &'static str,
    /// `[update] commit_after`, if not 3 s.
    pub commit_after: Option<&'static str>,
    /// `[update] sticks`.
    pub sticks: bool,
    /// `[update] reboot`, if not at once.
    pub reboot: Option<&'static str>,
    /// `[update] url`, if not the test slot's own server.
    pub url: Option<&'static str>,
    /// `[update] tries`, if not 1.
    pub tries: Option<u8>,
    /// Texts of the board file and what they are replaced with.
    pub board: &'static [(&'static str, &'static str)],
    /// The lock, a file of this crate's folder, if not the demo's.
    pub lock_file: Option<&'static str>,
    /// Texts of the lock and what they are replaced with.
    pub lock: &'static [(&'static str, &'static str)],
    /// Texts of the model's golden result and what they are replaced with.
    pub golden: &'static [(&'static str, &'static str)],
    /// Another program instead of `init`.
    pub init: Option<PathBuf>,
    /// The folder of another release, built: its `imager` and its programs are taken.
    pub release: Option<PathBuf>,
    /// Sign with keys that the devices do not trust.
    pub strange_keys: bool,
    /// Sign for Secure Boot, with the keys of [`secure_boot_keys`].
    pub secure_boot: bool,
    /// Another board than the one QEMU plays: the same board file under this name.
    pub other_board: Option<&'static str>,
    /// The board, if not `qemu-arm64`.
    pub board_file: Option<&'static str>,
    /// `[secure_boot] raspberry_pi`, with the key of [`boot_key`].
    pub signed_for_pi: bool,
    /// The folder with the kernel, for a board file that asks for one of the user's own.
    pub kernel: Option<OwnKernel>,
}

/// A repository, and the server that a test slot's devices ask.
#[derive(Debug)]
pub struct Repository {
    /// Serves it; can be told to do so wrongly.
    pub server: Server,
    folder: tempfile::TempDir,
    keys: PathBuf,
}

impl Variant {
    /// A version that works.
    pub fn good(sequence: u64) -> Variant {
        Variant { label: "good", sequence, ..Variant::default() }
    }

    fn board_file(&self) -> &'static str {
        self.board_file.unwrap_or(BOARD)
    }

    fn board_name(&self) -> &'static str {
        self.other_board.unwrap_or(self.board_file())
    }

    /// The version's name.
    pub fn version(&self) -> String {
        format!("{}-{}", self.sequence, self.label)
    }
}

impl TestSlot {
    /// Waits for a free test slot.
    pub fn take() -> Result<TestSlot> {
        let folder = fixtures_folder()?;
        loop {
            for number in 0..TEST_SLOTS {
                let test_slot = folder.join(format!("test-slot-{number}"));
                fs::create_dir_all(&test_slot).with_context(|| test_slot.display().to_string())?;
                if let Some(lock) = Locked::if_free(&test_slot.join("lock"))? {
                    return Ok(TestSlot {
                        port: port(&test_slot)?,
                        folder: test_slot,
                        _lock: lock,
                    });
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The version that devices start with.
    pub fn base(&self) -> Result<Built> {
        self.build(&Variant { label: "base", ..Variant::good(1) })
    }

    /// Builds a variant, unless it is built already.
    pub fn build(&self, variant: &Variant) -> Result<Built> {
        // Of its own for each board: what is built for one is not what the next one wants.
        let folder = self.folder.join(variant.board_name()).join(variant.version());
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let sources = self.sources(variant)?;
        let files = sources.write(&folder)?;
        let programs = match &variant.release {
            Some(release) => release.join("target/device"),
            None => programs(&sources.board),
        };
        let device = folder.join("device");
        self.copy_programs(variant, &programs, &device)?;
        if variant.signed_for_pi {
            boot_key()?;
        }
        if variant.secure_boot {
            secure_boot_keys()?;
        }
        let imager = match &variant.release {
            Some(release) => release.join("target/debug/imager"),
            None => imager()?,
        };
        let keys = keys(match variant {
            Variant { strange_keys: true, .. } => "strange",
            Variant { secure_boot: true, .. } => SECURED,
            _ => "keys",
        })?;
        let build = Build {
            image: &files.image,
            board: &files.board,
            keys: &keys,
            device: Some(&device),
            out: &folder,
            wrong_golden: !variant.golden.is_empty(),
        };
        // One build at a time: they share the cache of compressed frames, and few processors.
        let _one = Locked::wait(&fixtures_folder()?.join("building"))?;
        run(Command::new(imager).args(build.arguments()))?;
        Ok(Built::of(&sources, &files, &variant.version(), &folder))
    }

    /// An empty repository, served on this test slot's port.
    pub fn repository(&self) -> Result<Repository> {
        let folder = tempfile::Builder::new().prefix("ferrite-repo").tempdir().context("folder")?;
        let server = Server::start_on(folder.path(), self.port)?;
        Ok(Repository { server, folder, keys: keys("keys")? })
    }

    fn sources(&self, variant: &Variant) -> Result<Sources> {
        let demo = Sources::demo(variant.board_file())?;
        // What is locked is the same for any name of the board.
        let name = |board: &str| format!("name = \"{board}\"");
        let (from, to) = (name(variant.board_file()), name(variant.board_name()));
        let named = [(from.as_str(), to.as_str())];
        let lock = match variant.lock_file {
            Some(path) => read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path))?,
            None => demo.lock,
        };
        let lock = match &variant.kernel {
            Some(_) => own_kernel::lock(&lock, variant.board_file())?,
            None => lock,
        };
        let board = replaced(&replaced(&demo.board, &named)?, variant.board)?;
        Ok(Sources {
            name: demo.name,
            image: image_file(&demo.image, variant, self.port)?,
            lock: replaced(&replaced(&lock, &named)?, variant.lock)?,
            board_name: variant.board_name().to_owned(),
            board: variant.kernel.as_ref().map_or(board.clone(), |kernel| kernel.in_board(&board)),
            golden: replaced(&demo.golden, variant.golden)?,
        })
    }

    fn copy_programs(&self, variant: &Variant, from: &Path, to: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        for name in ["init", "ota", "runner"] {
            let path = match &variant.init {
                Some(other) if name == "init" => other.clone(),
                _ => from.join(name),
            };
            let bytes = fs::read(&path).with_context(|| {
                format!("{} cannot be read; run scripts/device-build", path.display())
            })?;
            write_if_new(&to.join(name), &bytes)?;
        }
        // Boards with UEFI have one more.
        for name in ["BOOTAA64.EFI", "BOOTX64.EFI"] {
            if let Ok(bytes) = fs::read(from.join(name)) {
                write_if_new(&to.join(name), &bytes)?;
            }
        }
        Ok(())
    }
}

impl Repository {
    /// Publishes an update with `imager publish`, without deltas: they take half a minute each.
    pub fn publish(&self, built: &Built) -> Result<()> {
        self.publish_with(built, &["--deltas", "0"])
    }

    /// Publishes an update with these arguments of `imager publish`.
    pub fn publish_with(&self, built: &Built, arguments: &[&str]) -> Result<()> {
        let publish = publish_arguments(self.folder.path(), &self.keys, &built.update);
        run(Command::new(imager()?).args(publish).args(arguments))
    }

    /// Publishes an update with keys that no device trusts, in a repository beside this one, and
    /// gives its URL for the device.
    pub fn publish_strange(&self, built: &Built) -> Result<String> {
        let strange = self.folder.path().join("strange");
        let publish = publish_arguments(&strange, &keys("strange")?, &built.update);
        run(Command::new(imager()?).args(publish))?;
        Ok(self.server.url_in_guest() + "strange/")
    }

    /// Puts an update beside the repository, and gives its URL for the device.
    pub fn serve_file(&self, built: &Built) -> Result<String> {
        let name = format!("{}.update", built.version);
        fs::copy(&built.update, self.folder.path().join(&name))
            .with_context(|| built.update.display().to_string())?;
        Ok(self.server.url_in_guest() + &name)
    }
}

/// Where the device's programs for the board of this file lie: `target/device`, or the folder that
/// FERRITE_DEVICE names, with `-amd64` behind it for such a processor.
fn programs(board_file: &str) -> PathBuf {
    let folder = std::env::var_os("FERRITE_DEVICE").map(PathBuf::from);
    let mut folder = folder.unwrap_or_else(|| project().join("target/device")).into_os_string();
    if board_file.contains("architecture = \"amd64\"") {
        folder.push("-amd64");
    }
    folder.into()
}

/// The demo's image file, changed: quick to update, from the test slot's own server.
fn image_file(demo: &str, variant: &Variant, port: u16) -> Result<String> {
    let mut image: toml::Table = toml::from_str(demo).context("demo.toml")?;
    image.insert("version".into(), variant.version().into());
    image.insert("sequence".into(), i64::try_from(variant.sequence)?.into());
    let mut update = toml::Table::new();
    for (key, value) in [
        ("url", variant.url.map_or_else(|| format!("http://10.0.2.2:{port}"), Into::into)),
        ("poll", "2s".into()),
        ("jitter", "1s".into()),
        ("commit_after", variant.commit_after.unwrap_or("3s").into()),
        ("trial_timeout", "90s".into()),
    ] {
        update.insert(key.into(), value.into());
    }
    if variant.sticks {
        update.insert("sticks".into(), true.into());
    }
    if variant.signed_for_pi {
        let table = toml::Table::from_iter([("raspberry_pi".to_owned(), true.into())]);
        image.insert("secure_boot".into(), table.into());
    }
    if let Some(when) = variant.reboot {
        update.insert("reboot".into(), when.into());
    }
    update.insert("tries".into(), i64::from(variant.tries.unwrap_or(1)).into());
    image.insert("update".into(), update.into());
    // A model that fails is given up after three tries, not six.
    let face = image.get_mut("workload").and_then(|all| all.get_mut(0)?.as_table_mut());
    let budget = toml::Table::from_iter([
        ("crashes".to_owned(), toml::Value::from(2)),
        ("within".to_owned(), "5m".into()),
    ]);
    face.context("demo.toml has no workload")?.insert("budget".into(), budget.into());
    Ok(format!("{}\n{}", toml::to_string(&image).context("image file")?, variant.workloads))
}

/// `text` with each of these replaced; each has to be there.
fn replaced(text: &str, replacements: &[(&str, &str)]) -> Result<String> {
    replacements.iter().try_fold(text.to_owned(), |text, (from, to)| {
        ensure!(text.contains(from), "there is no {from:?} to replace any more");
        Ok(text.replace(from, to))
    })
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// The public key that devices trust to sign slots: a file in SPKI PEM.
pub fn image_key() -> Result<PathBuf> {
    Ok(keys("keys")?.join("image.pub"))
}

/// The public key that a Raspberry Pi's bootloader would have, made with its private half once: a
/// file in SPKI PEM.
pub fn boot_key() -> Result<PathBuf> {
    let folder = keys("keys")?;
    let _one = Locked::wait(&fixtures_folder()?.join("making-keys"))?;
    let path = folder.join("raspberry-pi-secure-boot.pub.pem");
    if !path.is_file() {
        let mut command = Command::new(imager()?);
        run(command.args(["keygen", "--raspberry-pi-secure-boot", "--out"]).arg(&folder))?;
    }
    Ok(path)
}

/// The folder with the keys of Secure Boot, made once.
pub fn secure_boot_keys() -> Result<PathBuf> {
    let folder = keys(SECURED)?;
    let _one = Locked::wait(&fixtures_folder()?.join("making-keys"))?;
    if !folder.join("secure-boot").is_dir() {
        run(Command::new(imager()?).args(["keygen", "--secure-boot", "--out"]).arg(&folder))?;
    }
    Ok(folder.join("secure-boot"))
}

/// The keys of all test slots, made once.
pub(crate) fn keys(name: &str) -> Result<PathBuf> {
    let folder = fixtures_folder()?;
    let _one = Locked::wait(&folder.join("making-keys"))?;
    let keys = folder.join(name);
    if !keys.is_dir() {
        run(Command::new(imager()?).arg("keygen").arg("--out").arg(&keys))?;
    }
    Ok(keys)
}

/// The port of a test slot: the one its images were built with, if it is still free.
fn port(test_slot: &Path) -> Result<u16> {
    let path = test_slot.join("port");
    let known = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if let Some(port) = known.filter(|port| listen(*port).is_ok()) {
        return Ok(port);
    }
    let free = listen(0).and_then(|listener| listener.local_addr());
    let port = free.context("a free port")?.port();
    fs::write(&path, port.to_string()).with_context(|| path.display().to_string())?;
    Ok(port)
}

/// An `init` that stops turning over after twenty seconds; `scripts/device-build hanging-init`
/// makes it.
pub fn hanging_init() -> Result<PathBuf> {
    let path = project().join("target/device/hang/init");
    ensure!(
        path.is_file(),
        "{} is not there; run scripts/device-build hanging-init",
        path.display()
    );
    Ok(path)
}

/// The folder of version 0.1, built out of the repository's history by `scripts/release-0.1`.
pub fn release_0_1() -> Result<PathBuf> {
    let _one = Locked::wait(&fixtures_folder()?.join("release-0.1"))?;
    let output = Command::new(project().join("scripts/release-0.1"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("scripts/release-0.1 cannot be started")?;
    ensure!(output.status.success(), "scripts/release-0.1 failed, see above");
    let folder = String::from_utf8(output.stdout).context("a folder")?;
    Ok(folder.trim_end().into())
}

/// Builds a program of one assembly file for the device, without any library.
pub fn assemble(name: &str, source: &str) -> Result<PathBuf> {
    let program = fixtures_folder()?.join(name);
    let mut file = tempfile::Builder::new().suffix(".S").tempfile().context("temporary file")?;
    file.write_all(source.as_bytes()).context("temporary file")?;
    let status = Command::new("aarch64-linux-gnu-gcc")
        .args(["-nostdlib", "-static", "-o"])
        .arg(&program)
        .arg(file.path())
        .status()
        .context("install the package gcc-aarch64-linux-gnu")?;
    ensure!(status.success(), "{name} cannot be assembled");
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_the_demo_with_changes() {
        let demo = fs::read_to_string(project().join("demo/demo.toml")).unwrap();
        let more = "[[workload]]\nname = \"more\"\ncommand = [\"/x\"]\n";
        let variant = Variant { workloads: more, ..Variant::good(7) };
        let text = image_file(&demo, &variant, 1234).unwrap();
        let image: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(image["version"].as_str(), Some("7-good"));
        assert_eq!(image["update"]["url"].as_str(), Some("http://10.0.2.2:1234"));
        assert_eq!(image["workload"].as_array().map(Vec::len), Some(2));
        assert!(image["wheel"].as_array().is_some_and(|wheels| !wheels.is_empty()));
    }

    #[test]
    fn a_text_that_is_gone_is_told() {
        assert_eq!(replaced("abc", &[("b", "x")]).unwrap(), "axc");
        assert!(replaced("abc", &[("z", "x")]).is_err());
    }

    #[test]
    fn a_pc_has_programs_of_its_own() {
        let read = |board: &str| {
            let path = project().join("board-configs").join(board).with_extension("toml");
            programs(&fs::read_to_string(path).unwrap())
        };
        assert!(read("pc-x86_64").to_str().unwrap().ends_with("-amd64"));
        assert!(!read("qemu-arm64-efi").to_str().unwrap().ends_with("-amd64"));
    }

    #[test]
    fn test_slots_have_ports_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let first = port(dir.path()).unwrap();
        assert_eq!(port(dir.path()).unwrap(), first);
        let _taken = listen(first).unwrap();
        assert_ne!(port(dir.path()).unwrap(), first);
    }
}

//! What the image takes on disks and wires.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::table::{Bar, Table, Unit};
use crate::workspace::{Variant, Workspace, length};

/// EROFS stores whole blocks.
const BLOCK: u64 = 4096;
/// Models and what they look at: what the bars leave out.
const MODEL_FOLDERS: [&str; 2] = ["usr/share/models", "usr/share/photos"];
const MODULES: &str = "usr/lib/modules";
/// What `debug = true` brings.
const SHELL: &str = "usr/bin/busybox";

/// Measures the demo's image.
pub fn measure(workspace: &Workspace, _: &Arguments, table: &mut Table) -> Result<()> {
    let built = workspace.build(&Variant::DEMO)?;
    let keys = workspace.keys();
    let report = workspace.imager(&[
        "inspect".as_ref(),
        built.update.as_ref(),
        "--keys".as_ref(),
        keys.as_ref(),
        "--json".as_ref(),
    ])?;
    let report: Value = serde_json::from_str(&report).context("`imager inspect --json`")?;
    let root = report["slot"]["manifest"]["root_bytes"].as_u64();
    let root = root.context("`imager inspect` told no size of the root")?;
    let folder = workspace.unpack_root(&built.img, "root")?;
    let mut models = 0;
    for name in MODEL_FOLDERS {
        models += blocks(&folder.join(name))?;
    }
    let modules = blocks(&folder.join(MODULES))?;
    let shell = length(&folder.join(SHELL))?.next_multiple_of(BLOCK);

    let mut add = |what: &str, bar, bytes: u64, note: &str| {
        table.add(what, Unit::Megabytes, bar, bytes as f64 / 1e6, note);
    };
    let bare = root.saturating_sub(models + modules + shell);
    let note = "EROFS with the engine, as one ships it: without the console's shell";
    add("root without model and modules", Bar::AtMost(16.0), bare, note);
    add("root with modules", Bar::AtMost(20.0), bare + modules, "");
    add("root, all of the demo", Bar::None, root, "with its model, photograph and shell");
    let note = "zstd -19 --long=27";
    add(".img, compressed", Bar::AtMost(25.0), compressed(&built.img)?, note);
    add(".update", Bar::None, length(&built.update)?, "chunks of 256 KiB, each a zstd frame");
    let device = workspace.device();
    add("init", Bar::AtMost(1.0), length(&device.join("init"))?, "static");
    add("ota", Bar::None, length(&device.join("ota"))?, "");
    add("runner", Bar::None, length(&device.join("runner"))?, "");
    Ok(())
}

/// Bytes of the blocks that a folder's files take.
fn blocks(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let about = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        sum += if about.is_dir() { blocks(&path)? } else { about.len().next_multiple_of(BLOCK) };
    }
    Ok(sum)
}

fn compressed(path: &Path) -> Result<u64> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut zstd = Command::new("zstd")
        .args(["--quiet", "--threads=0", "-19", "--long=27", "--stdout"])
        .stdin(file)
        .stdout(Stdio::piped())
        .spawn()
        .context("zstd cannot be started; install the package zstd")?;
    let mut out = zstd.stdout.take().context("zstd has no output")?;
    let (mut sum, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match out.read(&mut buffer).context("zstd")? {
            0 => break,
            read => sum += read as u64,
        }
    }
    ensure!(zstd.wait().context("zstd")?.success(), "zstd failed on {}", path.display());
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_take_whole_blocks() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/a"), [0; 1]).unwrap();
        fs::write(dir.path().join("b"), [0; 4097]).unwrap();
        assert_eq!(blocks(dir.path()).unwrap(), 3 * BLOCK);
        assert!(blocks(&dir.path().join("none")).is_err());
    }
}

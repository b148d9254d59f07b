//! What an update takes: memory, and time beside `curl | zstd -d | dd`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::{Console, Disk, Machine, Options, Server};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::guest::{TO_BOOT, number_in};
use crate::statistics::median;
use crate::table::{Bar, Table, Unit};
use crate::workspace::{Built, UPDATE_PORT, Variant, Workspace, output};

/// The version that runs; it has the peer's programs.
const RUNNING: Variant<'static> = Variant {
    name: "update",
    packages: &["curl", "zstd", "coreutils"],
    updates: true,
    ..Variant::DEMO
};
const NEWER: Variant<'static> = Variant { sequence: 2, ..RUNNING };
const PATIENCE: Duration = Duration::from_secs(600);

/// The same bytes for the peer: each partition's as one zstd file.
struct Payload {
    /// Bytes written to the slot, uncompressed.
    bytes: u64,
}

/// Lets a device update itself, then writes the same bytes to the same partitions with the peer.
pub fn measure(workspace: &Workspace, arguments: &Arguments, table: &mut Table) -> Result<()> {
    let (running, newer) = (workspace.build(&RUNNING)?, workspace.build(&NEWER)?);
    let repo = workspace.fresh_folder("repo")?;
    workspace.publish(&repo, &newer.update)?;
    let payload = pack(workspace, &newer, &repo)?;
    let server = Server::start_on(&repo, UPDATE_PORT)?;
    let (mut ours, mut peers, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=arguments.runs {
        eprintln!("bench: update {run} of {}", arguments.runs);
        let disk = Disk::copy_of(&running.img)?;
        let options = Options { logs: Some(workspace.path("")), ..Options::default() };
        let mut machine = Machine::start("update", &disk, &options)?;
        let console = &mut machine.console;
        let (seconds, megabytes) = ours_once(console)?;
        ours.push(payload.bytes as f64 / 1e6 / seconds);
        memory.push(megabytes);
        let seconds = peer_once(console, &server.url_in_guest())?;
        peers.push(payload.bytes as f64 / 1e6 / seconds);
    }
    let note =
        format!("{:.1} MB compared; blank chunks are there already", payload.bytes as f64 / 1e6);
    let (ours, peer) = (median(&ours), median(&peers));
    let rate = Unit::MegabytesPerSecond;
    table.add("ota: install", rate, Bar::None, ours, &note);
    let note = "the same bytes and partitions; nothing compared";
    table.add("curl | zstd -d | dd oflag=direct", rate, Bar::None, peer, note);
    table.add("ota / curl, zstd, dd", Unit::Ratio, Bar::AtLeast(0.6), ours / peer, "");
    let note = "VmHWM having installed";
    table.add("ota, peak memory", Unit::Megabytes, Bar::AtMost(16.0), median(&memory), note);
    Ok(())
}

/// Seconds from finding the version to having it installed, and megabytes of memory.
fn ours_once(console: &mut Console) -> Result<(f64, f64)> {
    let found = console.wait_for("ota: found 2.0.0", TO_BOOT)?;
    let (which, installed) =
        console.wait_for_any(&["ota: installed 2.0.0", "ota: refused"], PATIENCE)?;
    anyhow::ensure!(which == 0, "the update was refused: {}", installed.text);
    // Both halves together: one fetches, the other one writes.
    let peak = console.shell(
        "for P in $(busybox pidof ota); do busybox grep VmHWM /proc/$P/status; done | \
         busybox awk '{ S += $2 } END { print \"VmHWM:\", S, \"kB\" }'",
    )?;
    let kib = number_in(&peak.join("\n"), "VmHWM:")?;
    Ok(((installed.at - found.at).as_secs_f64(), kib * 1024.0 / 1e6))
}

/// Seconds that the peer takes for both partitions, each flushed to the medium.
fn peer_once(console: &mut Console, url: &str) -> Result<f64> {
    let write = |name: &str| {
        format!(
            "curl -sf {url}/{name}.zst | zstd -dc | \
             dd of=/dev/ferrite/{name}-b bs=1M iflag=fullblock oflag=direct conv=fsync 2>/dev/null"
        )
    };
    // The quotes keep the echo of what is typed from looking like the answer.
    console.type_line(&format!(
        "set -o pipefail; echo pe''er-begins; {} && {} && echo pe''er-ends || echo pe''er-fails",
        write("boot"),
        write("root")
    ))?;
    let begin = console.wait_for("peer-begins", PATIENCE)?;
    let (which, end) = console.wait_for_any(&["peer-ends", "peer-fails"], PATIENCE)?;
    anyhow::ensure!(which == 0, "the peer failed, see {}", console.log().display());
    Ok((end.at - begin.at).as_secs_f64())
}

/// Writes `boot.zst` and `root.zst` beside the repository.
fn pack(workspace: &Workspace, newer: &Built, repo: &Path) -> Result<Payload> {
    let keys = workspace.keys();
    let report = workspace.imager(&[
        "inspect".as_ref(),
        newer.update.as_ref(),
        "--keys".as_ref(),
        keys.as_ref(),
        "--json".as_ref(),
    ])?;
    let report: Value = serde_json::from_str(&report).context("`imager inspect --json`")?;
    let manifest = &report["slot"]["manifest"];
    let size = |key: &str| -> Result<usize> {
        let bytes = manifest[key].as_u64().with_context(|| format!("no {key} in {manifest}"))?;
        usize::try_from(bytes).context("too large for this machine")
    };
    let boot = size("boot_bytes")?;
    let root = size("root_bytes")?;
    let root = root + usize::try_from(formats::verity::tree_size(root as u64)).context("tree")?;
    let disk = Disk::copy_of(&newer.img)?;
    for (name, length) in [("boot", boot), ("root", root)] {
        let plain = workspace.path(&format!("{name}.plain"));
        let bytes = disk.read(&format!("{name}-a"), 0, length)?;
        fs::write(&plain, bytes).with_context(|| plain.display().to_string())?;
        let packed = repo.join(format!("{name}.zst"));
        let mut zstd = Command::new("zstd");
        zstd.args(["--quiet", "--force", "--threads=0", "-19", "-o"]).arg(packed).arg(&plain);
        output(&mut zstd).context("zstd (package zstd)")?;
        fs::remove_file(&plain).with_context(|| plain.display().to_string())?;
    }
    Ok(Payload { bytes: (boot + root) as u64 })
}

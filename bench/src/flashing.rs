//! `imager flash` beside `dd` and bmaptool, on the same image and the same loop device.
//!
//! Each run gets a new file behind the device, so that nobody finds what the one before left. What
//! differs: bmaptool leaves out what is not mapped in the image and reads nothing back; `imager`
//! makes zeros there, and reads everything back. `dd` knows no zeros, so that race is run with an
//! image that has none: the demo's, its zeros filled up.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::arguments::Arguments;
use crate::statistics::median;
use crate::table::{Bar, Table, Unit};
use crate::workspace::{Variant, Workspace};

/// Data is told from zeros in steps of this size, as `imager flash` does.
const STEP: usize = 64 << 10;
/// The first and the last bytes of an image, where the partition table lies.
const HEAD: u64 = 1 << 20;
/// More than the image has: a card is larger than what is put on it.
const CARD: u64 = 1 << 30;

/// Measures it with the demo's image. Fails with a line that says so where there are no loop devices
/// for this user.
pub fn measure(workspace: &Workspace, arguments: &Arguments, table: &mut Table) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists(),
        "flashing needs root and loop devices; neither a file nor anything else stands for a disk here"
    );
    let image = workspace.build(&Variant::DEMO)?.img;
    let folder = workspace.fresh_folder("flashing")?;
    let card = folder.join("card");
    let (full, map) = (folder.join("full-qemu-arm64-1.img"), folder.join("image.bmap"));
    fill(&image, &full)?;
    let flash = |image: &Path| -> Result<(f64, f64)> {
        let device = Loop::over(&card)?;
        let mut command = Command::new(workspace.imager_program());
        let (text, seconds) = timed(command.arg("flash").arg(image).arg(&device.0))?;
        Ok((written(&text)?, seconds))
    };
    let dd = || -> Result<f64> {
        let device = Loop::over(&card)?;
        let files = [format!("if={}", full.display()), format!("of={}", device.0)];
        let mut command = tool("dd");
        command.args(["bs=4M", "oflag=direct", "conv=fsync", "status=none"]).args(files);
        Ok(timed(&mut command)?.1)
    };
    let (mut full_write, mut dds) = (vec![], vec![]);
    for _ in 0..arguments.runs {
        full_write.push(flash(&full)?.0);
        dds.push(dd()?);
    }
    let mut add =
        |what: &str, unit, bar, value: f64, note: &str| table.add(what, unit, bar, value, note);
    let over = |a: &[f64], b: &[f64]| median(a) / median(b);
    let note = format!("an image of {:.1} MB without zeros", size(&full)?);
    add("flash, writing", Unit::Seconds, Bar::None, median(&full_write), &note);
    let note = "the same image, bs=4M oflag=direct conv=fsync";
    add("dd", Unit::Seconds, Bar::None, median(&dds), note);
    let ratio = over(&full_write, &dds);
    add("flash, writing / dd", Unit::Ratio, Bar::AtMost(1.05), ratio, "");

    let has_bmaptool = tool("bmaptool").arg("--version").output().is_ok_and(|o| o.status.success());
    ensure!(has_bmaptool, "bmaptool is not there; install the package bmap-tools");
    timed(tool("bmaptool").arg("create").arg("--output").arg(&map).arg(&image))?;
    let (mut write, mut whole, mut bmaptool) = (vec![], vec![], vec![]);
    for _ in 0..arguments.runs {
        let (writing, all) = flash(&image)?;
        write.push(writing);
        whole.push(all);
        let device = Loop::over(&card)?;
        let mut command = tool("bmaptool");
        command.arg("copy").arg("--bmap").arg(&map).arg(&image).arg(&device.0);
        bmaptool.push(timed(&mut command)?.1);
    }
    let note = format!("the demo's image, {:.1} MB; written, read back, compared", size(&image)?);
    add("flash, all of it", Unit::Seconds, Bar::None, median(&whole), &note);
    let note = "the same image; reads nothing back";
    add("bmaptool copy", Unit::Seconds, Bar::None, median(&bmaptool), note);
    let ratio = over(&whole, &bmaptool);
    add("flash, all of it / bmaptool", Unit::Ratio, Bar::AtMost(1.0), ratio, "");
    let note = "like for like: written and flushed";
    let ratio = over(&write, &bmaptool);
    add("flash, writing / bmaptool", Unit::Ratio, Bar::AtMost(1.0), ratio, note);
    Ok(())
}

/// A loop device over a new file, gone when dropped.
struct Loop(String);

impl Loop {
    fn over(file: &Path) -> Result<Loop> {
        let _ = std::fs::remove_file(file);
        let new = File::create(file).with_context(|| file.display().to_string())?;
        new.set_len(CARD).with_context(|| file.display().to_string())?;
        let text = run(tool("losetup").args(["--find", "--show"]).arg(file))?;
        Ok(Loop(text.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run(tool("losetup").arg("--detach").arg(&self.0));
    }
}

/// Copies an image with all its zeros behind the partition table filled up.
fn fill(image: &Path, full: &Path) -> Result<()> {
    let (from, to) = (File::open(image).context("the image")?, File::create(full).context("full")?);
    let end = from.metadata().context("the image")?.len();
    let (mut step, mut at, mut x) = (vec![0; STEP], 0, 1u32);
    while at < end {
        let part = &mut step[..(end - at).min(STEP as u64) as usize];
        from.read_exact_at(part, at).context("the image")?;
        let inside = at >= HEAD && at < end - HEAD;
        if inside && part.iter().all(|byte| *byte == 0) {
            for byte in &mut *part {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (x >> 24) as u8 | 1;
            }
        }
        to.write_all_at(part, at).context("the full image; is the disk full?")?;
        at += part.len() as u64;
    }
    to.sync_all().context("the full image")
}

/// Decimal megabytes of a file.
fn size(path: &Path) -> Result<f64> {
    Ok(std::fs::metadata(path).with_context(|| path.display().to_string())?.len() as f64 / 1e6)
}

/// Seconds of the writing pass, as `imager flash` says: `wrote 80.1 MB in 0.31 s (…`.
fn written(text: &str) -> Result<f64> {
    let line = text.lines().find(|line| line.starts_with("wrote "));
    let seconds = line.and_then(|line| line.split(" in ").nth(1)?.split(' ').next()?.parse().ok());
    seconds.with_context(|| format!("`imager flash` did not say how long it wrote: {text}"))
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// What it printed, and the seconds it took.
fn timed(command: &mut Command) -> Result<(String, f64)> {
    let start = Instant::now();
    let text = run(command)?;
    Ok((text, start.elapsed().as_secs_f64()))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_from_what_flash_prints() {
        let text =
            "wrote 80.1 MB in 0.31 s (258.4 MB/s), and zeros\nread back and compared 9 MB in 1 s\n";
        assert_eq!(written(text).unwrap(), 0.31);
        assert!(written("nothing").is_err());
    }

    #[test]
    fn what_is_filled_has_no_zeros_but_around_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let (image, full) = (dir.path().join("image"), dir.path().join("full"));
        let (head, step) = (HEAD as usize, STEP);
        let mut bytes = vec![0; 2 * head + 3 * step];
        bytes[head + step + 7] = 9;
        std::fs::write(&image, &bytes).unwrap();
        fill(&image, &full).unwrap();
        let filled = std::fs::read(&full).unwrap();
        assert_eq!(filled.len(), bytes.len());
        assert!(filled[..head] == bytes[..head] && filled[head + 3 * step..] == bytes[..head]);
        assert!(filled[head..head + step].iter().all(|byte| *byte != 0));
        assert!(filled[head + step..head + 2 * step] == bytes[head + step..head + 2 * step]);
    }
}

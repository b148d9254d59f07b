//! What the device says on its console, and what its shell tells about its memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qemu_tests::{Line, Machine};
use serde_json::Value;

/// Lines of the console that an error shows.
const SHOWN: usize = 20;
/// Software emulation on a busy machine: what hangs is told from what is slow by this.
const PATIENCE: Duration = Duration::from_secs(600);
/// A shell command answers sooner.
const SHELL_PATIENCE: Duration = Duration::from_secs(60);
/// The face in the photograph lies at this pixel.
const FACE: (f64, f64) = (224.0, 127.0);

/// The running device.
pub struct Guest {
    /// The machine it runs on.
    pub machine: Machine,
    /// Lines before this one belong to what was seen already.
    from: usize,
}

/// The times of one boot.
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// When U-Boot handed over to the kernel, since the machine was started.
    pub kernel_at: Duration,
    /// Guest time of `/init`'s start, in milliseconds.
    pub initrd: u64,
    /// Guest time of the root's PID 1, in milliseconds.
    pub rootfs: u64,
    /// Guest time of the first result, in milliseconds.
    pub first_result: u64,
    /// When all vital workloads were healthy, since the machine was started.
    pub healthy_at: Duration,
    /// The face it found.
    pub face: Face,
}

/// A face the model found.
#[derive(Debug, Clone, Copy)]
pub struct Face {
    /// 0 to 1.
    pub score: f64,
    /// Left, top, width, height in pixels of the photograph.
    pub bounds: [f64; 4],
}

impl Guest {
    /// A device that was just started.
    pub fn new(machine: Machine) -> Guest {
        Guest { machine, from: 0 }
    }

    /// Waits for the first line with one of `texts` after what was passed: which, and the line.
    pub fn wait_for_any(&mut self, texts: &[&str]) -> Result<(usize, Line)> {
        let (which, _, line) = self.search(texts, PATIENCE)?;
        Ok((which, line))
    }

    /// Waits for a line with `text` and leaves what lies before it behind.
    pub fn pass(&mut self, text: &str) -> Result<Line> {
        let (_, index, line) = self.search(&[text], PATIENCE)?;
        self.from = index + 1;
        Ok(line)
    }

    /// Whether a line with `text` came after what was passed.
    pub fn has_said(&self, text: &str) -> bool {
        self.machine.console.lines().iter().skip(self.from).any(|line| line.text.contains(text))
    }

    fn search(&mut self, texts: &[&str], within: Duration) -> Result<(usize, usize, Line)> {
        let start = Instant::now();
        loop {
            // Asked first: what it said before it ended still counts.
            let ended = self.machine.wait_off(Duration::from_millis(1)).is_ok();
            let lines = self.machine.console.lines();
            for (index, line) in lines.iter().enumerate().skip(self.from) {
                if let Some(which) = texts.iter().position(|text| line.text.contains(text)) {
                    return Ok((which, index, line.clone()));
                }
            }
            if ended || start.elapsed() > within {
                let last: Vec<_> = lines[lines.len().saturating_sub(SHOWN)..]
                    .iter()
                    .map(|line| line.text.as_str())
                    .collect();
                bail!(
                    "the device did not say {texts:?} ({}); the serial log is {}, its last lines:\n{}",
                    if ended { "the machine ended" } else { "waited long enough" },
                    self.machine.console.log().display(),
                    last.join("\n")
                );
            }
        }
    }

    /// Waits until the slot boots, all its vital workloads are healthy and its model has found
    /// the face. `slot` is like `slot a of demo 1.0.0 (sequence 1)`.
    pub fn boot(&mut self, slot: &str) -> Result<Boot> {
        let kernel_at = self.pass("Starting kernel ...")?.at;
        let initrd = milliseconds(&self.pass("ferrite: initrd: pid 1 after ")?)?;
        self.pass(&format!("ferrite: initrd: {slot} verified"))?;
        let rootfs = milliseconds(&self.pass("ferrite: rootfs: pid 1 after ")?)?;
        let (_, line) =
            self.wait_for_any(&["ferrite: all vital workloads healthy", "resetting"])?;
        ensure!(line.text.contains("healthy"), "the device gave up: {}", line.text);
        let (_, result) = self.wait_for_any(&["face: {"])?;
        let (first_result, face) = found_face(&result.text)?;
        Ok(Boot { kernel_at, initrd, rootfs, first_result, healthy_at: line.at, face })
    }

    /// Peak resident memory of PID 1 and the runner in KiB, asked from the shell on the console.
    pub fn peak_memory(&mut self) -> Result<(u64, u64)> {
        // The quotes keep the echo of what is typed from looking like the answer.
        self.machine
            .console
            .type_line("echo FIG''URE init $(busybox grep VmHWM /proc/1/status)")?;
        let init = self.figure("FIGURE init")?;
        self.machine.console.type_line(
            "echo FIG''URE runner $(busybox grep VmHWM /proc/$(busybox pidof runner)/status)",
        )?;
        Ok((init, self.figure("FIGURE runner")?))
    }

    fn figure(&mut self, name: &str) -> Result<u64> {
        let (_, _, line) = self.search(&[name], SHELL_PATIENCE)?;
        kib(&line.text).with_context(|| format!("the device's shell said {:?}", line.text))
    }

    /// Lets the shell print the update client's peak memory each time it has grown, until the
    /// device reboots.
    pub fn watch_update_client(&mut self) -> Result<()> {
        self.machine.console.type_line(
            "while :; do N=$(for P in $(busybox pidof ota); do \
             busybox grep VmHWM /proc/$P/status; done | \
             busybox awk '{ S += $2 } END { print $1, S, $3 }'); \
             [ \"$N\" = \"$O\" ] || echo FIG''URE ota $N; O=$N; busybox sleep 1; done &",
        )
    }

    /// The largest figure that [`Guest::watch_update_client`] brought, in KiB.
    pub fn update_client_peak(&self) -> Option<u64> {
        let lines = self.machine.console.lines();
        lines.iter().filter(|l| l.text.contains("FIGURE ota")).filter_map(|l| kib(&l.text)).max()
    }
}

/// A line of the console without what the guest's shell has put in front of it: its prompt, which has
/// no line of its own.
pub fn without_prompt(text: &str) -> &str {
    let starts = ["ferrite: ", "ota: ", "face: "].into_iter().filter_map(|name| text.find(name));
    let start = starts.min().unwrap_or(0);
    match &text[..start] {
        prompt if prompt.trim_end().ends_with(['#', '$']) => &text[start..],
        _ => text,
    }
}

/// The number after `after` in `… pid 1 after 1234 ms`.
fn milliseconds(line: &Line) -> Result<u64> {
    let text = &line.text;
    let number = text.split_once(" after ").and_then(|(_, rest)| rest.split(' ').next());
    number.and_then(|n| n.parse().ok()).with_context(|| format!("no time in {text:?}"))
}

/// The number in `VmHWM: 1234 kB`.
fn kib(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("VmHWM:")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Reads a result line of the runner: its guest time, and the one face, which has to be where
/// the photograph has it.
fn found_face(line: &str) -> Result<(u64, Face)> {
    let json = line.find('{').map(|at| &line[at..]).context("no result in the line")?;
    let result: Value = serde_json::from_str(json).with_context(|| format!("no JSON: {json}"))?;
    let at = result["boot_ms"].as_u64().context("the result has no boot_ms")?;
    let faces = result["detections"].as_array().context("the result has no detections")?;
    ensure!(faces.len() == 1, "the model found {} faces in a photograph of one", faces.len());
    let number = |value: &Value| value.as_f64().context("a result without numbers");
    let bounds = &faces[0]["box"];
    let face = Face {
        score: number(&faces[0]["score"])?,
        bounds: [
            number(&bounds["x"])?,
            number(&bounds["y"])?,
            number(&bounds["width"])?,
            number(&bounds["height"])?,
        ],
    };
    let [x, y, width, height] = face.bounds;
    let inside = (x..x + width).contains(&FACE.0) && (y..y + height).contains(&FACE.1);
    let close = (40.0..200.0).contains(&width) && (40.0..200.0).contains(&height);
    ensure!(
        inside && close && face.score >= 0.5,
        "the model found {face:?}, which is not the face"
    );
    Ok((at, face))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_elsewhere_is_not_the_face() {
        let line = |x: f64| {
            format!(
                r#"face: {{"boot_ms":7,"detections":[{{"score":0.9,"box":{{"x":{x},"y":80,"width":94,"height":94}}}}]}}"#
            )
        };
        assert_eq!(found_face(&line(177.0)).unwrap().0, 7);
        assert!(found_face(&line(10.0)).is_err());
        assert!(found_face(r#"face: {"boot_ms":7,"detections":[]}"#).is_err());
        assert!(found_face("face: {").is_err());
    }

    #[test]
    fn the_shells_prompt_breaks_no_line() {
        assert_eq!(without_prompt("~ # ota: fell back"), "ota: fell back");
        assert_eq!(without_prompt("/ # ~ # face: {}"), "face: {}");
        assert_eq!(without_prompt("~ # echo 1"), "~ # echo 1");
        assert_eq!(without_prompt("ferrite: reads ota: x"), "ferrite: reads ota: x");
    }

    #[test]
    fn figures_are_read() {
        assert_eq!(kib("FIGURE ota VmHWM: 5432 kB"), Some(5432));
        assert_eq!(kib("FIGURE ota"), None);
        let line = Line { at: Duration::ZERO, text: "ferrite: rootfs: pid 1 after 12 ms".into() };
        assert_eq!(milliseconds(&line).unwrap(), 12);
    }
}

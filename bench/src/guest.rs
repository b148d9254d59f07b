//! Figures in what a guest prints.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::{Console, Line};

/// A boot that takes longer hangs (stretched by the load).
pub const TO_BOOT: Duration = Duration::from_secs(120);

/// Times of one boot, in milliseconds of the guest's clock since the kernel started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boot {
    /// The first program of the initramfs.
    pub first: f64,
    /// PID 1 of the root; where there is none, the start of the runner.
    pub second: f64,
    /// The runner's exec.
    pub exec: f64,
    /// Its first result.
    pub result: f64,
}

/// Waits for a line with `before` and reads the number behind it.
pub fn number(console: &mut Console, before: &str) -> Result<f64> {
    let line = console.wait_for(before, TO_BOOT)?;
    number_in(&line.text, before)
}

/// Waits for the runner's first result and gives its time.
pub fn result(console: &mut Console) -> Result<f64> {
    let texts = ["\"detections\":[{", "Kernel panic"];
    let (which, Line { text, .. }) = console.wait_for_any(&texts, TO_BOOT)?;
    ensure!(which == 0, "{text}, see {}", console.log().display());
    number_in(&text, "\"boot_ms\":")
}

/// The number in `text` behind `before`.
pub fn number_in(text: &str, before: &str) -> Result<f64> {
    let rest = text.split_once(before).map(|(_, rest)| rest.trim_start());
    let digits = |rest: &str| {
        rest.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or("").to_owned()
    };
    rest.and_then(|rest| digits(rest).parse().ok())
        .with_context(|| format!("no number behind {before:?} in {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_behind_a_word_is_read() {
        let line = "ferrite: initrd: pid 1 after 4086 ms";
        assert_eq!(number_in(line, "pid 1 after ").unwrap(), 4086.0);
        assert_eq!(number_in("bench: exec 12.34 5.6", "exec ").unwrap(), 12.34);
        assert_eq!(number_in("VmRSS:     720 kB", "VmRSS:").unwrap(), 720.0);
        assert!(number_in(line, "after: ").is_err());
        assert!(number_in("after x", "after ").is_err());
    }
}

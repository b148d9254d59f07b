//! The table at the end: sizes, times, memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Rows in the order they were measured, under their headings.
#[derive(Default)]
pub struct Figures(Vec<(&'static str, Vec<(String, String)>)>);

impl Figures {
    /// Adds a row below `heading`.
    pub fn add(&mut self, heading: &'static str, name: impl Into<String>, value: String) {
        let row = (name.into(), value);
        match self.0.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, rows)) => rows.push(row),
            None => self.0.push((heading, vec![row])),
        }
    }

    /// The table, names to the left, values to the right.
    pub fn table(&self) -> String {
        let rows = || self.0.iter().flat_map(|(_, rows)| rows);
        let names = rows().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let values = rows().map(|(_, value)| value.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (heading, rows) in &self.0 {
            text += &format!("{heading}\n");
            for (name, value) in rows {
                text += &format!("  {name:<names$}  {value:>values$}\n");
            }
        }
        text
    }
}

/// Bytes in decimal megabytes or kilobytes.
pub fn size(bytes: u64) -> String {
    if bytes < 10_000_000 {
        format!("{:.0} kB", bytes as f64 / 1e3)
    } else {
        format!("{:.1} MB", bytes as f64 / 1e6)
    }
}

/// Seconds with one decimal.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A file's length in bytes.
pub fn length(path: &Path) -> Result<u64> {
    Ok(path.metadata().with_context(|| path.display().to_string())?.len())
}

/// How long a file is after `zstd -LEVEL`, in bytes.
pub fn compressed(path: &Path, level: u32) -> Result<u64> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut zstd = Command::new("zstd")
        .args(["--quiet", "--threads=0", &format!("-{level}"), "--stdout"])
        .stdin(file)
        .stdout(Stdio::piped())
        .spawn()
        .context("zstd cannot be started; install the package zstd")?;
    let mut out = zstd.stdout.take().context("zstd has no output")?;
    let (mut length, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match out.read(&mut buffer).context("zstd")? {
            0 => break,
            read => length += read as u64,
        }
    }
    ensure!(zstd.wait().context("zstd")?.success(), "zstd failed on {}", path.display());
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_under_their_heading() {
        let mut figures = Figures::default();
        figures.add("Sizes", "img", size(355_000_000));
        figures.add("Times", "build", seconds(Duration::from_millis(8840)));
        figures.add("Sizes", "init", size(897_320));
        let expected = "Sizes\n  img    355.0 MB\n  init     897 kB\nTimes\n  build     8.8 s\n";
        assert_eq!(figures.table(), expected);
    }
}

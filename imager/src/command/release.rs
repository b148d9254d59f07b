//! `imager release`: raises the version and the sequence of an image file, and touches nothing else
//! in it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use atomic_file::NewFile;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use toml::Spanned;

use crate::config::Image;
use crate::config::image_file;

/// Arguments of `imager release`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  imager release patch                        1.4.2 becomes 1.4.3, the sequence one more
  imager release minor --image product.toml   1.4.2 becomes 1.5.0

Then build, and publish.")]
pub struct ReleaseArgs {
    /// Which part of MAJOR.MINOR.PATCH to raise
    part: Part,
    /// The image file; else the only one in the current folder
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

/// A part of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What is compatible and mends
    Patch,
    /// What is compatible and new
    Minor,
    /// What is not compatible
    Major,
}

/// The two values, and where they stand.
#[derive(Deserialize)]
struct Numbers {
    version: Spanned<String>,
    sequence: Spanned<u64>,
}

/// Runs `imager release`.
pub fn run(args: ReleaseArgs) -> Result<()> {
    let path = image_file::named_or_only(args.image)?;
    let image = Image::load(&path)?;
    let text =
        fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let raised = raised(&text, args.part).with_context(|| path.display().to_string())?;
    replace(&path, &raised)?;
    let now = Image::load(&path)?;
    println!(
        "{}: {} (sequence {}) is now {} (sequence {})",
        path.display(),
        image.version,
        image.sequence(),
        now.version,
        now.sequence()
    );
    Ok(())
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let cannot = || format!("{}: cannot be written", path.display());
    let mode = fs::metadata(path).with_context(cannot)?.permissions().mode();
    let mut new = NewFile::new(path)?;
    new.file().write_all(text.as_bytes()).with_context(cannot)?;
    new.finish_as(mode & 0o777).with_context(cannot)?;
    new.persist().with_context(cannot)
}

/// The text of an image file with both numbers raised.
fn raised(text: &str, part: Part) -> Result<String> {
    let numbers: Numbers = toml::from_str(text)?;
    let version = next_version(numbers.version.get_ref(), part)?;
    let sequence = numbers.sequence.get_ref().checked_add(1).context("`sequence` is the last")?;
    let mut changes = [
        (numbers.version.span(), format!("\"{version}\"")),
        (numbers.sequence.span(), sequence.to_string()),
    ];
    // From behind, so that what is in front stays where it is.
    changes.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, new) in changes {
        text.replace_range(span, &new);
    }
    Ok(text)
}

fn next_version(version: &str, part: Part) -> Result<String> {
    let numbers: Option<Vec<u64>> = version.split('.').map(|n| n.parse().ok()).collect();
    let Some([major, minor, patch]) = numbers.as_deref() else {
        bail!(
            "version {version:?} is not MAJOR.MINOR.PATCH: raise `version` and `sequence` by hand"
        );
    };
    let one_more = |number: &u64| number.checked_add(1).context("the version has no next one");
    Ok(match part {
        Part::Patch => format!("{major}.{minor}.{}", one_more(patch)?),
        Part::Minor => format!("{major}.{}.0", one_more(minor)?),
        Part::Major => format!("{}.0.0", one_more(major)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_are_raised_and_everything_else_stays() {
        let text = "# version = \"1\"\nname = \"x\"\nsequence = 9 # orders them\n\nversion = '1.4.2' # for people\n[[workload]]\nversion = \"0.0.1\"\n";
        let expected = "# version = \"1\"\nname = \"x\"\nsequence = 10 # orders them\n\nversion = \"1.4.3\" # for people\n[[workload]]\nversion = \"0.0.1\"\n";
        assert_eq!(raised(text, Part::Patch).unwrap(), expected);
        assert!(raised(text, Part::Minor).unwrap().contains("\nversion = \"1.5.0\" #"));
        assert!(raised(text, Part::Major).unwrap().contains("\nversion = \"2.0.0\" #"));
    }

    #[test]
    fn a_version_of_another_form_is_left_to_its_owner() {
        for version in ["1.0", "1.0.0-rc1", "v1.0.0", "1.0.18446744073709551615"] {
            assert!(next_version(version, Part::Patch).is_err(), "{version}");
        }
    }
}

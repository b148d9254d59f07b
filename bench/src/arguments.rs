//! The command line.

use anyhow::{Context, Result, bail, ensure};

/// More runs than this are a typing error.
const MAX_RUNS: usize = 1000;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Runs of which a figure is the median.
    pub runs: usize,
    only: Vec<String>,
}

impl Arguments {
    /// Whether this part is to be measured.
    pub fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// Parses `[--] [--runs N] [PART...]`, as `just bench -- PART` hands it on too. Fails on anything else, and on parts that are not in `parts`.
pub fn parse(arguments: impl Iterator<Item = String>, parts: &[&str]) -> Result<Arguments> {
    let mut parsed = Arguments { runs: 5, only: Vec::new() };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            continue;
        }
        let value = match argument.split_once('=') {
            Some(("--runs", value)) => Some(value.to_owned()),
            _ if argument == "--runs" => Some(arguments.next().context("--runs needs a number")?),
            _ => None,
        };
        if let Some(value) = value {
            parsed.runs = value.parse().with_context(|| format!("--runs {value:?}: no number"))?;
            ensure!(
                (1..=MAX_RUNS).contains(&parsed.runs),
                "--runs {value}: expected 1 to {MAX_RUNS}"
            );
        } else if parts.contains(&argument.as_str()) {
            parsed.only.push(argument);
        } else {
            bail!("unknown argument {argument:?}; usage: bench [--runs N] [{}]", parts.join("|"));
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Arguments> {
        parse(words.iter().map(|word| (*word).to_owned()), &["boot", "sizes"])
    }

    #[test]
    fn without_parts_all_are_measured() {
        let all = parsed(&[]).unwrap();
        assert_eq!((all.runs, all.wants("boot"), all.wants("sizes")), (5, true, true));
        let one = parsed(&["--runs", "2", "boot"]).unwrap();
        assert_eq!((one.runs, one.wants("boot"), one.wants("sizes")), (2, true, false));
        assert_eq!(parsed(&["--", "boot"]).unwrap(), parsed(&["boot"]).unwrap());
        assert_eq!(parsed(&["--runs=7"]).unwrap().runs, 7);
    }

    #[test]
    fn wrong_arguments_are_told() {
        for wrong in [&["--runs"][..], &["--runs", "0"], &["--runs", "x"], &["--what"], &["other"]]
        {
            assert!(parsed(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}

//! From a TOML file to a checked type, with errors that name the file, the line and the next step.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// No image or board file is larger; a bigger one is something else given by mistake.
const MAX_FILE: u64 = 1 << 20;

/// A TOML file's text together with its path, so that an error can point into it.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    text: String,
}

/// One finding in a [`Document`]: `file:line: message`, then the line itself.
#[derive(Debug)]
pub struct Finding {
    path: PathBuf,
    line: Option<(usize, String)>,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.line {
            Some((number, text)) => {
                write!(f, "{}:{}: {}", self.path.display(), number, self.message)?;
                write!(f, "\n  {} | {}", number, text.trim_end())
            }
            None => write!(f, "{}: {}", self.path.display(), self.message),
        }
    }
}

impl std::error::Error for Finding {}

impl Finding {
    /// The number of the line it is about, from 1.
    pub fn line(&self) -> Option<usize> {
        self.line.as_ref().map(|(number, _)| *number)
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The key that is not there, where that is what is wrong.
    pub fn missing_key(&self) -> Option<&str> {
        self.message.strip_prefix('`')?.strip_suffix("` is missing")
    }

    /// The key that was probably meant, for an unknown one.
    pub fn nearest_key(&self) -> Option<&str> {
        self.message.split_once("did you mean `")?.1.split('`').next()
    }
}

impl Document {
    /// Reads the file at `path`; fails when it is missing, larger than 1 MiB or not UTF-8.
    pub fn read(path: &Path) -> Result<Self> {
        let size = fs::metadata(path)
            .with_context(|| format!("{}: cannot be read", path.display()))?
            .len();
        if size > MAX_FILE {
            bail!(
                "{}: {} bytes is too large for a TOML file (at most {} bytes); is it the right file?",
                path.display(),
                size,
                MAX_FILE
            );
        }
        let text = fs::read_to_string(path)
            .with_context(|| format!("{}: cannot be read as text", path.display()))?;
        Ok(Self::new(path, text))
    }

    /// A document of `text` that says it comes from `path`.
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_path_buf(), text }
    }

    /// The document's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads the document as a `T`. Errors carry the line and, for an unknown key, the nearest
    /// known one.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Finding> {
        toml::from_str(&self.text).map_err(|error| self.mistake(&error))
    }

    fn mistake(&self, error: &toml::de::Error) -> Finding {
        if let Err(error) = toml::from_str::<toml::Table>(&self.text) {
            let (line, what) = wording::no_toml(&self.text, &error);
            return self.at_line(line, &what);
        }
        let what = wording::plain(error.message());
        match error.span() {
            Some(span) => self.at(self.key_behind(span, error.message()), what),
            None => self.whole(what),
        }
    }

    /// Of a table that is read by its `kind`, serde knows the whole and not the key that it did not
    /// know: that one is looked for behind the table's start.
    fn key_behind(&self, span: Range<usize>, message: &str) -> Range<usize> {
        let unknown =
            message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let table = self.text.get(span.clone()).unwrap_or_default();
        let (Some(key), true) = (unknown, table.starts_with('[')) else { return span };
        let mut at = span.start;
        for line in self.text[span.start..].split_inclusive('\n') {
            let rest = line.trim_start().strip_prefix(key).map(str::trim_start);
            if rest.is_some_and(|rest| rest.starts_with('=')) {
                return at..at + line.len();
            }
            at += line.len();
        }
        span
    }

    /// A finding at a byte range of the text.
    pub fn at(&self, span: Range<usize>, message: impl Into<String>) -> Finding {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or(&self.text);
        let number = before.matches('\n').count() + 1;
        let text = self.text.lines().nth(number - 1).unwrap_or("").to_owned();
        Finding { path: self.path.clone(), line: Some((number, text)), message: message.into() }
    }

    /// A finding about a line of the text, counted from 1.
    pub fn at_line(&self, number: usize, message: &str) -> Finding {
        let text = self.text.lines().nth(number.saturating_sub(1)).unwrap_or("").to_owned();
        Finding { path: self.path.clone(), line: Some((number, text)), message: message.to_owned() }
    }

    /// A finding about the file as a whole.
    pub fn whole(&self, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line: None, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        hostname: Option<String>,
        version: Option<u32>,
    }

    fn error(text: &str) -> String {
        let document = Document::new(Path::new("a.toml"), text.to_owned());
        document.parse::<Sample>().unwrap_err().to_string()
    }

    #[test]
    fn unknown_key_names_file_line_and_the_nearest_key() {
        let message = error("version = 1\nhostnam = \"x\"\n");
        assert_eq!(
            message,
            "a.toml:2: unknown key `hostnam`; did you mean `hostname`?\n  2 | hostnam = \"x\""
        );
    }

    #[test]
    fn unknown_key_like_no_other_lists_the_known_ones() {
        assert!(
            error("qqq = 1")
                .starts_with("a.toml:1: unknown key `qqq`; known here: hostname, version")
        );
    }

    #[test]
    fn wrong_type_and_broken_syntax_name_the_line() {
        let wrong = error("\nversion = \"one\"");
        let said = "a.toml:2: expected a whole number, 0 or more, not the text \"one\"";
        assert!(wrong.starts_with(said), "{wrong}");
        assert!(error("version = [\n").starts_with("a.toml:"));
    }

    #[test]
    fn missing_file_is_named() {
        let error = Document::read(Path::new("does-not-exist.toml")).unwrap_err();
        assert!(error.to_string().contains("does-not-exist.toml"));
    }
}

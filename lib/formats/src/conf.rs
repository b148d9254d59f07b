//! Conf form: the line-based text that the device parses, small enough to be read by PID 1.
//!
//! `key value…` lines, the first space ends the key; `[kind name]` starts a section; no comments,
//! no quoting. The whole form is bounded: see the constants.

use crate::{Error, Result};

/// The longest conf text, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// The most lines of a conf text.
pub const MAX_LINES: usize = 2048;
/// The longest line, in bytes.
pub const MAX_LINE: usize = 4096;

/// One `key value` line. The value may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// 1-based line number, for error messages.
    pub number: usize,
    /// `[a-z0-9-]+`.
    pub key: &'a str,
    /// What follows the first space.
    pub value: &'a str,
}

impl Line<'_> {
    /// An error that names this line.
    pub fn error(&self, what: &str) -> Error {
        Error::new(["line ", &self.number.to_string(), ", ", self.key, ": ", what].concat())
    }

    /// The value as an unsigned decimal number without sign, spaces or leading zeros.
    pub fn number(&self) -> Result<u64> {
        decimal(self.value).ok_or_else(|| self.error("not a decimal number"))
    }

    /// The value as `yes` or `no`.
    pub fn yes_no(&self) -> Result<bool> {
        match self.value {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(self.error("must be yes or no")),
        }
    }
}

/// The head lines (before the first section) and the sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf<'a> {
    /// Lines before the first section.
    pub head: Vec<Line<'a>>,
    /// The sections, in order.
    pub sections: Vec<Section<'a>>,
}

/// A `[kind name]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// The word after `[`.
    pub kind: &'a str,
    /// The word before `]`.
    pub name: &'a str,
    /// The section's lines.
    pub lines: Vec<Line<'a>>,
}

/// The value of the only line with this key.
///
/// Fails when there is none or more than one.
pub fn one<'a, 'l>(lines: &'l [Line<'a>], key: &str) -> Result<&'l Line<'a>> {
    let mut found = lines.iter().filter(|line| line.key == key);
    match (found.next(), found.next()) {
        (Some(line), None) => Ok(line),
        (None, _) => Err(Error::new(["no line `", key, "`"].concat())),
        (Some(_), Some(again)) => Err(again.error("stands twice")),
    }
}

/// The value of the only line with this key, or nothing without one.
///
/// Fails when there is more than one.
pub fn optional<'a, 'l>(lines: &'l [Line<'a>], key: &str) -> Result<Option<&'l Line<'a>>> {
    match lines.iter().any(|line| line.key == key) {
        true => one(lines, key).map(Some),
        false => Ok(None),
    }
}

/// The lines with this key, in order.
pub fn each<'a, 'l>(lines: &'l [Line<'a>], key: &'l str) -> impl Iterator<Item = &'l Line<'a>> {
    lines.iter().filter(move |line| line.key == key)
}

/// The values of the lines with this key, in order.
pub fn values(lines: &[Line<'_>], key: &str) -> Vec<String> {
    each(lines, key).map(|line| line.value.to_string()).collect()
}

/// Parses conf form. `first` must be its whole first line, which names the format and its version.
pub fn parse<'a>(text: &'a [u8], first: &str) -> Result<Conf<'a>> {
    if text.len() > MAX_BYTES {
        return Err(Error::new("longer than 65536 bytes"));
    }
    let text = std::str::from_utf8(text).map_err(|_| Error::new("not UTF-8"))?;
    let body =
        text.strip_suffix('\n').ok_or_else(|| Error::new("does not end with a line feed"))?;
    let mut lines = body.split('\n').enumerate();
    if lines.next().map(|(_, line)| line) != Some(first) {
        return Err(Error::new(["first line is not `", first, "`"].concat()));
    }
    let mut conf = Conf { head: Vec::new(), sections: Vec::new() };
    for (index, text) in lines {
        if index >= MAX_LINES {
            return Err(Error::new("more than 2048 lines"));
        }
        let number = index + 1;
        if let Some((kind, name)) = section(text) {
            conf.sections.push(Section { kind, name, lines: Vec::new() });
            continue;
        }
        let line = key_value(text, number)?;
        match conf.sections.last_mut() {
            Some(section) => section.lines.push(line),
            None => conf.head.push(line),
        }
    }
    Ok(conf)
}

fn section(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.strip_suffix(']')?.split_once(' ')
}

fn key_value(text: &str, number: usize) -> Result<Line<'_>> {
    let (key, value) = text.split_once(' ').unwrap_or((text, ""));
    let line = Line { number, key, value };
    let well_formed = !key.is_empty()
        && key.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if !well_formed || text.len() > MAX_LINE || value.contains('\0') {
        return Err(Error::new(["line ", &number.to_string(), " is not `key value`"].concat()));
    }
    Ok(line)
}

/// Parses a decimal number in its only spelling: digits, no leading zero.
pub fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let canonical = text.len() == 1 || !text.starts_with('0');
    if digits && canonical { text.parse().ok() } else { None }
}

/// Writes conf form.
#[derive(Debug, Clone)]
pub struct Writer(String);

impl Writer {
    /// Starts with the line that names the format.
    pub fn new(first: &str) -> Self {
        Writer([first, "\n"].concat())
    }

    /// Starts with nothing: the body of a message whose first line is not ours to write.
    pub fn empty() -> Self {
        Writer(String::new())
    }

    /// Adds a `key value` line.
    ///
    /// Panics when the value holds a line feed: callers validate what people typed before.
    pub fn line(&mut self, key: &str, value: &str) -> &mut Self {
        assert!(!value.contains('\n') && !value.contains('\0'), "a conf value is one line");
        self.0.push_str(key);
        if !value.is_empty() {
            self.0.push(' ');
            self.0.push_str(value);
        }
        self.0.push('\n');
        self
    }

    /// Adds a line with this key for each value.
    pub fn lines(&mut self, key: &str, values: &[String]) -> &mut Self {
        for value in values {
            self.line(key, value);
        }
        self
    }

    /// Adds a line with `yes` or `no`.
    pub fn yes_no(&mut self, key: &str, yes: bool) -> &mut Self {
        self.line(key, if yes { "yes" } else { "no" })
    }

    /// Adds a line with a number.
    pub fn number(&mut self, key: &str, number: u64) -> &mut Self {
        self.line(key, &number.to_string())
    }

    /// Starts a `[kind name]` section.
    pub fn section(&mut self, kind: &str, name: &str) -> &mut Self {
        for part in ["[", kind, " ", name, "]\n"] {
            self.0.push_str(part);
        }
        self
    }

    /// The finished text.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_written_is_read() {
        let mut writer = Writer::new("test 1");
        writer
            .line("name", "demo")
            .line("empty", "")
            .section("workload", "face")
            .line("arg", "a b  c");
        let text = writer.finish();
        let conf = parse(text.as_bytes(), "test 1").unwrap();
        assert_eq!(one(&conf.head, "name").unwrap().value, "demo");
        assert_eq!(one(&conf.head, "empty").unwrap().value, "");
        assert_eq!(conf.sections[0].name, "face");
        assert_eq!(conf.sections[0].lines[0].value, "a b  c");
    }

    #[test]
    fn refuses_what_is_not_conf_form() {
        for text in [
            "",
            "test 1",
            "test 2\n",
            "test 1\n\n",
            "test 1\nA b\n",
            "test 1\n x\n",
            "test 1\nkey a\0b\n",
        ] {
            assert!(parse(text.as_bytes(), "test 1").is_err(), "{text:?}");
        }
        let long = format!("test 1\nkey {}\n", "x".repeat(MAX_LINE));
        assert!(parse(long.as_bytes(), "test 1").is_err());
        let many = format!("test 1\n{}", "k\n".repeat(MAX_LINES));
        assert!(parse(many.as_bytes(), "test 1").is_err());
    }

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
        for text in ["", "00", "01", "+1", "-1", "1 ", "18446744073709551616"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        let conf = parse(b"t\na 1\na 2\n", "t").unwrap();
        assert!(one(&conf.head, "a").is_err());
        assert!(one(&conf.head, "b").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = parse(&bytes, "x");
        }
    }
}

//! Mistakes in the TOML files that people write, in plain words: the TOML reader and serde speak of
//! Rust's types, which whoever trained the model or describes the device need not know.
//!
//! ```
//! #[derive(Debug, serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Camera {
//!     width: u32,
//! }
//!
//! let text = "width = \"wide\"\n";
//! let table: toml::Table = toml::from_str(text).unwrap();
//! let error = table.try_into::<Camera>().unwrap_err();
//! assert_eq!(
//!     wording::meaning(text, &error),
//!     "line 1: width: expected a whole number, 0 or more, not the text \"wide\""
//! );
//! ```

mod suggestion;

pub use suggestion::nearest;

use toml::de::Error;

/// What `text` has that is no TOML, with its line.
pub fn syntax(text: &str, error: &Error) -> String {
    let (number, what) = no_toml(text, error);
    format!("line {number}: {what}")
}

/// What `text` has that is no TOML, and in which line, from 1.
pub fn no_toml(text: &str, error: &Error) -> (usize, String) {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..start).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let message = error.message();
    let value = line.split_once('=').map(|(_, value)| value.split('#').next().unwrap_or(value));
    let no_value = ["invalid", "number", "cannot parse", "string values must be quoted"];
    let what = match value.map(str::trim) {
        Some(value) if value.parse::<f64>().is_ok() && message.starts_with("invalid") => {
            format!("`{value}` is too large, or not written as a number is")
        }
        Some(value) if no_value.iter().any(|start| message.starts_with(start)) => format!(
            "`{value}` is no value: text stands in quotes, a number is like 1 or 0.5, a switch is true or false"
        ),
        _ if message == "duplicate key" => {
            let key = line.split('=').next().unwrap_or_default().trim();
            format!("`{key}` is there twice")
        }
        _ => message.to_owned(),
    };
    (number, what)
}

/// What `text`, which is TOML, has that the file it is meant to be has not, with its key and its
/// line, where that can be told. `error` is of a table, which has lost its lines.
pub fn meaning(text: &str, error: &Error) -> String {
    let shown = error.to_string();
    let message = shown.lines().next().unwrap_or_default();
    // `in KEY` is there once for each level that was read by itself, the innermost first.
    let keys = shown.lines().filter_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
    let mut path: Vec<&str> = keys.flat_map(|keys| keys.rsplit('.')).collect();
    path.reverse();
    let table = match path.as_slice() {
        [] => String::new(),
        path => format!(" in [{}]", path.join(".")),
    };
    let what = match Mistake::of(message) {
        Mistake::UnknownKey { key, known } => {
            path.push(key);
            format!("unknown key `{key}`{table}{}", suggested(key, &known))
        }
        Mistake::MissingKey(key) => format!("`{key}` is missing{table}"),
        mistake => format!("{}: {}", path.join("."), mistake.plain()),
    };
    match line_of(text, &path) {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

/// One message of serde, without a place: the same in plain words.
pub fn plain(message: &str) -> String {
    Mistake::of(message).plain()
}

/// What serde's derived readers complain of.
enum Mistake<'a> {
    UnknownKey { key: &'a str, known: Vec<&'a str> },
    MissingKey(&'a str),
    UnknownValue { value: &'a str, known: Vec<&'a str> },
    WrongValue(&'a str),
}

impl<'a> Mistake<'a> {
    /// All of serde's messages quote the word it is about first, then what is known.
    fn of(message: &'a str) -> Mistake<'a> {
        let mut quoted = message.split('`').skip(1).step_by(2);
        let word = quoted.next().unwrap_or_default();
        let known = || quoted.filter(|known| !known.is_empty()).collect();
        if message.starts_with("unknown field") {
            Mistake::UnknownKey { key: word, known: known() }
        } else if message.starts_with("missing field") {
            Mistake::MissingKey(word)
        } else if message.starts_with("unknown variant") {
            Mistake::UnknownValue { value: word, known: known() }
        } else {
            Mistake::WrongValue(message)
        }
    }

    fn plain(&self) -> String {
        match self {
            Mistake::UnknownKey { key, known } => {
                format!("unknown key `{key}`{}", suggested(key, known))
            }
            Mistake::MissingKey(key) => format!("`{key}` is missing"),
            Mistake::UnknownValue { value, known } => {
                format!("`{value}` is not known{}", suggested(value, known))
            }
            Mistake::WrongValue(message) => wrong_value(message),
        }
    }
}

/// The nearest of the known words, or all of them.
fn suggested(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(known) => format!("; did you mean `{known}`?"),
        None => format!("; known here: {}", known.join(", ")),
    }
}

/// serde's `invalid type: GIVEN, expected WANTED` and its like.
fn wrong_value(message: &str) -> String {
    let given_and_wanted = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .and_then(|rest| rest.rsplit_once(", expected "));
    match given_and_wanted {
        Some((given, expected)) => format!("expected {}, not {}", wanted(expected), has(given)),
        None if message.contains("overflowed") => "the number is too large".into(),
        None if message.starts_with("wanted string or table") => "expected text in quotes".into(),
        None => message.to_owned(),
    }
}

fn wanted(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a string" | "path string" | "string" | "string or map" => "text in quotes".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list in brackets".into(),
        "a map" => "a table".into(),
        other => match other.strip_prefix("an array of length ") {
            Some(count) => format!("{count} numbers in brackets"),
            None if other.starts_with("struct ") => "a table".into(),
            None => other.to_owned(),
        },
    }
}

fn has(given: &str) -> String {
    let bare = ["integer `", "floating point `", "boolean `"]
        .iter()
        .find_map(|start| given.strip_prefix(start)?.strip_suffix('`'));
    match (bare, given) {
        (Some(value), _) => value.to_owned(),
        (_, "sequence") => "a list".into(),
        (_, "map") => "a table".into(),
        _ if given.starts_with("string \"") => given.replacen("string", "the text", 1),
        _ => given.to_owned(),
    }
}

/// The line, from 1, in which a key is set; of the nearest table around it, where it is not there.
fn line_of(text: &str, path: &[&str]) -> Option<usize> {
    let mut table = String::new();
    let mut places = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            table = name.trim().to_owned();
            places.push((table.clone(), number));
        } else if let Some((key, _)) = line.split_once('=') {
            let key = key.trim().trim_matches(['"', '\'']);
            places.push(match table.as_str() {
                "" => (key.to_owned(), number),
                table => (format!("{table}.{key}"), number),
            });
        }
    }
    (1..=path.len()).rev().find_map(|length| {
        let wanted = path[..length].join(".");
        places.iter().find(|(place, _)| *place == wanted).map(|(_, number)| *number)
    })
}

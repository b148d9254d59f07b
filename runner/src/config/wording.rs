//! What is wrong with a `model.toml`, in plain words and with its line: the TOML reader and serde
//! speak of Rust's types, which whoever trained the model need not know.

/// What `text` has that is no TOML.
pub fn syntax(text: &str, error: &toml::de::Error) -> String {
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
    format!("line {number}: {what}")
}

/// What `text`, which is TOML, has that is no `model.toml`.
pub fn meaning(text: &str, error: &toml::de::Error) -> String {
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
    let mut quoted = message.split('`').skip(1).step_by(2);
    let first = quoted.next().unwrap_or_default();
    let what = if message.starts_with("unknown field") {
        path.push(first);
        format!("unknown key `{first}`{table}{}", suggestion(first, &quoted.collect::<Vec<_>>()))
    } else if message.starts_with("missing field") {
        format!("`{first}` is missing{table}")
    } else if message.starts_with("unknown variant") {
        let known: Vec<&str> = quoted.collect();
        format!("{}: `{first}` is not known{}", path.join("."), suggestion(first, &known))
    } else {
        format!("{}: {}", path.join("."), wrong_value(message))
    };
    match line_of(text, &path) {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

/// The nearest of the known words, or all of them.
fn suggestion(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|known| (strsim::jaro_winkler(word, known), known));
    let best = near.filter(|(score, _)| *score >= 0.75).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((_, known)) => format!("; did you mean `{known}`?"),
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

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// Words of Rust, of serde and of the TOML reader.
    const FORBIDDEN: [&str; 14] = [
        "nan", "non-zero", "u32", "usize", "u64", "i32", "f32", "struct", "variant", "field",
        "sequence", "map", "enum", "invalid",
    ];

    const WHOLE: &str = "name = \"x\"\n[input]\nkind = \"picture\"\nwidth = 8\nheight = 8\nrange = [0, 1]\n[decoder]\nkind = \"classification\"\n[source]\nhttp = \"127.0.0.1:1\"\n";

    #[test]
    fn every_mistake_is_told_in_plain_words_with_its_line() {
        for (from, to, said) in [
            ("width", "widht", "line 4: unknown key `widht` in [input]; did you mean `width`?"),
            ("name =", "nmae =", "line 1: unknown key `nmae`; did you mean `name`?"),
            ("http", "htpp", "line 10: unknown key `htpp` in [source]; did you mean `http`?"),
            ("http", "qqq", "line 10: unknown key `qqq` in [source]; known here: folder"),
            ("width = 8\n", "", "line 2: `width` is missing in [input]"),
            ("name = \"x\"\n", "", "`name` is missing"),
            ("kind = \"picture\"\n", "", "line 2: `kind` is missing in [input]"),
            (
                "\"picture\"",
                "\"pictur\"",
                "input.kind: `pictur` is not known; did you mean `picture`?",
            ),
            ("\"classification\"", "\"clasification\"", "did you mean `classification`?"),
            (
                "width = 8",
                "width = -8",
                "line 4: input.width: expected a whole number, 0 or more, not -8",
            ),
            (
                "width = 8",
                "width = 8.5",
                "input.width: expected a whole number, 0 or more, not 8.5",
            ),
            (
                "width = 8",
                "width = \"8\"",
                "input.width: expected a whole number, 0 or more, not the text \"8\"",
            ),
            ("width = 8", "width = eight", "line 4: `eight` is no value: text stands in quotes"),
            ("[0, 1]", "[0, none]", "line 6: `[0, none]` is no value"),
            ("[0, 1]", "[0]", "line 6: input.range: expected 2 numbers in brackets, not 1"),
            ("[0, 1]", "1", "line 6: input.range: expected 2 numbers in brackets, not 1"),
            ("\"x\"", "x", "line 1: `x` is no value"),
            ("\"x\"", "5", "line 1: name: expected text in quotes, not 5"),
            (
                "name = \"x\"",
                "name = \"x\"\ndelegate = \"gpu\"",
                "line 2: delegate: `gpu` is not known; known here: xnnpack, none",
            ),
            (
                "name = \"x\"",
                "name = \"x\"\nstateful = 1",
                "line 2: stateful: expected true or false, not 1",
            ),
            ("width = 8", "width = 8\nwidth = 9", "line 5: `width` is there twice"),
            (
                "width = 8",
                "width = 99999999999999999999",
                "line 4: `99999999999999999999` is too large",
            ),
            (
                "[source]",
                "[[source]]",
                "[[source]]: there is one table of this name; write [source]",
            ),
        ] {
            let text = WHOLE.replacen(from, to, 1);
            let error = Config::parse(&text).unwrap_err();
            assert!(error.contains(said), "{to:?} said: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            let words = |forbidden: &&&str| {
                error
                    .split(|c: char| !c.is_alphanumeric() && c != '-')
                    .any(|word| word == **forbidden)
            };
            assert_eq!(FORBIDDEN.iter().find(words), None, "{error}");
        }
    }
}

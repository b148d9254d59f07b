//! Whatever is wrong with a `model.toml` is told in plain words.

use super::Config;

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
        ("\"picture\"", "\"pictur\"", "input.kind: `pictur` is not known; did you mean `picture`?"),
        ("\"classification\"", "\"clasification\"", "did you mean `classification`?"),
        (
            "width = 8",
            "width = -8",
            "line 4: input.width: expected a whole number, 0 or more, not -8",
        ),
        ("width = 8", "width = 8.5", "input.width: expected a whole number, 0 or more, not 8.5"),
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
        ("[source]", "[[source]]", "[[source]]: there is one table of this name; write [source]"),
    ] {
        let text = WHOLE.replacen(from, to, 1);
        let error = Config::parse(&text).unwrap_err();
        assert!(error.contains(said), "{to:?} said: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        let words = |forbidden: &&&str| {
            error.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == **forbidden)
        };
        assert_eq!(FORBIDDEN.iter().find(words), None, "{error}");
    }
}

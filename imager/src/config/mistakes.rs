//! Whatever is wrong in an image or a board file is told in words that its writer knows.

use std::fs;
use std::path::{Path, PathBuf};

use toml::Value;

use super::{Board, Image};

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Words of Rust, of serde, of the TOML reader and of the C library.
const FORBIDDEN: [&str; 18] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "invalid float",
    "invalid integer",
    "unknown field",
    "missing field",
    "unknown variant",
    "struct ",
    "non-zero",
    "u8",
    "u16",
    "u32",
    "u64",
    "usize",
    "os error",
    "data did not match",
    "Some(",
];

/// Values of every type that TOML has; few keys take more than one or two of them.
fn wrong_values() -> Vec<Value> {
    let text = "v = [\"\", \"a b\\u0007\", -1, 0, 99999999999, 1.5, nan, true, [], [1], {}, { a = 1 }, 1979-05-27]";
    let table: toml::Table = toml::from_str(text).unwrap();
    table["v"].as_array().unwrap().clone()
}

/// Each way from the top to a value or a table: keys and places in lists.
fn places(value: &Value, here: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => {
            (0..).zip(list).map(|(at, value): (u32, _)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (step, child) in children {
        here.push(step);
        found.push(here.clone());
        places(child, here, found);
        here.pop();
    }
}

fn at<'a>(value: &'a mut Value, place: &[String]) -> &'a mut Value {
    place.iter().fold(value, |value, step| match value {
        Value::Array(list) => &mut list[step.parse::<usize>().unwrap()],
        value => &mut value[step.as_str()],
    })
}

/// The text with one value after the other replaced, and with an unknown key in each table.
fn mistakes(text: &str) -> Vec<String> {
    let whole = Value::Table(toml::from_str(text).unwrap());
    let mut found = vec![Vec::new()];
    places(&whole, &mut Vec::new(), &mut found);
    let mut texts = Vec::new();
    for place in &found {
        let mut change = |change: &dyn Fn(&mut Value)| {
            let mut whole = whole.clone();
            change(at(&mut whole, place));
            texts.extend(toml::to_string(&whole));
        };
        if !place.is_empty() {
            wrong_values().iter().for_each(|wrong| change(&|value| *value = wrong.clone()));
        }
        change(&|value| {
            if let Value::Table(table) = value {
                table.insert("qqq".into(), Value::Boolean(true));
            }
        });
        change(&|value| {
            if let Value::Table(table) = value {
                let first = table.keys().next().cloned();
                first.map(|key| table.remove(&key));
            }
        });
    }
    texts
}

fn check(file: &Path, load: &dyn Fn(&Path) -> Option<String>) {
    let text = fs::read_to_string(file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(file.file_name().unwrap());
    let (mut refused, all) = (0, mistakes(&text));
    for changed in &all {
        fs::write(&copy, changed).unwrap();
        let Some(said) = load(&copy) else { continue };
        refused += 1;
        // The line of the file is the writer's own.
        let words: String = said.lines().filter(|line| !line.contains(" | ")).collect();
        let leak = FORBIDDEN.iter().find(|word| words.contains(*word));
        assert_eq!(leak, None, "{}: {said}\n{changed}", file.display());
        assert!(said.contains(copy.file_name().unwrap().to_str().unwrap()), "{said}");
    }
    assert!(refused * 2 > all.len(), "{}: {refused} of {}", file.display(), all.len());
}

fn failure<T>(result: anyhow::Result<T>) -> Option<String> {
    result.err().map(|error| format!("{error:#}"))
}

#[test]
fn no_mistake_in_an_image_file_is_told_in_words_of_rust() {
    let file = Path::new(PROJECT).join("demo/demo.toml");
    check(&file, &|copy| failure(Image::load(copy)));
}

#[test]
fn no_mistake_in_a_board_file_is_told_in_words_of_rust() {
    let folder = fs::read_dir(Path::new(PROJECT).join("board-configs")).unwrap();
    let files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    let boards = files.iter().filter(|file| file.extension().is_some_and(|end| end == "toml"));
    for file in boards {
        check(file, &|copy| failure(Board::load(copy.to_str().unwrap(), copy.parent().unwrap())));
    }
}

//! Everything that is wrong in an image file, not only the first thing.
//!
//! Reading ends at the first mistake. So each one is taken out of a copy of the text (a misspelt key
//! is put right, anything else gives way), and the copy is read again, until there is nothing left
//! to find. Lines keep their numbers.

use std::path::Path;

use anyhow::Result;

use super::Image;
use super::diagnostics::{Document, Finding};

/// More mistakes than anybody wants to read at once.
const MOST: usize = 50;

/// What keys get that must be there, once what was there is told to be wrong.
const STAND_INS: [(&str, &str); 6] = [
    ("name", "\"stand-in-LINE\""),
    ("version", "\"0\""),
    ("sequence", "9223372036854775807"),
    ("command", "[\"/stand-in\"]"),
    ("path", "\"/stand-in\""),
    ("source", "\"stand-in\""),
];

/// The image, if its file has no mistake, and every mistake that was found.
pub fn read(path: &Path) -> Result<(Option<Image>, Vec<String>)> {
    let original = Document::read(path)?;
    let mut text = original.text().to_owned();
    let mut found: Vec<String> = Vec::new();
    while found.len() < MOST {
        let document = Document::new(path, text.clone());
        let finding = match Image::read(&document, path) {
            Ok(image) => return Ok((found.is_empty().then_some(image), found)),
            Err(finding) => finding,
        };
        let shown = shown(&finding, &original);
        // What was taken out did not help: the mistake is elsewhere.
        if found.contains(&shown) {
            break;
        }
        if !follows_from(&finding, &found) {
            found.push(shown);
        }
        match without(&text, &finding) {
            Some(rest) => text = rest,
            None => break,
        }
    }
    Ok((None, found))
}

/// A key that is missing because its misspelt or wrong line was taken out.
fn follows_from(finding: &Finding, found: &[String]) -> bool {
    finding
        .missing_key()
        .is_some_and(|key| found.iter().any(|before| before.contains(&format!("`{key}`"))))
}

/// The finding with the line as the user wrote it.
fn shown(finding: &Finding, original: &Document) -> String {
    match finding.line() {
        Some(number) => original.at_line(number, finding.message()).to_string(),
        None => finding.to_string(),
    }
}

/// The text without what was found; `None` if that cannot be taken out.
fn without(text: &str, finding: &Finding) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let at = place(&lines, finding)?;
    let line = *lines.get(at)?;
    if finding.missing_key().is_some() || line.trim_start().starts_with(['[', '#']) {
        return None;
    }
    let key = key_of(line);
    let renamed = finding.nearest_key().filter(|_| finding.message().contains(key));
    let renamed = renamed.map(|nearest| line.replacen(key, nearest, 1));
    let stand_in = STAND_INS
        .iter()
        .find(|(known, _)| *known == key)
        .map(|(_, value)| format!("{key} = {}", value.replace("LINE", &(at + 1).to_string())));
    let candidates = [renamed, stand_in, Some(String::new())];
    // One that breaks the file, or changes nothing, would only bring up what is not there.
    candidates.into_iter().flatten().filter(|new| new != line).find_map(|new| {
        let changed: Vec<&str> =
            lines.iter().enumerate().map(|(i, old)| if i == at { &*new } else { *old }).collect();
        let changed = changed.join("\n");
        toml::from_str::<toml::Table>(&changed).is_ok().then_some(changed)
    })
}

/// The index of the line with the mistake: the one that the finding is at, unless it names a key
/// which stands elsewhere in the same table, as in `[network] ssh needs …`.
fn place(lines: &[&str], finding: &Finding) -> Option<usize> {
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let named = finding.message().split('`').nth(1);
    let has_key = |line: &&str| named == Some(key_of(line));
    let at = match finding.line() {
        Some(number) => number - 1,
        None => {
            let of = |line: &&str| is_header(line) && finding.message().starts_with(line.trim());
            lines.iter().position(of).map(|header| header + 1).or(lines.iter().position(has_key))?
        }
    };
    if lines.get(at).is_some_and(has_key) {
        return Some(at);
    }
    let start = lines.iter().take(at).rposition(is_header).map_or(0, |i| i + 1);
    let mut inside = lines.iter().skip(start).take_while(|line| !is_header(line));
    Some(inside.position(has_key).map_or(at, |i| start + i))
}

fn key_of(line: &str) -> &str {
    line.split('=').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name = \"x\"\nversion = \"1\"\nsequence = 1\n";

    fn found(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("i.toml");
        std::fs::write(&path, text).unwrap();
        let (image, found) = read(&path).unwrap();
        assert_eq!(image.is_some(), found.is_empty());
        let place = format!("{}/", folder.path().display());
        found.iter().map(|text| text.replace(&place, "")).collect()
    }

    #[test]
    fn every_mistake_is_told_with_its_line_as_it_stands() {
        let all = found(
            "name = \"My Product\"\nversion = 1.0\nsequence = 0\nhostnam = \"x\"\n\
             [network]\ndhcp = \"yes\"\nwlan = true\nssh = true\nntp = [\"a b\"]\n\
             [[workload]]\nname = \"a\"\ncomand = [\"/bin/a\"]\nafter = [\"b\"]\nmemory_max = \"12\"\n\
             [[workload]]\nname = \"c\"\ncommand = []\n",
        );
        let expected = [
            ("i.toml:1: ", "\"My Product\" is not a name"),
            ("i.toml:2: ", "expected text in quotes"),
            ("i.toml:3: ", "`sequence` starts at 1"),
            ("i.toml:4: ", "did you mean `hostname`?"),
            ("i.toml:6: ", "expected true or false"),
            ("i.toml:7: ", "unknown key `wlan`"),
            ("i.toml: ", "[network] `ssh` needs"),
            ("i.toml: ", "`ntp`: \"a b\" is not a host"),
            ("i.toml:11: ", "`memory_max` is at least 1M"),
            ("i.toml:12: ", "did you mean `command`?"),
            ("i.toml:13: ", "no workload is named `b`"),
            ("i.toml:17: ", "`command` is empty"),
        ];
        for (line, words) in expected {
            let hit = all.iter().find(|text| text.starts_with(line) && text.contains(words));
            assert!(hit.is_some(), "{line} {words}: {all:#?}");
        }
        assert!(all.iter().any(|text| text.contains("12 | comand = ")), "{all:#?}");
        assert_eq!(all.len(), expected.len(), "{all:#?}");
    }

    #[test]
    fn a_table_that_lacks_a_key_is_told_once() {
        let all = found(&format!("{HEAD}[[workload]]\nname = \"a\"\n"));
        assert!(all.len() == 1 && all[0].contains("`command` is missing"), "{all:#?}");
        assert!(found(HEAD).is_empty());
    }
}

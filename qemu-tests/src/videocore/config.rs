//! `config.txt` and `autoboot.txt`: settings behind conditional filters.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

/// What is behind this many characters of a line is ignored: 98 in newer firmware, 78 in older
/// ("What is config.txt", file format). A line between the two means something else on each.
const MAX_LINE: usize = 78;

/// The filters that hold.
#[derive(Debug)]
pub struct Filters<'a> {
    /// The one-shot flag was set.
    pub tryboot: bool,
    /// The names of models that mean this board.
    pub model: &'a [&'a str],
    /// All names of models that a file may have.
    pub models: &'a [&'a str],
}

/// The settings that apply; of one that is there twice the last.
#[derive(Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
    initramfs: Option<(String, String)>,
}

impl Settings {
    /// Reads a file.
    pub fn read(text: &str, filters: &Filters) -> Result<Settings> {
        let mut settings = Settings::default();
        let (mut model, mut flag) = (true, true);
        for line in text.lines() {
            ensure!(line.len() <= MAX_LINE, "{line:?} is longer than {MAX_LINE} characters");
            ensure!(!line.ends_with('\r'), "{line:?} ends in a carriage return");
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(filter) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                // Filters of one type replace each other, those of another add to them.
                match filter {
                    "all" => (model, flag) = (true, true),
                    "none" => model = false,
                    "tryboot" => flag = filters.tryboot,
                    name if filters.models.contains(&name) => model = filters.model.contains(&name),
                    _ => bail!("the filter [{filter}] is not known here"),
                }
                continue;
            }
            if model && flag {
                settings.take(line)?;
            }
        }
        Ok(settings)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        if let Some(rest) = line.strip_prefix("initramfs") {
            let mut words = rest.split_ascii_whitespace();
            // The one setting without an equals sign ("Boot options", initramfs).
            match (rest.starts_with(' '), words.next(), words.next(), words.next()) {
                (true, Some(file), Some(place), None) => {
                    self.initramfs = Some((file.to_owned(), place.to_owned()));
                    return Ok(());
                }
                _ => bail!("{line:?}: it is `initramfs FILE followkernel`"),
            }
        }
        let Some((name, value)) = line.split_once('=') else {
            bail!("{line:?} is no setting");
        };
        let spaces = name.ends_with(' ') || value.starts_with(' ') || name.starts_with(' ');
        ensure!(!spaces, "{line:?}: spaces become part of the name or the value");
        self.values.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether a setting is there and not 0.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0")
    }

    /// File and place of the initramfs.
    pub fn initramfs(&self) -> Option<(&str, &str)> {
        self.initramfs.as_ref().map(|(file, place)| (file.as_str(), place.as_str()))
    }
}

//! The deltas' table: a column for each pair, a row for each method, and the bars.

use super::ferrite::DeltaCost;
use super::methods::Method;
use crate::table::aligned;

/// A pair and what was measured of it.
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// Which versions.
    pub versions: String,
    /// Bytes of the new image.
    pub size: u64,
    /// The other methods; `None`: not measured.
    pub others: Vec<(Method, Option<u64>)>,
    /// Our delta.
    pub ferrite: DeltaCost,
}

/// Images from this size on have to be made in [`MOST_SECONDS`].
const LARGE: u64 = 100_000_000;
const MOST_SECONDS: f64 = 60.0;
/// Of the best copying method's bytes.
const MOST_OF_COPYING: f64 = 1.02;
const MOST_OF_BSDIFF: f64 = 1.0;
/// Bytes of output a second of one processor.
const LEAST_RATE: f64 = 30e6;
/// Bytes of memory of the applying process.
const MOST_MEMORY: u64 = 24_000_000;

/// The table as Markdown, with what it compares below it.
pub fn markdown(columns: &[Column], missing: &[String]) -> String {
    let row = |head: &str, cell: &dyn Fn(&Column) -> String| {
        std::iter::once(head.to_owned()).chain(columns.iter().map(cell)).collect::<Vec<_>>()
    };
    let mut rows = vec![row("bytes on the wire", &|column| column.title.to_owned())];
    for method in Method::ALL {
        rows.push(row(method.title(), &|column| column.other(method).map_or("–".into(), grouped)));
    }
    rows.push(row("**our delta**", &|column| format!("**{}**", grouped(column.ferrite.bytes))));
    rows.push(row("of bsdiff's, ≤ 1", &|column| {
        ratio(column.ferrite.bytes, column.other(Method::Bsdiff), MOST_OF_BSDIFF, 2)
    }));
    rows.push(row("of the best copying method's, ≤ 1.02", &|column| {
        ratio(column.ferrite.bytes, column.best_copying(), MOST_OF_COPYING, 3)
    }));
    rows.push(row("made in, ≤ 60 s from 100 MB on", &Column::making));
    rows.push(row("making: memory", &|column| megabytes(column.ferrite.made.memory)));
    rows.push(row("applied by one processor, ≥ 30 MB/s", &|column| {
        let rate = column.rate();
        verdict(format!("{:.0} MB/s", rate / 1e6), rate >= LEAST_RATE)
    }));
    rows.push(row("applying: memory, ≤ 24 MB", &|column| {
        let memory = column.ferrite.applied.memory;
        verdict(megabytes(memory), memory <= MOST_MEMORY)
    }));
    let mut text = aligned(&rows) + "\n";
    for column in columns {
        text += &format!(
            "- {}: {}; {:.1} MB\n",
            column.title,
            column.versions,
            column.size as f64 / 1e6
        );
    }
    for line in missing {
        text += &format!("- {line}\n");
    }
    text
}

impl Column {
    fn other(&self, method: Method) -> Option<u64> {
        self.others.iter().find(|(other, _)| *other == method).and_then(|(_, bytes)| *bytes)
    }

    fn best_copying(&self) -> Option<u64> {
        self.others
            .iter()
            .filter(|(method, _)| method.copies())
            .filter_map(|(_, bytes)| *bytes)
            .min()
    }

    fn making(&self) -> String {
        let seconds = self.ferrite.made.seconds;
        let text = format!("{seconds:.1} s");
        match self.size >= LARGE {
            true => verdict(text, seconds <= MOST_SECONDS),
            false => text,
        }
    }

    /// Bytes of output for each second of a processor.
    fn rate(&self) -> f64 {
        self.size as f64 / self.ferrite.applied.processor_seconds.max(1e-6)
    }
}

fn ratio(ferrite: u64, other: Option<u64>, most: f64, digits: usize) -> String {
    let Some(other) = other else { return "–".into() };
    let ratio = ferrite as f64 / other as f64;
    verdict(format!("{ratio:.digits$}"), ratio <= most)
}

fn verdict(text: String, pass: bool) -> String {
    format!("{text} {}", if pass { "pass" } else { "MISS" })
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// With commas: 1,219,112.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::process::Taken;
    use super::*;

    fn column(ferrite: u64, seconds: f64) -> Column {
        let taken =
            |memory: u64| Taken { seconds, processor_seconds: seconds, memory: memory * 1_000_000 };
        Column {
            title: "a pair",
            versions: "1 → 2".into(),
            size: 125_000_000,
            others: vec![
                (Method::Bsdiff, Some(1_000_000)),
                (Method::Xdelta, Some(2_000_000)),
                (Method::ZstdPatch, Some(900_000)),
                (Method::Casync, None),
            ],
            ferrite: DeltaCost { bytes: ferrite, made: taken(800), applied: taken(12) },
        }
    }

    fn line(text: &str, start: &str) -> String {
        text.lines().find(|line| line.contains(start)).unwrap_or_default().to_owned()
    }

    #[test]
    fn bars_that_are_held_pass() {
        let text = markdown(&[column(918_000, 4.0)], &[]);
        assert!(line(&text, "our delta").contains("**918,000**"), "{text}");
        assert!(line(&text, "of bsdiff's").contains("0.92 pass"), "{text}");
        assert!(line(&text, "of the best copying").contains("1.020 pass"), "{text}");
        assert!(line(&text, "made in").contains("4.0 s pass"), "{text}");
        assert!(line(&text, "applied by").contains("31 MB/s pass"), "{text}");
        assert!(line(&text, "applying: memory").contains("12.0 MB pass"), "{text}");
        assert!(text.contains("- a pair: 1 → 2; 125.0 MB"), "{text}");
    }

    #[test]
    fn bars_that_are_missed_are_said() {
        let casync = "casync chunks: not measured".to_owned();
        let text = markdown(&[column(1_000_001, 61.0)], &[casync]);
        for bar in ["of bsdiff's", "of the best copying", "made in", "applied by"] {
            assert!(line(&text, bar).contains("MISS"), "{bar}: {text}");
        }
        assert!(line(&text, "| casync").contains('–'), "{text}");
        assert!(text.contains("- casync chunks: not measured"), "{text}");
    }

    #[test]
    fn small_images_have_no_bar_for_making() {
        let small = Column { size: 99_000_000, ..column(1, 61.0) };
        assert!(line(&markdown(&[small], &[]), "made in").contains("61.0 s "));
    }
}

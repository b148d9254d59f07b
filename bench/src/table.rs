//! The table: what was measured, its bar, and how the two compare.

use std::fmt;

use crate::statistics::load;

/// What a figure is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Wall-clock seconds.
    Seconds,
    /// Milliseconds of the guest's clock.
    Milliseconds,
    /// Decimal megabytes.
    Megabytes,
    /// Decimal megabytes a second.
    MegabytesPerSecond,
    /// One figure over another.
    Ratio,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// Told beside the others.
    None,
}

struct Row {
    what: String,
    unit: Unit,
    bar: Bar,
    measured: f64,
    note: String,
    load: String,
}

/// Rows in the order they were measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    sections: Vec<String>,
    failures: Vec<String>,
}

impl Table {
    /// Adds a figure, with the load of this moment. `note` says more, or nothing.
    pub fn add(&mut self, what: &str, unit: Unit, bar: Bar, measured: f64, note: &str) {
        let (what, note) = (what.to_owned(), note.to_owned());
        self.rows.push(Row { what, unit, bar, measured, note, load: load() });
    }

    /// Adds a table of another shape, as Markdown, which comes behind this one.
    pub fn section(&mut self, text: &str) {
        self.sections.push(text.to_owned());
    }

    /// Notes that a part could not be measured.
    pub fn failed(&mut self, part: &str, error: &anyhow::Error) {
        let text = format!("{error:#}");
        let first = text.lines().next().unwrap_or_default();
        self.failures.push(format!("{part} was not measured to its end: {first}"));
    }

    /// The table as Markdown below the lines `about`.
    pub fn markdown(&self, about: &str) -> String {
        let mut text = format!("{about}\n");
        if !self.rows.is_empty() {
            let head = ["what", "bar", "measured", "", "load", "note"].map(str::to_owned).to_vec();
            let rows = self.rows.iter().map(|row| row.cells().to_vec());
            text += &aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
        }
        for section in &self.sections {
            text += &format!("\n{section}");
        }
        for failure in &self.failures {
            text += &format!("\n{failure}\n");
        }
        text
    }
}

/// Rows of as many cells each as a Markdown table, the first as its head.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("| {cell:<width$} ");
        }
        text += "|\n";
        if index == 0 {
            widths.iter().for_each(|width| text += &format!("|{}", "-".repeat(width + 2)));
            text += "|\n";
        }
    }
    text
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let shown = |value: f64| self.unit.show(value);
        let (bar, verdict) = match self.bar {
            Bar::AtMost(bar) => (format!("≤ {}", shown(bar)), Some(self.measured <= bar)),
            Bar::AtLeast(bar) => (format!("≥ {}", shown(bar)), Some(self.measured >= bar)),
            Bar::None => (String::new(), None),
        };
        let verdict = verdict.map_or("", |pass| if pass { "pass" } else { "MISS" });
        let measured = shown(self.measured);
        [self.what.clone(), bar, measured, verdict.to_owned(), self.load.clone(), self.note.clone()]
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Seconds => format!("{value:.2} s"),
            Unit::Milliseconds if value < 10.0 => format!("{value:.2} ms"),
            Unit::Milliseconds => format!("{value:.0} ms"),
            Unit::Megabytes => format!("{value:.2} MB"),
            Unit::MegabytesPerSecond => format!("{value:.1} MB/s"),
            Unit::Ratio => format!("{value:.2}"),
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.markdown(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_passes_or_misses_its_bar() {
        let mut table = Table::default();
        table.add("time", Unit::Seconds, Bar::AtMost(1.0), 1.0, "");
        table.add("speed", Unit::Ratio, Bar::AtLeast(0.6), 0.59, "of the peer");
        table.add("floor", Unit::Milliseconds, Bar::None, 12.4, "");
        table.failed("boot", &anyhow::anyhow!("no QEMU\nmore"));
        let text = table.markdown("About");
        let line = |what: &str| text.lines().find(|l| l.contains(what)).unwrap().to_owned();
        assert!(line("| time").contains("| ≤ 1.00 s | 1.00 s   | pass |"), "{text}");
        assert!(line("| speed").contains("| ≥ 0.60   | 0.59     | MISS |"), "{text}");
        assert!(!line("| floor").contains("MISS") && line("| floor").contains("12 ms"), "{text}");
        assert!(text.contains("boot was not measured to its end: no QEMU\n"), "{text}");
    }
}

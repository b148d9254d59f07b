//! What others than PID 1 want to know of `system.conf`.

use super::FIRST_LINE;
use crate::conf::{self, Line};
use crate::{Result, key};

/// Some of the lines of a `system.conf`, each of which may be missing: one of another version is
/// looked at, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// How the board's slot is selected.
    pub chooser: Option<String>,
    /// When the newest package was made, in seconds since 1970.
    pub build_date: Option<u64>,
    /// It joins wireless networks.
    pub has_wifi: bool,
    /// The command line of the shell on the console, in a debug image.
    pub console_shell: Option<String>,
    /// It has an SSH server.
    pub has_ssh_server: bool,
    /// The workloads.
    pub workloads: Vec<OutlinedWorkload>,
}

/// A workload of an [`Outline`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutlinedWorkload {
    /// Its name.
    pub name: String,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// It has a folder of its own on the data partition.
    pub data: bool,
}

impl Outline {
    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<Outline> {
        let conf = conf::parse(text, FIRST_LINE)?;
        let first = |key| conf::each(&conf.head, key).next();
        let text = |key| first(key).map(|line| line.value.to_string());
        let workloads = conf.sections.iter().filter(|section| section.kind == key::WORKLOAD);
        Ok(Outline {
            chooser: text(key::BOOT_CHOOSER),
            build_date: first(key::BUILD_DATE).and_then(|line| line.number().ok()),
            has_wifi: first(key::WIFI).is_some(),
            console_shell: text(key::CONSOLE_SHELL),
            has_ssh_server: first(key::SSH_SERVER).is_some(),
            workloads: workloads
                .map(|section| OutlinedWorkload {
                    name: section.name.to_string(),
                    groups: conf::each(&section.lines, key::GROUP).filter_map(group).collect(),
                    data: conf::one(&section.lines, key::DATA).and_then(Line::yes_no) == Ok(true),
                })
                .collect(),
        })
    }
}

fn group(line: &Line<'_>) -> Option<u32> {
    u32::try_from(line.number().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_nothing_else_is_asked_for() {
        let text = b"ferrite-system 1\nhostname x\nchooser efi\nbuild-date 7\nwifi wlan0 DE\n\
            [workload face]\ndata yes\ngroup 900\ngroup 901\n[workload clock]\ndata no\n";
        let outline = Outline::parse(text).unwrap();
        assert_eq!((outline.chooser.as_deref(), outline.build_date), (Some("efi"), Some(7)));
        assert!(outline.has_wifi && !outline.has_ssh_server && outline.console_shell.is_none());
        let face = OutlinedWorkload { name: "face".into(), groups: vec![900, 901], data: true };
        let clock = OutlinedWorkload { name: "clock".into(), ..OutlinedWorkload::default() };
        assert_eq!(outline.workloads, [face, clock]);
        assert_eq!(Outline::parse(b"ferrite-system 1\n").unwrap(), Outline::default());
        assert!(Outline::parse(b"ferrite-system 2\n").is_err());
    }
}

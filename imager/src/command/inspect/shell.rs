//! Who may log in to a device with this image, and how: told from the verified root itself, not from
//! the image file it was built from.

use anyhow::{Context, Result, anyhow};
use formats::layout;
use formats::system_conf::Outline;
use serde::Serialize;

use imagefs::erofs_reader::Volume;

/// Programs that are shells, or can be one.
const SHELLS: [&str; 13] = [
    "sh", "bash", "rbash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "tcsh", "csh", "busybox",
    "toybox",
];
/// Where programs lie; `/bin` and `/sbin` are links to them.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// The ways to a command line on the device.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ShellReport {
    /// What `init` starts on the console, as root, for whoever is there.
    pub console: Option<String>,
    /// Root may log in over SSH, with the keys that a device was flashed with.
    pub ssh: bool,
    /// Shells on the root, whether anything starts them or not.
    pub programs: Vec<String>,
}

impl ShellReport {
    /// Looks through a root file system whose hash tree holds.
    pub fn of(root: &[u8]) -> Result<ShellReport> {
        let volume = Volume::open(root).context("the root file system")?;
        let text = volume.file(layout::SYSTEM_CONF)?;
        let text = text.with_context(|| format!("the root has no {}", layout::SYSTEM_CONF))?;
        let system = Outline::parse(&text).map_err(|e| anyhow!(e))?;
        let mut programs = Vec::new();
        for folder in FOLDERS {
            let names = volume.names(folder)?.into_iter();
            let shells = names.filter(|name| SHELLS.contains(&name.as_str()));
            programs.extend(shells.map(|name| format!("{folder}/{name}")));
        }
        Ok(ShellReport { console: system.console_shell, ssh: system.has_ssh_server, programs })
    }

    /// For people, in one line.
    pub fn text(&self) -> String {
        let programs = self.programs.join(", ");
        match (&self.console, programs.as_str()) {
            (Some(command), _) => format!(
                "shell: `{command}` on the console, as root and without a password, for whoever reaches it; \
                 {} (a debug image: do not ship it)",
                if self.ssh {
                    "over SSH as root, with the keys that a device was flashed with and no other way"
                } else {
                    "no other way in"
                }
            ),
            (None, "") => "no shell: nobody can log in, and no program on it is a shell".into(),
            (None, _) => format!("no shell: nobody can log in; a workload could start {programs}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagefs::erofs;
    use imagefs::tree::Tree;

    fn root(system: &str, programs: &[&str]) -> Vec<u8> {
        let mut tree = Tree::usr_merged(0);
        tree.file(&layout::SYSTEM_CONF[1..], 0o644, system.as_bytes()).unwrap();
        for program in programs {
            tree.file(program, 0o755, b"x".as_slice()).unwrap();
        }
        let mut image = Vec::new();
        erofs::write(&tree, [1; 16], &mut image).unwrap();
        image
    }

    #[test]
    fn a_production_image_has_no_shell_and_a_debug_image_says_who_gets_in() {
        let plain = "ferrite-system 1\nhostname x\n";
        let report = ShellReport::of(&root(plain, &["usr/bin/runner", "usr/bin/bashful"])).unwrap();
        assert_eq!(report, ShellReport { console: None, ssh: false, programs: vec![] });
        assert!(report.text().starts_with("no shell: nobody can log in"), "{}", report.text());

        // One that a package brought along is told, wherever a link leads to it.
        let report = ShellReport::of(&root(plain, &["bin/dash", "usr/sbin/sh"])).unwrap();
        assert_eq!(report.programs, ["/usr/bin/dash", "/usr/sbin/sh"]);
        assert!(report.text().contains("could start /usr/bin/dash"), "{}", report.text());

        let debug = format!("{plain}console-shell /usr/bin/busybox sh\n");
        let report = ShellReport::of(&root(&debug, &["usr/bin/busybox"])).unwrap();
        assert_eq!(report.console.as_deref(), Some("/usr/bin/busybox sh"));
        assert!(report.text().contains("no other way in") && !report.ssh, "{}", report.text());
        let with_server = format!("{debug}ssh-server /usr/lib/ferrite/ssh-server\n");
        let report = ShellReport::of(&root(&with_server, &["usr/bin/busybox"])).unwrap();
        assert!(report.ssh && report.text().contains("over SSH as root"), "{}", report.text());
        for words in ["as root", "without a password", "console", "do not ship it"] {
            assert!(report.text().contains(words), "{}", report.text());
        }
        assert!(ShellReport::of(&root("nonsense", &[])).is_err());
    }
}

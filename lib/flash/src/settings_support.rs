//! Whether an image makes anything of a device's settings, told from its root before anything is
//! written: a card whose settings do nothing is found out on a roof, not on the desk.
//!
//! The root is not verified here. Whoever altered it can have no more than a wrong answer.

use std::io::Read;

use anyhow::{Context, Result, anyhow, ensure};
use formats::layout::{SYSTEM_CONF, Slot};
use formats::system_conf::Outline;

use crate::image::Image;
use crate::settings::Requirements;
use imagefs::erofs_reader::{self, Volume};

/// Refuses settings that the image would not use.
pub fn check(image: &Image, needs: &Requirements) -> Result<()> {
    if needs.is_empty() {
        return Ok(());
    }
    let text = system_conf(image)
        .with_context(|| format!("cannot see what {} makes of settings", image.path().display()))?;
    let system = Outline::parse(&text).map_err(|e| anyhow!(e.within(SYSTEM_CONF)))?;
    judge(&system, needs)
}

/// `system.conf` of the slot that a new image starts from.
fn system_conf(image: &Image) -> Result<Vec<u8>> {
    let partition = image.table.find(Slot::A.root_label()).map_err(|e| anyhow!(e))?.bytes();
    let mut reader = image.reader_at(partition.start)?;
    let mut root = vec![0; erofs_reader::HEAD];
    reader.read_exact(&mut root).context("slot a")?;
    let bytes = erofs_reader::size(&root).context("slot a")?;
    ensure!(bytes <= partition.end - partition.start, "slot a's root is larger than its partition");
    reader
        .take(bytes.saturating_sub(root.len() as u64))
        .read_to_end(&mut root)
        .context("slot a")?;
    let volume = Volume::open(&root).context("slot a")?;
    volume.file(SYSTEM_CONF)?.with_context(|| format!("slot a has no {SYSTEM_CONF}"))
}

fn judge(system: &Outline, needs: &Requirements) -> Result<()> {
    ensure!(
        !needs.wifi || system.has_wifi,
        "--wifi: this image joins no wireless network; build it with `[network] wifi = {{ country = \"..\" }}`"
    );
    ensure!(
        !needs.ssh || system.has_ssh_server,
        "--ssh-key: this image has no SSH server; build it with `debug = true` and `[network] ssh = true`"
    );
    for (option, name) in &needs.workloads {
        let workload = system.workloads.iter().find(|workload| workload.name == *name);
        let names: Vec<&str> = system.workloads.iter().map(|workload| &workload.name[..]).collect();
        let workload = workload.with_context(|| match names.is_empty() {
            true => format!("{option}: this image has no workload at all"),
            false => {
                let names = names.join(", ");
                format!("{option}: this image has no workload `{name}`; it has {names}")
            }
        })?;
        ensure!(
            workload.data,
            "{option}: the workload `{name}` does not see its files; build the image with `data = true` for it"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "ferrite-system 1\nwifi wlan0 DE\n[workload face]\ndata yes\n\
        [workload clock]\ndata no\n";

    fn judged(needs: Requirements) -> Result<()> {
        judge(&Outline::parse(SYSTEM.as_bytes()).unwrap(), &needs)
    }

    fn with_file(name: &str) -> Requirements {
        let workloads = vec![("--file x".to_owned(), name.to_owned())];
        Requirements { workloads, ..Requirements::default() }
    }

    #[test]
    fn what_the_image_uses_is_taken_and_all_else_is_named() {
        judged(Requirements { wifi: true, ..with_file("face") }).unwrap();
        let error = |needs| judged(needs).unwrap_err().to_string();
        let ssh = error(Requirements { ssh: true, ..Requirements::default() });
        assert!(ssh.starts_with("--ssh-key") && ssh.contains("[network] ssh = true"), "{ssh}");
        let other = error(with_file("fcae"));
        assert!(other.contains("no workload `fcae`; it has face, clock"), "{other}");
        let none = Outline::parse(b"ferrite-system 1\n").unwrap();
        let none = judge(&none, &with_file("face")).unwrap_err().to_string();
        assert!(none.ends_with("this image has no workload at all"), "{none}");
        let blind = error(with_file("clock"));
        assert!(blind.contains("`clock` does not see its files"), "{blind}");
    }
}

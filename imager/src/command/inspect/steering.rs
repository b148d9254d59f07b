//! Which workloads of the image's own steer the device: told from the verified root itself, not from
//! the image file it was built from.

use anyhow::{Context, Result, anyhow};
use formats::layout;
use formats::system_conf::Outline;
use serde::Serialize;

use crate::config::image::{Group, UPDATE_WORKLOAD, WRITER_WORKLOAD};
use imagefs::erofs_reader::Volume;

/// A workload with a group that gives it more than its own files.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Steering {
    /// The workload.
    pub workload: String,
    /// What that means, for people.
    pub warning: String,
}

impl Steering {
    /// Looks through a root file system whose hash tree holds. The update client, which `imager`
    /// adds under names that no workload of an image may have, is left out.
    pub fn of(root: &[u8]) -> Result<Vec<Steering>> {
        let volume = Volume::open(root).context("the root file system")?;
        let text = volume.file(layout::SYSTEM_CONF)?;
        let text = text.with_context(|| format!("the root has no {}", layout::SYSTEM_CONF))?;
        let system = Outline::parse(&text).map_err(|e| anyhow!(e))?;
        let own = |name: &str| [UPDATE_WORKLOAD, WRITER_WORKLOAD].contains(&name);
        let mut found = Vec::new();
        for workload in system.workloads.iter().filter(|workload| !own(&workload.name)) {
            let groups = workload.groups.iter().filter_map(|number| Group::of(*number));
            found.extend(groups.map(|group| Steering {
                workload: workload.name.clone(),
                warning: group.warning(&workload.name),
            }));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagefs::erofs;
    use imagefs::tree::Tree;

    #[test]
    fn a_workload_that_steers_the_device_is_named_and_the_update_client_is_not() {
        let system = "ferrite-system 1\nhostname x\n[workload camera]\ngroup 901\ngroup 900\n\
                      [workload face]\ngroup 44\n[workload ota]\ngroup 900\n\
                      [workload ota-writer]\ngroup 901\n";
        let mut tree = Tree::usr_merged(0);
        tree.file(&layout::SYSTEM_CONF[1..], 0o644, system.as_bytes()).unwrap();
        let mut root = Vec::new();
        erofs::write(&tree, [1; 16], &mut root).unwrap();
        let found = Steering::of(&root).unwrap();
        let named: Vec<_> = found.iter().map(|steering| &steering.workload[..]).collect();
        assert_eq!(named, ["camera", "camera"]);
        assert!(found[0].warning.contains("`slots`") && found[1].warning.contains("`ctl`"));
        assert!(Steering::of(b"nonsense").is_err());
    }
}

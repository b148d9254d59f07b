//! In plain words what a draft changes, for whoever is to sign it.

use std::collections::BTreeSet;

use tuf::{Role, Root, TargetFile, Targets};

use crate::staged::short;

/// What the root `after` changes.
pub fn root(before: Option<&Root>, after: &Root) -> Vec<String> {
    let mut lines = vec![match before {
        Some(before) => format!("root version {} becomes {}", before.version, after.version),
        None => format!("the first root of a repository, version {}", after.version),
    }];
    for role in Role::ALL {
        let name = role.name();
        let ids = |root: Option<&Root>| -> BTreeSet<String> {
            root.map(|root| root.ids(role).iter().cloned().collect()).unwrap_or_default()
        };
        let (old, new) = (ids(before), ids(Some(after)));
        for id in new.difference(&old) {
            lines.push(format!("  {name}: ADDS key {}", short(id)));
        }
        for id in old.difference(&new) {
            lines.push(format!("  {name}: REMOVES key {}", short(id)));
        }
        let (was, will) = (before.map_or(0, |root| root.threshold(role)), after.threshold(role));
        if was != will {
            lines.push(match before {
                Some(_) => format!("  {name}: signatures needed {was} -> {will}"),
                None => format!("  {name}: signatures needed {will}"),
            });
        }
    }
    if let Some(before) = before {
        lines.push(format!("  expires {} -> {}", before.expires, after.expires));
        if before.consistent_snapshot != after.consistent_snapshot {
            lines.push("  CHANGES consistent_snapshot".into());
        }
    } else {
        lines.push(format!("  expires {}", after.expires));
    }
    lines
}

/// What the targets metadata `after` changes.
pub fn targets(before: Option<&Targets>, after: &Targets) -> Vec<String> {
    let old_version = before.map_or(0, |before| before.version);
    let mut lines = vec![format!("targets version {old_version} becomes {}", after.version)];
    let old = |name: &str| before.and_then(|before| before.targets.get(name));
    for (name, target) in &after.targets {
        match old(name) {
            None => lines.push(format!("  ADDS {}", describe(name, target))),
            Some(was) if was == target => {}
            Some(was) if was.hashes == target.hashes && was.length == target.length => {
                lines.push(format!("  CHANGES what is said of {}", describe(name, target)));
                lines.push(format!("    from {}", custom(was)));
                lines.push(format!("    to   {}", custom(target)));
            }
            Some(_) => lines.push(format!("  REPLACES {}", describe(name, target))),
        }
    }
    for name in before.iter().flat_map(|before| before.targets.keys()) {
        if !after.targets.contains_key(name) {
            lines.push(format!("  REMOVES {name:?}"));
        }
    }
    if before.and_then(|before| before.delegations.as_ref()) != after.delegations.as_ref() {
        lines.push("  CHANGES who else may list targets (delegations)".into());
    }
    if lines.len() == 1 {
        lines.push("  the same targets".into());
    }
    lines.push(format!("  expires {}", after.expires));
    lines
}

fn describe(name: &str, target: &TargetFile) -> String {
    let hash = target.sha256().unwrap_or("no SHA-256");
    match target.ferrite() {
        Some(f) => format!(
            "{name:?}: {} {} for {}, sequence {}, {} bytes, SHA-256 {hash}",
            f.name, f.version, f.board, f.sequence, target.length
        ),
        None => format!("{name:?}: {} bytes, SHA-256 {hash}", target.length),
    }
}

fn custom(target: &TargetFile) -> String {
    target.custom.as_ref().map_or("nothing".into(), ToString::to_string)
}

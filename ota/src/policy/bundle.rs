//! What a bundle that somebody brought has for this device.

use std::path::Path;

use tuf::target_path;

use crate::Result;
use crate::context::Context;
use crate::fetch::bundle::Bundle;
use crate::fetch::data_budget::Trigger;
use crate::install::candidates::Candidate;
use crate::install::chunk_sources::companion::CompanionFiles;
use crate::install::{SignedTarget, UpdateSource};
use crate::policy::check::{decide, refreshed};

/// The updates in the bundle at `path` that this device may take, the newest first; none when it has
/// nothing newer than what runs. The metadata in it is verified, and kept, as a server's is.
///
/// The waves of a rollout are not kept: somebody brought it here. A pause is, and what was put off
/// waits for its time unless a person asked ([`Trigger::Manual`]). `beat` is called meanwhile.
pub fn check(
    context: &Context,
    path: &Path,
    trigger: Trigger,
    beat: &dyn Fn(),
) -> Result<Vec<(Candidate, UpdateSource)>> {
    let mut bundle = Bundle::open(path, beat)?;
    let mut published = refreshed(&context.device, &mut bundle, &path.display().to_string())?;
    // The metadata lists the whole repository, the archive holds one update of it.
    let consistent = published.root.consistent_snapshot;
    published.targets.targets.retain(|name, target| {
        target_path(consistent, name, target).is_some_and(|path| bundle.has(&path))
    });
    let (candidates, _) = decide(context, &published, trigger)?;
    let offer = |candidate: Candidate| {
        let resource = bundle.resource(&candidate.path)?;
        // All of the payload is here: nothing is to be saved.
        let signed = SignedTarget {
            ferrite: candidate.ferrite.clone(),
            length: candidate.length,
            companions: CompanionFiles::default(),
        };
        Some((candidate, UpdateSource { resource, signed: Some(signed) }))
    };
    Ok(candidates.into_iter().filter_map(offer).collect())
}

//! What was built does not go into what is built next: a folder of sources that holds `--out` would
//! grow with every build, and hand yesterday's images out with today's.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::config::Image;
use crate::outputs::absolute;
use crate::sources::request::{self, LocalSource};

/// How the files of a build, and what is kept beside them, end.
const ENDS: [&str; 6] = [".img", ".update", ".spdx.json", ".stamp", ".img.disk", ".img.disk.old"];

/// Fails when a local file or folder of the image lies in `out`, or holds it and does not leave it
/// out. Where the image file itself lies there, only what builds write is meant.
pub fn refuse(image: &Image, out: &Path) -> Result<()> {
    let place = absolute(out)?;
    if absolute(image.folder())?.starts_with(&place) {
        return refuse_built(image, &place);
    }
    for source in request::local(image) {
        let own = absolute(&image.folder().join(source.path))?;
        if own.starts_with(&place) {
            bail!(
                "{} lies in {}, the folder for what is built; keep it elsewhere, or build into another folder",
                source.path.display(),
                out.display()
            );
        }
        refuse_inside(&source, &own, &place)?;
    }
    Ok(())
}

/// The same where the image file lies among what is built.
fn refuse_built(image: &Image, place: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(place) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("{} cannot be listed", place.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_of_build = name.starts_with(&format!("{}-", image.name));
        if !is_of_build || !ENDS.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        for source in request::local(image) {
            let own = absolute(&image.folder().join(source.path))?;
            refuse_inside(&source, &own, &path)?;
        }
    }
    Ok(())
}

/// Fails when the folder `own`, which is `source`, holds `built` and does not leave it out.
fn refuse_inside(source: &LocalSource, own: &Path, built: &Path) -> Result<()> {
    let Ok(inside) = built.strip_prefix(own) else { return Ok(()) };
    let above: Vec<&Path> = inside.ancestors().filter(|path| *path != Path::new("")).collect();
    if !above.is_empty() && above.iter().any(|path| source.excludes(path)) {
        return Ok(());
    }
    bail!(
        "`source = {:?}` takes {:?} along, which is built into; add `exclude = [{1:?}]` to its [[file]], or name a smaller folder",
        source.path.display().to_string(),
        inside.display().to_string()
    )
}

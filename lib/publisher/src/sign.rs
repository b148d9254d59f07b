//! A signature under a draft, on a machine that has the key and no repository.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tuf::author::{Draft, Keyring, root_tallies, still_signed};
use tuf::{Role, Root, Targets};

use crate::explain;
use crate::staged::{BEFORE, read, read_draft, short};

/// What there is to compare a draft with.
struct Compared {
    /// The newest root that is published; `None` for a new repository.
    root: Option<Root>,
    /// The root that is to follow, where it is drafted too.
    next_root: Option<Root>,
}

/// Signs the draft `file`, in the folder that it came in (`before/` lies beside it), and says by whom
/// and how many signatures it has. The roots that came with it have to lead on from `root`, one of
/// this repository that the signer has of old; without it the keys that came along are believed.
///
/// `confirm` is given what the draft changes, a line each, and says whether to sign.
pub fn sign(
    file: &Path,
    root: Option<&Path>,
    keys: &Keyring,
    confirm: &mut dyn FnMut(&[String]) -> Result<bool>,
) -> Result<String> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let own = root.map(read).transpose()?;
    let published = chain(&folder.join(BEFORE), own.as_deref())?;
    let mut lines = Vec::new();
    if own.is_none() {
        lines.push("note: without --root, the keys that came with the draft are believed".into());
    }
    if name.ends_with(".root.json") {
        let draft: Draft<Root> = read_draft(file)?;
        lines.extend(explain::root(published.as_ref(), &draft.content));
        root_tallies(&draft, published.as_ref())?;
        let roots: Vec<Root> = published.into_iter().chain([draft.content.clone()]).collect();
        sign_draft(file, draft, keys, &roots, &mut || confirm(&lines))
    } else if name.ends_with(".targets.json") {
        let draft: Draft<Targets> = read_draft(file)?;
        let compared = Compared { root: published, next_root: next_root(folder)? };
        let before = match draft.content.version {
            0 | 1 => None,
            version => Some(compared.targets(folder, version - 1)?),
        };
        lines.extend(explain::targets(before.as_ref(), &draft.content));
        let roots: Vec<Root> = compared.root.into_iter().chain(compared.next_root).collect();
        sign_draft(file, draft, keys, &roots, &mut || confirm(&lines))
    } else {
        bail!("{} is neither N.root.json nor N.targets.json", file.display())
    }
}

impl Compared {
    /// The targets that are published, which have to be signed as the published root asks.
    fn targets(&self, folder: &Path, version: u64) -> Result<Targets> {
        let path = folder.join(BEFORE).join(format!("{version}.targets.json"));
        let bytes = read(&path)?;
        let signed = self.root.as_ref().is_some_and(|r| still_signed(Role::Targets, &bytes, r));
        if !signed {
            bail!(
                "{} is not signed as the published root asks, so it does not show what the draft \
                 changes; have it staged again",
                path.display()
            );
        }
        Ok(read_draft::<Targets>(&path)?.content)
    }
}

/// The newest of the roots in `folder`, each of which has to be signed as the one before it asks.
/// `own` has to be one of them.
fn chain(folder: &Path, own: Option<&[u8]>) -> Result<Option<Root>> {
    let mut newest: Option<Root> = None;
    let mut own_seen = false;
    for version in 1.. {
        let path = folder.join(format!("{version}.root.json"));
        if !path.exists() {
            break;
        }
        let draft: Draft<Root> = read_draft(&path)?;
        if !root_tallies(&draft, newest.as_ref())?.iter().all(|tally| tally.enough()) {
            bail!("{} is not signed as the root before it asks; do not sign", path.display());
        }
        own_seen |= own == Some(&read(&path)?[..]);
        newest = Some(draft.content);
    }
    if own.is_some() && !own_seen {
        bail!("the roots in {} do not lead on from yours; do not sign", folder.display());
    }
    Ok(newest)
}

fn next_root(folder: &Path) -> Result<Option<Root>> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".root.json") {
            return Ok(Some(read_draft::<Root>(&path)?.content));
        }
    }
    Ok(None)
}

/// The two kinds of drafts.
trait Signable {
    const ROLE: Role;
    fn add(&mut self, keys: &Keyring, root: &Root) -> Result<()>;
    fn bytes(&self) -> Vec<u8>;
    fn state(&self, root: &Root) -> Result<(usize, u64)>;
}

macro_rules! signable {
    ($($type:ident),*) => {$(
        impl Signable for Draft<$type> {
            const ROLE: Role = Role::$type;
            fn add(&mut self, keys: &Keyring, root: &Root) -> Result<()> {
                self.sign_with(keys, root).map_err(Into::into)
            }
            fn bytes(&self) -> Vec<u8> { self.to_bytes() }
            fn state(&self, root: &Root) -> Result<(usize, u64)> {
                let tally = self.tally(root)?;
                Ok((tally.signed.len(), tally.threshold))
            }
        }
    )*};
}
signable!(Root, Targets);

fn sign_draft<D: Signable>(
    file: &Path,
    mut draft: D,
    keys: &Keyring,
    roots: &[Root],
    confirm: &mut dyn FnMut() -> Result<bool>,
) -> Result<String> {
    let ids: Vec<String> = roots
        .iter()
        .flat_map(|root| keys.for_role(root, D::ROLE))
        .map(|(id, _)| short(&id))
        .collect();
    if ids.is_empty() {
        let known: Vec<String> =
            roots.iter().flat_map(|root| root.ids(D::ROLE)).map(|id| short(id)).collect();
        bail!(
            "no key at hand may sign {} for the role {}; these may: {}",
            file.display(),
            D::ROLE.name(),
            known.join(", ")
        );
    }
    if !confirm()? {
        bail!("not signed");
    }
    for root in roots {
        draft.add(keys, root)?;
    }
    atomic_file::replace(file, &mut &draft.bytes()[..])?;
    let newest = roots.last().context("no root")?;
    let (signed, threshold) = draft.state(newest)?;
    Ok(format!("signed by {}: {signed} of {threshold} signatures", ids.join(", ")))
}

//! Files out of the archives that an image file names, onto the root.

use anyhow::{Context, Result, bail, ensure};

use super::root_layout::merged;
use crate::config::pattern::names;
use crate::config::values::Line;
use crate::private_key;
use debian::tarball::{MemberKind, Tarball};
use imagefs::tree::{Kind, Node, Tree};

/// Adds the files of `archive` that `only` names, at the paths that they have there. Links are
/// taken as they are: on the device they cannot lead out of its root.
///
/// Fails when one of `only` names nothing, which is more likely a mistake than meant.
pub fn add(tree: &mut Tree, archive: &Tarball, only: &[Line]) -> Result<()> {
    let patterns: Vec<&str> = only.iter().map(|pattern| pattern.trim_matches('/')).collect();
    let paths = archive.paths()?;
    for pattern in &patterns {
        ensure!(
            paths.iter().any(|path| names(pattern, path)),
            "{}: has nothing that `only` calls {pattern:?}; correct the image file",
            archive.name()
        );
    }
    let wanted = |path: &str| patterns.iter().any(|pattern| names(pattern, path));
    for member in archive.members(wanted)? {
        let path = merged(&member.path);
        let kind = match member.kind {
            // Folders appear with what lies in them.
            MemberKind::Folder => continue,
            MemberKind::File(bytes) => {
                private_key::refuse(&format!("{}: {path}", archive.name()), &bytes)?;
                Kind::File(bytes.into())
            }
            MemberKind::SymbolicLink(target) => Kind::Symlink(target),
            MemberKind::HardLink(target) => match archive.follow(&target)? {
                Some(bytes) => {
                    private_key::refuse(&format!("{}: {path}", archive.name()), &bytes)?;
                    Kind::File(bytes.into())
                }
                None => bail!("{}: has no {target}, which {path} is", archive.name()),
            },
        };
        let mode = match kind {
            Kind::Symlink(_) => 0o777,
            // Nothing on a device needs more than its user's rights.
            _ => (member.mode & 0o755) as u16,
        };
        tree.insert(&path, Node::new(kind, mode)).with_context(|| archive.name().to_owned())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use debian::fixtures::open_deb;

    fn added(only: &[&str]) -> Result<Tree> {
        let files = [("lib/a.so", "a"), ("usr/lib/t/b.so", "b"), ("usr/share/doc/x", "x")];
        let (_folder, deb) = open_deb("aa", &files);
        let mut tree = Tree::usr_merged(0);
        let only: Vec<Line> = only.iter().map(|o| Line::new(*o).unwrap()).collect();
        add(&mut tree, deb.contents(), &only)?;
        Ok(tree)
    }

    #[test]
    fn only_what_is_named_goes_onto_the_root() {
        let tree = added(&["lib/a.so", "/usr/lib/t/*.so", "usr/link"]).unwrap();
        for (path, there) in [
            ("usr/lib/a.so", true),
            ("usr/lib/t/b.so", true),
            ("usr/link", true),
            ("usr/share/doc/x", false),
        ] {
            assert_eq!(tree.get(path).is_some(), there, "{path}");
        }
        let message = added(&["usr/lib/*.dll"]).unwrap_err().to_string();
        assert!(message.contains("has nothing that `only` calls"), "{message}");
    }
}

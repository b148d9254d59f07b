//! The SSH server of a debug image: dropbear, root alone, keys alone.

use anyhow::Result;
use formats::layout::RUN_SSH_KEYS;

use imagefs::tree::Tree;

/// What `init` starts once somebody may log in.
pub const SERVER_PATH: &str = "/usr/lib/ferrite/ssh-server";
/// Makes the device's own host key at its first start, and becomes the server: in the foreground (-F),
/// its log on the console (-E), no message of the day (-m), no passwords (-s), no forwarding (-j, -k).
const SERVER: &str = "\
#!/usr/bin/busybox sh
set -eu
umask 077
folder=/data/ferrite/ssh
key=$folder/host-key
if ! [ -s $key ]; then
    busybox mkdir -p $folder
    busybox rm -f $key.new
    dropbearkey -t ed25519 -f $key.new > /dev/null
    busybox mv $key.new $key
    busybox sync
fi
exec dropbear -F -E -m -s -j -k -r $key
";

/// Adds it, a shell by the name that root has in `passwd`, and the way to who may log in.
pub fn add(tree: &mut Tree) -> Result<()> {
    tree.file(&SERVER_PATH[1..], 0o755, SERVER.as_bytes())?;
    if tree.follow("/usr/bin/sh").is_none() {
        tree.symlink("usr/bin/sh", "busybox")?;
    }
    let folder = RUN_SSH_KEYS.rsplit_once('/').map_or(RUN_SSH_KEYS, |(folder, _)| folder);
    tree.symlink("root/.ssh", folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagefs::tree::Kind;

    #[test]
    fn a_shell_that_is_there_is_left_alone() {
        let mut tree = Tree::usr_merged(0);
        tree.file("usr/bin/busybox", 0o755, b"x".as_slice()).unwrap();
        let mut other = Tree::usr_merged(0);
        other.file("usr/bin/sh", 0o755, b"dash".as_slice()).unwrap();
        for tree in [&mut tree, &mut other] {
            add(tree).unwrap();
            let shell = tree.follow("/bin/sh").unwrap();
            assert!(matches!(&shell.kind, Kind::File(_)));
            assert!(tree.follow(SERVER_PATH).is_some_and(|node| node.mode == 0o755));
        }
    }
}

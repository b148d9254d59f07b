use super::*;

fn paths(tree: &Tree) -> Vec<&str> {
    tree.iter().map(|(path, _)| path).collect()
}

#[test]
fn parents_are_made_and_come_first() {
    let mut tree = Tree::new(0);
    tree.file("./a/b/c", 0o644, &b"x"[..]).unwrap();
    tree.file("/a-b", 0o644, &b"x"[..]).unwrap();
    assert_eq!(paths(&tree), ["", "a", "a-b", "a/b", "a/b/c"]);
    assert_eq!(tree.children("").map(|c| c.0).collect::<Vec<_>>(), ["a", "a-b"]);
    assert_eq!(tree.children("a").map(|c| c.0).collect::<Vec<_>>(), ["b"]);
    assert_eq!(tree.get("a/b").unwrap().st_mode(), 0o040_755);
}

#[test]
fn paths_that_leave_the_tree_or_do_not_fit_are_refused() {
    let mut tree = Tree::new(0);
    let long = "n".repeat(256);
    let deep = "d/".repeat(2048);
    for path in ["../x", "a/../../x", "a/..", "a\0b", &long, &deep, "", "/", "."] {
        assert!(tree.file(path, 0o644, &b""[..]).is_err(), "{path:?}");
    }
    assert_eq!(tree.count(), 1);
    tree.file(&"n".repeat(255), 0o644, &b""[..]).unwrap();
}

#[test]
fn bad_nodes_are_refused() {
    let mut tree = Tree::new(0);
    assert!(tree.dir("a", 0o10000).is_err());
    assert!(tree.symlink("a", "").is_err());
    assert!(tree.symlink("a", "b\0").is_err());
    assert!(tree.insert("a", Node::new(Kind::CharDevice { major: 4096, minor: 0 }, 0)).is_err());
    assert_eq!(tree.count(), 1);
}

#[test]
fn files_of_old_places_land_in_usr() {
    let mut tree = Tree::usr_merged(0);
    tree.file("lib/aarch64-linux-gnu/libc.so.6", 0o755, &b"elf"[..]).unwrap();
    assert!(paths(&tree).contains(&"usr/lib/aarch64-linux-gnu/libc.so.6"));
    tree.dir("./lib/", 0o700).unwrap();
    assert!(matches!(tree.get("lib").unwrap().kind, Kind::Symlink(_)));
    assert_eq!(tree.get("usr/lib").unwrap().mode, 0o755);
}

#[test]
fn links_are_followed_inside_the_tree_only() {
    let mut tree = Tree::new(0);
    tree.symlink("up", "../../../etc").unwrap();
    tree.symlink("abs", "/etc").unwrap();
    tree.file("up/one", 0o644, &b"1"[..]).unwrap();
    tree.file("abs/two", 0o644, &b"2"[..]).unwrap();
    assert!(tree.get("etc/one").is_some() && tree.get("etc/two").is_some());
    tree.symlink("link", "etc/one").unwrap();
    assert!(matches!(tree.follow("link").unwrap().kind, Kind::File(_)));
    tree.symlink("x", "y").unwrap();
    tree.symlink("y", "x").unwrap();
    assert!(tree.file("x/z", 0o644, &b""[..]).is_err());
}

#[test]
fn nothing_is_in_the_tree_twice() {
    let mut tree = Tree::new(0);
    tree.file("a/f", 0o644, &b"1"[..]).unwrap();
    assert!(tree.file("a/f", 0o644, &b"2"[..]).is_err());
    assert!(tree.file("a/f/g", 0o644, &b"2"[..]).is_err());
    tree.dir("a", 0o700).unwrap();
    assert_eq!(tree.get("a").unwrap().mode, 0o700);
}

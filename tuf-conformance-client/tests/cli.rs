//! The command line protocol of the conformance suite, without the suite.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use ed25519_dalek::SigningKey;
use tuf::author::{Dates, RoleSigners, first_root, publication};
use tuf::{TargetFile, Time, sha256_hex, target_path};

fn client(arguments: &[&str]) -> i32 {
    let output = Command::new(env!("CARGO_BIN_EXE_tuf-conformance-client"))
        .args(arguments)
        .output()
        .expect("the client runs");
    output.status.code().expect("an exit code")
}

/// A repository that offers `a/b` with this content.
fn publish(repo: &Path, content: &[u8]) {
    let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
    let signers =
        RoleSigners { root: key(1), targets: key(2), snapshot: key(3), timestamp: key(4) };
    let end = Time::MAX;
    let hashes = BTreeMap::from([("sha256".to_string(), sha256_hex(content))]);
    let target = TargetFile { length: content.len() as u64, hashes, custom: None };
    let at = repo.join(target_path(true, "a/b", &target).expect("path"));
    fs::create_dir_all(at.parent().expect("parent")).expect("folder");
    fs::create_dir_all(repo.join("metadata")).expect("folder");
    fs::write(at, content).expect("target");
    let root = first_root(&signers, end).expect("root");
    let dates = Dates { signed_at: Time(1), targets: end, snapshot: end, timestamp: end };
    let targets = BTreeMap::from([("a/b".to_string(), target)]);
    let files = publication(Err(&root), targets, &signers, &dates).expect("publication").files;
    for (name, bytes) in files {
        fs::write(repo.join("metadata").join(name), bytes).expect("metadata");
    }
}

#[test]
fn init_refresh_and_download() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_string();
    let (repo, metadata) = (dir.path().join("repo"), dir.path().join("metadata"));
    let downloads = dir.path().join("downloads");
    fs::create_dir(&downloads).expect("folder");
    publish(&repo, b"content");
    let server = test_http::Server::start(&repo).expect("a server");
    let url = server.url();
    let asked = || {
        let paths = server.take_requests().into_iter();
        paths.map(|path| path.trim_start_matches('/').to_owned()).collect::<Vec<_>>()
    };
    let trusted = text(&metadata);

    let (root, url_of) = (text(&repo.join("metadata/1.root.json")), format!("{url}metadata/"));
    let refresh = ["--metadata-dir", &trusted, "--metadata-url", &url_of, "refresh"];
    assert_eq!(client(&refresh), 1, "refreshed without a root");
    assert_eq!(client(&["--metadata-dir", &trusted, "init", &root]), 0);
    assert_eq!(fs::read(metadata.join("root.json")).ok(), fs::read(&root).ok());
    assert_eq!(asked(), [""; 0]);

    assert_eq!(client(&refresh), 0);
    let top = ["2.root", "timestamp", "1.snapshot", "1.targets"];
    assert_eq!(asked(), top.map(|name| format!("metadata/{name}.json")));
    for (role, file) in
        [("timestamp", "timestamp"), ("snapshot", "1.snapshot"), ("targets", "1.targets")]
    {
        let kept = fs::read(metadata.join(format!("{role}.json"))).expect("kept");
        let served = fs::read(repo.join(format!("metadata/{file}.json"))).expect("served");
        assert_eq!(kept, served, "{role}");
    }

    let (base, folder) = (format!("{url}targets"), text(&downloads));
    let download = |names: &[&str]| {
        let mut arguments = vec!["--metadata-dir", &trusted, "--metadata-url", &url_of];
        arguments.extend(["--target-base-url", &base, "--target-dir", &folder]);
        names.iter().for_each(|name| arguments.extend(["--target-name", name]));
        arguments.push("download");
        client(&arguments)
    };
    let hash = sha256_hex(b"content");
    let target = format!("targets/a/{hash}.b");
    assert_eq!(download(&["a/b"]), 0);
    assert!(asked().contains(&target));
    let kept: Vec<_> =
        fs::read_dir(&downloads).expect("list").map(|e| e.expect("e").path()).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read(&kept[0]).expect("read"), b"content");
    assert_eq!(download(&["a/b"]), 0);
    assert!(!asked().contains(&target), "what was there was downloaded again");

    assert_eq!(download(&["nowhere", "a/b"]), 1);
    assert_eq!(download(&[]), 1);
    fs::write(&kept[0], b"spoiled").expect("write");
    fs::write(repo.join(&target), b"altered").expect("write");
    assert_eq!(download(&["a/b"]), 1);
    assert_eq!(fs::read(&kept[0]).expect("read"), b"spoiled");
}

//! Cross-check with python-tuf, the reference implementation: it reads what we sign, and we read
//! what it signs. `scripts/python-tuf` brings it; `.cargo/config.toml` says where, in
//! `FERRITE_PYTHON`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ed25519_dalek::SigningKey;
use tuf::author::{Dates, RoleSigners, first_root, publication};
use tuf::{
    Client, DirStore, FerriteTarget, Fetch, FetchError, Limits, Role, TargetFile, Time, target_path,
};

/// Runs the script beside this file; gives its output.
fn python(arguments: &[&str]) -> String {
    let interpreter = std::env::var("FERRITE_PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(&interpreter)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python_tuf.py"))
        .args(arguments)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap_or_else(|e| panic!("{interpreter}: {e}; run scripts/python-tuf"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "python-tuf did not agree (if it is missing: run scripts/python-tuf):\n{errors}"
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

struct Folder<'a>(&'a Path);

impl Fetch for Folder<'_> {
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        let bytes = std::fs::read(self.0.join(path)).map_err(|_| FetchError::NotFound)?;
        if bytes.len() as u64 > max {
            return Err(FetchError::TooLarge(max));
        }
        Ok(bytes)
    }
}

#[test]
#[ignore = "needs python-tuf: `just unit`"]
fn python_tuf_reads_our_repository() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let repo = dir.path().join("repo");
    let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
    let signers =
        RoleSigners { root: key(1), targets: key(2), snapshot: key(3), timestamp: key(4) };
    let ferrite = FerriteTarget {
        board: "qemu-arm64".into(),
        name: "demo".into(),
        version: "1.0.0".into(),
        sequence: u64::from(u32::MAX) + 1,
        header_sha256: "ab".repeat(32),
        ..FerriteTarget::default()
    };
    let content = b"an update";
    let target = TargetFile {
        length: content.len() as u64,
        hashes: BTreeMap::from([("sha256".into(), tuf::sha256_hex(content))]),
        custom: Some(serde_json::json!({ "ferrite": ferrite })),
    };
    let name = "demo-qemu-arm64-1.0.0.update";
    let at = repo.join(target_path(true, name, &target).expect("path"));
    let end = Time::MAX.min(Time(4_000_000_000));
    let signed_at = Time(1_800_000_000);
    let dates = Dates { signed_at, targets: end, snapshot: end, timestamp: end };
    let targets = BTreeMap::from([(name.to_string(), target)]);
    let root = first_root(&signers, end).expect("root");
    let files = publication(Err(&root), targets, &signers, &dates).expect("publication").files;
    std::fs::create_dir_all(repo.join("metadata")).expect("folder");
    std::fs::create_dir_all(at.parent().expect("parent")).expect("folder");
    std::fs::write(at, content).expect("target");
    for (file, bytes) in files {
        std::fs::write(repo.join("metadata").join(file), bytes).expect("metadata");
    }

    let server = test_http::Server::start(&repo).expect("a server");
    let url = server.url();
    let root = repo.join("metadata/1.root.json");
    let work = dir.path().join("client");
    std::fs::create_dir(&work).expect("folder");
    let downloaded = python(&[
        "client",
        &format!("{url}metadata/"),
        &format!("{url}targets/"),
        root.to_str().expect("UTF-8"),
        work.to_str().expect("UTF-8"),
        name,
    ]);
    assert_eq!(std::fs::read(downloaded.trim()).expect("downloaded"), content);
}

#[test]
#[ignore = "needs python-tuf: `just unit`"]
fn we_read_what_python_tuf_signed() {
    let dir = tempfile::tempdir().expect("temporary folder");
    python(&["author", dir.path().to_str().expect("UTF-8")]);
    let root = std::fs::read(dir.path().join("metadata/1.root.json")).expect("root");
    let mut store = DirStore::open(&dir.path().join("store")).expect("store");
    let mut folder = Folder(dir.path());
    let mut client = Client::new(&mut folder, &mut store, Time(0), Limits::default());
    let published = client.refresh(&root).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((published.root.version, published.root.threshold(Role::Root)), (3, 2));
    assert_eq!(published.root.threshold(Role::Targets), 2);
    let target = &published.targets.targets["demo.update"];
    let ferrite = target.ferrite().expect("custom");
    assert_eq!((ferrite.sequence, target.length), (7, 9));
    assert_eq!(ferrite.version, "1.0.0 \u{2013} \"quoted\" \\ \u{e9}");
    for (name, role, content) in [
        ("team/notes", "team", "from the team"),
        ("team/deep/notes", "team/deep", "from further down"),
        ("demo.update", "targets", "an update"),
    ] {
        let found = client.find_target(&published, name).expect("search").expect("found");
        assert_eq!(found.role, role);
        let bytes = client.fetch_found(&published, name, &found).expect("fetched");
        assert_eq!(bytes, content.as_bytes());
    }
    let roles = client.delegated_roles(&published).expect("all of them");
    assert_eq!(roles.into_keys().collect::<Vec<_>>(), ["team", "team/deep"]);
}

//! Locks against a tiny mirror on this machine, signed with a key made for the test.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::sources::sbom;
use debian::fixtures::make_deb;
use debian::hash::Sha256;

const BOARD: &str = r#"
name = "tiny"
description = "a board for tests"
[debian]
architecture = "arm64"
suites = ["trixie", "trixie-security"]
[kernel]
suite = "trixie"
version = "1"
release = "1-arm64"
packages = ["linux-binary"]
arguments = ""
initrd_modules = []
rootfs_modules = []
[boot]
chooser = "uboot"
[partitions]
firmware = "8M"
boot = "40M"
root = "96M"
data = "16M"
"#;
/// A package of non-free-firmware.
const FIRMWARE: &str = "blobs";
const PACKAGES: [&str; 5] = ["e2fsprogs", "libc6", "libgcc-s1", "libstdc++6", "linux-binary"];

/// A mirror of one suite, a keyring that trusts it, and an image to lock.
struct World {
    folder: tempfile::TempDir,
    server: test_http::Server,
}

fn gpg(home: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("gpg")
        .arg("--homedir")
        .arg(home)
        .args(["--batch", "--quiet", "--yes", "--pinentry-mode=loopback", "--passphrase="])
        .args(arguments)
        .output()
        .expect("this test needs the command gpg from the package gnupg");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |p: &str| folder.path().join(p);
        for name in [
            "gpg",
            "wrong-gpg",
            "mirror/debian/dists/trixie/main/binary-arm64",
            "mirror/debian/dists/trixie/non-free-firmware/binary-arm64",
            "mirror/debian/pool",
        ] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for (home, keyring) in [("gpg", "keyring.gpg"), ("wrong-gpg", "wrong.gpg")] {
            fs::set_permissions(at(home), std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .unwrap();
            gpg(&at(home), &["--quick-generate-key", "test", "ed25519", "sign", "never"]);
            fs::write(at(keyring), gpg(&at(home), &["--export"])).unwrap();
        }
        fs::write(at("tiny.toml"), BOARD).unwrap();
        fs::write(at("demo.toml"), "name = \"demo\"\nversion = \"1\"\nsequence = 1\n[[file]]\nsource = \"x\"\npath = \"/x\"\n").unwrap();
        fs::write(at("x"), "x").unwrap();
        let server = test_http::Server::start(&at("mirror")).unwrap();
        let world = Self { folder, server };
        world.publish("1", "2099", "trixie");
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Publishes all packages with this version of libc6, and only that one.
    fn publish(&self, libc: &str, valid_until: &str, codename: &str) {
        let pool = self.at("mirror/debian/pool");
        fs::remove_dir_all(&pool).unwrap();
        fs::create_dir(&pool).unwrap();
        let mut index = String::new();
        let mut firmware = String::new();
        for name in PACKAGES.into_iter().chain([FIRMWARE]) {
            let version = if name == "libc6" { libc } else { "1" };
            let deb = make_deb(&[(&format!("usr/lib/{name}"), version)], ".xz");
            fs::write(pool.join(format!("{name}_{version}.deb")), &deb).unwrap();
            let part = if name == FIRMWARE { &mut firmware } else { &mut index };
            *part += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: arm64\nFilename: pool/{name}_{version}.deb\nSize: {}\nSHA256: {}\n\n",
                deb.len(),
                Sha256::of(&deb)
            );
        }
        let suite = self.at("mirror/debian/dists/trixie");
        let mut release = format!(
            "Suite: stable\nCodename: {codename}\nValid-Until: Thu, 01 Jan {valid_until} 00:00:00 UTC\nSHA256:\n"
        );
        for (part, index) in [("main", index), ("non-free-firmware", firmware)] {
            let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 1);
            packed.write_all(index.as_bytes()).unwrap();
            let packed = packed.finish().unwrap();
            let path = format!("{part}/binary-arm64/Packages.xz");
            fs::write(suite.join(&path), &packed).unwrap();
            release += &format!(" {} {} {path}\n", Sha256::of(&packed), packed.len());
        }
        fs::write(suite.join("Release"), release).unwrap();
        let (from, to) = (suite.join("Release"), suite.join("InRelease"));
        gpg(
            &self.at("gpg"),
            &["--clearsign", "--output", to.to_str().unwrap(), from.to_str().unwrap()],
        );
    }

    fn options(&self) -> Options {
        Options {
            locked: false,
            mirror: Some(format!("{}debian", self.server.url())),
            keyring: self.at("keyring.gpg"),
            expired: Expired::Refuse,
            cache: Cache::at(&self.at("cache")).unwrap(),
        }
    }

    fn run(&self, options: &Options) -> Result<Inputs, String> {
        let image = Image::load(&self.at("demo.toml")).unwrap();
        let board = Board::load(self.at("tiny.toml").to_str().unwrap(), Path::new(".")).unwrap();
        let inputs = resolve_all(&image, &board, options).and_then(LockedInputs::fetch);
        inputs.map_err(|e| format!("{e:#}"))
    }

    fn refuses(&self, options: &Options, expected: &str) {
        match self.run(options) {
            Ok(_) => panic!("taken, though it should say {expected}"),
            Err(message) => assert!(message.contains(expected), "{message}"),
        }
        assert!(!self.at("demo.lock").exists(), "a failed lock leaves no file");
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.at("demo.lock")).unwrap()
    }
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn a_lock_is_written_names_no_mirror_and_then_needs_none() {
    let world = World::new();
    let inputs = world.run(&world.options()).unwrap();
    assert_eq!(inputs.root.len(), 4);
    assert_eq!(inputs.root[1].file("usr/lib/libc6").unwrap(), b"1");
    assert_eq!(inputs.local(Path::new("x")).unwrap(), b"x");
    let lock = world.lock();
    assert!(!lock.contains("127.0.0.1") && !lock.contains("://"), "{lock}");
    let offline = Options {
        locked: true,
        mirror: Some("http://127.0.0.1:1/debian".into()),
        ..world.options()
    };
    world.run(&offline).unwrap();
    assert_eq!(world.lock(), lock);
    fs::remove_file(world.at("demo.lock")).unwrap();
    world.run(&world.options()).unwrap();
    assert_eq!(world.lock(), lock, "the same mirror gives the same lock");
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn a_boards_firmware_is_locked_out_of_its_own_part_of_the_archive() {
    let world = World::new();
    world.run(&world.options()).unwrap();
    assert!(!world.lock().contains(FIRMWARE), "nobody asked for it");
    let named = format!(
        "{}[boot.firmware]\npackage = \"{FIRMWARE}\"\nfolder = \"/usr/lib\"\nslot_files = [\"{FIRMWARE}\"]\n",
        BOARD.replace("\"uboot\"", "\"rpi\"")
    );
    fs::write(world.at("tiny.toml"), &named).unwrap();
    let inputs = world.run(&world.options()).unwrap();
    let deb = inputs.board_firmware.expect("the package");
    assert_eq!((&*deb.name, deb.file("usr/lib/blobs").unwrap()), (FIRMWARE, b"1".to_vec()));
    assert!(world.lock().contains("board_firmware = \"blobs 1\""));
    // The lock says it all: the mirror is not asked again.
    let locked =
        Options { locked: true, mirror: Some("http://127.0.0.1:9".into()), ..world.options() };
    assert!(world.run(&locked).unwrap().board_firmware.is_some());
    // Packages of main are not looked for there, nor the other way round.
    fs::write(world.at("tiny.toml"), named.replace("\"blobs\"\nfolder", "\"libc6\"\nfolder"))
        .unwrap();
    assert!(world.run(&world.options()).unwrap_err().contains("no package `libc6`"));
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn an_archive_that_is_not_signed_by_a_trusted_key_is_refused() {
    let world = World::new();
    let wrong = Options { keyring: world.at("wrong.gpg"), ..world.options() };
    world.refuses(&wrong, "signed by none of the keys in");
    let none = Options { keyring: world.at("none.gpg"), ..world.options() };
    world.refuses(&none, "debian-archive-keyring");
    let suite = world.at("mirror/debian/dists/trixie");
    let signed = fs::read_to_string(suite.join("InRelease")).unwrap();
    fs::write(suite.join("InRelease"), signed.replace("stable", "stabel")).unwrap();
    world.refuses(&world.options(), "signature is not valid");
    fs::copy(suite.join("Release"), suite.join("InRelease")).unwrap();
    world.refuses(&world.options(), "is not signed");
    // Text outside of the signature must not count.
    fs::write(suite.join("InRelease"), format!("Codename: trixie\n\n{signed}")).unwrap();
    world.refuses(&world.options(), "is not signed");
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn expired_and_swapped_suites_are_refused() {
    let world = World::new();
    world.publish("1", "2020", "trixie");
    world.refuses(&world.options(), "expired on Thu, 01 Jan 2020");
    world.publish("1", "2099", "bookworm");
    world.refuses(&world.options(), "is that of bookworm");
    world.publish("1", "2020", "trixie");
    let frozen = Options { expired: Expired::Allow, ..world.options() };
    world.run(&frozen).unwrap();
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn an_altered_index_is_refused() {
    let world = World::new();
    let index = world.at("mirror/debian/dists/trixie/main/binary-arm64/Packages.xz");
    let mut bytes = fs::read(&index).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&index, &bytes).unwrap();
    world.refuses(&world.options(), "does not match its signed InRelease");
    bytes.extend([0; 4096]);
    fs::write(&index, &bytes).unwrap();
    world.refuses(&world.options(), "sends more than");
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn an_altered_package_is_refused() {
    let world = World::new();
    fs::write(world.at("mirror/debian/pool/libc6_1.deb"), "something else").unwrap();
    let message = world.run(&world.options()).unwrap_err();
    assert!(message.contains("instead of"), "{message}");
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn a_vanished_pin_is_replaced_or_under_locked_an_error() {
    let world = World::new();
    world.run(&world.options()).unwrap();
    let before = world.lock();
    world.publish("2", "2099", "trixie");
    // Cached: the lock is obeyed and nothing is looked up.
    world.run(&world.options()).unwrap();
    assert_eq!(world.lock(), before);
    let fresh = Options { cache: Cache::at(&world.at("fresh")).unwrap(), ..world.options() };
    let locked = Options { locked: true, ..fresh.clone() };
    let message = world.run(&locked).unwrap_err();
    assert!(message.contains("gone from the mirror") && message.contains("libc6 1"), "{message}");
    assert_eq!(world.lock(), before);
    let inputs = world.run(&fresh).unwrap();
    assert_eq!(inputs.root[1].version, "2");
    assert!(world.lock().contains("libc6 2") && world.lock().contains("e2fsprogs 1"));
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn locked_refuses_every_difference() {
    let world = World::new();
    let locked = Options { locked: true, ..world.options() };
    world.refuses(&locked, "there is no lock");
    world.run(&world.options()).unwrap();
    world.run(&locked).unwrap();
    fs::write(world.at("x"), "y").unwrap();
    let message = world.run(&locked).unwrap_err();
    assert!(message.contains("x has changed"), "{message}");
    world.run(&world.options()).unwrap();
    world.run(&locked).unwrap();
    let image = fs::read_to_string(world.at("demo.toml")).unwrap();
    fs::write(world.at("demo.toml"), format!("{image}[debian]\npackages = [\"linux-binary\"]\n"))
        .unwrap();
    let message = world.run(&locked).unwrap_err();
    assert!(message.contains("was not made for the packages"), "{message}");
}

#[test]
#[ignore = "needs gpg: `just unit`"]
fn the_bill_of_materials_names_every_input_and_is_the_same_each_time() {
    let world = World::new();
    let inputs = world.run(&world.options()).unwrap();
    let image = Image::load(&world.at("demo.toml")).unwrap();
    let board = Board::load(world.at("tiny.toml").to_str().unwrap(), Path::new(".")).unwrap();
    let text = sbom::spdx(&image, &board, &inputs, &[], 0).unwrap();
    assert_eq!(text, sbom::spdx(&image, &board, &inputs, &[], 0).unwrap());
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let packages = document["packages"].as_array().unwrap();
    let find = |name: &str| packages.iter().find(|p| p["name"] == name).unwrap();
    assert_eq!(packages.len(), 1 + PACKAGES.len() + 1);
    assert_eq!(
        find("libstdc++6")["externalRefs"][0]["referenceLocator"],
        "pkg:deb/debian/libstdc%2B%2B6@1?arch=arm64"
    );
    assert_eq!(find("x")["checksums"][0]["checksumValue"], Sha256::of(b"x").to_string());
    assert_eq!(document["creationInfo"]["created"], "1970-01-01T00:00:00Z");
}

//! The commands of docs/keys.md, run as they stand there, with a device that follows along and
//! thieves who use what they stole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer, SigningKey};
use formats::manifest::{Manifest, encode_header, key_id};
use formats::payload::{Chunk, ChunkTable};
use sha2::{Digest, Sha256};
use tuf::author::{Changes, Dates, Draft, Keyring, Published, Renew, release};
use tuf::{DirStore, Envelope, Error, Fetch, FetchError, Limits, Role, Time, refresh};

const PAGE: &str = include_str!("../../docs/keys.md");

/// The commands below a heading of the page, in the blocks that begin with `fence`.
fn commands(heading: &str, fence: &str) -> String {
    let start = format!("\n## {heading}\n");
    let at = PAGE.find(&start).unwrap_or_else(|| panic!("no section {heading:?}"));
    let section = &PAGE[at + start.len()..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let mut text = String::new();
    let mut inside = false;
    for line in section.lines() {
        match line {
            "```" => inside = false,
            _ if inside => text += &format!("{line}\n"),
            _ => inside = line == fence,
        }
    }
    assert!(!text.is_empty(), "no commands below {heading:?}");
    text
}

/// A server that does not outlive its test, however that ends.
struct EndedWithTest(Child);

impl Drop for EndedWithTest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World { dir: tempfile::tempdir().unwrap() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn sh(&self, script: &str) -> Output {
        let imager = Path::new(env!("CARGO_BIN_EXE_imager"));
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("sh")
            .args(["-euxc", script])
            .current_dir(self.dir.path())
            .env("PATH", format!("{}:{path}", imager.parent().unwrap().display()))
            .output()
            .unwrap()
    }

    fn runs(&self, script: &str) -> String {
        let output = self.sh(script);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, script: &str) -> String {
        let output = self.sh(script);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs the commands of a section, all of which have to succeed.
    fn follows(&self, heading: &str) -> String {
        self.runs(&commands(heading, "```sh"))
    }

    fn key(&self, path: &str) -> SigningKey {
        SigningKey::from_pkcs8_pem(&fs::read_to_string(self.at(path)).unwrap()).unwrap()
    }

    /// All that the repository has, by path.
    fn repository(&self) -> Memory {
        let mut files = BTreeMap::new();
        for folder in ["metadata", "targets"] {
            for entry in fs::read_dir(self.at("repo").join(folder)).into_iter().flatten() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.insert(format!("{folder}/{name}"), fs::read(path).unwrap());
            }
        }
        Memory(files)
    }

    /// An update of a few chunks that `image.key` in `build/` signed.
    fn update(&self, version: &str, sequence: u64) {
        // Hard to compress and nearly the same in each version: that is what deltas are for.
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut stream: Vec<u8> = (0..160 << 10).map(|_| next()).collect();
        stream[70_000..70_010].fill(sequence as u8);
        let (mut chunks, mut frames) = (Vec::new(), Vec::new());
        for plain in stream.chunks(65536) {
            let frame = zstd::bulk::compress(plain, 3).unwrap();
            let sha256 = Sha256::digest(plain).into();
            chunks.push(Chunk { compressed: frame.len() as u32, sha256 });
            frames.extend(frame);
        }
        let table = ChunkTable::new(chunks, 65536, stream.len() as u64).unwrap().to_bytes();
        let manifest = Manifest {
            board: "qemu-arm64".into(),
            name: "demo".into(),
            version: version.into(),
            sequence,
            rollback_floor: 0,
            root_size: 65536,
            root_hash_size: 4096,
            root_verity_hash: [1; 32],
            root_verity_salt: [2; 32],
            boot_size: stream.len() as u64 - 65536 - 4096,
            chunk_size: 65536,
            chunk_table_sha256: Sha256::digest(&table).into(),
            boot_files: vec![],
            models: vec![],
        }
        .to_text();
        let key = self.key("build/image.key");
        let id = key_id(key.verifying_key().as_bytes());
        let signature = key.sign(manifest.as_bytes()).to_bytes();
        let header = encode_header(&manifest, &[(id, signature)]).unwrap();
        let path = self.at(&format!("demo-{version}.update"));
        fs::write(path, [header, table, frames].concat()).unwrap();
    }
}

/// A repository in memory, as a server or somebody on the way may change it.
#[derive(Clone)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl Fetch for Memory {
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        match self.0.get(path) {
            None => Err(FetchError::NotFound),
            Some(bytes) if bytes.len() as u64 > max => Err(FetchError::TooLarge(max)),
            Some(bytes) => Ok(bytes.clone()),
        }
    }
}

struct Device {
    dir: tempfile::TempDir,
    root: Vec<u8>,
}

impl Device {
    fn with_root(root: Vec<u8>) -> Device {
        Device { dir: tempfile::tempdir().unwrap(), root }
    }

    fn refresh(&self, mut repository: Memory) -> Result<Published, Error> {
        let mut store = DirStore::open(self.dir.path()).unwrap();
        refresh(&mut repository, &mut store, &self.root, now(), &Limits::default())
    }
}

fn now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time(now.as_secs())
}

/// What thieves with these keys can do to a timestamp: push its version to the top, and the time
/// past the end of everything that the owner has signed.
fn fast_forward(repository: &Memory, published: &Published, keys: &[SigningKey]) -> Memory {
    let mut top = published.clone();
    top.timestamp.version = 4_000_000_000;
    top.snapshot.version = 4_000_000_000;
    let end = now().plus_days(3650);
    let ahead = now().plus_days(3000);
    let dates = Dates { signed_at: ahead, targets: end, snapshot: end, timestamp: end };
    let ring = Keyring::new(keys.iter().cloned());
    let can_snapshot = !ring.for_role(&published.root, Role::Snapshot).is_empty();
    let renew = if can_snapshot { Renew::Snapshot } else { Renew::Timestamp };
    let changes = Changes { renew, ..Changes::default() };
    let mut forged = repository.clone();
    for (name, bytes) in release(Some(&top), changes, &ring, &dates).unwrap().files {
        forged.0.insert(format!("metadata/{name}"), bytes);
    }
    forged
}

#[test]
fn the_page_is_followed_from_the_first_key_to_the_last_theft() {
    let world = World::new();
    world.follows("Creating a repository");
    let device = Device::with_root(fs::read(world.at("build/root.json")).unwrap());
    let first = device.refresh(world.repository()).unwrap();
    assert_eq!((first.root.version, first.root.threshold(Role::Root)), (1, 2));
    assert_eq!(first.root.threshold(Role::Targets), 2);

    let printed = world.follows("Backup");
    assert!(printed.trim().len() < 100 && !printed.contains("PRIVATE"), "{printed}");

    world.update("1.0.0", 1);
    let signed = world.follows("Releasing");
    assert!(signed.contains("ADDS \"demo-qemu-arm64-1.0.0.update\""), "{signed}");
    assert!(signed.contains("sequence 1") && signed.contains("1 of 2 signatures"), "{signed}");
    let released = device.refresh(world.repository()).unwrap();
    assert!(released.targets.targets.contains_key("demo-qemu-arm64-1.0.0.update"));

    let said = world.follows("Renewing the timestamp");
    assert!(said.contains("is young"), "{said}");
    let said = world.runs("imager repo refresh --repo repo --keys online --expires 7");
    assert!(
        said.starts_with("timestamp renewed: timestamp version 3") && said.lines().count() == 1
    );
    let renewed = device.refresh(world.repository()).unwrap();
    assert_eq!((renewed.timestamp.version, renewed.snapshot.version), (3, 2));

    world.follows("Rotating a key every year");
    assert_eq!(device.refresh(world.repository()).unwrap().root.version, 2);

    // A thief of the online machine's keys first pushes the versions to the top.
    let stolen = [world.key("online/timestamp.key"), world.key("online/snapshot.key")];
    let published = device.refresh(world.repository()).unwrap();
    let victims = [&stolen[..1], &stolen[..]].map(|keys| {
        let victim = Device::with_root(device.root.clone());
        // It may see that something is wrong. What it believed of the timestamp stays with it.
        let _ = victim.refresh(fast_forward(&world.repository(), &published, keys));
        let locked_out = victim.refresh(world.repository());
        assert!(matches!(locked_out, Err(Error::Rollback { .. })), "{locked_out:?}");
        victim
    });
    world.follows("The timestamp or snapshot key is stolen");
    victims[0].refresh(world.repository()).unwrap();
    let recovered = victims[1].refresh(world.repository()).unwrap();
    assert_eq!(recovered.root.version, 4);
    assert_eq!(recovered.targets.version, published.targets.version, "the snapshot's key only");
    device.refresh(world.repository()).unwrap();
    // What the thief has is worth nothing now.
    let mut stale = recovered.clone();
    stale.root = published.root.clone();
    let forged = fast_forward(&world.repository(), &stale, &stolen);
    assert!(matches!(device.refresh(forged), Err(Error::Unsigned { valid: 0, .. })));

    let stolen = world.key("bob/targets-bob.key");
    let before = device.refresh(world.repository()).unwrap();
    let signed = world.follows("A targets key is stolen");
    assert!(signed.contains("targets: ADDS key") && signed.contains("targets: REMOVES key"));
    assert!(signed.contains("the same targets"), "{signed}");
    let after = device.refresh(world.repository()).unwrap();
    assert_eq!(after.targets.targets, before.targets.targets);
    assert_eq!(after.root.id_of(Role::Targets, &stolen.verifying_key()), None);

    let stolen = world.key("carol/root-carol.key");
    let mut root = after.root.next(after.root.expires);
    root.set_threshold(Role::Root, 1);
    let mut forged = world.repository();
    let mut draft = Draft::new(root).unwrap();
    draft.sign_with(&Keyring::new([stolen.clone()]), &after.root).unwrap();
    forged.0.insert("metadata/6.root.json".into(), draft.to_bytes());
    assert!(matches!(device.refresh(forged), Err(Error::Unsigned { valid: 1, threshold: 2, .. })));
    world.follows("A root key is stolen");
    let last = device.refresh(world.repository()).unwrap();
    assert_eq!((last.root.version, last.root.ids(Role::Root).len()), (6, 3));
    assert_eq!(last.root.id_of(Role::Root, &stolen.verifying_key()), None);

    // A device that slept through all of it, and one made today.
    let fresh = Device::with_root(device.root.clone());
    assert_eq!(fresh.refresh(world.repository()).unwrap().root.version, 6);
    assert!(!world.at("repo/staged").exists());
}

/// A repository of two people, threshold 2, with an update staged.
fn staged() -> World {
    let world = World::new();
    world.follows("Creating a repository");
    world.update("1.0.0", 1);
    world.runs("imager publish --repo repo --keys online --stage demo-1.0.0.update");
    world
}

/// python-tuf, as the client of what the commands wrote: from the first root to the target's bytes.
#[test]
#[ignore = "needs python-tuf: `just unit`"]
fn python_tuf_follows_all_roots_and_fetches_deltas_and_indexes() {
    let world = World::new();
    world.follows("Creating a repository");
    world.update("1.0.0", 1);
    world.follows("Releasing");
    world.follows("Rotating a key every year");
    world.follows("The timestamp or snapshot key is stolen");
    world.follows("A targets key is stolen");
    world.update("1.0.1", 2);
    world.runs(
        "imager publish --repo repo --keys online --stage demo-1.0.1.update
        imager repo sign repo/staged/4.targets.json --keys alice --yes
        imager repo sign repo/staged/4.targets.json --keys bob --yes
        imager repo publish --repo repo --keys online
        imager repo verify --repo repo --image-keys build",
    );
    let device = Device::with_root(fs::read(world.at("build/root.json")).unwrap());
    let published = device.refresh(world.repository()).unwrap();
    let offered: Vec<String> = published.targets.targets.into_keys().collect();
    for end in ["1.0.1.update", "1.0.1.index", "-from-1.0.0.delta"] {
        assert!(offered.iter().any(|name| name.ends_with(end)), "no {end}: {offered:?}");
    }

    let server = Command::new(env!("CARGO_BIN_EXE_imager"))
        .args(["serve", "--repo", "repo", "--listen", "127.0.0.1:0"])
        .current_dir(world.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = EndedWithTest(server);
    let mut said = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let line = said.next().unwrap().unwrap();
    let url = line.split(' ').find(|word| word.starts_with("http://")).unwrap().to_owned();
    std::thread::spawn(move || said.for_each(drop));
    let python = std::env::var("FERRITE_PYTHON").unwrap_or_else(|_| "python3".into());
    for (number, target) in offered.iter().enumerate() {
        let folder = world.at(&format!("python-{number}"));
        fs::create_dir(&folder).unwrap();
        let output = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../lib/tuf/tests/python_tuf.py"))
            .args(["client", &format!("{url}metadata/"), &format!("{url}targets/")])
            .arg(world.at("build/root.json"))
            .arg(&folder)
            .arg(target)
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .unwrap_or_else(|e| panic!("{python}: {e}; run scripts/python-tuf"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = String::from_utf8(output.stdout).unwrap();
        assert!(fs::metadata(path.trim()).unwrap().len() > 0);
    }
}

#[test]
fn nothing_staged_is_seen_by_a_device_until_both_have_signed() {
    let world = staged();
    let device = Device::with_root(fs::read(world.at("build/root.json")).unwrap());
    let metadata = |world: &World| {
        let mut all = world.repository().0;
        all.retain(|path, _| path.starts_with("metadata/"));
        all
    };
    let before = metadata(&world);
    assert!(device.refresh(world.repository()).unwrap().targets.targets.is_empty());
    world.runs("cp -r repo/staged s && imager repo sign s/2.targets.json --keys alice --yes");
    let error = world.fails("imager repo publish --repo repo --keys online s/2.targets.json");
    assert!(error.contains("2.targets.json has 1 of 2 signatures"), "{error}");
    assert!(before == metadata(&world), "half of a publication can be seen");
    let shown = world.runs("imager repo show --repo repo");
    assert!(shown.contains("staged: 2.targets.json"), "{shown}");
    // The same person twice is one person.
    world.runs("imager repo sign s/2.targets.json --keys alice --yes");
    world.fails("imager repo publish --repo repo --keys online s/2.targets.json");
    // Without the online keys nothing is published either, though both have signed.
    world.runs("imager repo sign s/2.targets.json --keys bob --yes");
    let error = world.fails("imager repo publish --repo repo s/2.targets.json");
    assert!(error.contains("snapshot.json needs 1 signatures"), "{error}");
    assert!(before == metadata(&world));
    // What both signed was kept when that failed.
    world.runs("imager repo publish --repo repo --keys online");
    let published = device.refresh(world.repository()).unwrap();
    assert!(published.targets.targets.contains_key("demo-qemu-arm64-1.0.0.update"));
}

#[test]
fn a_draft_that_came_back_changed_is_refused() {
    let world = staged();
    world.runs("cp -r repo/staged s && imager repo sign s/2.targets.json --keys alice --yes");
    world.runs("sed -i 's/\"version\": \"1.0.0\"/\"version\": \"6.6.6\"/' s/2.targets.json");
    world.runs("imager repo sign s/2.targets.json --keys bob --yes");
    let error = world.fails("imager repo publish --repo repo --keys online s/2.targets.json");
    assert!(error.contains("does not say what was handed out"), "{error}");
}

#[test]
fn who_signs_is_not_fooled_by_what_lies_beside_the_draft() {
    let world = staged();
    world.runs("cp -r repo/staged s");
    // The published targets as a liar would have them: the update is no news.
    let path = world.at("s/before/1.targets.json");
    let mut lie: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let draft: serde_json::Value =
        serde_json::from_slice(&fs::read(world.at("s/2.targets.json")).unwrap()).unwrap();
    lie["signed"]["targets"] = draft["signed"]["targets"].clone();
    fs::write(&path, lie.to_string()).unwrap();
    let error = world.fails("imager repo sign s/2.targets.json --keys alice --yes");
    assert!(error.contains("is not signed as the published root asks"), "{error}");

    // Roots of somebody else's making, with a repository around them.
    let other = staged();
    let own = world.at("alice/root.json");
    let error = other.fails(&format!(
        "imager repo sign repo/staged/2.targets.json --keys alice --yes --root {}",
        own.display()
    ));
    assert!(error.contains("do not lead on from yours"), "{error}");
}

#[test]
fn a_key_signs_only_what_it_may_and_only_when_told_to() {
    let world = staged();
    let error = world.fails("imager repo sign repo/staged/2.targets.json --keys carol --yes");
    assert!(error.contains("no key at hand may sign"), "{error}");
    let error = world.fails("imager repo sign repo/staged/2.targets.json --keys alice </dev/null");
    assert!(error.contains("add --yes"), "{error}");
    fs::set_permissions(world.at("alice/targets-alice.key"), fs::Permissions::from_mode(0o644))
        .unwrap();
    let error = world
        .fails("imager repo sign repo/staged/2.targets.json --key alice/targets-alice.key --yes");
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn changes_that_would_lock_everybody_out_are_refused() {
    let world = World::new();
    world.runs("imager keygen --out keys; imager repo init --repo repo --keys keys");
    let before = world.repository().0;
    for (command, words) in [
        ("threshold --role root 2", "root would have 1 keys and need 2 signatures"),
        ("threshold --role root 0", "would let anybody sign"),
        ("remove-key --role timestamp --public keys/timestamp.pub", "need 1 signatures"),
        ("revoke --public keys/targets.pub", "--replace-by"),
        ("revoke --public keys/image.pub", "signs for no role"),
        ("add-key --role root --public keys/root.pub", "signs for root already"),
        ("revoke --id abcd", "at least 8 digits"),
        ("init", "is a repository already"),
    ] {
        let error = world.fails(&format!("imager repo {command} --repo repo --keys keys"));
        assert!(error.contains(words), "{command}: {error}");
    }
    assert!(world.repository().0 == before);
}

#[test]
fn keys_of_one_person_change_at_once_and_devices_follow() {
    let world = World::new();
    world.runs("imager keygen --out keys; imager repo init --repo repo --keys keys");
    let device = Device::with_root(world.repository().0["metadata/1.root.json"].clone());
    device.refresh(world.repository()).unwrap();
    world.runs(
        "imager keygen --out keys --role root-b; imager keygen --out keys --role targets-b
        imager repo add-key --repo repo --keys keys --role root --public keys/root-b.pub \\
            --threshold 2
        imager repo rotate --repo repo --keys keys --role targets --new keys/targets-b.pub
        imager repo threshold --repo repo --keys keys --role root 1
        imager repo remove-key --repo repo --keys keys --role root --public keys/root.pub
        rm keys/root.key keys/targets.key
        imager repo verify --repo repo",
    );
    let after = device.refresh(world.repository()).unwrap();
    assert_eq!((after.root.version, after.targets.version), (5, 2));
    // The timestamp is not signed anew where nothing asks for it.
    assert_eq!(after.timestamp.version, 2);
}

#[test]
fn a_new_root_appears_when_everything_that_it_asks_for_is_there() {
    let world = World::new();
    world.runs("imager keygen --out keys; imager repo init --repo repo --keys keys");
    let old = world.repository();
    world.runs(
        "imager keygen --out keys --role timestamp-2
        imager repo rotate --repo repo --keys keys --role timestamp --new keys/timestamp-2.pub",
    );
    let new = world.repository();
    // The moment before the new root's name appears: the new timestamp is there already.
    let mut between = new.clone();
    between.0.remove("metadata/2.root.json");
    let root = old.0["metadata/1.root.json"].clone();
    for repository in [old, between, new] {
        Device::with_root(root.clone()).refresh(repository).unwrap();
    }
}

#[test]
fn verify_says_what_a_device_would_refuse() {
    let world = World::new();
    world.runs("imager keygen --out build");
    world.update("1.0.0", 1);
    world.runs(
        "imager publish --repo repo --keys build demo-1.0.0.update
        imager repo verify --repo repo --root build/root.json --image-keys build",
    );
    let warned = world.sh("imager repo verify --repo repo --warn-days 3000");
    let warned = String::from_utf8(warned.stderr).unwrap();
    assert!(warned.contains("timestamp expires at") && warned.contains("targets expires at"));
    let target = world.repository().0.into_keys().find(|path| path.contains(".update")).unwrap();
    let path = world.at("repo").join(target);
    let good = fs::read(&path).unwrap();
    for bad in [&good[..good.len() - 1], &[&good[..], b"x"].concat(), &[0; 70_000]] {
        fs::write(&path, bad).unwrap();
        let error = world.fails("imager repo verify --repo repo");
        assert!(error.contains("demo-qemu-arm64-1.0.0.update"), "{error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(world.fails("imager repo verify --repo repo").contains("cannot open"));
    fs::write(&path, &good).unwrap();
    world.runs("imager keygen --out other");
    let error = world.fails("imager repo verify --repo repo --image-keys other");
    assert!(error.contains("not signed by a trusted key"), "{error}");
    let error = world.fails("imager repo verify --repo repo --root other/root.json");
    assert!(error.contains("valid signatures"), "{error}");

    // Metadata that says of an update what the update does not say of itself.
    let targets = world.at("repo/metadata/1.targets.json");
    let mut lie: serde_json::Value = serde_json::from_slice(&fs::read(&targets).unwrap()).unwrap();
    let at = "/targets/demo-qemu-arm64-1.0.0.update/custom/ferrite/sequence";
    *lie["signed"].pointer_mut(at).unwrap() = 9.into();
    let signed = Envelope::sign(&lie["signed"], &[&world.key("build/targets.key")]).unwrap();
    let mut published = Device::with_root(world.repository().0["metadata/1.root.json"].clone())
        .refresh(world.repository())
        .unwrap();
    let draft = Draft::read("targets", &signed.to_bytes()).unwrap();
    published.snapshot.version -= 1;
    published.timestamp.version -= 1;
    let end = now().plus_days(30);
    let dates = Dates { signed_at: now(), targets: end, snapshot: end, timestamp: end };
    let keys =
        Keyring::new(["snapshot", "timestamp"].map(|r| world.key(&format!("build/{r}.key"))));
    let changes = Changes { targets: Some(draft), ..Changes::default() };
    for (name, bytes) in release(Some(&published), changes, &keys, &dates).unwrap().files {
        fs::write(world.at("repo/metadata").join(name), bytes).unwrap();
    }
    let error = world.fails("imager repo verify --repo repo");
    assert!(error.contains("its metadata says"), "{error}");
}

#[test]
fn a_refresh_needs_the_keys_of_what_it_renews_and_no_others() {
    let world = World::new();
    world.runs("imager keygen --out keys; imager repo init --repo repo --keys keys");
    world.runs("mkdir t st; cp keys/timestamp.* t; cp keys/timestamp.* keys/snapshot.* st");
    let device = Device::with_root(world.repository().0["metadata/1.root.json"].clone());
    let said = world.runs("imager repo refresh --repo repo --keys t --expires 7");
    assert!(said.starts_with("timestamp renewed: timestamp version 2"), "{said}");
    let published = device.refresh(world.repository()).unwrap();
    assert_eq!((published.timestamp.version, published.snapshot.version), (2, 1));
    assert!(published.timestamp.expires <= now().plus_days(7));
    assert!(published.timestamp.signed_at.unwrap() <= now());

    // The snapshot is near its end: that takes its key.
    let soon = "imager repo refresh --repo repo --snapshot-within 2000 --keys";
    let before = world.repository().0;
    let error = world.fails(&format!("{soon} t"));
    assert!(error.contains("snapshot.json needs 1 signatures"), "{error}");
    assert!(error.contains("targets expires at"), "what needs offline keys is said: {error}");
    assert!(world.repository().0 == before, "something was written");
    let said = world.runs(&format!("{soon} st"));
    assert!(said.starts_with("snapshot and timestamp renewed"), "{said}");
    let published = device.refresh(world.repository()).unwrap();
    assert_eq!((published.timestamp.version, published.snapshot.version), (3, 2));
    assert_eq!(published.targets.version, 1);

    let said = world.runs("imager repo refresh --repo repo --keys t --if-older-than 1h");
    assert_eq!(said, "timestamp version 3 is young\n");
    world.runs("imager repo refresh --repo repo --keys t --if-older-than 0s");
    assert_eq!(device.refresh(world.repository()).unwrap().timestamp.version, 4);
}

#[test]
fn a_paused_rollout_is_signed_for_like_anything_else() {
    let world = staged();
    world.runs(
        "imager repo sign repo/staged/2.targets.json --keys alice --yes
        imager repo sign repo/staged/2.targets.json --keys bob --yes
        imager repo publish --repo repo --keys online",
    );
    let error = world.fails("imager publish --repo repo --keys online --pause 1.0.0");
    assert!(error.contains("3.targets.json has 0 of 2 signatures"), "{error}");
    world.runs("imager publish --repo repo --keys online --pause 1.0.0 --stage");
    let error = world.fails("imager publish --repo repo --keys online --stage");
    assert!(error.contains("waits for signatures"), "{error}");
    let said = world.runs("imager repo sign repo/staged/3.targets.json --keys alice --yes");
    assert!(said.contains("CHANGES what is said of") && said.contains("\"paused\":true"), "{said}");
}

#[test]
fn drafts_of_another_state_are_refused() {
    let world = staged();
    world.runs("cp -r repo/staged old");
    world.runs(
        "imager repo sign repo/staged/2.targets.json --keys alice --yes
        imager repo sign repo/staged/2.targets.json --keys bob --yes
        imager repo publish --repo repo --keys online
        cp -r old repo/staged",
    );
    let error = world.fails("imager repo publish --repo repo --keys online");
    assert!(error.contains("in another state") && error.contains("stage again"), "{error}");
}

#[test]
fn a_lost_key_is_replaced_even_when_the_machine_stops_half_way() {
    let world = World::new();
    world.runs("imager keygen --out keys; imager repo init --repo repo --keys keys");
    let device = Device::with_root(world.repository().0["metadata/1.root.json"].clone());
    device.refresh(world.repository()).unwrap();
    world.runs(
        "rm keys/timestamp.key
        imager keygen --out keys --role timestamp-2
        imager repo rotate --repo repo --keys keys --role timestamp --new keys/timestamp-2.pub \\
            --stage
        cp repo/staged/2.root.json repo/metadata/",
    );
    // The new root is there, the new timestamp not yet: a device waits and loses nothing.
    assert!(matches!(device.refresh(world.repository()), Err(Error::Unsigned { .. })));
    let error = world.fails("imager repo publish --repo repo --keys keys");
    assert!(error.contains("damaged"), "{error}");
    world.runs("rm repo/metadata/2.root.json; imager repo publish --repo repo --keys keys");
    assert_eq!(device.refresh(world.repository()).unwrap().root.version, 2);
}

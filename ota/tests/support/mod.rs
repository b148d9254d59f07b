//! A device made of files, and a server that misbehaves on demand.

#![allow(dead_code)]

pub mod certificates;
pub mod raw;
pub mod server;
pub mod wire;
pub mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use formats::boot_state::{Boot, BootState};
use formats::boot_state_store::{BootStateStore, RedundantStore};
use formats::manifest::{FileHash, HEADER_SIZE, Manifest, encode_header, key_id};
use formats::payload::{Chunk, ChunkTable};
use formats::run_slot::RunSlot;
use formats::{Slot, verity};
use ota::Error;
use ota::daemon::Heart;
use ota::device::Running;
use ota::http::Client;
use ota::install::{Offer, install};
use ota::paths::Paths;
use ota::patience::Patience;
use ota::settings::Settings;
use ota::source::Source;
use ota::state::{Pending, State};
use sha2::{Digest, Sha256};
use tuf::author::{Dates, Published, RoleSigners, first_root, publication};
use tuf::{DeltaTarget, FerriteTarget, TargetFile, Time};

#[allow(unused_imports)]
pub use server::{Fault, Server};

pub const CHUNK: u64 = 65536;
const BOOT: u64 = 5 * CHUNK / 2 / 4096 * 4096;
const ROOT: u64 = 20 * CHUNK;
const ROOT_PARTITION: u64 = 2 << 20;

pub fn image_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

/// What an update is made of; change what the test is about.
#[derive(Clone)]
pub struct Recipe {
    pub board: &'static str,
    pub name: &'static str,
    pub version: String,
    pub sequence: u64,
    pub rollback_floor: u64,
    pub boot_size: u64,
    pub root_size: u64,
    pub chunk_size: u64,
    pub key: SigningKey,
    pub boot_files: Vec<FileHash>,
}

pub fn recipe(sequence: u64) -> Recipe {
    Recipe {
        board: "qemu-arm64",
        name: "demo",
        version: format!("1.0.{sequence}"),
        sequence,
        rollback_floor: 0,
        boot_size: BOOT,
        root_size: ROOT,
        chunk_size: CHUNK,
        key: image_key(),
        boot_files: vec![],
    }
}

pub struct Update {
    pub bytes: Vec<u8>,
    pub stream: Vec<u8>,
    pub header: Vec<u8>,
    pub table: ChunkTable,
    pub manifest: Manifest,
}

impl Recipe {
    /// A real update: noise that does not compress, a chunk of zeros, and parts that are the same
    /// in every version.
    pub fn build(&self) -> Update {
        self.build_of(self.stream())
    }

    /// Boot image and root.
    pub fn stream(&self) -> Vec<u8> {
        let mut noise = self.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..self.boot_size + self.root_size)
            .map(|at| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                match at / CHUNK {
                    1 => 0,
                    6 => (at % 199) as u8,
                    _ => (noise >> 24) as u8,
                }
            })
            .collect()
    }

    /// An update whose boot image and root are `stream`.
    pub fn build_of(&self, mut stream: Vec<u8>) -> Update {
        let salt = [2; 32];
        let tree = verity::build(&stream[self.boot_size as usize..], &salt);
        stream.extend_from_slice(&tree.bytes);
        let size = stream.len() as u64;
        let (mut chunks, mut frames) = (Vec::new(), Vec::new());
        for plain in stream.chunks(self.chunk_size as usize) {
            let zeros = plain.iter().all(|b| *b == 0);
            let frame = if zeros { vec![] } else { zstd::bulk::compress(plain, 1).unwrap() };
            let sha256 = Sha256::digest(plain).into();
            chunks.push(Chunk { compressed: frame.len() as u32, sha256 });
            frames.extend(frame);
        }
        let table = ChunkTable::new(chunks, self.chunk_size, size).unwrap();
        let manifest = Manifest {
            board: self.board.into(),
            name: self.name.into(),
            version: self.version.clone(),
            sequence: self.sequence,
            rollback_floor: self.rollback_floor,
            root_size: self.root_size,
            root_hash_size: tree.bytes.len() as u64,
            root_verity_hash: tree.root_hash,
            root_verity_salt: salt,
            boot_size: self.boot_size,
            chunk_size: self.chunk_size,
            chunk_table_sha256: Sha256::digest(table.to_bytes()).into(),
            boot_files: self.boot_files.clone(),
            models: vec![],
        };
        let text = manifest.to_text();
        let id = key_id(self.key.verifying_key().as_bytes());
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let header = encode_header(&text, &[(id, signature)]).unwrap();
        let bytes = [&header[..], &table.to_bytes(), &frames].concat();
        Update { bytes, stream, header, table, manifest }
    }
}

/// Impatient enough for a test.
pub fn patience() -> Patience {
    Patience {
        connect: Duration::from_millis(500),
        answer: Duration::from_millis(500),
        idle: Duration::from_millis(500),
        least_rate: 1000,
        rate_window: Duration::from_millis(600),
        attempts: 4,
        first_retry: Duration::from_millis(5),
    }
}

/// A device that runs version 1 in slot a.
pub struct Device {
    dir: tempfile::TempDir,
    extra: std::cell::RefCell<String>,
    pub paths: Paths,
}

impl Device {
    pub fn new() -> Device {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["dev/ferrite", "run/ferrite", "etc/ferrite/manifest-keys", "data"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let device = Device { paths: Paths::below(root), dir, extra: Default::default() };
        for (label, size) in [
            ("firmware", 1 << 20),
            ("boot-a", BOOT),
            ("boot-b", BOOT),
            ("root-a", ROOT_PARTITION),
            ("root-b", ROOT_PARTITION),
        ] {
            // Not zeros: what was on the medium before must not matter.
            let old = if label == "firmware" { 0 } else { 0xA5 };
            fs::write(device.paths.device(label), vec![old; size as usize]).unwrap();
        }
        device.set_boot(|_| ());
        let key = formats::hex::encode(image_key().verifying_key().as_bytes());
        device.put("etc/ferrite/manifest-keys/image", key + "\n");
        device.put("etc/ferrite/system.conf", "ferrite-system 1\nhostname demo\nchooser uboot\n");
        device.settings("http://127.0.0.1:9/");
        let one = recipe(1).build();
        device.place(Slot::A, &one);
        device.boot_into(Slot::A, &one.manifest, false, false);
        device
    }

    pub fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.dir.path().join(path), text).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn settings(&self, url: &str) {
        let extra = self.extra.borrow();
        let comma = if extra.is_empty() { "" } else { ", " };
        self.put(
            "etc/ferrite/ota.json",
            format!(
                r#"{{"url": "{url}", "name": "demo", "poll_seconds": 1, "jitter_seconds": 0,
                "commit_after_seconds": 0, "tries": 3, "reboot": "manual"{comma}{extra}}}"#
            ),
        );
    }

    /// More members of the settings from the next [`Device::settings`] on.
    pub fn extra_settings(&self, members: &str) {
        *self.extra.borrow_mut() = members.into();
    }

    pub fn chooser(&self) -> RedundantStore {
        RedundantStore::new(self.paths.partitions().clone())
    }

    pub fn boot(&self) -> BootState {
        self.chooser().load().unwrap()
    }

    pub fn set_boot(&self, change: impl FnOnce(&mut BootState)) {
        let mut state = self.boot();
        change(&mut state);
        self.chooser().store(&mut state).unwrap();
    }

    /// Puts an update where an install would.
    pub fn place(&self, slot: Slot, update: &Update) {
        let mut root = fs::read(self.paths.device(slot.root_label())).unwrap();
        let (boot, rest) = update.stream.split_at(BOOT as usize);
        root[..rest.len()].copy_from_slice(rest);
        let at = root.len() - HEADER_SIZE;
        root[at..].copy_from_slice(&update.header);
        fs::write(self.paths.device(slot.boot_label()), boot).unwrap();
        fs::write(self.paths.device(slot.root_label()), root).unwrap();
    }

    /// What `init` writes when it boots a slot.
    pub fn boot_into(&self, slot: Slot, manifest: &Manifest, trial: bool, fallback: bool) {
        let boot = match (trial, fallback) {
            (true, _) => Boot::Trial,
            (false, true) => Boot::Fallback,
            (false, false) => Boot::Active,
        };
        let running = RunSlot {
            slot,
            boot,
            board: manifest.board.clone(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sequence: manifest.sequence,
            disk: "/dev/vda".into(),
            chooser: "uboot".into(),
        };
        self.put("run/ferrite/slot", running.to_text());
        let root = fs::read(self.paths.device(slot.root_label())).unwrap();
        self.put("run/ferrite/slot-header", &root[root.len() - HEADER_SIZE..]);
    }

    /// Every byte that decides what boots.
    pub fn medium(&self) -> BTreeMap<&'static str, Vec<u8>> {
        ["firmware", "boot-a", "boot-b", "root-a", "root-b"]
            .into_iter()
            .map(|label| (label, fs::read(self.paths.device(label)).unwrap()))
            .collect()
    }

    /// Whether the slot holds this update, byte for byte, with its header.
    pub fn holds(&self, slot: Slot, update: &Update) -> bool {
        let boot = fs::read(self.paths.device(slot.boot_label())).unwrap();
        let root = fs::read(self.paths.device(slot.root_label())).unwrap();
        let length = (update.manifest.root_size + update.manifest.root_hash_size) as usize;
        boot == update.stream[..BOOT as usize]
            && root[..length] == update.stream[BOOT as usize..]
            && root[root.len() - HEADER_SIZE..] == update.header
    }

    /// Flips a bit at each of these bytes of a partition: a medium that decays.
    pub fn flip(&self, label: &str, places: &[u64]) {
        let path = self.paths.device(label);
        let mut bytes = fs::read(&path).unwrap();
        places.iter().for_each(|at| bytes[*at as usize] ^= 16);
        fs::write(path, bytes).unwrap();
    }

    pub fn header_is_zero(&self, slot: Slot) -> bool {
        let root = fs::read(self.paths.device(slot.root_label())).unwrap();
        root[root.len() - HEADER_SIZE..].iter().all(|b| *b == 0)
    }

    pub fn state(&self) -> State {
        State::load(&self.paths)
    }

    pub fn install_file(&self, update: &[u8]) -> Result<Pending, Error> {
        self.put("stick.update", update);
        let source = Source::File(self.path("stick.update"));
        install(&self.paths, &Offer { source, promise: None }, 3, &|| ())
    }

    pub fn install_url(&self, url: &str) -> Result<Pending, Error> {
        let source = Source::Url(Client::new(patience(), None), url.into());
        install(&self.paths, &Offer { source, promise: None }, 3, &|| ())
    }

    /// One round of the daemon against the repository at `url`.
    pub fn update_from(&self, url: &str) -> Result<bool, Error> {
        self.settings(url);
        let settings = Settings::load(&self.paths.settings()).unwrap();
        let running = Running::load(&self.paths).unwrap();
        ota::daemon::update(&self.paths, &settings, patience(), &running, &Heart::new())
    }

    /// What the daemon does first.
    pub fn settle(&self) -> Result<Option<String>, Error> {
        let settings = Settings::load(&self.paths.settings()).unwrap();
        let running = Running::load(&self.paths).unwrap();
        ota::daemon::settle(&self.paths, &settings, &running, &Heart::new())
    }

    /// A refused install: gives the error, having checked that nothing was touched.
    pub fn refused(&self, install: impl FnOnce() -> Result<Pending, Error>) -> String {
        let before = (self.medium(), self.state());
        let error = install().expect_err("was taken");
        assert!((self.medium(), self.state()) == before, "something was touched: {error}");
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }
}

/// A delta that lies beside an update.
pub struct Delta {
    pub from: Vec<u8>,
    pub bytes: Vec<u8>,
    pub head_length: usize,
}

impl Delta {
    /// As `imager publish` makes it.
    pub fn of(old: &Update, new: &Update) -> Delta {
        let options = delta::Options { elsewhere: &[], ..delta::Options::default() };
        let bytes = delta::make(old.covered(), new.covered(), &options).unwrap();
        let head_length = delta::Header::parse(&bytes).unwrap().head_length() as usize;
        Delta { from: old.header.clone(), bytes, head_length }
    }
}

impl Update {
    /// Its boot image and root, without the verity tree.
    pub fn covered(&self) -> &[u8] {
        &self.stream[..(self.manifest.boot_size + self.manifest.root_size) as usize]
    }

    /// Its block index.
    pub fn index(&self) -> Vec<u8> {
        formats::block_index::encode(&[self.covered()]).unwrap()
    }
}

/// A repository's files by path, as `imager publish` lays them out.
pub fn publish(updates: &[(&Update, u64)]) -> BTreeMap<String, Vec<u8>> {
    let mut repository = Repository::new();
    repository.publish_with(updates, |_| ());
    repository.files
}

/// A repository with one update, a delta to it, an index of it.
pub fn publish_beside(
    update: &Update,
    delta: Option<&Delta>,
    index: Option<&[u8]>,
) -> BTreeMap<String, Vec<u8>> {
    let mut repository = Repository::new();
    let updates = [(update, update.bytes.len() as u64)];
    let mut targets = targets_of(&updates, &mut repository.files, |ferrite| {
        ferrite.index = index.map(|_| "x.index".into());
        ferrite.deltas.extend(delta.map(|delta| DeltaTarget {
            from_header_sha256: tuf::sha256_hex(&delta.from),
            target: "x.delta".into(),
            head_length: delta.head_length as u64,
            head_sha256: tuf::sha256_hex(&delta.bytes[..delta.head_length]),
        }));
    });
    for (name, bytes) in [("x.delta", delta.map(|d| &d.bytes[..])), ("x.index", index)] {
        let Some(bytes) = bytes else { continue };
        let hash = tuf::sha256_hex(bytes);
        repository.files.insert(format!("targets/{hash}.{name}"), bytes.to_vec());
        let hashes = BTreeMap::from([("sha256".into(), hash)]);
        let length = bytes.len() as u64;
        targets.insert(name.to_string(), TargetFile { length, hashes, custom: None });
    }
    repository.publish_targets(targets);
    repository.files
}

fn targets_of(
    updates: &[(&Update, u64)],
    files: &mut BTreeMap<String, Vec<u8>>,
    change: impl Fn(&mut FerriteTarget),
) -> BTreeMap<String, TargetFile> {
    let mut targets = BTreeMap::new();
    for (update, length) in updates {
        let manifest = &update.manifest;
        let mut ferrite = FerriteTarget {
            board: manifest.board.clone(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sequence: manifest.sequence,
            header_sha256: tuf::sha256_hex(&update.header),
            ..FerriteTarget::default()
        };
        change(&mut ferrite);
        let hash = tuf::sha256_hex(&update.bytes);
        let name = format!("{}-{}-{}.update", manifest.name, manifest.board, manifest.version);
        files.insert(format!("targets/{hash}.{name}"), update.bytes.clone());
        let target = TargetFile {
            length: *length,
            hashes: BTreeMap::from([("sha256".into(), hash)]),
            custom: Some(serde_json::json!({ "ferrite": ferrite })),
        };
        targets.insert(name, target);
    }
    targets
}

/// A repository that is published to again and again, and tampered with.
pub struct Repository {
    /// By path.
    pub files: BTreeMap<String, Vec<u8>>,
    pub signers: RoleSigners,
    pub dates: Dates,
    /// The root metadata that devices start from.
    pub root: Vec<u8>,
    pub before: Option<Published>,
}

pub fn role_key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub fn role_signers() -> RoleSigners {
    RoleSigners {
        root: role_key(1),
        targets: role_key(2),
        snapshot: role_key(3),
        timestamp: role_key(4),
    }
}

impl Repository {
    pub fn new() -> Repository {
        let end = Time(4_000_000_000);
        let root = first_root(&role_signers(), end).unwrap();
        Repository {
            files: BTreeMap::from([("metadata/1.root.json".into(), root.clone())]),
            signers: role_signers(),
            dates: Dates { signed_at: Time(1), targets: end, snapshot: end, timestamp: end },
            root,
            before: None,
        }
    }

    /// Publishes exactly these updates, with the next versions of all metadata.
    pub fn publish(&mut self, updates: &[&Update]) {
        let sized: Vec<_> = updates.iter().map(|u| (*u, u.bytes.len() as u64)).collect();
        self.publish_with(&sized, |_| ());
    }

    /// The same, with a say in what is said of each update.
    pub fn publish_with(
        &mut self,
        updates: &[(&Update, u64)],
        change: impl Fn(&mut FerriteTarget),
    ) {
        let targets = targets_of(updates, &mut self.files, change);
        self.publish_targets(targets);
    }

    pub fn publish_targets(&mut self, targets: BTreeMap<String, TargetFile>) {
        let before = self.before.as_ref().ok_or(&self.root[..]);
        let publication = publication(before, targets, &self.signers, &self.dates).unwrap();
        for (name, bytes) in publication.files {
            self.files.insert(format!("metadata/{name}"), bytes);
        }
        // What it is now, by the client's own road, whatever the dates.
        let dir = tempfile::tempdir().unwrap();
        let mut store = tuf::DirStore::open(dir.path()).unwrap();
        let mut fetch = Files(&self.files);
        let limits = tuf::Limits::default();
        let now = tuf::refresh(&mut fetch, &mut store, &self.root, Time(0), &limits);
        if let Ok(now) = now {
            self.before = Some(now);
        }
    }

    pub fn serve(&self, device: &Device) -> Server {
        device.put("etc/ferrite/tuf-root.json", &self.root);
        Server::start(self.files.clone())
    }
}

struct Files<'a>(&'a BTreeMap<String, Vec<u8>>);

impl tuf::Fetch for Files<'_> {
    fn fetch(&mut self, path: &str, _: u64) -> Result<Vec<u8>, tuf::FetchError> {
        self.0.get(path).cloned().ok_or(tuf::FetchError::NotFound)
    }
}

use super::*;
use ed25519_dalek::{Signer, SigningKey};
use formats::manifest::{Manifest, encode_header, key_id};
use formats::payload::{Chunk, ChunkTable};
use sha2::{Digest, Sha256};
use tuf::author::Published;

pub const NOW: Time = Time(1_800_000_000);
const CHUNK: u64 = 65536;

/// A real update of a few chunks, one of them all zeros.
pub fn update(dir: &Path, keys: &Path, board: &str, version: &str, sequence: u64) -> PathBuf {
    let byte = |i| if i / CHUNK == 1 { 0 } else { (i * i % 251) as u8 ^ sequence as u8 };
    let stream: Vec<u8> = (0..5 * CHUNK / 2).map(byte).collect();
    update_of(&stream, dir, keys, board, version, sequence)
}

/// A real update with this slot stream, whose last block stands for the verity tree.
pub fn update_of(
    stream: &[u8],
    dir: &Path,
    keys: &Path,
    board: &str,
    version: &str,
    sequence: u64,
) -> PathBuf {
    let (mut chunks, mut frames) = (Vec::new(), Vec::new());
    for plain in stream.chunks(CHUNK as usize) {
        let zeros = plain.iter().all(|b| *b == 0);
        let frame = if zeros { Vec::new() } else { zstd::bulk::compress(plain, 3).unwrap() };
        chunks.push(Chunk { compressed: frame.len() as u32, sha256: Sha256::digest(plain).into() });
        frames.extend(frame);
    }
    let table = ChunkTable::new(chunks, CHUNK, stream.len() as u64).unwrap().to_bytes();
    let manifest = Manifest {
        board: board.into(),
        name: "demo".into(),
        version: version.into(),
        sequence,
        rollback_floor: 0,
        root_size: 65536,
        root_hash_size: 4096,
        root_verity_hash: [1; 32],
        root_verity_salt: [2; 32],
        boot_size: stream.len() as u64 - 65536 - 4096,
        chunk_size: CHUNK,
        chunk_table_sha256: Sha256::digest(&table).into(),
        boot_files: vec![],
        models: vec![],
    }
    .to_text();
    let key: SigningKey = keys::load_signing(&keys::private_path(keys, keys::IMAGE)).unwrap();
    let id = key_id(key.verifying_key().as_bytes());
    let header = encode_header(&manifest, &[(id, key.sign(manifest.as_bytes()).to_bytes())]);
    let path = dir.join(format!("{board}-{version}-{sequence}.update"));
    fs::write(&path, [header.unwrap(), table, frames].concat()).unwrap();
    path
}

pub struct Project {
    pub dir: tempfile::TempDir,
}

impl Project {
    pub fn new() -> Project {
        let dir = tempfile::tempdir().unwrap();
        keys::generate(&dir.path().join("keys")).unwrap();
        Project { dir }
    }

    pub fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    pub fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub fn update(&self, version: &str, sequence: u64) -> PathBuf {
        update(self.dir.path(), &self.keys(), "qemu-arm64", version, sequence)
    }

    pub fn publish(&self, files: &[&Path]) -> Result<Vec<String>> {
        self.publish_with(files, 3)
    }

    fn publish_with(&self, files: &[&Path], deltas: usize) -> Result<Vec<String>> {
        let args = PublishArgs { deltas, ..self.args(files) };
        publish(&args, NOW, &mut |_| ())
    }

    pub fn args(&self, files: &[&Path]) -> PublishArgs {
        PublishArgs {
            repo: self.repo(),
            keys: self.keys(),
            expires: 30,
            deltas: 3,
            rollout: RolloutArgs::default(),
            stage: false,
            prune: PruneArgs::default(),
            clock: ClockArgs::default(),
            files: files.iter().map(|path| path.to_path_buf()).collect(),
        }
    }

    fn refused(&self, files: &[&Path]) -> String {
        let before = self.tree();
        let error = format!("{:#}", self.publish(files).unwrap_err());
        assert_eq!(self.tree(), before, "the repository was touched");
        error
    }

    /// Every file of the repository with its content.
    fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in ["metadata", "targets"] {
            for entry in fs::read_dir(self.repo().join(folder)).into_iter().flatten() {
                let path = entry.unwrap().path();
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
        files
    }
}

#[test]
fn a_published_update_is_found_and_whole() {
    let project = Project::new();
    let file = project.update("1.0.0", 1);
    project.publish(&[&file]).unwrap();
    let published = load(&project.repo()).unwrap().unwrap();
    let name = "demo-qemu-arm64-1.0.0.update";
    let target = &published.targets.targets[name];
    let ferrite = target.ferrite().unwrap();
    assert_eq!((ferrite.sequence, ferrite.board.as_str()), (1, "qemu-arm64"));
    let bytes = fs::read(&file).unwrap();
    let header = tuf::sha256_hex(&bytes[..formats::manifest::HEADER_SIZE]);
    assert_eq!(ferrite.header_sha256, header);
    let at = target_path(true, name, target).unwrap();
    assert_eq!(fs::read(project.repo().join(at)).unwrap(), bytes);
    assert_eq!(published.timestamp.expires, NOW.plus_days(30));
}

/// The names of the updates among the targets.
fn updates(published: &Published) -> Vec<&str> {
    let targets = published.targets.targets.iter();
    targets
        .filter(|(_, target)| target.ferrite().is_some())
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Noise, with `sequence` written into a few places: versions that have nearly all in common, and
/// do not compress.
fn noise(sequence: u64) -> Vec<u8> {
    let mut state = 1u64;
    let mut stream: Vec<u8> = (0..40 * 65536)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect();
    for at in (5000..2_500_000).step_by(99_999) {
        stream[at] = sequence as u8;
    }
    stream
}

#[test]
fn the_newest_versions_get_deltas_that_make_the_new_one() {
    let project = Project::new();
    for sequence in 1..=4 {
        let stream = noise(sequence);
        let dir = project.dir.path();
        let version = format!("1.{sequence}");
        let file = update_of(&stream, dir, &project.keys(), "qemu-arm64", &version, sequence);
        project.publish_with(&[&file], 2).unwrap();
    }
    let published = load(&project.repo()).unwrap().unwrap();
    let targets = &published.targets.targets;
    let content = |name: &str| {
        let at = project.repo().join(target_path(true, name, &targets[name]).unwrap());
        let bytes = fs::read(at).unwrap();
        assert!(targets[name].matches(&bytes), "{name}");
        bytes
    };
    let newest = targets["demo-qemu-arm64-1.4.update"].ferrite().unwrap();
    let from: Vec<_> = newest.deltas.iter().map(|delta| delta.target.as_str()).collect();
    assert_eq!(from, ["demo-qemu-arm64-1.4-from-1.3.delta", "demo-qemu-arm64-1.4-from-1.2.delta"]);
    let new = &noise(4)[..noise(4).len() - 4096];
    for (delta, old) in newest.deltas.iter().zip([3, 2]) {
        let old_target = targets[&format!("demo-qemu-arm64-1.{old}.update")].ferrite().unwrap();
        assert_eq!(delta.from_header_sha256, old_target.header_sha256);
        let bytes = content(&delta.target);
        assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
        let head = &bytes[..delta.head_length as usize];
        assert_eq!(tuf::sha256_hex(head), delta.head_sha256);
        let mut apply = delta::Apply::open(head).unwrap();
        let mut made = Vec::new();
        for group in 0..apply.header().groups.len() {
            let at = apply.header().frame_offset(group) as usize;
            let frame = &bytes[at..at + apply.header().groups[group].length as usize];
            let mut out = vec![0; apply.header().range(group).len()];
            apply.group(group, frame, &noise(old)[..], &made[..], &mut out).unwrap();
            made.extend_from_slice(&out);
        }
        assert!(made == new);
    }
    let index = newest.index.unwrap();
    let index = content(&index);
    let index = formats::block_index::BlockIndex::parse(&index, new.len() as u64).unwrap();
    assert!(
        index
            .blocks(0..index.block_count())
            .eq(new.chunks(4096).map(formats::block_index::Block::of))
    );
}

#[test]
fn a_delta_that_saves_nothing_is_not_published() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    let mut other = noise(2);
    other.reverse();
    let dir = project.dir.path();
    let file = update_of(&other, dir, &project.keys(), "qemu-arm64", "1.0.1", 2);
    project.publish(&[&file]).unwrap();
    let published = load(&project.repo()).unwrap().unwrap();
    assert!(
        published.targets.targets["demo-qemu-arm64-1.0.1.update"]
            .ferrite()
            .unwrap()
            .deltas
            .is_empty()
    );
}

#[test]
fn an_older_version_whose_file_is_gone_gets_no_delta() {
    let project = Project::new();
    let publish = |sequence| {
        let dir = project.dir.path();
        let version = format!("1.{sequence}");
        let keys = project.keys();
        let file = update_of(&noise(sequence), dir, &keys, "qemu-arm64", &version, sequence);
        project.publish_with(&[&file], 3).unwrap();
    };
    publish(1);
    for entry in fs::read_dir(project.repo().join("targets")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    publish(2);
    let published = load(&project.repo()).unwrap().unwrap();
    let newest = published.targets.targets["demo-qemu-arm64-1.2.update"].ferrite().unwrap();
    assert!(newest.deltas.is_empty() && newest.index.is_some());
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: PublishArgs,
}

#[test]
fn a_rollout_is_signed_paused_and_resumed() {
    use clap::Parser;
    let project = Project::new();
    let dir = project.dir.path().display().to_string();
    let (repo, keys) = (format!("{dir}/repo"), format!("{dir}/keys"));
    let run = |arguments: &[&str]| -> Result<Vec<String>> {
        let line = [&["publish", "--repo", &repo, "--keys", &keys], arguments].concat();
        publish(&Line::try_parse_from(line)?.args, NOW, &mut |_| ())
    };
    let rollout = || {
        let published = load(&project.repo()).unwrap().unwrap();
        published.targets.targets["demo-qemu-arm64-1.0.0.update"].ferrite().unwrap().rollout
    };
    let file = project.update("1.0.0", 1).display().to_string();
    run(&["--waves", "10%,100%@3d", "--group", "canary", &file]).unwrap();
    let first = rollout().unwrap();
    assert_eq!((first.start, first.paused, first.waves.len()), (NOW, false, 2));
    let report = run(&["--pause", "1.0.0"]).unwrap();
    assert!(report[0].ends_with("1.0.0.update paused"), "{report:?}");
    assert_eq!(rollout(), Some(tuf::Rollout { paused: true, ..first.clone() }));
    run(&["--resume", "1.0.0"]).unwrap();
    assert_eq!(rollout(), Some(first));
    let before = project.tree();
    let unknown = run(&["--pause", "7"]).unwrap_err().to_string();
    assert!(unknown.contains("published is demo-qemu-arm64-1.0.0.update"), "{unknown}");
    assert!(run(&["--pause", "1.0.0", &file]).is_err());
    assert!(run(&["--pause", "1.0.0", "--waves", "5%"]).is_err());
    assert_eq!(project.tree(), before);
}

#[test]
fn a_clock_that_looks_wrong_signs_nothing_unless_its_owner_says_so() {
    use clap::Parser;
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    let dir = project.dir.path().display().to_string();
    let (repo, keys) = (format!("{dir}/repo"), format!("{dir}/keys"));
    let at = |now: Time, more: &[&str]| {
        let line = [&["publish", "--repo", &repo, "--keys", &keys], more].concat();
        publish(&Line::try_parse_from(line)?.args, now, &mut |_| ())
    };
    let before = project.tree();
    let (back, ahead) = (Time(NOW.0 - 1), NOW.plus_days(367));
    for (now, word) in [(back, "signed later"), (ahead, "more than a year after")] {
        let error = at(now, &[]).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("--yes"), "{error}");
    }
    assert_eq!(project.tree(), before);
    let signed_at = || load(&project.repo()).unwrap().unwrap().timestamp.signed_at;
    at(ahead, &["--yes"]).unwrap();
    assert_eq!(signed_at(), Some(ahead));
    // How a publication by a wrong clock is taken back.
    at(NOW, &["--yes"]).unwrap();
    assert_eq!(signed_at(), Some(NOW));
}

#[test]
fn a_version_is_offered_anew_to_those_on_which_it_failed() {
    use clap::Parser;
    let project = Project::new();
    let dir = project.dir.path().display().to_string();
    let (repo, keys) = (format!("{dir}/repo"), format!("{dir}/keys"));
    let run = |arguments: &[&str]| -> Result<Vec<String>> {
        let line = [&["publish", "--repo", &repo, "--keys", &keys], arguments].concat();
        publish(&Line::try_parse_from(line)?.args, NOW, &mut |_| ())
    };
    let described = || {
        let published = load(&project.repo()).unwrap().unwrap();
        published.targets.targets["demo-qemu-arm64-1.0.0.update"].ferrite().unwrap()
    };
    let file = project.update("1.0.0", 1).display().to_string();
    run(&["--waves", "10%", &file]).unwrap();
    let first = described();
    assert_eq!(first.retry, 0);
    for level in 1..=3 {
        let report = run(&["--retry", "1.0.0"]).unwrap();
        assert!(report[0].contains("is tried again where it failed"), "{report:?}");
        assert_eq!(described(), FerriteTarget { retry: level, ..first.clone() });
    }
    let before = project.tree();
    assert!(run(&["--retry", "7"]).unwrap_err().to_string().contains("is not published"));
    assert!(run(&["--retry", "1.0.0", &file]).is_err());
    assert!(run(&["--retry", "1.0.0", "--pause", "1.0.0"]).is_err());
    assert_eq!(project.tree(), before);
}

#[test]
fn publishing_again_changes_nothing() {
    let project = Project::new();
    let file = project.update("1.0.0", 1);
    project.publish(&[&file]).unwrap();
    let before = project.tree();
    let report = project.publish(&[&file]).unwrap();
    assert!(report[0].ends_with("published already"), "{report:?}");
    assert_eq!(project.tree(), before);
}

#[test]
fn versions_grow_and_old_metadata_stays_for_those_who_read_it() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    let first = project.tree();
    project.publish(&[&project.update("1.0.1", 2)]).unwrap();
    let second = project.tree();
    for (path, bytes) in &first {
        if !path.ends_with("timestamp.json") {
            assert_eq!(second.get(path), Some(bytes), "{}", path.display());
        }
    }
    let published = load(&project.repo()).unwrap().unwrap();
    assert_eq!(published.timestamp.version, 2);
    assert_eq!(
        updates(&published),
        ["demo-qemu-arm64-1.0.0.update", "demo-qemu-arm64-1.0.1.update"]
    );
}

#[test]
fn a_sequence_that_does_not_grow_is_refused() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.1", 5)]).unwrap();
    for sequence in [4, 5] {
        let error = project.refused(&[&project.update("1.0.9", sequence)]);
        assert!(error.contains("is not above 5") && error.contains("raise `sequence`"), "{error}");
    }
    let other = update(project.dir.path(), &project.keys(), "other", "1.0.0", 1);
    project.publish(&[&other]).unwrap();
}

#[test]
fn an_update_with_any_byte_changed_is_refused() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    let good = project.update("1.0.1", 2);
    let bytes = fs::read(&good).unwrap();
    for at in [0, 21, 1030, 65536, 65540, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        fs::write(&good, &bad).unwrap();
        let error = project.refused(&[&good]);
        assert!(error.contains("is not a valid update"), "byte {at}: {error}");
    }
    for length in [0, 100, 65536, bytes.len() - 1] {
        fs::write(&good, &bytes[..length]).unwrap();
        assert!(project.refused(&[&good]).contains("is not a valid update"), "length {length}");
    }
    fs::write(&good, [&bytes[..], b"x"].concat()).unwrap();
    assert!(project.refused(&[&good]).contains("follows its last chunk"));
    assert!(project.refused(&[Path::new("/nonexistent.update")]).contains("cannot open"));
}

#[test]
fn one_bad_file_keeps_all_out() {
    let project = Project::new();
    let good = project.update("1.0.0", 1);
    let bad = project.dir.path().join("bad.update");
    fs::write(&bad, "no update").unwrap();
    project.refused(&[&good, &bad]);
    assert!(!project.repo().exists(), "a repository was begun");
}

#[test]
fn other_keys_are_refused() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    fs::rename(project.keys(), project.dir.path().join("old")).unwrap();
    keys::generate(&project.keys()).unwrap();
    let error = project.refused(&[&project.update("1.0.1", 2)]);
    assert!(error.contains("2.targets.json has 0 of 1 signatures"), "{error}");
}

#[test]
fn renewing_without_a_file_keeps_the_targets() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    project.publish(&[]).unwrap();
    let published = load(&project.repo()).unwrap().unwrap();
    assert_eq!(published.timestamp.version, 2);
    assert_eq!(updates(&published), ["demo-qemu-arm64-1.0.0.update"]);
}

#[test]
fn a_damaged_repository_is_said_to_be_damaged() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    let path = project.repo().join("metadata/1.targets.json");
    let mut bytes = fs::read(&path).unwrap();
    bytes.push(b' ');
    fs::write(&path, bytes).unwrap();
    assert!(project.refused(&[&project.update("1.0.1", 2)]).contains("damaged"));
}

#[test]
fn one_publisher_at_a_time() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    let _held = lock(&project.repo()).unwrap();
    assert!(project.refused(&[]).contains("another `imager publish`"));
}

#[test]
fn python_tuf_updates_from_a_published_and_served_repository() {
    let project = Project::new();
    let old = project.update("1.0.0", 1);
    let new = project.update("1.0.1", 2);
    project.publish(&[&old]).unwrap();
    project.publish(&[&new]).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let root = project.repo().canonicalize().unwrap();
    std::thread::spawn(move || crate::command::serve::serve(&listener, root));

    let work = project.dir.path().join("client");
    fs::create_dir(&work).unwrap();
    let interpreter = std::env::var("FERRITE_PYTHON").unwrap_or_else(|_| "python3".into());
    let output = std::process::Command::new(&interpreter)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../lib/tuf/tests/python_tuf.py"))
        .args(["client", &format!("{url}/metadata/"), &format!("{url}/targets/")])
        .arg(project.keys().join(keys::TUF_ROOT))
        .arg(&work)
        .arg("demo-qemu-arm64-1.0.1.update")
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap_or_else(|e| panic!("{interpreter}: {e}; run scripts/python-tuf"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run scripts/python-tuf if it is missing:\n{errors}");
    let path = String::from_utf8(output.stdout).unwrap();
    assert_eq!(fs::read(path.trim()).unwrap(), fs::read(new).unwrap());
}

use super::*;
use crate::sample::{update, update_of};
use tuf::author::Published;

pub const NOW: Time = Time(1_800_000_000);
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
        update(self.dir.path(), &self.keys(), "qemu-arm64", version, sequence).unwrap()
    }

    pub fn publish(&self, files: &[&Path]) -> Result<Vec<String>> {
        self.publish_with(files, 3)
    }

    fn publish_with(&self, files: &[&Path], deltas: usize) -> Result<Vec<String>> {
        self.run(Request { deltas, ..self.request(files) }, NOW)
    }

    fn run(&self, request: Request, now: Time) -> Result<Vec<String>> {
        publish(&request, now, &mut |_| ())
    }

    pub fn request(&self, files: &[&Path]) -> Request {
        Request { expires_days: 30, ..Request::new(&self.repo(), &self.keys(), files) }
    }

    fn change(&self, wish: Wish, version: &str) -> Result<Vec<String>> {
        let change = VersionChange { wish, version: version.into(), board: None, name: None };
        self.run(Request { change: Some(change), ..self.request(&[]) }, NOW)
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
        let file =
            update_of(&stream, dir, &project.keys(), "qemu-arm64", &version, sequence).unwrap();
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
    let file = update_of(&other, dir, &project.keys(), "qemu-arm64", "1.0.1", 2).unwrap();
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
        let file =
            update_of(&noise(sequence), dir, &keys, "qemu-arm64", &version, sequence).unwrap();
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

#[test]
fn a_rollout_is_signed_paused_and_resumed() {
    let project = Project::new();
    let rollout = || {
        let published = load(&project.repo()).unwrap().unwrap();
        published.targets.targets["demo-qemu-arm64-1.0.0.update"].ferrite().unwrap().rollout
    };
    let file = project.update("1.0.0", 1);
    let wave = |percent, after| tuf::Wave { percent, after };
    let waves = Some(vec![wave(10, 0), wave(100, 3 * 86_400)]);
    let new = NewRollout { waves, start: None, groups: vec!["canary".into()] };
    project.run(Request { rollout: new, ..project.request(&[&file]) }, NOW).unwrap();
    let first = rollout().unwrap();
    assert_eq!((first.start, first.paused, first.waves.len()), (NOW, false, 2));
    let report = project.change(Wish::Pause, "1.0.0").unwrap();
    assert!(report[0].ends_with("1.0.0.update paused"), "{report:?}");
    assert_eq!(rollout(), Some(tuf::Rollout { paused: true, ..first.clone() }));
    project.change(Wish::Resume, "1.0.0").unwrap();
    assert_eq!(rollout(), Some(first));
    let before = project.tree();
    let unknown = project.change(Wish::Pause, "7").unwrap_err().to_string();
    assert!(unknown.contains("published is demo-qemu-arm64-1.0.0.update"), "{unknown}");
    assert_eq!(project.tree(), before);
}

#[test]
fn a_clock_that_looks_wrong_signs_nothing_unless_its_owner_says_so() {
    let project = Project::new();
    project.publish(&[&project.update("1.0.0", 1)]).unwrap();
    let at = |now: Time, clock| project.run(Request { clock, ..project.request(&[]) }, now);
    let before = project.tree();
    let (back, ahead) = (Time(NOW.0 - 1), NOW.plus_days(367));
    for (now, word) in [(back, "signed later"), (ahead, "more than a year after")] {
        let error = at(now, ClockCheck::Plausible).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("--yes"), "{error}");
    }
    assert_eq!(project.tree(), before);
    let signed_at = || load(&project.repo()).unwrap().unwrap().timestamp.signed_at;
    at(ahead, ClockCheck::Trusted).unwrap();
    assert_eq!(signed_at(), Some(ahead));
    // How a publication by a wrong clock is taken back.
    at(NOW, ClockCheck::Trusted).unwrap();
    assert_eq!(signed_at(), Some(NOW));
}

#[test]
fn a_version_is_offered_anew_to_those_on_which_it_failed() {
    let project = Project::new();
    let described = || {
        let published = load(&project.repo()).unwrap().unwrap();
        published.targets.targets["demo-qemu-arm64-1.0.0.update"].ferrite().unwrap()
    };
    let file = project.update("1.0.0", 1);
    let waves = Some(vec![tuf::Wave { percent: 10, after: 0 }]);
    let rollout = NewRollout { waves, ..NewRollout::default() };
    project.run(Request { rollout, ..project.request(&[&file]) }, NOW).unwrap();
    let first = described();
    assert_eq!(first.retry, 0);
    for level in 1..=3 {
        let report = project.change(Wish::Retry, "1.0.0").unwrap();
        assert!(report[0].contains("is tried again where it failed"), "{report:?}");
        assert_eq!(described(), FerriteTarget { retry: level, ..first.clone() });
    }
    let before = project.tree();
    let unknown = project.change(Wish::Retry, "7").unwrap_err().to_string();
    assert!(unknown.contains("is not published"), "{unknown}");
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
    let other = update(project.dir.path(), &project.keys(), "other", "1.0.0", 1).unwrap();
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
#[ignore = "needs python-tuf: `just unit`"]
fn python_tuf_updates_from_a_published_and_served_repository() {
    let project = Project::new();
    let old = project.update("1.0.0", 1);
    let new = project.update("1.0.1", 2);
    project.publish(&[&old]).unwrap();
    project.publish(&[&new]).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let root = project.repo().canonicalize().unwrap();
    std::thread::spawn(move || crate::serve::serve(&listener, root, |_| ()));

    let work = project.dir.path().join("client");
    fs::create_dir(&work).unwrap();
    let interpreter = std::env::var("FERRITE_PYTHON").unwrap_or_else(|_| "python3".into());
    let output = std::process::Command::new(&interpreter)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tuf/tests/python_tuf.py"))
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

use super::*;
use crate::state::Failed;
use crate::state::retrial::Retrial;
use formats::Slot;
use std::collections::BTreeMap;
use tuf::refresh;

fn running() -> Running {
    Running {
        slot: Slot::A,
        trial: false,
        fallback: false,
        board: "b".into(),
        name: "n".into(),
        version: "1".into(),
        sequence: 5,
    }
}

fn published(offers: &[(&str, &str, u64)]) -> Published {
    let key = |n: u8| ed25519_dalek::SigningKey::from_bytes(&[n; 32]);
    let signers = tuf::author::RoleSigners {
        root: key(1),
        targets: key(2),
        snapshot: key(3),
        timestamp: key(4),
    };
    let end = Time(4_000_000_000);
    let root = tuf::author::first_root(&signers, end).unwrap();
    let dates =
        tuf::author::Dates { signed_at: Time(1), targets: end, snapshot: end, timestamp: end };
    let targets = offers
        .iter()
        .map(|(board, name, sequence)| {
            let custom = serde_json::json!({"ferrite": {"board": board, "name": name,
                "version": sequence.to_string(), "sequence": sequence,
                "header_sha256": format!("{sequence:064}")}});
            let hashes = BTreeMap::from([("sha256".to_string(), "ab".repeat(32))]);
            let target = TargetFile { length: 9, hashes, custom: Some(custom) };
            (format!("{name}-{board}-{sequence}"), target)
        })
        .collect();
    let files: BTreeMap<String, Vec<u8>> =
        tuf::author::publication(Err(&root[..]), targets, &signers, &dates)
            .unwrap()
            .files
            .into_iter()
            .collect();
    struct Memory(BTreeMap<String, Vec<u8>>);
    impl tuf::Fetch for Memory {
        fn fetch(&mut self, path: &str, _: u64) -> std::result::Result<Vec<u8>, tuf::FetchError> {
            let name = path.trim_start_matches("metadata/");
            self.0.get(name).cloned().ok_or(tuf::FetchError::NotFound)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut store = DirStore::open(dir.path()).unwrap();
    refresh(&mut Memory(files), &mut store, &root, Time(0), &Limits::default()).unwrap()
}

fn choose(published: &Published, running: &Running, state: &State) -> Result<Option<Candidate>> {
    super::choose(published, running, state, &|_| Eligibility::Now, Trigger::Scheduled)
        .map(|(take, _)| take.into_iter().next())
}

#[test]
fn what_is_not_its_turn_is_told_and_hides_nothing() {
    let all = published(&[("b", "n", 6), ("b", "n", 7), ("b", "n", 8)]);
    let eligibility = |ferrite: &FerriteTarget| match ferrite.sequence {
        8 => Eligibility::Paused,
        7 => Eligibility::At(Time(0)),
        _ => Eligibility::Now,
    };
    let asked = [(Trigger::Scheduled, 6), (Trigger::Media, 7), (Trigger::Manual, 7)];
    for (trigger, sequence) in asked {
        let (take, waiting) =
            super::choose(&all, &running(), &State::default(), &eligibility, trigger).unwrap();
        assert_eq!(take[0].ferrite.sequence, sequence);
        let waiting = waiting.unwrap();
        assert_eq!((waiting.sequence, waiting.turn.as_str()), (8, "its rollout is paused"));
    }
    let later = published(&[("b", "n", 7)]);
    let (take, waiting) =
        super::choose(&later, &running(), &State::default(), &eligibility, Trigger::Scheduled)
            .unwrap();
    assert!(take.is_empty());
    assert_eq!(waiting.unwrap().turn, "its turn comes at 1970-01-01T00:00:00Z");
}

#[test]
fn takes_the_newest_for_this_board_and_name() {
    let published = published(&[("b", "n", 6), ("b", "n", 7), ("c", "n", 9), ("b", "m", 9)]);
    let chosen = choose(&published, &running(), &State::default()).unwrap().unwrap();
    assert_eq!(chosen.ferrite.sequence, 7);
    assert_eq!(chosen.path, format!("targets/{}.n-b-7", "ab".repeat(32)));
}

#[test]
fn nothing_newer_is_nothing() {
    let published = published(&[("b", "n", 4), ("b", "n", 5)]);
    assert!(choose(&published, &running(), &State::default()).unwrap().is_none());
}

#[test]
fn what_failed_is_passed_over_and_named_when_nothing_else_is_newer() {
    let mut state = State::default();
    state.remember_failed(Failed {
        sequence: 7,
        version: "7".into(),
        header_sha256: format!("{:064}", 7),
        reason: "kernel panic".into(),
        retry: 0,
    });
    let both = published(&[("b", "n", 6), ("b", "n", 7)]);
    assert_eq!(choose(&both, &running(), &state).unwrap().unwrap().ferrite.sequence, 6);
    let one = published(&[("b", "n", 7)]);
    let error = choose(&one, &running(), &state).unwrap_err();
    assert_eq!(error.to_string(), "refused 7: it failed its trial here before: kernel panic");
}

#[test]
fn all_that_may_be_taken_comes_the_newest_first() {
    let all = published(&[("b", "n", 6), ("b", "n", 8), ("b", "n", 5), ("b", "n", 7)]);
    let eligibility = |ferrite: &FerriteTarget| match ferrite.sequence {
        7 => Eligibility::Paused,
        _ => Eligibility::Now,
    };
    let state = State::default();
    let (take, waiting) =
        super::choose(&all, &running(), &state, &eligibility, Trigger::Scheduled).unwrap();
    assert_eq!(take.iter().map(|c| c.ferrite.sequence).collect::<Vec<_>>(), [8, 6]);
    assert_eq!(waiting, None, "what is older than what may be taken hides nothing");
}

#[test]
fn the_lock_is_waited_for_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::below(dir.path());
    let lock = metadata_lock(&device, Duration::ZERO).unwrap();
    let begun = Instant::now();
    let error = metadata_lock(&device, 3 * LOCK_PAUSE).unwrap_err().to_string();
    assert!(error.contains("tuf.lock: another `ota` has been checking"), "{error}");
    assert!(begun.elapsed() >= 3 * LOCK_PAUSE);
    let waiting = std::thread::spawn({
        let device = device.clone();
        move || metadata_lock(&device, LOCK_TIMEOUT).map(drop)
    });
    drop(lock);
    assert_eq!(waiting.join().unwrap(), Ok(()));
}

#[test]
fn what_waits_is_tried_before_its_time_only_for_a_person() {
    let all = published(&[("b", "n", 7)]);
    let retrial =
        Retrial { sequence: 7, header_sha256: format!("{:064}", 7), ..Retrial::default() };
    let state = State { retrial: Some(retrial), ..State::default() };
    let asked = [(Trigger::Scheduled, 0), (Trigger::Media, 0), (Trigger::Manual, 1)];
    for (trigger, count) in asked {
        let eligibility = |_: &FerriteTarget| Eligibility::Now;
        let (take, _) = super::choose(&all, &running(), &state, &eligibility, trigger).unwrap();
        assert_eq!(take.len(), count, "{trigger:?}");
    }
}

#[test]
fn what_waits_for_its_retrial_is_not_taken_and_only_newer_ones_are() {
    let all = published(&[("b", "n", 6), ("b", "n", 7)]);
    let more = published(&[("b", "n", 6), ("b", "n", 7), ("b", "n", 8)]);
    let without = published(&[("b", "n", 6)]);
    for committed in [true, false] {
        let retrial = Retrial {
            sequence: 7,
            header_sha256: format!("{:064}", 7),
            committed,
            ..Retrial::default()
        };
        let due = |due: bool| {
            let mut retrial = retrial.clone();
            due.then(|| retrial.hurry());
            State { retrial: Some(retrial), ..State::default() }
        };
        let taken = |published, state: &State| {
            choose(published, &running(), state).unwrap().map(|c| c.ferrite.sequence)
        };
        assert_eq!(taken(&all, &due(false)), (!committed).then_some(6));
        let mut hiding = due(false);
        hiding.retrial.iter_mut().for_each(|retrial| retrial.hides_older = true);
        assert_eq!(taken(&all, &hiding), None);
        assert_eq!(taken(&more, &due(false)), Some(8));
        // One that was committed is tried as it lies there.
        assert_eq!(taken(&all, &due(true)), (!committed).then_some(7));
        // One that was not, and is offered no longer, is nothing to wait for.
        assert_eq!(taken(&without, &due(false)), (!committed).then_some(6));
    }
}

#[test]
fn its_publisher_has_a_version_tried_again() {
    let mut all = published(&[("b", "n", 7)]);
    let header = format!("{:064}", 7);
    let failed = || Failed {
        sequence: 7,
        version: "7".into(),
        header_sha256: header.clone(),
        reason: "r".into(),
        retry: 0,
    };
    let mut state = State::default();
    state.remember_failed(failed());
    super::retry(&mut state, &all);
    assert!(choose(&all, &running(), &state).is_err());
    let target = all.targets.targets.values_mut().next().unwrap();
    target.custom.as_mut().unwrap()["ferrite"]["retry"] = serde_json::json!(1);
    super::retry(&mut state, &all);
    assert!(choose(&all, &running(), &state).unwrap().is_some());
    state.remember_failed(failed());
    super::retry(&mut state, &all);
    assert!(choose(&all, &running(), &state).is_err(), "once");
    let retrial = Retrial { header_sha256: header.clone(), ..Retrial::default() };
    state.retrial = Some(retrial);
    super::retry(&mut state, &all);
    assert!(state.retrial.as_ref().unwrap().is_due());
}

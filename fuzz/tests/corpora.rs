//! The committed corpora through every fuzzer's function, without libFuzzer: what once went wrong
//! stays right, and no seed is for a fuzzer that is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_seed_runs_and_every_fuzzer_has_one() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let folders = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().file_name());
    let folders: BTreeSet<_> = folders.map(|name| name.into_string().unwrap()).collect();
    let known: BTreeSet<_> = fuzz::ALL.iter().map(|(name, _)| (*name).to_string()).collect();
    assert_eq!(folders, known);
    for (name, run) in fuzz::ALL {
        let mut seeds = 0;
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            run(&fs::read(entry.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 0, "{name} has no seed");
    }
}

//! `ota`'s own files on the data partition, as a failing medium may give them back.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ota::data_folder::DataFolder;
use ota::device::Device;
use ota::state::State;
use formats::medium::DeviceFolder;

/// A folder in which every file has these bytes.
#[derive(Debug)]
struct All(Vec<u8>);

impl DataFolder for All {
    fn read(&self, _: &str, max: u64) -> io::Result<Vec<u8>> {
        Ok(self.0.iter().take(max as usize).copied().collect())
    }

    fn replace(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn require_room(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
}

/// `state.json`: what is read of it can be written and read again.
pub fn ota_state(input: &[u8]) {
    let load = |bytes: Vec<u8>| {
        let nowhere = DeviceFolder::shared(Path::new("/nonexistent"));
        State::load(&Device::below(Path::new("/nonexistent")).on(nowhere, Arc::new(All(bytes))))
    };
    let state = load(input.to_vec());
    let again = serde_json::to_vec(&state).expect("a state can be written");
    assert_eq!(load(again), state, "another state came back");
    let _ = state.failure_of("ab");
    if let Ok(report) = serde_json::from_slice::<ota::install::progress::InstallProgress>(input) {
        let _ = (report.saved(), report.fetched_in_all(), report.to_text("installed"));
        assert!(report.percent() <= 100);
    }
}

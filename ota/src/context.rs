//! What runs on this device now, and what it trusts: the same for as long as it runs.

use std::fs;
use std::sync::OnceLock;

use formats::Slot;
use formats::boot_state::Boot;
use formats::boot_state_store::BootStateStore;
use formats::conf;
use formats::last_failure::LastFailure;
use formats::manifest::{HEADER_SIZE, Header, Manifest, TrustedKeys};
use formats::medium::Access;
use formats::run_slot::RunSlot;
use formats::system_conf::Outline;
use sha2::{Digest, Sha256};

use crate::bounded_file::read_bounded;
use crate::device::Device;
use crate::settings::Settings;
use crate::state::VersionId;
use crate::{Error, Result};

/// A public key's file is not longer, in bytes.
const MAX_KEY_FILE: u64 = 1024;
/// Nor are there more of them.
const MAX_KEYS: usize = 64;

/// What `init` says is running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The slot.
    pub slot: Slot,
    /// Booted on trial.
    pub trial: bool,
    /// Booted because the active slot failed too often.
    pub fallback: bool,
    /// The board.
    pub board: String,
    /// The image's name.
    pub name: String,
    /// The version for people.
    pub version: String,
    /// Orders versions.
    pub sequence: u64,
}

impl Running {
    /// Reads `/run/ferrite/slot`.
    pub fn load(device: &Device) -> Result<Running> {
        let path = device.run_slot();
        let text = read_bounded(&path, conf::MAX_BYTES as u64)?;
        let RunSlot { slot, boot, board, name, version, sequence, .. } =
            RunSlot::parse(&text).map_err(|e| Error::at(&path, e))?;
        let (trial, fallback) = (boot == Boot::Trial, boot == Boot::Fallback);
        Ok(Running { slot, trial, fallback, board, name, version, sequence })
    }

    /// As what it was booted.
    pub fn boot(&self) -> Boot {
        match (self.trial, self.fallback) {
            (true, _) => Boot::Trial,
            (_, true) => Boot::Fallback,
            _ => Boot::Active,
        }
    }
}

/// What holds for as long as one version runs: read, and its signatures verified, once.
///
/// Each part is read when it is first needed. One that cannot be read is tried again the next time.
#[derive(Debug)]
pub struct Context {
    /// The device.
    pub device: Device,
    /// What `init` says is running.
    pub running: Running,
    keys: OnceLock<TrustedKeys>,
    header: OnceLock<(Manifest, VersionId)>,
    settings: OnceLock<Settings>,
}

impl Context {
    /// What runs on this device.
    pub fn load(device: &Device) -> Result<Context> {
        Ok(Context {
            running: Running::load(device)?,
            device: device.clone(),
            keys: OnceLock::new(),
            header: OnceLock::new(),
            settings: OnceLock::new(),
        })
    }

    /// The keys whose signature makes a slot manifest good, from the verified root.
    pub fn keys(&self) -> Result<&TrustedKeys> {
        once(&self.keys, || trusted_keys(&self.device))
    }

    /// The manifest of what runs.
    pub fn manifest(&self) -> Result<&Manifest> {
        self.header().map(|(manifest, _)| manifest)
    }

    /// What names the running version. Its partition is not for `ota` to read.
    pub fn version(&self) -> Result<&VersionId> {
        self.header().map(|(_, version)| version)
    }

    fn header(&self) -> Result<&(Manifest, VersionId)> {
        once(&self.header, || {
            let (manifest, bytes) = running_header(&self.device, self.keys()?)?;
            let version = identity(self.running.slot, &manifest, &bytes);
            Ok((manifest, version))
        })
    }

    /// What the image says about updates.
    pub fn settings(&self) -> Result<&Settings> {
        once(&self.settings, || Ok(Settings::load(&self.device.settings())?))
    }

    /// What lies in the other slot, if a header that verifies says so. It changes with each install.
    pub fn idle_content(&self) -> Result<Option<(Manifest, VersionId)>> {
        Ok(content(&self.device, self.keys()?, self.running.slot.other()))
    }
}

/// What `cell` holds, which `load` gives the first time.
fn once<T>(cell: &OnceLock<T>, load: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => load().map(|value| cell.get_or_init(|| value)),
    }
}

fn trusted_keys(device: &Device) -> Result<TrustedKeys> {
    let folder = device.manifest_keys();
    let mut keys = TrustedKeys::default();
    let entries = fs::read_dir(&folder).map_err(|e| Error::at(&folder, e))?;
    for entry in entries.take(MAX_KEYS) {
        let path = entry.map_err(|e| Error::at(&folder, e))?.path();
        let text = read_bounded(&path, MAX_KEY_FILE)?;
        let text = String::from_utf8_lossy(&text);
        keys.add_hex(text.trim()).map_err(|e| Error::at(&path, e))?;
    }
    if keys.is_empty() {
        return Err(Error::at(&folder, "holds no key, so no update can be trusted"));
    }
    Ok(keys)
}

fn running_header(device: &Device, keys: &TrustedKeys) -> Result<(Manifest, Vec<u8>)> {
    let path = device.run_slot_header();
    let bytes = read_bounded(&path, HEADER_SIZE as u64)?;
    let manifest =
        Header::new(&bytes).and_then(|h| h.verify(keys)).map_err(|e| Error::at(&path, e))?;
    Ok((manifest, bytes))
}

/// Keeps the boot state, as this board does it.
pub fn boot_state_store(context: &Context) -> Result<Box<dyn BootStateStore>> {
    let Context { device, running, .. } = context;
    let path = device.system_conf();
    let text = read_bounded(&path, conf::MAX_BYTES as u64)?;
    let open = || {
        let chooser = Outline::parse(&text)?.chooser;
        let name = chooser.ok_or_else(|| formats::Error::new("names no chooser"))?;
        formats::boot_chooser::open_on(
            &name,
            device.partitions().clone(),
            (running.slot, running.boot()),
        )
    };
    open().map_err(|e| Error::at(&path, e))
}

/// Why the last boot failed, if `init` knows, and of which slot.
pub fn last_failure(device: &Device) -> Option<(Slot, String)> {
    let text = read_bounded(&device.last_failure(), conf::MAX_BYTES as u64).ok()?;
    let LastFailure { slot, reason } = LastFailure::parse(&text).ok()?;
    Some((slot, reason))
}

/// What lies in a slot, if a header that verifies says so.
fn content(device: &Device, keys: &TrustedKeys, slot: Slot) -> Option<(Manifest, VersionId)> {
    let root = device.partitions().open(slot.root_label(), Access::Read).ok()?;
    let mut header = vec![0; HEADER_SIZE];
    root.read_at(formats::payload::header_offset(root.size()).ok()?, &mut header).ok()?;
    let manifest = Header::new(&header).ok()?.verify(keys).ok()?;
    let pending = identity(slot, &manifest, &header);
    Some((manifest, pending))
}

/// What names a version in `ota`'s state.
pub fn identity(slot: Slot, manifest: &Manifest, header: &[u8]) -> VersionId {
    VersionId {
        slot: slot.letter().into(),
        sequence: manifest.sequence,
        version: manifest.version.clone(),
        header_sha256: formats::hex::encode(&Sha256::digest(header)),
        ..VersionId::default()
    }
}

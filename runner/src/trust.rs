//! Is this the model the slot's signed manifest names? Hashed before anything reads it.

use crate::args::{Command, Request};
use crate::config::{read_bounded, Config};
use crate::error::{Error, Exit};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Where `init` leaves the header whose signature it has verified.
const SLOT_HEADER: &str = "/run/ferrite/slot-header";
/// A model is read whole into memory; small devices have no more to give.
const MAX_MODEL: u64 = 1 << 30;
/// Length of a slot header, and where its parts lie (docs/architecture.md, "Slot header").
const HEADER_LENGTH: usize = 65536;
const LENGTH_AT: usize = 12;
const MANIFEST_AT: usize = 1024;
const MAX_MANIFEST: usize = 32768;

/// A model whose bytes have the expected hash.
pub struct VerifiedModel {
    /// The file's bytes; what is loaded is what was hashed.
    pub bytes: Vec<u8>,
    /// Its SHA-256, hex.
    pub sha256: String,
}

/// Reads `model.tflite` and checks its hash.
///
/// The hash comes from `--expect-sha256`, else the manifest. Commands of a developer's machine
/// (`infer`, `golden`, `bench`) are content with `sha256` of `model.toml`; a workload is not.
pub fn read_verified(request: &Request, config: &Config) -> Result<VerifiedModel, Error> {
    let path = config.folder.join("model.tflite");
    let path =
        path.canonicalize().map_err(|e| Error::config(format!("{}: {e}", path.display())))?;
    let expected = expected_hash(request, config, &path)?;
    let bytes = read_bounded(&path, MAX_MODEL)?;
    let sha256 = hex(&Sha256::digest(&bytes));
    let named = expected.iter().map(|e| (&e.0, &e.1));
    let pinned = config.sha256.iter().map(|hash| (hash, &PINNED));
    for (hash, by) in named.chain(pinned) {
        if !hash.eq_ignore_ascii_case(&sha256) {
            return Err(refused(format!(
                "{}: SHA-256 is {sha256}, but {by} says {hash}: not loaded; put the right file there or build the image again",
                path.display(),
                by = by.as_ref(),
            )));
        }
    }
    Ok(VerifiedModel { bytes, sha256 })
}

const PINNED: std::borrow::Cow<'static, str> = std::borrow::Cow::Borrowed("model.toml");

type Expected = (String, std::borrow::Cow<'static, str>);

fn expected_hash(
    request: &Request,
    config: &Config,
    model: &Path,
) -> Result<Option<Expected>, Error> {
    if let Some(hash) = &request.expect_sha256 {
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::config("--expect-sha256: expected 64 hex digits"));
        }
        return Ok(Some((hash.clone(), "--expect-sha256".into())));
    }
    let manifest = match &request.manifest {
        Some(path) => Some(path.clone()),
        None => Some(PathBuf::from(SLOT_HEADER)).filter(|p| p.exists()),
    };
    if let Some(file) = manifest {
        let header = read_bounded(&file, HEADER_LENGTH as u64)?;
        let text = manifest_of(&header).map_err(|e| refused(format!("{}: {e}", file.display())))?;
        let hash = hash_in(text, model).ok_or_else(|| {
            refused(format!(
                "{}: not named by the manifest in {}: not loaded; name the model in the image file and build again",
                model.display(),
                file.display()
            ))
        })?;
        return Ok(Some((hash.to_owned(), format!("the manifest in {}", file.display()).into())));
    }
    if config.sha256.is_some() && request.command != Command::Run {
        return Ok(None);
    }
    Err(refused(format!(
        "{}: nothing says which SHA-256 it must have: there is no {SLOT_HEADER}; give --manifest or --expect-sha256",
        model.display()
    )))
}

/// The manifest's text inside a slot header. The header's signature was checked by whoever put
/// the file there; its lengths are checked all the same.
fn manifest_of(header: &[u8]) -> Result<&str, String> {
    if header.len() != HEADER_LENGTH || !header.starts_with(b"FERRSLOT") {
        return Err("is not a slot header".into());
    }
    let length = u32::from_le_bytes([
        header[LENGTH_AT],
        header[LENGTH_AT + 1],
        header[LENGTH_AT + 2],
        header[LENGTH_AT + 3],
    ]) as usize;
    if !(1..=MAX_MANIFEST).contains(&length) {
        return Err(format!("manifest length {length} is out of bounds"));
    }
    std::str::from_utf8(&header[MANIFEST_AT..MANIFEST_AT + length])
        .map_err(|_| "manifest is not UTF-8".into())
}

/// The hash of the `model` line whose path is the end of `model`: the whole of it on the device,
/// and the part below the unpacked root on a developer's machine.
fn hash_in<'a>(manifest: &'a str, model: &Path) -> Option<&'a str> {
    manifest.lines().find_map(|line| {
        let mut words = line.strip_prefix("model ")?.splitn(3, ' ');
        let (hash, _size, path) = (words.next()?, words.next()?, words.next()?);
        let path = path.trim_start_matches('/');
        (!path.is_empty() && model.ends_with(path)).then_some(hash)
    })
}

fn refused(text: String) -> Error {
    Error::new(Exit::Refused, text)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(manifest: &str) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LENGTH];
        bytes[..8].copy_from_slice(b"FERRSLOT");
        bytes[8] = 1;
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&(manifest.len() as u32).to_le_bytes());
        bytes[MANIFEST_AT..MANIFEST_AT + manifest.len()].copy_from_slice(manifest.as_bytes());
        bytes
    }

    #[test]
    fn the_manifests_line_is_found_by_path() {
        let bytes = header("ferrite-manifest 1\nboard b\nmodel aa 1 usr/share/models/x/model.tflite\nmodel bb 2 /usr/share/models/face/model.tflite\n");
        let text = manifest_of(&bytes).unwrap();
        assert_eq!(hash_in(text, Path::new("/usr/share/models/face/model.tflite")), Some("bb"));
        assert_eq!(hash_in(text, Path::new("/usr/share/models/x/model.tflite")), Some("aa"));
        assert_eq!(hash_in(text, Path::new("/usr/share/models/y/model.tflite")), None);
    }

    #[test]
    fn lengths_of_a_header_are_bounded() {
        assert!(manifest_of(b"FERRSLOT").is_err());
        for length in [0u32, 32769, u32::MAX] {
            let mut bytes = header("x");
            bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_le_bytes());
            assert!(manifest_of(&bytes).is_err(), "{length}");
        }
    }
}

//! Is this the model the slot's signed manifest names? Hashed before anything reads it.

use crate::args::{Command, Request};
use crate::config::{Config, read_bounded};
use crate::error::{self, Error, Exit};
use formats::layout::RUN_SLOT_HEADER;
use formats::manifest::{HEADER_SIZE, Header, Manifest};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A model is read whole into memory; small devices have no more to give.
const MAX_MODEL: u64 = 1 << 30;
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
    let path = path
        .canonicalize()
        .map_err(|e| Error::config(format!("{}: {}", path.display(), error::plain(&e))))?;
    let expected = expected_hash(request, config, &path)?;
    let bytes = read_bounded(&path, MAX_MODEL)?;
    let sha256 = formats::hex::encode(&Sha256::digest(&bytes));
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
        None => Some(PathBuf::from(RUN_SLOT_HEADER)).filter(|p| p.exists()),
    };
    if let Some(file) = manifest {
        let header = read_bounded(&file, HEADER_SIZE as u64)?;
        // Its signature was checked by whoever put the file there.
        let manifest = Header::new(&header)
            .and_then(|header| header.verified_before())
            .map_err(|e| refused(format!("{}: {e}", file.display())))?;
        let hash = hash_in(&manifest, model).ok_or_else(|| {
            refused(format!(
                "{}: not named by the manifest in {}: not loaded; name the model in the image file and build again",
                model.display(),
                file.display()
            ))
        })?;
        return Ok(Some((hash, format!("the manifest in {}", file.display()).into())));
    }
    if config.sha256.is_some() && request.command != Command::Run {
        return Ok(None);
    }
    Err(refused(format!(
        "{}: nothing says which SHA-256 it must have: there is no {RUN_SLOT_HEADER}; give --manifest or --expect-sha256",
        model.display()
    )))
}

/// The hash of the model whose path is the end of `model`: the whole of it on the device, and the
/// part below the unpacked root on a developer's machine.
fn hash_in(manifest: &Manifest, model: &Path) -> Option<String> {
    manifest.models.iter().find_map(|file| {
        let path = file.name.trim_start_matches('/');
        (!path.is_empty() && model.ends_with(path)).then(|| formats::hex::encode(&file.sha256))
    })
}

fn refused(text: String) -> Error {
    Error::new(Exit::Refused, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::manifest::FileHash;

    #[test]
    fn a_model_is_found_by_its_path() {
        let model =
            |byte: u8, name: &str| FileHash { sha256: [byte; 32], size: 1, name: name.into() };
        let manifest = Manifest {
            board: "b".into(),
            name: "n".into(),
            version: "1".into(),
            sequence: 1,
            rollback_floor: 0,
            root_size: 8192,
            root_hash_size: 4096,
            root_verity_hash: [0; 32],
            root_verity_salt: [0; 32],
            boot_size: 4096,
            chunk_size: 65536,
            chunk_table_sha256: [0; 32],
            boot_files: vec![],
            models: vec![
                model(1, "usr/share/models/x/model.tflite"),
                model(2, "/usr/share/models/face/model.tflite"),
            ],
        };
        let found = |path: &str| hash_in(&manifest, Path::new(path));
        assert_eq!(found("/usr/share/models/face/model.tflite"), Some("02".repeat(32)));
        assert_eq!(found("/root/usr/share/models/x/model.tflite"), Some("01".repeat(32)));
        assert_eq!(found("/usr/share/models/y/model.tflite"), None);
    }
}

//! The five key pairs of a project: made once, kept by its owner, read when something is signed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use formats::manifest::TrustedKeys;
use tuf::Time;
use tuf::author::{Keyring, RoleSigners, first_root};

use crate::key_file::{self, PRIVATE, PUBLIC};

/// Signs slot manifests.
pub const IMAGE: &str = "image";
/// What each key pair is for: [`IMAGE`], and the roles of the repository.
pub const ROLES: [&str; 5] = [IMAGE, "root", "targets", "snapshot", "timestamp"];

/// The repository's first root metadata: every image carries it, and `imager publish` starts a
/// repository with it. It lies beside the keys so that both are the same bytes.
pub const TUF_ROOT: &str = "root.json";

/// Twenty years: a device whose image's root expired could not trust anything any more.
const ROOT_DAYS: u64 = 20 * 365;

/// The private key's file for a role.
pub fn private_path(dir: &Path, role: &str) -> PathBuf {
    dir.join(format!("{role}.key"))
}

/// The public key's file for a role.
pub fn public_path(dir: &Path, role: &str) -> PathBuf {
    dir.join(format!("{role}.pub"))
}

/// Makes all key pairs in `dir`, which is made too (mode 0700) if it is not there.
///
/// Fails before anything is written when a key is there already; when writing fails half way,
/// what was written is removed again.
pub fn generate(dir: &Path) -> Result<()> {
    let paths = |role| [private_path(dir, role), public_path(dir, role)];
    for path in ROLES.into_iter().flat_map(paths).chain([dir.join(TUF_ROOT)]) {
        if fs::symlink_metadata(&path).is_ok() {
            bail!(
                "{} exists already, and keys are never overwritten: devices that trust it could \
                 not be updated any more. Choose another folder with --out",
                path.display()
            );
        }
    }
    let pairs = ROLES.map(|role| (role, new_seed()));
    let mut files = Vec::new();
    let mut keys = BTreeMap::new();
    for (role, seed) in pairs {
        let seed = seed?;
        files.extend(pair(dir, role, seed)?);
        keys.insert(role, SigningKey::from_bytes(&seed));
    }
    let key = |role: &str| keys.get(role).cloned().with_context(|| format!("no key {role}"));
    let signers = RoleSigners {
        root: key("root")?,
        targets: key("targets")?,
        snapshot: key("snapshot")?,
        timestamp: key("timestamp")?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let root = first_root(&signers, Time(now.as_secs()).plus_days(ROOT_DAYS))?;
    files.push((dir.join(TUF_ROOT), PUBLIC, String::from_utf8(root)?));
    key_file::write_all(dir, &files)
}

/// What a new private key is made of.
fn new_seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut seed))
        .context("cannot read /dev/urandom")?;
    Ok(seed)
}

/// The two files of a key pair.
fn pair(dir: &Path, role: &str, seed: [u8; 32]) -> Result<[(PathBuf, u32, String); 2]> {
    let key = SigningKey::from_bytes(&seed);
    // Without the public half: OpenSSL 3.0 reads version 1 of PKCS#8 only.
    let private = KeypairBytes { secret_key: seed, public_key: None }
        .to_pkcs8_pem(LineEnding::LF)
        .context("cannot encode a private key")?;
    let public =
        key.verifying_key().to_public_key_pem(LineEnding::LF).context("cannot encode a key")?;
    Ok([
        (private_path(dir, role), PRIVATE, private.to_string()),
        (public_path(dir, role), PUBLIC, public),
    ])
}

/// The repository's first root metadata, from the folder that `imager keygen` made. Fails on one
/// that no device could begin with: it would never take an update.
pub fn tuf_root(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join(TUF_ROOT);
    let bytes = fs::read(&path).with_context(|| {
        format!("cannot read {}; `imager keygen --out DIR` makes it with the keys", path.display())
    })?;
    tuf::check_initial_root(&bytes).map_err(|error| {
        anyhow!(
            "{}: no device could begin with this: {error}; it is the file that `imager keygen` made",
            path.display()
        )
    })?;
    Ok(bytes)
}

/// Reads a private key (PKCS#8 PEM). Fails when others than its owner can read the file.
pub fn load_signing(path: &Path) -> Result<SigningKey> {
    SigningKey::from_pkcs8_pem(&key_file::read_private(path)?)
        .map_err(|e| anyhow!("{} is not an ed25519 private key: {e}", path.display()))
}

/// Reads a public key (SPKI PEM).
pub fn load_public(path: &Path) -> Result<VerifyingKey> {
    VerifyingKey::from_public_key_pem(&key_file::read_public(path)?)
        .map_err(|e| anyhow!("{} is not an ed25519 public key: {e}", path.display()))
}

/// A public key as 64 hexadecimal digits, the form devices read.
pub fn public_hex(key: &VerifyingKey) -> String {
    formats::hex::encode(key.as_bytes())
}

/// Where private keys are looked for. What each may sign is not said by its name but by the
/// repository's root metadata.
#[derive(Debug, Clone, Default)]
pub struct KeySources {
    /// A folder: every file in it that ends in `.key`.
    pub folder: Option<PathBuf>,
    /// Single files.
    pub files: Vec<PathBuf>,
}

impl KeySources {
    /// Reads all of them.
    pub fn keyring(&self) -> Result<Keyring> {
        let mut paths = match &self.folder {
            Some(folder) => files_with_end(folder, ".key")?,
            None => Vec::new(),
        };
        paths.extend(self.files.iter().cloned());
        let keys = paths.iter().map(|path| load_signing(path)).collect::<Result<Vec<_>>>()?;
        Ok(Keyring::new(keys))
    }
}

/// The public keys that images carry and trust updates by: `image.pub` and every `image-*.pub`.
pub fn image_public(dir: &Path) -> Result<Vec<VerifyingKey>> {
    let paths = image_files(dir, ".pub")?;
    if paths.is_empty() {
        // Its message says which file is missed.
        return Ok(vec![load_public(&public_path(dir, IMAGE))?]);
    }
    paths.iter().map(|path| load_public(path)).collect()
}

/// The private keys that sign an image: `image.key` and every `image-*.key`.
///
/// Fails when none of them is a key that the image carries (the device could not boot it), and
/// when there are more than a slot header has room for.
pub fn image_signing(dir: &Path) -> Result<Vec<SigningKey>> {
    let paths = image_files(dir, ".key")?;
    if paths.is_empty() {
        return Ok(vec![load_signing(&private_path(dir, IMAGE))?]);
    }
    if paths.len() > formats::manifest::MAX_SIGNATURES {
        bail!(
            "{} has {} image keys, and a slot header has room for {} signatures",
            dir.display(),
            paths.len(),
            formats::manifest::MAX_SIGNATURES
        );
    }
    let keys = paths.iter().map(|path| load_signing(path)).collect::<Result<Vec<_>>>()?;
    let carried = image_public(dir)?;
    if !keys.iter().any(|key| carried.contains(&key.verifying_key())) {
        bail!(
            "none of the image keys in {} belongs to a public key beside it: a device could not \
             boot what they sign. Put the .pub file of one of them there",
            dir.display()
        );
    }
    Ok(keys)
}

/// [`image_public`] as what checks a slot header.
pub fn trusted_image_keys(dir: &Path) -> Result<TrustedKeys> {
    let mut trusted = TrustedKeys::default();
    for key in image_public(dir)? {
        trusted.add_hex(&public_hex(&key)).map_err(|e| anyhow!(e).context("an image key"))?;
    }
    Ok(trusted)
}

/// Makes one key pair, `NAME.key` and `NAME.pub`, in `dir`, which is made too if it is not there.
pub fn generate_one(dir: &Path, name: &str) -> Result<()> {
    if !formats::manifest::is_word(name) {
        bail!("{name:?} is no name for a key; letters, digits, `-`, `_` and `.` are");
    }
    for path in [private_path(dir, name), public_path(dir, name)] {
        if fs::symlink_metadata(&path).is_ok() {
            bail!("{} exists already, and keys are never overwritten", path.display());
        }
    }
    key_file::write_all(dir, &pair(dir, name, new_seed()?)?)
}

fn image_files(dir: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let is_image = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        stem == IMAGE || stem.strip_prefix(IMAGE).is_some_and(|rest| rest.starts_with('-'))
    };
    Ok(files_with_end(dir, end)?.into_iter().filter(is_image).collect())
}

/// The folder's files whose names end so, in the order of their names.
fn files_with_end(dir: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let cannot = || {
        format!(
            "cannot read the keys' folder {}; `imager keygen --out DIR` makes one",
            dir.display()
        )
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(end)) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn keys_come_back_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        generate(&keys).unwrap();
        assert_eq!(mode(&keys), 0o700);
        for role in ROLES {
            assert_eq!(mode(&private_path(&keys, role)), 0o600);
            let private = load_signing(&private_path(&keys, role)).unwrap();
            let public = load_public(&public_path(&keys, role)).unwrap();
            assert_eq!(private.verifying_key(), public);
        }
        let secret = |role| load_signing(&private_path(&keys, role)).unwrap().to_bytes();
        assert_ne!(secret("root"), secret("targets"));
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_written_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("timestamp.pub"), "mine").unwrap();
        let error = generate(dir.path()).unwrap_err().to_string();
        assert!(error.contains("timestamp.pub exists"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read(dir.path().join("timestamp.pub")).unwrap(), b"mine");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_to_type() {
        let dir = tempfile::tempdir().unwrap();
        generate(dir.path()).unwrap();
        let path = private_path(dir.path(), IMAGE);
        for loose in [0o640, 0o604, 0o660, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(loose)).unwrap();
            let error = load_signing(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.key");
        let error = load_signing(&path).unwrap_err().to_string();
        assert!(error.contains("image.key") && error.contains("imager keygen"), "{error}");
        for garbage in
            ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
        {
            fs::write(&path, garbage).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = load_signing(&path).unwrap_err().to_string();
            assert!(error.contains("is not an ed25519 private key"), "{error}");
        }
    }

    #[test]
    #[ignore = "needs openssl: `just unit`"]
    fn openssl_reads_our_keys() {
        let dir = tempfile::tempdir().unwrap();
        generate(dir.path()).unwrap();
        let output = std::process::Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(private_path(dir.path(), IMAGE))
            .output()
            .expect("openssl is missing; install the package openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, fs::read(public_path(dir.path(), IMAGE)).unwrap());
    }
}

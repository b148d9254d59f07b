//! The five key pairs of a project: made once, kept by its owner, read when something is signed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
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

/// Signs slot manifests.
pub const IMAGE: &str = "image";
/// What each key pair is for: [`IMAGE`], and the roles of the repository.
pub const ROLES: [&str; 5] = [IMAGE, "root", "targets", "snapshot", "timestamp"];

/// The repository's first root metadata: every image carries it, and `imager publish` starts a
/// repository with it. It lies beside the keys so that both are the same bytes.
pub const TUF_ROOT: &str = "root.json";

/// Twenty years: a device whose image's root expired could not trust anything any more.
const ROOT_DAYS: u64 = 20 * 365;

/// No key file is longer; anything longer is not one.
const MAX_KEY_FILE: u64 = 16 << 10;

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
    make_dir(dir)?;
    let mut written = Vec::new();
    let result = ROLES
        .iter()
        .try_for_each(|role| write_pair(dir, role, &mut written))
        .and_then(|()| write_root(dir, &mut written));
    if result.is_err() {
        for path in written {
            let _ = fs::remove_file(path);
        }
    }
    result
}

fn write_pair(dir: &Path, role: &str, written: &mut Vec<PathBuf>) -> Result<()> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut seed))
        .context("cannot read /dev/urandom")?;
    let key = SigningKey::from_bytes(&seed);
    // Without the public half: OpenSSL 3.0 reads version 1 of PKCS#8 only.
    let private = KeypairBytes { secret_key: seed, public_key: None }
        .to_pkcs8_pem(LineEnding::LF)
        .context("cannot encode a private key")?;
    let public =
        key.verifying_key().to_public_key_pem(LineEnding::LF).context("cannot encode a key")?;
    write_new(&private_path(dir, role), 0o600, &private, written)?;
    write_new(&public_path(dir, role), 0o644, &public, written)
}

fn write_root(dir: &Path, written: &mut Vec<PathBuf>) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let root = first_root(&role_signers(dir)?, Time(now.as_secs()).plus_days(ROOT_DAYS))?;
    write_new(&dir.join(TUF_ROOT), 0o644, &String::from_utf8(root)?, written)
}

/// The repository's first root metadata, from the folder that `imager keygen` made.
pub fn tuf_root(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join(TUF_ROOT);
    fs::read(&path).with_context(|| {
        format!("cannot read {}; `imager keygen --out DIR` makes it with the keys", path.display())
    })
}

fn write_new(path: &Path, mode: u32, text: &str, written: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(cannot)?;
    written.push(path.into());
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(cannot)
}

/// Writes a private key into a new file that only its owner can read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    write_new(path, 0o600, text, &mut Vec::new())
}

/// The text of a private key's file.
///
/// Fails when others than its owner can read the file: a key that leaked signs for everybody.
pub fn read_private(path: &Path) -> Result<String> {
    let file = open_key(path)?;
    let mode = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.mode();
    ensure_private(path, mode)?;
    read_key(path, file)
}

/// Reads a private key (PKCS#8 PEM), as [`read_private`] does.
pub fn load_signing(path: &Path) -> Result<SigningKey> {
    SigningKey::from_pkcs8_pem(&read_private(path)?)
        .map_err(|e| anyhow!("{} is not an ed25519 private key: {e}", path.display()))
}

/// Fails when a file of this mode can be read by others than its owner.
pub fn ensure_private(path: &Path, mode: u32) -> Result<()> {
    if mode & 0o077 != 0 {
        bail!(
            "{p} can be read by others (mode {:o}); close it with: chmod 600 {p}",
            mode & 0o777,
            p = path.display()
        );
    }
    Ok(())
}

/// Reads a public key (SPKI PEM).
pub fn load_public(path: &Path) -> Result<VerifyingKey> {
    VerifyingKey::from_public_key_pem(&read_key(path, open_key(path)?)?)
        .map_err(|e| anyhow!("{} is not an ed25519 public key: {e}", path.display()))
}

/// A public key as 64 hexadecimal digits, the form devices read.
pub fn public_hex(key: &VerifyingKey) -> String {
    formats::hex::encode(key.as_bytes())
}

/// The keys that sign a new repository, from the folder that `imager keygen` made.
fn role_signers(dir: &Path) -> Result<RoleSigners> {
    let key = |role| load_signing(&private_path(dir, role));
    Ok(RoleSigners {
        root: key("root")?,
        targets: key("targets")?,
        snapshot: key("snapshot")?,
        timestamp: key("timestamp")?,
    })
}

/// Every private key of a folder (its files that end in `.key`) and these files.
///
/// What each may sign is not said by its name but by the repository's root metadata.
pub fn keyring(dir: Option<&Path>, files: &[PathBuf]) -> Result<Keyring> {
    let mut paths = match dir {
        Some(dir) => files_with_end(dir, ".key")?,
        None => Vec::new(),
    };
    paths.extend(files.iter().cloned());
    let keys = paths.iter().map(|path| load_signing(path)).collect::<Result<Vec<_>>>()?;
    Ok(Keyring::new(keys))
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
    make_dir(dir)?;
    let mut written = Vec::new();
    let result = write_pair(dir, name, &mut written);
    if result.is_err() {
        for path in written {
            let _ = fs::remove_file(path);
        }
    }
    result
}

/// Writes new files, with these modes, into `dir`, which is made too if it is not there: all of
/// them or none.
pub fn write_files(dir: &Path, files: &[(&Path, u32, &str)]) -> Result<()> {
    make_dir(dir)?;
    let mut written = Vec::new();
    let result =
        files.iter().try_for_each(|(path, mode, text)| write_new(path, *mode, text, &mut written));
    if result.is_err() {
        for path in written {
            let _ = fs::remove_file(path);
        }
    }
    result
}

/// The text of a key's file.
pub fn read_text(path: &Path) -> Result<String> {
    read_key(path, open_key(path)?)
}

fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the folder {}", dir.display()))
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

fn open_key(path: &Path) -> Result<File> {
    File::open(path).with_context(|| {
        format!("cannot open the key {}; `imager keygen --out DIR` makes keys", path.display())
    })
}

fn read_key(path: &Path, file: File) -> Result<String> {
    let mut text = String::new();
    file.take(MAX_KEY_FILE)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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
        let signers = role_signers(&keys).unwrap();
        assert_ne!(signers.root.to_bytes(), signers.targets.to_bytes());
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

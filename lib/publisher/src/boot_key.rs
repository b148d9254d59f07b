//! The RSA key pair of a Raspberry Pi's signed boot. Its private half signs what the bootloader
//! loads; its public half goes into the bootloader's flash memory, and its hash, for good, into the
//! chip's fuses. Raspberry Pi's own tools do both, nothing here does.
//!
//! The bootloader knows one kind only: 2048 bits, SHA-256, PKCS #1 v1.5 (raspberrypi/usbboot,
//! docs/secure-boot.md, "Host Setup" and "Signing the boot image"). The signing runs where images
//! are built, and nobody far away can measure how long it takes: what RUSTSEC-2023-0071 says of the
//! crate `rsa` needs that, and blinding is on besides.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand_core::OsRng;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding,
};
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};

use crate::key_file::{self, PRIVATE, PUBLIC};

/// What the bootloader takes.
const BITS: usize = 2048;
/// Bytes of a signature.
pub const SIGNATURE: usize = BITS / 8;
/// The private key's file. Not `.key`: `imager repo` takes those for the repository's.
const PRIVATE_FILE: &str = "raspberry-pi-secure-boot.pem";
/// The public key's file.
const PUBLIC_FILE: &str = "raspberry-pi-secure-boot.pub.pem";

/// The private key's file in a folder of keys.
pub fn private_path(dir: &Path) -> PathBuf {
    dir.join(PRIVATE_FILE)
}

/// The public key's file in a folder of keys.
pub fn public_path(dir: &Path) -> PathBuf {
    dir.join(PUBLIC_FILE)
}

/// A private key.
pub struct BootKey(RsaPrivateKey);

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootPublicKey(RsaPublicKey);

impl BootKey {
    /// Makes a pair in `dir`, which is made too (mode 0700) if it is not there: the private half in
    /// PKCS #8 with mode 0600, the public one in SPKI, both PEM.
    ///
    /// Fails before anything is written when one of the files is there already.
    pub fn generate(dir: &Path) -> Result<BootKey> {
        let (private, public) = (private_path(dir), public_path(dir));
        for path in [&private, &public] {
            if fs::symlink_metadata(path).is_ok() {
                bail!(
                    "{} exists already, and keys are never overwritten: a board whose fuses name \
                     it boots nothing else. Choose another folder with --out",
                    path.display()
                );
            }
        }
        let key = RsaPrivateKey::new(&mut OsRng, BITS).context("cannot make an RSA key")?;
        let text = key.to_pkcs8_pem(LineEnding::LF).context("cannot encode the private key")?;
        let key = BootKey(key);
        key_file::write_all(
            dir,
            &[(private, PRIVATE, text.to_string()), (public, PUBLIC, key.public().pem()?)],
        )?;
        Ok(key)
    }

    /// Reads the private key of a folder of keys: PKCS #8 or PKCS #1 PEM, as `openssl genrsa`
    /// writes them.
    ///
    /// Fails when it is of another length, or when others than its owner can read the file.
    pub fn load(dir: &Path) -> Result<BootKey> {
        let path = private_path(dir);
        fs::metadata(&path).with_context(|| {
            format!(
                "cannot open the key {}; `imager keygen --raspberry-pi-secure-boot --out {}` makes it",
                path.display(),
                dir.display()
            )
        })?;
        let text = key_file::read_private(&path)?;
        let key = RsaPrivateKey::from_pkcs8_pem(&text)
            .or_else(|_| RsaPrivateKey::from_pkcs1_pem(&text))
            .map_err(|e| anyhow!("{} is not an RSA private key: {e}", path.display()))?;
        ensure!(
            key.n().bits() == BITS,
            "{}: the Raspberry Pi's bootloader takes keys of {BITS} bits, this one has {}",
            path.display(),
            key.n().bits()
        );
        Ok(BootKey(key))
    }

    /// The public half.
    pub fn public(&self) -> BootPublicKey {
        BootPublicKey(self.0.to_public_key())
    }

    /// Signs a SHA-256 hash. The same key and hash give the same signature.
    pub fn sign(&self, sha256: &[u8; 32]) -> Result<Vec<u8>> {
        let scheme = Pkcs1v15Sign::new::<rsa::sha2::Sha256>();
        self.0.sign_with_rng(&mut OsRng, scheme, sha256).context("cannot sign")
    }
}

impl BootPublicKey {
    /// The public key of a folder of keys; `None` when it has none.
    pub fn load(dir: &Path) -> Result<Option<BootPublicKey>> {
        let path = public_path(dir);
        if !path.exists() {
            return Ok(None);
        }
        let key = RsaPublicKey::from_public_key_pem(&key_file::read_public(&path)?)
            .map_err(|e| anyhow!("{} is not an RSA public key: {e}", path.display()))?;
        Ok(Some(BootPublicKey(key)))
    }

    /// As SPKI PEM.
    pub fn pem(&self) -> Result<String> {
        self.0.to_public_key_pem(LineEnding::LF).context("cannot encode the public key")
    }

    /// Whether this is a signature of the hash by this key.
    pub fn verifies(&self, sha256: &[u8; 32], signature: &[u8]) -> bool {
        let scheme = Pkcs1v15Sign::new::<rsa::sha2::Sha256>();
        self.0.verify(scheme, sha256, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::process::Command;

    /// A key that openssl made, since ours take their time to make without optimisation.
    fn key_of_openssl(dir: &Path, traditional: bool, bits: u32) {
        let mut command = Command::new("openssl");
        command.args(["genrsa", "-out"]).arg(private_path(dir));
        // Before 3.0 openssl wrote PKCS #1 by itself.
        command.args(traditional.then_some("-traditional")).arg(bits.to_string());
        let made = command.output().expect("install the package openssl");
        assert!(made.status.success(), "{made:?}");
    }

    #[test]
    #[ignore = "needs openssl: `just unit`"]
    fn openssl_reads_the_pair_and_verifies_what_it_signs() {
        let dir = tempfile::tempdir().unwrap();
        let key = BootKey::generate(dir.path()).unwrap();
        let mode = fs::metadata(private_path(dir.path())).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(private_path(dir.path()))
            .output()
            .unwrap();
        assert_eq!(public.stdout, fs::read(public_path(dir.path())).unwrap(), "{public:?}");

        let file = dir.path().join("file");
        fs::write(&file, b"what is signed").unwrap();
        let hash = <sha2::Sha256 as sha2::Digest>::digest(b"what is signed").into();
        let signature = BootKey::load(dir.path()).unwrap().sign(&hash).unwrap();
        assert_eq!(signature, key.sign(&hash).unwrap(), "it is the same each time");
        let sig = dir.path().join("sig");
        fs::write(&sig, &signature).unwrap();
        let verified = Command::new("openssl")
            .args(["dgst", "-sha256", "-verify"])
            .arg(public_path(dir.path()))
            .arg("-signature")
            .args([&sig, &file])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
        let public = BootPublicKey::load(dir.path()).unwrap().unwrap();
        assert!(public.verifies(&hash, &signature) && !public.verifies(&[0; 32], &signature));
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(public_path(dir.path()), "mine").unwrap();
        let message = BootKey::generate(dir.path()).err().unwrap().to_string();
        assert!(message.contains("never overwritten"), "{message}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    #[ignore = "needs openssl: `just unit`"]
    fn keys_of_openssl_are_taken_in_both_forms_and_in_one_length() {
        for traditional in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            key_of_openssl(dir.path(), traditional, 2048);
            BootKey::load(dir.path()).unwrap();
            let path = private_path(dir.path());
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let message = BootKey::load(dir.path()).err().unwrap().to_string();
            assert!(message.contains("chmod 600"), "{message}");
        }
        let dir = tempfile::tempdir().unwrap();
        key_of_openssl(dir.path(), false, 3072);
        let message = BootKey::load(dir.path()).err().unwrap().to_string();
        assert!(message.contains("2048 bits, this one has 3072"), "{message}");
        fs::write(private_path(dir.path()), "nothing").unwrap();
        let message = BootKey::load(dir.path()).err().unwrap().to_string();
        assert!(message.contains("not an RSA private key"), "{message}");
        let message = BootKey::load(&dir.path().join("no")).err().unwrap().to_string();
        assert!(message.contains("keygen --raspberry-pi-secure-boot"), "{message}");
    }
}

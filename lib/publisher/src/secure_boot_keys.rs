//! The keys for UEFI Secure Boot in a project's folder of keys. docs/secure-boot.md has the
//! commands; UEFI 2.10, chapter 32, the rules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use uefi_image::Signer;

use crate::key_file::{self, PRIVATE, PUBLIC};

/// The folder for these keys in the folder of all keys.
const FOLDER: &str = "secure-boot";
/// What the firmware has them for: the platform's owner, who may change `db`, what may be started.
pub const ROLES: [&str; 3] = ["PK", "KEK", "db"];
/// The role whose key signs programs.
const SIGNS: &str = "db";

/// Where the keys lie, below the folder of all keys.
pub fn folder(keys: &Path) -> PathBuf {
    keys.join(FOLDER)
}

/// Makes a key (`.key`, PKCS#8 PEM, 0600) and a certificate (`.crt`, PEM; `.cer`, the same in DER,
/// as firmware setups read it) for each of [`ROLES`] in the folder `secure-boot` of `keys`.
///
/// Fails when that folder is there.
pub fn generate(keys: &Path) -> Result<PathBuf> {
    let folder = folder(keys);
    ensure!(!folder.exists(), "{} is there already; keys are never overwritten", folder.display());
    atomic_file::make_folder(keys, 0o777)?;
    let new = tempfile::Builder::new()
        .prefix(".secure-boot")
        .tempdir_in(keys)
        .with_context(|| format!("{} cannot be written", keys.display()))?;
    for role in ROLES {
        let signer = Signer::generate(&format!("Ferrite Secure Boot {role}"))?;
        let file = |end: &str| new.path().join(format!("{role}.{end}"));
        key_file::write_all(
            new.path(),
            &[
                (file("key"), PRIVATE, signer.key_pem()?),
                (file("crt"), PUBLIC, signer.certificate_pem()?),
            ],
        )?;
        fs::write(file("cer"), signer.certificate_der()?)
            .context("the certificate cannot be written")?;
    }
    // All of them, or none.
    let made = new.keep();
    fs::rename(&made, &folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(folder)
}

/// The signer of these keys; `None` where no keys for Secure Boot were made.
///
/// Fails when others may read the private key.
pub fn signer(keys: &Path) -> Result<Option<Signer>> {
    let path = |end: &str| folder(keys).join(format!("{SIGNS}.{end}"));
    if !path("key").exists() {
        return Ok(None);
    }
    let key = key_file::read_private(&path("key"))?;
    let certificate = key_file::read_public(&path("crt"))?;
    let signer = Signer::from_pem(&key, certificate.as_bytes())
        .with_context(|| format!("{} with {}", path("key").display(), path("crt").display()))?;
    Ok(Some(signer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    #[ignore = "needs openssl: `just unit`"]
    fn keys_are_private_never_overwritten_and_openssl_verifies_their_certificates() {
        let keys = tempfile::tempdir().unwrap();
        assert!(signer(keys.path()).unwrap().is_none());
        let folder = generate(keys.path()).unwrap();
        assert!(generate(keys.path()).is_err(), "keys are overwritten");
        for role in ROLES {
            let about = fs::metadata(folder.join(format!("{role}.key"))).unwrap();
            assert_eq!(about.permissions().mode() & 0o777, 0o600);
        }
        assert!(signer(keys.path()).unwrap().is_some());
        let db = folder.join("db.crt");
        let output = Command::new("openssl")
            .args(["verify", "-check_ss_sig", "-CAfile"])
            .args([&db, &db])
            .output()
            .expect("openssl must be installed");
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn keys_that_do_not_belong_together_or_are_open_to_others_are_refused() {
        let keys = tempfile::tempdir().unwrap();
        let folder = generate(keys.path()).unwrap();
        fs::copy(folder.join("KEK.crt"), folder.join("db.crt")).unwrap();
        let message = format!("{:#}", signer(keys.path()).err().unwrap());
        assert!(message.contains("another key"), "{message}");
        let key = folder.join("db.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let message = signer(keys.path()).err().unwrap().to_string();
        assert!(message.contains("chmod 600"), "{message}");
    }
}

//! Secure Boot: the keys that a board's firmware is given, and what is signed with them.
//! docs/secure-boot.md has the commands; UEFI 2.10, chapter 32, the rules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem, Encode, EncodePem};

use crate::pe::Pe;

mod authenticode;
mod certificate;

/// The folder for these keys in the folder of all keys.
const FOLDER: &str = "secure-boot";
/// What the firmware has them for: the platform's owner, who may change `db`, what may be started.
pub const ROLES: [&str; 3] = ["PK", "KEK", "db"];
/// The role whose key signs programs.
const SIGNS: &str = "db";
/// More than an RSA key or its certificate takes as a file.
const MAX_FILE: u64 = 64 << 10;

/// Signs UEFI programs.
pub struct Signer {
    key: RsaPrivateKey,
    certificate: Certificate,
}

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
    fs::create_dir_all(keys).with_context(|| format!("{} cannot be made", keys.display()))?;
    let new = tempfile::Builder::new()
        .prefix(".secure-boot")
        .tempdir_in(keys)
        .with_context(|| format!("{} cannot be written", keys.display()))?;
    for role in ROLES {
        let (key, certificate) = certificate::self_signed(role)?;
        let private = key.to_pkcs8_pem(LineEnding::LF).map_err(|e| anyhow!("{role}.key: {e}"))?;
        let text = certificate.to_pem(LineEnding::LF).map_err(|e| anyhow!("{role}.crt: {e}"))?;
        let der = certificate.to_der().map_err(|e| anyhow!("{role}.cer: {e}"))?;
        let file = |end: &str| new.path().join(format!("{role}.{end}"));
        crate::keys::write_private(&file("key"), &private)?;
        fs::write(file("crt"), text).context("the certificate cannot be written")?;
        fs::write(file("cer"), der).context("the certificate cannot be written")?;
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
    let key = crate::keys::read_private(&path("key"))?;
    let key = RsaPrivateKey::from_pkcs8_pem(&key)
        .map_err(|e| anyhow!("{} is no RSA private key: {e}", path("key").display()))?;
    let certificate = path("crt");
    let length = fs::metadata(&certificate).map(|m| m.len()).unwrap_or_default();
    ensure!(length <= MAX_FILE, "{} is no certificate: too long", certificate.display());
    let text = fs::read(&certificate)
        .with_context(|| format!("{} cannot be read", certificate.display()))?;
    let certificate = Certificate::from_pem(&text)
        .map_err(|e| anyhow!("{} is no certificate: {e}", certificate.display()))?;
    certificate::check_belongs(&certificate, &key)?;
    Ok(Some(Signer { key, certificate }))
}

impl Signer {
    /// The program with a signature behind it. The same program gets the same bytes.
    pub fn sign(&self, program: Vec<u8>) -> Result<Vec<u8>> {
        let mut pe = Pe::read(program)?;
        pe.make_ready_to_sign()?;
        let signature = authenticode::signed(&pe.authenticode_hash()?, self)?;
        pe.attach(&signature)?;
        Ok(pe.bytes().to_vec())
    }

    /// What tells one signer from another in a build's stamp.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        self.certificate.to_der().map_err(|e| anyhow!("the certificate: {e}"))
    }
}

/// Reads DER that was just made here.
fn decoded<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T> {
    T::from_der(bytes).map_err(|e| anyhow!("signature: {e}"))
}

#[cfg(test)]
mod tests;

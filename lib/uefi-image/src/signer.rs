//! Who signs programs for Secure Boot (UEFI 2.10, chapter 32).

use anyhow::{Result, anyhow};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use x509_cert::Certificate;
use x509_cert::der::{DecodePem, Encode, EncodePem};

use crate::pe::Pe;
use crate::{authenticode, certificate};

/// An RSA key and its certificate, which the firmware has in `db`.
pub struct Signer {
    key: RsaPrivateKey,
    certificate: Certificate,
}

impl Signer {
    /// A new key, with a certificate for this common name that it signs itself: firmware knows no
    /// authority above it.
    pub fn generate(common_name: &str) -> Result<Signer> {
        let (key, certificate) = certificate::self_signed(common_name)?;
        Ok(Signer { key, certificate })
    }

    /// Reads a private key (PKCS #8) and its certificate, both PEM.
    ///
    /// Fails when they do not belong together.
    pub fn from_pem(key: &str, certificate: &[u8]) -> Result<Signer> {
        let key = RsaPrivateKey::from_pkcs8_pem(key)
            .map_err(|e| anyhow!("the key is no RSA private key: {e}"))?;
        let certificate = Certificate::from_pem(certificate)
            .map_err(|e| anyhow!("the certificate cannot be read: {e}"))?;
        certificate::check_belongs(&certificate, &key)?;
        Ok(Signer { key, certificate })
    }

    /// The private key as PKCS #8 PEM.
    pub fn key_pem(&self) -> Result<String> {
        let text = self.key.to_pkcs8_pem(LineEnding::LF).map_err(|e| anyhow!("the key: {e}"))?;
        Ok(text.to_string())
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> Result<String> {
        self.certificate.to_pem(LineEnding::LF).map_err(|e| anyhow!("the certificate: {e}"))
    }

    /// The certificate as DER, as firmware setups read it.
    pub fn certificate_der(&self) -> Result<Vec<u8>> {
        self.certificate.to_der().map_err(|e| anyhow!("the certificate: {e}"))
    }

    /// The program with a signature behind it. The same program gets the same bytes.
    pub fn sign(&self, program: Vec<u8>) -> Result<Vec<u8>> {
        let mut pe = Pe::read(program)?;
        pe.pad_for_signature()?;
        let hash = pe.authenticode_hash()?;
        pe.attach_signature(&authenticode::signature(&hash, &self.key, &self.certificate)?)?;
        Ok(pe.into_bytes())
    }
}

#[cfg(test)]
mod tests;

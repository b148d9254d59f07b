//! RSA keys with certificates that sign themselves: firmware knows no authority above them.

use std::fs::File;
use std::io::Read;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::EncodePublicKey;
use rsa::rand_core::{CryptoRng, Error, RngCore};
use rsa::sha2::Sha256;
use x509_cert::Certificate;
use x509_cert::builder::{Builder, CertificateBuilder, Profile};
use x509_cert::der::asn1::UtcTime;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};

/// What every firmware knows (UEFI 2.10, 32.4.1, `EFI_CERT_X509_GUID`; RSA-2048 and SHA-256).
const BITS: usize = 2048;
/// Bytes of a serial number: random, so that two certificates are never taken for one.
const SERIAL: usize = 16;

/// A new key, and its certificate for this common name.
pub fn self_signed(name: &str) -> Result<(RsaPrivateKey, Certificate)> {
    let mut random = Random(File::open("/dev/urandom").context("cannot read /dev/urandom")?);
    let key = RsaPrivateKey::new(&mut random, BITS).map_err(|e| anyhow!("{name}: {e}"))?;
    let mut serial = [0; SERIAL];
    random.try_fill_bytes(&mut serial).map_err(|e| anyhow!("/dev/urandom: {e}"))?;
    // A positive number without leading zeros (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7F | 0x40;
    let certificate = certificate(name, &key, &serial).map_err(|e| anyhow!("{name}: {e}"))?;
    Ok((key, certificate))
}

fn certificate(
    name: &str,
    key: &RsaPrivateKey,
    serial: &[u8],
) -> Result<Certificate, x509_cert::builder::Error> {
    let signer = SigningKey::<Sha256>::new(key.clone());
    let public = key.to_public_key().to_public_key_der()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // Firmware does not look at the times: its clock is nothing to trust.
    let validity = Validity {
        not_before: Time::UtcTime(UtcTime::from_unix_duration(Duration::from_secs(now.as_secs()))?),
        not_after: Time::INFINITY,
    };
    let mut builder = CertificateBuilder::new(
        // A root's profile has no `digitalSignature`, which verifiers ask of who signs a program.
        Profile::Manual { issuer: None },
        SerialNumber::new(serial)?,
        validity,
        Name::from_str(&format!("CN={name}"))?,
        SubjectPublicKeyInfoOwned::from_der(public.as_bytes())?,
        &signer,
    )?;
    builder.add_extension(&BasicConstraints { ca: true, path_len_constraint: None })?;
    builder.add_extension(&KeyUsage(KeyUsages::DigitalSignature | KeyUsages::KeyCertSign))?;
    builder.build()
}

/// Fails when the certificate is not that of the key.
pub fn check_belongs(certificate: &Certificate, key: &RsaPrivateKey) -> Result<()> {
    let public = key.to_public_key().to_public_key_der().map_err(|e| anyhow!("the key: {e}"))?;
    let certified = certificate.tbs_certificate.subject_public_key_info.to_der();
    ensure!(
        certified.map_err(|e| anyhow!("the certificate: {e}"))? == public.as_bytes(),
        "the certificate is that of another key"
    );
    Ok(())
}

/// The system's random numbers, in the form that the key maker takes.
struct Random(File);

impl CryptoRng for Random {}

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        // The trait knows no error here, and a key of what was in memory would be none.
        #[allow(clippy::expect_used)]
        self.try_fill_bytes(bytes).expect("/dev/urandom ended");
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.read_exact(bytes).map_err(Error::new)
    }
}

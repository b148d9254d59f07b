//! The signature of a UEFI program: PKCS #7 signed data (RFC 2315) over the image's hash, as
//! Microsoft's "Windows Authenticode Portable Executable Signature Format" 1.0 lays it out.

use anyhow::{Result, anyhow};
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::signature::{SignatureEncoding, Signer as _};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::der::asn1::{Null, ObjectIdentifier, OctetString, SetOfVec};
use x509_cert::der::{Any, Decode, Encode};
use x509_cert::spki::AlgorithmIdentifierOwned;

/// RFC 5652, 5.1 and 11; RFC 5754, 2.2; RFC 8017, A.1.
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `SPC_INDIRECT_DATA_OBJID`.
const INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
/// `SpcIndirectDataContent` of a PE image, its two sequences' heads left out: the kind
/// (`SPC_PE_IMAGE_DATAOBJ`, no flags, a file without a name) and the hash's algorithm and length. Only
/// the hash behind it ever changes.
const PE_IMAGE: [u8; 44] = [
    0x30, 0x17, 0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0F, 0x30, 0x09,
    0x03, 0x01, 0x00, 0xA0, 0x04, 0xA2, 0x02, 0x80, 0x00, 0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60,
    0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
];

/// The signature over an image with this hash, in DER.
pub fn signature(
    image: &[u8; 32],
    key: &RsaPrivateKey,
    certificate: &Certificate,
) -> Result<Vec<u8>> {
    signed_data(image, key, certificate).map_err(|e| anyhow!("signature: {e:#}"))
}

fn signed_data(
    image: &[u8; 32],
    key: &RsaPrivateKey,
    certificate: &Certificate,
) -> Result<Vec<u8>> {
    let content = [&PE_IMAGE[..], image].concat();
    // What is hashed is the content of the sequence, without its head (RFC 2315, 9.3).
    let digest = Sha256::digest(&content);
    let signed_attributes: SetOfVec<Attribute> = SetOfVec::try_from(vec![
        attribute(CONTENT_TYPE, Any::encode_from(&INDIRECT_DATA).map_err(der)?)?,
        attribute(
            MESSAGE_DIGEST,
            Any::encode_from(&OctetString::new(&digest[..]).map_err(der)?).map_err(der)?,
        )?,
    ])
    .map_err(der)?;
    let key = SigningKey::<rsa::sha2::Sha256>::new(key.clone());
    let signature = key.sign(&signed_attributes.to_der().map_err(der)?).to_vec();
    let about = &certificate.tbs_certificate;
    let info = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: about.issuer.clone(),
            serial_number: about.serial_number.clone(),
        }),
        digest_alg: algorithm(SHA256)?,
        signed_attrs: Some(signed_attributes),
        signature_algorithm: algorithm(RSA)?,
        signature: OctetString::new(signature).map_err(der)?,
        unsigned_attrs: None,
    };
    let data = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![algorithm(SHA256)?]).map_err(der)?,
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: INDIRECT_DATA,
            econtent: Some(Any::from_der(&sequence(&content)).map_err(der)?),
        },
        certificates: Some(
            CertificateSet::try_from(vec![CertificateChoices::Certificate(certificate.clone())])
                .map_err(der)?,
        ),
        crls: None,
        signer_infos: SignerInfos::try_from(vec![info]).map_err(der)?,
    };
    let content = Any::from_der(&data.to_der().map_err(der)?).map_err(der)?;
    ContentInfo { content_type: SIGNED_DATA, content }.to_der().map_err(der)
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Result<Attribute> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![value]).map_err(der)? })
}

fn algorithm(oid: ObjectIdentifier) -> Result<AlgorithmIdentifierOwned> {
    let parameters = Some(Any::encode_from(&Null).map_err(der)?);
    Ok(AlgorithmIdentifierOwned { oid, parameters })
}

/// A sequence of fewer than 128 bytes.
fn sequence(content: &[u8]) -> Vec<u8> {
    [&[0x30, content.len() as u8], content].concat()
}

fn der(error: x509_cert::der::Error) -> anyhow::Error {
    anyhow!("{error}")
}

//! TLS to the repository's server, with the roots of the image and no others. It keeps secret what
//! a device fetches and shows the server who it is; what makes an update good is its signatures.
//!
//! The protocol is `rustls`, TLS 1.3 only. What is ours is the time against which certificates are
//! judged: what the time servers said since this boot, and nothing that a key of the repository
//! signed (docs/updates.md, "Time"): the update that takes such a key's word back has to get
//! through. So a certificate is refused as expired only when it certainly is, and one that is not
//! valid yet is taken to be of our future.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// The most roots that an image may bring.
const MAX_ROOTS: usize = 256;
/// Certificates in a chain that may each be of our future.
const MAX_CHAIN: usize = 8;

/// A certificate chain and the key to its first certificate, as PEM.
pub struct ClientIdentity {
    /// The device's own certificate first.
    pub certificates: Vec<u8>,
    /// PKCS#8, PKCS#1 or SEC 1.
    pub key: Vec<u8>,
}

/// Makes TLS of connections to `https://` URLs.
#[derive(Clone)]
pub struct TlsConnector {
    /// To the host that the device's certificate is for.
    own: Arc<ClientConfig>,
    /// To any other, where a redirection led.
    other: Arc<ClientConfig>,
    host: String,
}

impl TlsConnector {
    /// Trusts the roots in `roots` (PEM). `lower_bound` of the time: seconds since 1970.
    /// `identity` is shown to `host` alone. The error says what is wrong with which of the two.
    pub fn new(
        roots: &[u8],
        identity: Option<&ClientIdentity>,
        host: &str,
        lower_bound: u64,
    ) -> Result<TlsConnector, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(PatientVerifier {
            inner: WebPkiServerVerifier::builder_with_provider(
                Arc::new(read_roots(roots)?),
                provider.clone(),
            )
            .build()
            .map_err(|e| format!("the TLS roots: {e}"))?,
            lower_bound: UnixTime::since_unix_epoch(std::time::Duration::from_secs(lower_bound)),
        });
        let other = config(&provider, &verifier, None)?;
        let own = match identity {
            Some(identity) => config(&provider, &verifier, Some(identity))?,
            None => other.clone(),
        };
        Ok(TlsConnector { own, other, host: host.into() })
    }
}

fn read_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem).take(MAX_ROOTS) {
        let root = root.map_err(|e| format!("the TLS roots are not PEM: {e}"))?;
        store.add(root).map_err(|e| format!("the TLS roots: {e}"))?;
    }
    match store.is_empty() {
        true => Err("the TLS roots hold no certificate".into()),
        false => Ok(store),
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<PatientVerifier>,
    identity: Option<&ClientIdentity>,
) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(&identity.certificates)
                .take(MAX_CHAIN)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| format!("client.pem: {e}"))?;
            let key = PrivateKeyDer::from_pem_slice(&identity.key)
                .map_err(|e| format!("client.key: {e}"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| format!("client.pem and client.key: {e}"))?
        }
    };
    // One check, one connection: a ticket would be of no use and would take memory.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// WebPKI's rules at the latest of the time's lower bound and the beginning of each certificate.
#[derive(Debug)]
struct PatientVerifier {
    inner: Arc<WebPkiServerVerifier>,
    lower_bound: UnixTime,
}

impl ServerCertVerifier for PatientVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut now = self.lower_bound;
        for _ in 0..MAX_CHAIN {
            match self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
                Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) if not_before > now => now = not_before,
                other => return other,
            }
        }
        Err(CertificateError::NotValidYet.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let config = if host == self.host { &self.own } else { &self.other };
        let name = ServerName::try_from(host.trim_matches(['[', ']']))
            .map_err(|_| ureq::Error::HostNotFound)?
            .to_owned();
        let mut connection = ClientConnection::new(config.clone(), name).map_err(broken)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        let stream = StreamOwned { conn: connection, sock: socket };
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

fn broken(error: rustls::Error) -> ureq::Error {
    ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

/// An established connection.
pub struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let length = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(length);
        Ok(length > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsConnector to {}", self.host)
    }
}

/// What a failure of TLS means, for people; `None` when it is none.
pub fn explain(error: &std::io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "the server's certificate is not of a root in this image ([update.tls] roots)".into(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired; its owner has to renew it".into(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name".into(),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateUnknown,
        ) => "the server does not take this device's certificate (client.pem and client.key in \
              ota's folder)"
            .into(),
        other => format!("TLS: {other}"),
    })
}

//! Certificates made by openssl, and a TLS server that shows them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::wire::{Counted, Wire, Wrap};

/// A certificate authority in a folder of its own.
pub struct Authority {
    dir: tempfile::TempDir,
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Authority {
    pub fn new() -> Authority {
        Authority::named("root")
    }

    pub fn named(name: &str) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        openssl(
            dir.path(),
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key \
                 -out ca.pem -days 36500 -subj /CN={name}"
            ),
        );
        Authority { dir }
    }

    pub fn root(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("ca.pem")).unwrap()
    }

    /// A certificate for `127.0.0.1`, good between two times like `20200101000000Z`.
    pub fn issue(&self, name: &str, from: &str, to: &str) -> Issued {
        let dir = self.dir.path();
        std::fs::write(
            dir.join("ca.cnf"),
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n\
             certificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\npolicy=p\n\
             unique_subject=no\n[p]\ncommonName=supplied\n[x]\nsubjectAltName=IP:127.0.0.1\n",
        )
        .unwrap();
        std::fs::write(dir.join("index.txt"), "").unwrap();
        std::fs::write(dir.join("serial"), "1000\n").unwrap();
        openssl(
            dir,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key \
                 -out {name}.csr -subj /CN={name}"
            ),
        );
        openssl(
            dir,
            &format!(
                "ca -batch -notext -config ca.cnf -extensions x -in {name}.csr -out {name}.pem \
                 -startdate {from} -enddate {to}"
            ),
        );
        let path = |end: &str| dir.join(format!("{name}.{end}"));
        Issued { certificate: path("pem"), key: path("key") }
    }
}

pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes every connection TLS with this certificate; with `clients`, only for devices whose
/// certificate is of that authority.
pub fn tls(issued: &Issued, clients: Option<&Authority>) -> Box<Wrap> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(&authority.root()).unwrap()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap(),
            )
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&issued.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    Box::new(move |socket, counts| {
        let connection = ServerConnection::new(config.clone()).ok()?;
        Some(Box::new(StreamOwned::new(connection, Counted(socket, counts))))
    })
}

impl Wire {
    pub fn https(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

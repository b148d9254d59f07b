use super::*;
use crate::machine::Machine;
use crate::sample::program;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Whether `sbverify` finds the program signed by this certificate.
fn sbverify(program: &[u8], certificate: &Path) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), program).unwrap();
    let output = Command::new("sbverify")
        .arg("--cert")
        .arg(certificate)
        .arg(file.path())
        .output()
        .expect("install the package sbsigntool");
    output.status.success()
}

#[test]
#[ignore = "needs sbverify: `just unit`"]
fn what_is_signed_is_what_sbverify_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let [signer, other] = ["db", "KEK"].map(|name| Signer::generate(name).unwrap());
    let certificate = |signer: &Signer, name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, signer.certificate_pem().unwrap()).unwrap();
        path
    };
    let (db, other) = (certificate(&signer, "db.crt"), certificate(&other, "KEK.crt"));
    for machine in [Machine::Arm64, Machine::Amd64] {
        let mut pe = Pe::read(program(machine)).unwrap();
        pe.append(".linux", b"a kernel").unwrap();
        let program = pe.bytes().to_vec();
        let signed = signer.sign(program.clone()).unwrap();
        assert_eq!(signed, signer.sign(program.clone()).unwrap());
        assert!(sbverify(&signed, &db), "{machine:?}");
        assert!(!sbverify(&signed, &other), "by somebody else's key");
        assert!(!sbverify(&program, &db), "not signed at all");
        // A byte of the section, and one of the headers.
        for at in [program.len() - 500, 0x98 + 16] {
            let mut altered = signed.clone();
            altered[at] ^= 1;
            assert!(!sbverify(&altered, &db), "byte {at}");
        }
        assert!(signer.sign(signed).is_err(), "signed twice");
    }
    // OpenSSL's opinion on key and certificate.
    let output = Command::new("openssl")
        .args(["verify", "-check_ss_sig", "-CAfile"])
        .args([&db, &db])
        .output()
        .expect("openssl must be installed");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_key_comes_back_and_goes_with_its_own_certificate_only() {
    let [db, other] = ["db", "KEK"].map(|name| Signer::generate(name).unwrap());
    let (key, certificate) = (db.key_pem().unwrap(), db.certificate_pem().unwrap());
    let again = Signer::from_pem(&key, certificate.as_bytes()).unwrap();
    assert_eq!(again.certificate_der().unwrap(), db.certificate_der().unwrap());
    let theirs = other.certificate_pem().unwrap();
    let message = Signer::from_pem(&key, theirs.as_bytes()).err().unwrap().to_string();
    assert!(message.contains("another key"), "{message}");
    assert!(Signer::from_pem("nothing", certificate.as_bytes()).is_err());
    assert!(Signer::from_pem(&key, b"nothing").is_err());
}

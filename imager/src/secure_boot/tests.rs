use super::*;
use crate::pe::tests::stub;
use std::os::unix::fs::PermissionsExt;
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
fn what_is_signed_is_what_sbverify_verifies() {
    let keys = tempfile::tempdir().unwrap();
    let folder = generate(keys.path()).unwrap();
    assert!(generate(keys.path()).is_err(), "keys are overwritten");
    for role in ROLES {
        let mode = fs::metadata(folder.join(format!("{role}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let signer = signer(keys.path()).unwrap().unwrap();
    let (db, other) = (folder.join("db.crt"), folder.join("KEK.crt"));
    for machine in [0xAA64, 0x8664] {
        let mut pe = Pe::read(stub(machine)).unwrap();
        pe.append(".linux", b"a kernel").unwrap();
        let program = pe.bytes().to_vec();
        let signed = signer.sign(program.clone()).unwrap();
        assert_eq!(signed, signer.sign(program.clone()).unwrap());
        assert!(sbverify(&signed, &db), "{machine:#x}");
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
fn keys_that_do_not_belong_together_or_are_open_to_others_are_refused() {
    let keys = tempfile::tempdir().unwrap();
    assert!(signer(keys.path()).unwrap().is_none());
    let folder = generate(keys.path()).unwrap();
    fs::copy(folder.join("KEK.crt"), folder.join("db.crt")).unwrap();
    let message = signer(keys.path()).err().unwrap().to_string();
    assert!(message.contains("another key"), "{message}");
    let key = folder.join("db.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let message = signer(keys.path()).err().unwrap().to_string();
    assert!(message.contains("chmod 600"), "{message}");
}

use std::process::Command;

use super::*;
use publisher::boot_key::{private_path, public_path};

fn key() -> (tempfile::TempDir, BootKey) {
    let dir = tempfile::tempdir().unwrap();
    // Ours take their time to make without optimisation.
    let mut openssl = Command::new("openssl");
    openssl.args(["genrsa", "-out"]).arg(private_path(dir.path())).arg("2048");
    assert!(openssl.output().unwrap().status.success());
    let key = BootKey::load(dir.path()).unwrap();
    std::fs::write(public_path(dir.path()), key.public().pem().unwrap()).unwrap();
    (dir, key)
}

fn files() -> Files {
    vec![
        ("kernel".to_owned(), vec![7; 3 << 20]),
        ("config.txt".to_owned(), b"[all]\nkernel=kernel\n".to_vec()),
        ("bcm2711-rpi-4-b.dtb".to_owned(), vec![1; 5000]),
    ]
}

fn file<'a>(files: &'a Files, name: &str) -> &'a [u8] {
    &files.iter().find(|(found, _)| found == name).unwrap().1
}

/// The text of `rpi-eeprom-digest`'s `writeSig`, put together by the programs that it uses.
#[test]
#[ignore = "needs openssl and mtools: `just unit`"]
fn boot_sig_is_what_raspberry_pis_tool_writes() {
    let (dir, key) = key();
    let made = signed(files(), 0xABCD, 1_700_000_000, &key).unwrap();
    let image = dir.path().join("boot.img");
    std::fs::write(&image, file(&made, IMAGE)).unwrap();
    let script = r#"
        sha256sum "$1" | awk '{print $1}'
        echo "ts: $SOURCE_DATE_EPOCH"
        openssl dgst -sign "$2" -sha256 -out "$1.tmp" "$1"
        echo "rsa2048: $(od -An -v -tx1 "$1.tmp" | tr -d ' \n')"
    "#;
    let theirs = Command::new("sh")
        .args(["-euc", script, "sh"])
        .args([&image, &private_path(dir.path())])
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    assert!(theirs.status.success(), "{theirs:?}");
    let ours = String::from_utf8(file(&made, SIGNATURE_FILE).to_vec()).unwrap();
    assert_eq!(ours, String::from_utf8(theirs.stdout).unwrap());

    // And its `verifySig`.
    let script = r#"
        grep rsa2048 "$3" | cut -f 2 -d ' ' | python3 -c '
import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read().strip()))' > "$1.tmp"
        openssl dgst -sha256 -verify "$2" -signature "$1.tmp" "$1"
    "#;
    let sig = dir.path().join("boot.sig");
    std::fs::write(&sig, &ours).unwrap();
    let verify = || {
        let mut command = Command::new("sh");
        command.args(["-euc", script, "sh"]).args([&image, &public_path(dir.path()), &sig]);
        command.output().unwrap().status.success()
    };
    assert!(verify());
    let mut altered = file(&made, IMAGE).to_vec();
    altered[1 << 20] ^= 1;
    std::fs::write(&image, altered).unwrap();
    assert!(!verify());
}

#[test]
#[ignore = "needs openssl and mtools: `just unit`"]
fn the_ram_disk_is_a_fat_volume_with_free_clusters_at_its_end() {
    let (dir, key) = key();
    let made = signed(files(), 0xABCD, 0, &key).unwrap();
    let names: Vec<_> = made.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [IMAGE, SIGNATURE_FILE, "config.txt"]);
    assert_eq!(file(&made, "config.txt"), b"[all]\nboot_ramdisk=1\n");
    let image = file(&made, IMAGE);
    assert!(image[image.len() - (64 << 10)..].iter().all(|byte| *byte == 0));
    let path = dir.path().join("boot.img");
    std::fs::write(&path, image).unwrap();
    let fsck = Command::new("fsck.fat")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-n", "-v"])
        .arg(&path)
        .output()
        .expect("install the package dosfstools");
    assert!(fsck.status.success(), "{fsck:?}");
    let copied = Command::new("mcopy")
        .args(["-n", "-i"])
        .arg(&path)
        .args(["::kernel", "-"])
        .output()
        .expect("install the package mtools");
    assert_eq!(copied.stdout, vec![7; 3 << 20]);
    // The serial number of the partition's own FAT.
    assert_eq!(image[39..43], 0xABCDu32.to_le_bytes());
}

#[test]
#[ignore = "needs openssl and mtools: `just unit`"]
fn what_was_altered_or_signed_by_others_does_not_check() {
    let (dir, key) = key();
    let made = signed(files(), 1, 2, &key).unwrap();
    let (image, sig) = (file(&made, IMAGE), file(&made, SIGNATURE_FILE));
    let public = BootPublicKey::load(dir.path()).unwrap();
    let found = check(image, sig, public.as_ref()).unwrap();
    assert_eq!(found, ["bcm2711-rpi-4-b.dtb", "config.txt", "kernel"]);
    assert_eq!(made, signed(files(), 1, 2, &key).unwrap(), "the same each time");

    let says = |image: &[u8], sig: &[u8], key: Option<&BootPublicKey>| {
        format!("{:#}", check(image, sig, key).unwrap_err())
    };
    let mut altered = image.to_vec();
    altered[1 << 20] ^= 1;
    assert!(says(&altered, sig, None).contains("of another boot.img"));
    let (_dir, other) = self::key();
    let theirs = signed(files(), 1, 2, &other).unwrap();
    let message = says(image, file(&theirs, SIGNATURE_FILE), public.as_ref());
    assert!(message.contains("not by the key"), "{message}");
    check(image, file(&theirs, SIGNATURE_FILE), None).unwrap();
    let text = String::from_utf8(sig.to_vec()).unwrap();
    for broken in [
        String::new(),
        text.replace("rsa2048: ", "rsa4096: "),
        text.replace("rsa2048: ", "rsa2048: 00"),
        text.lines().take(2).collect::<Vec<_>>().join("\n"),
        format!("{text}{}", text.lines().last().unwrap()),
        text.repeat(10),
    ] {
        let message = says(image, broken.as_bytes(), None);
        assert!(message.contains("boot.sig: it "), "{message}");
    }
}

#[test]
#[ignore = "needs openssl and mtools: `just unit`"]
fn a_ram_disk_that_the_bootloader_does_not_take_is_not_made() {
    let (_dir, key) = key();
    let files = vec![("kernel".to_owned(), vec![0; 95 << 20])];
    let message = format!("{:#}", signed(files, 1, 2, &key).unwrap_err());
    assert!(message.contains("bootloader takes 96000000"), "{message}");
}

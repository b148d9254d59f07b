//! The way from one image key to the next: the commands of docs/keys.md, and what is in the images
//! that they build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use formats::gpt;
use formats::layout::SECTOR;
use formats::manifest::{HEADER_SIZE, Header, TrustedKeys};

use crate::world::{IMG, PROJECT, UPDATE, World, complaint};

/// The blocks of docs/keys.md that build images, in their order.
fn commands() -> Vec<String> {
    let page = include_str!("../../../docs/keys.md");
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh image" => {
                inside = true;
                blocks.push(String::new());
            }
            "```" => inside = false,
            _ if inside => *blocks.last_mut().unwrap() += &format!("{line}\n"),
            _ => {}
        }
    }
    assert_eq!(blocks.len(), 2, "the page has other blocks");
    blocks
}

fn runs(world: &World, script: &str) {
    let imager = Path::new(env!("CARGO_BIN_EXE_imager")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-euxc", script])
        .current_dir(world.at(""))
        .env("PATH", format!("{}:{path}", imager.display()))
        .env("FERRITE_DEVICE", world.at("device"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn public_hex(path: &PathBuf) -> String {
    let key = VerifyingKey::from_public_key_pem(&fs::read_to_string(path).unwrap()).unwrap();
    formats::hex::encode(key.as_bytes())
}

/// Whether a device that trusts this key takes the update.
fn takes(update: &Path, key: &str) -> bool {
    let bytes = fs::read(update).unwrap();
    let mut trusted = TrustedKeys::default();
    trusted.add_hex(key).unwrap();
    Header::new(&bytes[..HEADER_SIZE]).unwrap().verify(&trusted).is_ok()
}

/// Whether text lies in the root (what `ota` trusts), and in the initramfs (what boots).
fn carried(img: &Path, text: &str) -> (bool, bool) {
    let disk = fs::read(img).unwrap();
    let table = gpt::read(disk.len() as u64 / SECTOR, |at, out| {
        out.copy_from_slice(&disk[at as usize..at as usize + out.len()]);
        Ok::<(), std::io::Error>(())
    })
    .unwrap();
    let part = |name: &str| {
        let range = table.find(name).unwrap().bytes();
        &disk[range.start as usize..range.end as usize]
    };
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    // The initramfs is not packed, and `boot.conf` is small: what it says follows its first line.
    let boot = part("boot-a");
    let starts: Vec<_> =
        boot.windows(14).enumerate().filter(|(_, w)| w == b"ferrite-boot 1").collect();
    let [(at, _)] = starts[..] else { panic!("boot.conf was found {} times", starts.len()) };
    let conf = boot[at..].split(|byte| *byte == 0).next().unwrap_or_default();
    let boots = has(conf);
    (has(part("root-a")), boots)
}

#[test]
fn an_update_brings_the_new_image_key_and_drops_the_old_one() {
    let world = World::new();
    let boards = world.at("board-configs");
    fs::create_dir(&boards).unwrap();
    let board = format!("{PROJECT}/board-configs/qemu-arm64.toml");
    fs::copy(board, boards.join("qemu-arm64.toml")).unwrap();
    let old = public_hex(&world.at("keys/image.pub"));
    let [change, after] = &commands()[..] else { unreachable!() };

    runs(&world, change);
    let new = public_hex(&world.at("keys/image-2.pub"));
    // Devices that run know the old key; once they run this, they know the new one only.
    let update = world.at(UPDATE);
    assert!(takes(&update, &old) && takes(&update, &new));
    assert_eq!(carried(&world.at(IMG), &new), (true, true));
    assert_eq!(carried(&world.at(IMG), &old), (false, false));
    let inspected = world.imager(&["inspect", IMG]).output().unwrap();
    assert!(inspected.status.success(), "{inspected:?}");

    runs(&world, after);
    let update = world.at(&UPDATE.replace("out/", "out2/"));
    assert!(!takes(&update, &old) && takes(&update, &new));

    // Both carried, as in a rotation that takes its time.
    runs(&world, "mv old-image.pub keys/image-old.pub");
    let built = world.build_to("out3").output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let img = world.at(&IMG.replace("out/", "out3/"));
    assert_eq!((carried(&img, &old), carried(&img, &new)), ((true, true), (true, true)));

    // An image that its own device would not boot is not built.
    runs(&world, "rm keys/image-2.pub");
    let refused = world.build_to("out4").output().unwrap();
    complaint(&refused, &["could not boot", "Put the .pub file"]);
}

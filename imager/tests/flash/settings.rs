//! Settings on their way from the command line to the medium and back to the eye.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::{Folder, MIB, done, made_up};

impl Folder {
    fn settings(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imager"));
        done(command.arg("settings").args(arguments).current_dir(self.at("")).output().unwrap())
    }
}

#[test]
fn settings_are_shown_without_the_secrets_and_never_touch_the_image() {
    let folder = Folder::new();
    for (name, text) in [("token", "s3cret-t\n"), ("pass", "s3cret-w\n"), ("ca", "s3cret-f")] {
        fs::write(folder.at(name), text).unwrap();
    }
    done(folder.flash(&[
        "a.img",
        "card.img",
        "--hostname",
        "kitchen-1",
        "--wifi",
        "My net",
        "--wifi-passphrase-file",
        "pass",
        "--token",
        "token",
        "--file",
        "ca:face/ca.pem",
    ]));
    assert!(fs::read(folder.at("a.img")).unwrap() == made_up::image());
    let mode = fs::metadata(folder.at("card.img")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the file holds secrets");
    let text = folder.settings(&["card.img"]);
    for line in [
        "hostname   kitchen-1\n",
        "wifi       My net (with a passphrase)\n",
        "token      set\n",
        "file       face/ca.pem (8 bytes)\n",
    ] {
        assert!(text.contains(line), "no {line:?} in: {text}");
    }
    let json = folder.settings(&["card.img", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["hostname"], "kitchen-1");
    assert_eq!(value["wifi"]["passphrase"], true);
    assert_eq!(value["files"][0]["bytes"], 8);
    assert!(!text.contains("s3cret") && !json.contains("s3cret"), "{text}{json}");

    // The partition is what e2fsck takes for whole, and all between the table and it is the image.
    let card = fs::read(folder.at("card.img")).unwrap();
    let data = made_up::table(16).find("data").unwrap().bytes();
    let (start, end) = (data.start as usize, data.end as usize);
    let image = made_up::image();
    assert!(card[..512] == image[..512] && card[MIB as usize..start] == image[MIB as usize..start]);
    fs::write(folder.at("data"), &card[start..end]).unwrap();
    let fsck = Command::new("e2fsck")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-fn"])
        .arg(folder.at("data"))
        .output();
    let fsck = fsck.expect("e2fsck of package e2fsprogs");
    assert!(fsck.status.success(), "{fsck:?}");
}

#[test]
fn what_is_large_gets_a_larger_file_system_where_the_medium_has_room() {
    let folder = Folder::new();
    fs::write(folder.at("model"), vec![3; 14 * MIB as usize]).unwrap();
    let arguments = ["a.img", "card.img", "--file", "model:face/model"];
    folder.refuses(&arguments, &["do not fit", "room for"]);
    assert!(!folder.at("card.img").exists());
    let card = fs::File::create(folder.at("card.img")).unwrap();
    card.set_len(100 * MIB).unwrap();
    done(folder.flash(&arguments));
    assert!(folder.settings(&["card.img"]).contains("face/model (14680064 bytes)"));
}

#[test]
fn a_wrong_setting_stops_it_before_anything_is_written() {
    let folder = Folder::new();
    folder.refuses(&["a.img", "card.img", "--hostname", "a_b"], &["--hostname a_b"]);
    // Nobody is at a terminal who could type a passphrase.
    folder.refuses(&["a.img", "card.img", "--wifi", "x"], &["--wifi-passphrase-file"]);
    folder.refuses(&["a.img", "--hostname", "a"], &["DEVICE"]);
    assert_eq!(folder.names(), ["a.img"]);
}

#[test]
fn what_the_image_would_not_use_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    let key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJtSBkP1XUF1BPUiOHuvDFZQLvrQGRTLV3MI7VtZZkvx me@here";
    fs::write(folder.at("id.pub"), key).unwrap();
    fs::write(folder.at("b.img.zst"), zstd::encode_all(&made_up::image()[..], 1).unwrap()).unwrap();
    for image in ["a.img", "b.img.zst"] {
        let refuses = |arguments: &[&str], words: &[&str]| {
            folder.refuses(&[&[image, "card.img"], arguments].concat(), words);
        };
        refuses(
            &["--ssh-key", "id.pub"],
            &["--ssh-key: this image has no SSH server", "ssh = true"],
        );
        refuses(&["--file", "id.pub:fcae/x"], &["no workload `fcae`", "face"]);
        refuses(&["--file", "id.pub:blind/x"], &["`blind` does not see its files", "data = true"]);
    }
    // An image whose root cannot be read says so, and needs none for what needs nothing of it.
    let mut spoilt = made_up::image();
    let at = made_up::table(16).find("root-a").unwrap().bytes().start as usize;
    spoilt[at + 1024] ^= 1;
    fs::write(folder.at("a.img"), spoilt).unwrap();
    folder.refuses(&["a.img", "card.img", "--file", "id.pub:face/x"], &["slot a", "no EROFS"]);
    assert!(!folder.at("card.img").exists());
    done(folder.flash(&["a.img", "card.img", "--hostname", "kitchen-1"]));
}

#[test]
fn an_image_as_built_has_no_settings() {
    let folder = Folder::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imager"));
    let output = command.arg("settings").arg(folder.at("a.img")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    // The made-up image has bytes and no file system there.
    assert!(!output.status.success() && text.contains("there is no ext4 on it"), "{text}");
}

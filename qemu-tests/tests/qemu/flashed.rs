//! A card as `imager flash` leaves it: with settings of its own, and a partition table for its size.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::fixture::{TestSlot, Variant};
use qemu_tests::{Disk, Machine, Options, imager, wait_until};

const TO_BOOT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);
const CARD: u64 = 2 << 30;

#[test]
fn settings_of_one_device_take_effect_in_it() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let base = test_slot.build(&Variant {
        label: "flashed",
        workloads: "[network]\nssh = true\n",
        lock_file: Some("ssh.lock"),
        ..Variant::good(1)
    })?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("token"), "s3cret\n")?;
    std::fs::write(at("greeting"), "hello, face\n")?;
    for name in ["admitted", "stranger"] {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(at(name));
        ensure!(command.status().context("ssh-keygen")?.success(), "ssh-keygen");
    }
    File::create(at("card-qemu-arm64-1.img"))?.set_len(CARD)?;
    let flash = Command::new(imager()?)
        .current_dir(folder.path())
        .arg("flash")
        .arg(&base.img)
        .args(["card-qemu-arm64-1.img", "--hostname", "kitchen-1", "--timezone", "Europe/Berlin"])
        .args(["--token", "token", "--file", "greeting:face/greetings/first"])
        .args(["--ssh-key", "admitted.pub"])
        .output()?;
    ensure!(flash.status.success(), "{flash:?}");

    let disk = Disk::copy_of(&at("card-qemu-arm64-1.img"))?;
    let options = Options { ports: vec![22], ..Options::default() };
    let mut machine = Machine::start("flashed", &disk, &options)?;
    let port = machine.port(22)?;
    let console = &mut machine.console;
    console.wait_for("ferrite: settings: host name kitchen-1", TO_BOOT)?;
    console.wait_for("ferrite: debug image: root may log in by SSH with admitted", SOON)?;
    console.wait_for("ferrite: settings: time zone Europe/Berlin", SOON)?;
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    // What the server says as it starts shall not come between a command and its answer.
    wait_until("the SSH server", TO_BOOT, || {
        Ok(console.lines().iter().any(|line| line.text.contains("Not backgrounding")))
    })?;

    let mut line = |command: &str| -> Result<String> {
        let lines = console.shell(command)?;
        lines.first().cloned().with_context(|| format!("{command} says nothing"))
    };
    assert_eq!(line("busybox hostname")?.trim(), "kitchen-1");
    // What the workload sees as /data/greetings/first, and may read.
    let pid = "$(busybox pidof runner)";
    let greeting = line(&format!("busybox cat /proc/{pid}/root/data/greetings/first"))?;
    assert_eq!(greeting.trim(), "hello, face");
    let owner = line("busybox stat -c %a:%u /data/workloads/face/greetings/first")?;
    let user = line(&format!("busybox stat -c %u /proc/{pid}"))?;
    assert_eq!(owner.trim(), format!("600:{}", user.trim()));
    // No image of ours has a database of time zones: the rule goes to the workload.
    let zone = line(&format!("busybox tr '\\0' '\\n' < /proc/{pid}/environ | busybox grep ^TZ"))?;
    assert_eq!(zone.trim(), "TZ=CET-1CEST,M3.5.0,M10.5.0/3");
    // The token is as `ota` wants it: there, its own, and nobody else's.
    let token = line("busybox stat -c %a:%u /data/workloads/ota/token")?;
    let own = line("busybox stat -c 700:%u /data/workloads/ota")?;
    assert_eq!(token.trim().strip_prefix("600:"), own.trim().strip_prefix("700:"));

    // Root, with the key of the settings, and no other way.
    wait_until("an answer over SSH", TO_BOOT, || {
        Ok(ssh(folder.path(), port, "admitted", &["ctl", "status"])?.status.success())
    })?;
    let status = ssh(folder.path(), port, "admitted", &["busybox hostname && ctl status"])?;
    let text = String::from_utf8_lossy(&status.stdout);
    ensure!(text.contains("face") && text.contains("kitchen-1"), "{status:?}");
    let terminal = ssh(folder.path(), port, "admitted", &["-tt", "busybox tty; busybox id -u"])?;
    let text = String::from_utf8_lossy(&terminal.stdout);
    ensure!(text.contains("/dev/pts/0") && text.contains("\n0"), "{terminal:?}");
    let refused = ssh(folder.path(), port, "stranger", &["ctl", "status"])?;
    let text = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && text.contains("denied (publickey)"), "{refused:?}");

    // The file system comes to fill the card, whose table was right from the start.
    wait_until("/data of nearly the card's size", SOON, || {
        let blocks = machine.console.shell("busybox stat -f -c %b*%S /data")?;
        let size = blocks.iter().find_map(|line| line.split_once('*')).context("stat -f")?;
        Ok(size.0.trim().parse::<u64>()? * size.1.trim().parse::<u64>()? > CARD / 10 * 7)
    })?;
    let said = machine.console.shell("busybox dmesg | busybox grep -c 'Alternate GPT' || true")?;
    assert_eq!(said.first().map(|line| line.trim()), Some("0"), "{said:?}");
    machine.console.type_line("ctl poweroff")?;
    ensure!(machine.wait_off(SOON)?.success(), "QEMU did not end well");

    // A card that was at work is still read: its file system grew, and has a journal that was used.
    let shown = Command::new(imager()?).args(["settings", "--json"]).arg(disk.image()).output()?;
    ensure!(shown.status.success(), "{shown:?}");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout)?;
    assert_eq!(shown["hostname"], "kitchen-1", "{shown}");
    assert_eq!(shown["files"][0]["bytes"], 12, "{shown}");
    assert_eq!(
        (&shown["token"], &shown["not_unmounted"]),
        (&true.into(), &false.into()),
        "{shown}"
    );
    Ok(())
}

/// A command over SSH, with this key of `folder` and none of the user's own settings. The host's key is
/// believed at first sight and has to stay the same.
fn ssh(folder: &Path, port: u16, key: &str, arguments: &[&str]) -> Result<Output> {
    let known = format!("UserKnownHostsFile={}", folder.join("known_hosts").display());
    let mut child = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
        .args(["-o", "IdentityAgent=none", "-o", "ConnectTimeout=20"])
        .args(["-o", "StrictHostKeyChecking=accept-new", "-o", &known])
        .arg("-i")
        .arg(folder.join(key))
        .args(["-p", &port.to_string(), "-l", "root", "127.0.0.1"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ssh, of the package openssh-client")?;
    // A terminal whose input ends is hung up, with what runs on it.
    let _open = child.stdin.take();
    Ok(child.wait_with_output()?)
}

//! A card as `imager flash` leaves it: with settings of its own, and a partition table for its size.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use qemu_tests::fixture::Lane;
use qemu_tests::{imager, wait_until, Disk, Machine, Options};

const TO_BOOT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);
const CARD: u64 = 2 << 30;

#[test]
fn settings_of_one_device_take_effect_in_it() -> Result<()> {
    let lane = Lane::take()?;
    let base = lane.base()?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("token"), "s3cret\n")?;
    std::fs::write(at("greeting"), "hello, face\n")?;
    File::create(at("card-qemu-arm64-1.img"))?.set_len(CARD)?;
    let flash = Command::new(imager()?)
        .current_dir(folder.path())
        .arg("flash")
        .arg(&base.img)
        .args(["card-qemu-arm64-1.img", "--hostname", "kitchen-1", "--timezone", "Europe/Berlin"])
        .args(["--token", "token", "--file", "greeting:face/greetings/first"])
        .output()?;
    ensure!(flash.status.success(), "{flash:?}");

    let disk = Disk::copy_of(&at("card-qemu-arm64-1.img"))?;
    let mut machine = Machine::start("flashed", &disk, &Options::default())?;
    let console = &mut machine.console;
    console.wait_for("ferrite: settings: host name kitchen-1", TO_BOOT)?;
    console.wait_for("ferrite: settings: time zone Europe/Berlin", SOON)?;
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;

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
    let folder = line("busybox stat -c 700:%u /data/workloads/ota")?;
    assert_eq!(token.trim().strip_prefix("600:"), folder.trim().strip_prefix("700:"));

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

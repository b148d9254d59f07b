//! Updates that must not be taken, downloads that go wrong, and no room to keep anything.

use std::time::Duration;

use anyhow::{Context, Result};
use formats::manifest::HEADER_SIZE;
use formats::{Slot, layout};
use qemu_tests::fixture::{TestSlot, Variant};
use qemu_tests::{Board, Disk, Fault, Options, wait_until};

use crate::face::{PICTURE, post};
use crate::signed;

const TO_BOOT: Duration = Duration::from_secs(60);
const TO_INSTALL: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);

/// Everything that lies in a slot.
fn slot_bytes(disk: &Disk, slot: Slot) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for label in [slot.boot_label(), slot.root_label()] {
        let range = disk.partition(label)?;
        all.extend(disk.read(label, 0, (range.end - range.start) as usize)?);
    }
    Ok(all)
}

#[test]
fn what_may_not_be_installed_is_refused_before_the_idle_slot_is_touched() -> Result<()> {
    refuses(Board::QemuArm64, &[("boot = \"64M\"", "boot = \"72M\"")])
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_raspberry_pi_3_refuses_the_same() -> Result<()> {
    refuses(Board::Rpi3, &[("boot = \"96M\"", "boot = \"104M\"")])
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn the_same_is_refused_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(|board| refuses(board, &[("boot = \"64M\"", "boot = \"72M\"")]))
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn the_same_is_refused_on_a_pc() -> Result<()> {
    Board::Pc.run(|board| refuses(board, &[("boot = \"64M\"", "boot = \"72M\"")]))
}

/// `larger` makes the boot partition of a board file too large for a device that has the old one.
fn refuses(board: Board, larger: &'static [(&'static str, &'static str)]) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let build = |variant| test_slot.build(&board.variant(variant));
    let base = build(Variant { label: "fifth", ..Variant::good(5) })?;
    let disk = board.disk(&base)?;
    let other = format!("it is for board other-arm64, this is {}", board.name());
    // The idle slot is empty on a new device: something that a careless write would change.
    for label in [Slot::B.boot_label(), Slot::B.root_label()] {
        disk.write(label, 0, &[0xB5; 1 << 20])?;
    }
    let before = slot_bytes(&disk, Slot::B)?;
    let offers = [
        (
            Variant { label: "strange", strange_keys: true, ..Variant::good(6) },
            "the slot manifest is not signed by a trusted key",
        ),
        (
            Variant { label: "other-board", other_board: Some("other-arm64"), ..Variant::good(6) },
            &*other,
        ),
        (Variant { label: "older", ..Variant::good(4) }, "its sequence 4 is not above 5"),
        (Variant { label: "same", ..Variant::good(5) }, "its sequence 5 is not above 5"),
        (
            Variant { label: "large", board: larger, ..Variant::good(6) },
            "its boot image is larger than the boot partition",
        ),
    ];
    let name = format!("refuses-{}", board.name());
    let mut machine = board.start(&name, &disk, &base, Options::default())?;
    let console = &mut machine.console;
    console.wait_for("ferrite: all vital workloads healthy", board.patience(TO_BOOT))?;
    for (variant, reason) in offers {
        let label = variant.label;
        let url = repository.serve_file(&build(variant)?)?;
        console.type_line(&format!("ota install {url}"))?;
        let said = console.wait_for("ota: refused ", board.patience(SOON))?.text;
        assert!(said.contains(reason), "{label}: {said}");
    }
    // A whole repository by somebody else.
    let strange = Variant { label: "strange", strange_keys: true, ..Variant::good(6) };
    let url = repository.publish_strange(&build(strange)?)?;
    console.type_line(&format!("ota install {url}"))?;
    let tried = format!("ota: {}", url.trim_end_matches('/'));
    let said = console.wait_for(&tried, board.patience(SOON))?.text;
    assert!(said.contains("sign"), "{said}");

    assert!(slot_bytes(&disk, Slot::B)? == before, "the idle slot was touched");
    assert_eq!(disk.boot_state()?.context("boot state")?.trial, None);

    // What was refused is in nobody's way.
    let url = repository.serve_file(&build(Variant::good(6))?)?;
    console.type_line(&format!("ota install {url}"))?;
    console.wait_for("installed 6-good in slot b", board.patience(TO_INSTALL))?;
    wait_until("the trial is armed", board.patience(SOON), || {
        Ok(disk.boot_state()?.context("boot state")?.trial.is_some())
    })?;
    assert_eq!(disk.boot_state()?.context("boot state")?.trial, Some(Slot::B));
    Ok(())
}

#[test]
fn a_payload_that_goes_wrong_on_the_way_is_never_armed() -> Result<()> {
    goes_wrong_on_the_way(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_payload_that_goes_wrong_on_the_way_is_never_armed_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(goes_wrong_on_the_way)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_payload_that_goes_wrong_on_the_way_is_never_armed_on_a_pc() -> Result<()> {
    Board::Pc.run(goes_wrong_on_the_way)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_payload_that_goes_wrong_on_the_way_is_never_armed_on_a_raspberry_pi_3() -> Result<()> {
    goes_wrong_on_the_way(Board::Rpi3)
}

fn goes_wrong_on_the_way(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let build = |variant| test_slot.build(&board.variant(variant));
    let base = build(Variant { label: "base", ..Variant::good(1) })?;
    let disk = board.disk(&base)?;
    let good = build(Variant::good(2))?;
    let to_install = board.patience(TO_INSTALL);
    let server = &repository.server;
    let (head, first_chunk) = (HEADER_SIZE as u64, signed::chunks(&good)?.start);
    // In the signed text; in the chunk table; in every chunk, since which of them are fetched is for
    // the device to say; and all of them missing.
    let faults = [
        (Fault::Altered(2000), "its header is not the one that the repository signed"),
        (Fault::Altered(head + 10), "chunk table"),
        (Fault::AlteredFrom(first_chunk), "arrived altered"),
        (Fault::Truncated(first_chunk), "ota: "),
    ];
    server.spoil(".update", faults[0].0);
    repository.publish(&good)?;
    let name = format!("altered-{}", board.name());
    let mut machine = board.start(&name, &disk, &base, Options::default())?;
    let console = &mut machine.console;
    for (fault, reason) in faults {
        console.wait_for("ota: found 2-good (sequence 2)", to_install)?;
        server.heal();
        server.spoil(".update", fault);
        // What was under way when the fault changed may still fail in the old way.
        console.wait_for(reason, to_install)?;
        let state = disk.boot_state()?.context("boot state")?;
        assert_eq!((state.active, state.trial), (Slot::A, None), "{fault:?}");
    }
    assert!(!console.has("ota: trial armed"));
    let status = console.shell_json("ota status --json")?;
    assert!(status["last_error"].is_string(), "{status}");
    assert_eq!(status["failed"].as_array().map(Vec::len), Some(0), "it never had its trial");

    server.heal();
    console.wait_for("ota: committed 2-good in slot b", to_install)?;
    Ok(())
}

#[test]
fn a_full_data_partition_loses_nothing() -> Result<()> {
    full_data_partition(Board::QemuArm64)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_full_data_partition_loses_nothing_under_edk2() -> Result<()> {
    Board::QemuArm64Efi.run(full_data_partition)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_full_data_partition_loses_nothing_on_a_pc() -> Result<()> {
    Board::Pc.run(full_data_partition)
}

#[test]
#[ignore = "`just boot-all` runs it"]
fn a_full_data_partition_loses_nothing_on_a_raspberry_pi_3() -> Result<()> {
    full_data_partition(Board::Rpi3)
}

fn full_data_partition(board: Board) -> Result<()> {
    let test_slot = TestSlot::take()?;
    let repository = test_slot.repository()?;
    let build = |variant| test_slot.build(&board.variant(variant));
    let base = build(Variant { label: "base", ..Variant::good(1) })?;
    let disk = board.disk(&base)?;
    let [to_boot, to_install] = [TO_BOOT, TO_INSTALL].map(|time| board.patience(time));
    let options = Options { ports: vec![8080], ..Options::default() };
    let mut machine = board.start(&format!("full-{}", board.name()), &disk, &base, options)?;
    machine.console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    machine.console.wait_for("face: {", to_boot)?;
    let results = "busybox cat /data/workloads/face/results.jsonl";
    let kept = machine.console.shell(results)?;
    assert_eq!(kept.len(), 1, "{kept:?}");
    // A device that never had room for what it remembers of the repository does not ask at all.
    let asked = || repository.server.served_of("timestamp.json").requests;
    wait_until("a first poll", to_boot, || Ok(asked() > 0))?;
    // A workload takes all it can get, of files and of bytes: there is a reserve it does not reach.
    let as_face = "busybox start-stop-daemon -S -n none -a /usr/bin/busybox -c face --";
    let folder = "/data/workloads/face";
    let touch = |from, to| {
        format!("{as_face} sh -c \"cd {folder} && busybox touch \\$(busybox seq {from} {to})\"")
    };
    machine.console.shell(&touch(1, 4000))?;
    machine.console.shell(&format!("! {} 2> /dev/null", touch(4001, 9000)))?;
    let room = machine.console.shell(&format!("busybox df -i {folder}"))?;
    let free = room.last().and_then(|line| line.split_whitespace().nth(3)?.parse::<u32>().ok());
    assert!(free.is_some_and(|free| free >= 512), "{room:?}");
    // A larger card has room for more than can be waited for.
    if board != Board::Rpi3 {
        machine.console.shell(&format!("! {as_face} dd if=/dev/zero of={folder}/1 bs=64k"))?;
        let room = machine.console.shell("busybox df -k /data")?;
        let free = room.last().and_then(|line| line.split_whitespace().nth(3)?.parse::<u32>().ok());
        assert!(free.is_some_and(|free| free >= 512), "{room:?}");
    }
    // Root, which has no limit, takes the rest. All but 4 MiB of it without writing, which takes a
    // Raspberry Pi's card long.
    let most = "$(busybox stat -f -c '%a * %S - 4194304' /data)";
    machine
        .console
        .shell(&format!("[ $(({most})) -le 0 ] || busybox fallocate -l $(({most})) /data/fill0"))?;
    machine.console.shell("! busybox dd if=/dev/zero of=/data/fill1 bs=4k")?;
    machine.console.shell("! busybox dd if=/dev/zero of=/data/fill2 bs=1")?;

    // Inference goes on.
    let port = machine.port(8080)?;
    for _ in 0..3 {
        let (head, _) = post(port, "/infer", PICTURE)?;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }

    // An update is refused with the reason, and the idle slot stays as it was.
    let before = slot_bytes(&disk, Slot::B)?;
    board.publish(&repository, &base, &build(Variant::good(2))?)?;
    let said = machine.console.wait_for("ota: /data", to_boot)?;
    assert!(said.text.contains("full") || said.text.contains("space"), "{}", said.text);
    let already = asked();
    wait_until("another poll", to_boot, || Ok(asked() > already))?;
    assert!(slot_bytes(&disk, Slot::B)? == before, "the idle slot was touched");

    // It starts with a full partition too, and nothing of what was there is gone.
    machine.console.type_line("ctl reboot")?;
    machine.console.wait_for("ferrite: slot a (active", to_boot)?;
    // Unmounted in an orderly way: what each user has is accounted for rightly.
    machine.pause()?;
    check_file_system(&disk)?;
    machine.resume()?;
    machine.console.wait_for("ferrite: all vital workloads healthy", to_boot)?;
    machine.console.wait_for("face: {", to_boot)?;
    assert_eq!(machine.console.shell(results)?.first(), kept.first());

    // The workload still has all it could get. That keeps no update away.
    machine.console.shell("busybox rm -f /data/fill0 /data/fill1 /data/fill2")?;
    machine.console.wait_for("ota: committed 2-good in slot b", to_install)?;
    assert_eq!(machine.console.shell(results)?.first(), kept.first());
    Ok(())
}

/// e2fsck finds nothing to repair in the data partition, and counts what each user has as it is
/// written there.
fn check_file_system(disk: &Disk) -> Result<()> {
    let at = disk.partition(layout::DATA)?.start;
    let output = std::process::Command::new("e2fsck")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .arg("-fn")
        .arg(format!("{}?offset={at}", disk.path().display()))
        .output()
        .context("e2fsck of package e2fsprogs")?;
    anyhow::ensure!(output.status.success(), "{output:?}");
    Ok(())
}

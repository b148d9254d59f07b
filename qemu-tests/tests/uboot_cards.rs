//! The image of every board whose U-Boot is not in QEMU, looked at as that U-Boot looks at a card.
//! What each rule is and where it comes from stands in `uboot_card`.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use qemu_tests::fixture::{Lane, Variant};
use qemu_tests::{uboot_card, Disk};

/// Boards, and what the root of their device tree is compatible with.
const BOARDS: [(&str, &str); 1] = [("jetson-nano", "nvidia,p3450-0000")];

#[test]
fn the_boards_u_boot_starts_slot_a_of_its_image() -> Result<()> {
    let lane = Lane::take()?;
    for (board, compatible) in BOARDS {
        let built =
            lane.build(&Variant { label: board, board_file: Some(board), ..Variant::good(1) })?;
        let disk = Disk::copy_of(&built.img)?;
        let started = uboot_card::check(&disk).with_context(|| board.to_owned())?;
        ensure!(started.compatible[0] == compatible, "{board}: {:?}", started.compatible);
        let arguments = &started.arguments;
        ensure!(arguments.contains("console=tty") && arguments.contains("panic="), "{arguments}");
        ensure!(arguments.ends_with("ferrite.slot=${slot} ${chooser_args}"), "{arguments}");
        // A script that decayed is no script, and a kernel that did is found out.
        for (label, text) in
            [("firmware", &b"setenv count_up"[..]), ("boot-a", b"setenv load_file")]
        {
            let disk = Disk::copy_of(&built.img)?;
            let range = disk.partition(label)?;
            let whole = disk.read(label, 0, (range.end - range.start) as usize)?;
            let at = whole.windows(text.len()).position(|window| window == text);
            disk.flip_bit(label, at.context("no script")? as u64, 0)?;
            ensure!(uboot_card::check(&disk).is_err(), "{board}: a script in {label} decayed");
        }
    }
    Ok(())
}

/// A board file that says its card is checked has to be in one of these lists: here, or in that of
/// the Raspberry Pis (`videocore::Model`).
#[test]
fn no_board_file_is_forgotten() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../board-configs");
    let mut checked = BOARDS.map(|(board, _)| board).to_vec();
    checked.extend(qemu_tests::videocore::Model::ALL.map(|model| model.board_file()));
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a name")?;
        let says = text.lines().any(|line| line == "proof = \"checked\"");
        ensure!(!says || checked.contains(&name), "{name}: nothing checks its card");
    }
    Ok(())
}

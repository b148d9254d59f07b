//! Other disks with Ferrite on them in the same machine: an old card, the medium one flashes from, a
//! copy made byte by byte. They cost nothing, whichever of them the kernel finds first.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::{Board, Console, Disk, Options, imager};

use formats::boot_state::BootState;

use crate::fat;

/// A twin of the device's disk made byte by byte, and another medium that `imager flash` made of the
/// same image. Nothing boots from them.
pub struct Neighbours {
    twin: Disk,
    flashed: Disk,
    sums: [String; 2],
    own: &'static str,
}

impl Neighbours {
    /// Those of a device with this disk, which was not started yet.
    pub fn of(board: Board, disk: &Disk) -> Result<Neighbours> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("flashed.img");
        let flash = Command::new(imager()?).arg("flash").arg(disk.image()).arg(&path).output()?;
        ensure!(flash.status.success(), "{flash:?}");
        let (twin, flashed) = (disk.snapshot()?, Disk::copy_of(&path)?);
        let (loader, own) = match board {
            // Debian's U-Boot looks at the first disk of a bus only.
            Board::QemuArm64 => ("::boot.scr", "/dev/vda"),
            Board::Pc => ("::EFI/BOOT/BOOTX64.EFI", "/dev/vdb"),
            _ => ("::EFI/BOOT/BOOTAA64.EFI", "/dev/vdb"),
        };
        for neighbour in [&twin, &flashed] {
            fat::mtool(neighbour, "firmware", "mdel", &[loader])?;
        }
        // As if it had just been started, more often than the device's own: its GUIDs alone tell it.
        let counted = BootState { generation: 50, strikes: 1, ..BootState::fresh() };
        flashed.set_boot_state(&counted)?;
        let sums = [sum(&twin)?, sum(&flashed)?];
        Ok(Neighbours { twin, flashed, sums, own })
    }

    /// The machine's options with them in it: the twin before the device's own disk where its firmware
    /// still finds that one, the other one behind it.
    pub fn beside(&self, options: Options) -> Options {
        let [twin, flashed] = [&self.twin, &self.flashed].map(|disk| disk.path().to_owned());
        match self.own {
            "/dev/vda" => Options { behind: vec![twin, flashed], ..options },
            _ => Options { before: vec![twin], behind: vec![flashed], ..options },
        }
    }

    /// That the device, which runs now, said what it found and runs from its own disk, and that not a
    /// byte of the others was changed.
    pub fn assert_left_alone(&self, console: &mut Console) -> Result<()> {
        let said = console.lines();
        let said = said.iter().filter(|line| line.text.contains("has Ferrite on it too")).count();
        ensure!(said >= 2, "the neighbours were said {said} times");
        ensure!(!console.has("nobody says which disk this is"), "it was not named");
        let disk = console.shell("busybox grep ^disk /run/ferrite/slot")?;
        let disk = disk.first().context("no disk in /run/ferrite/slot")?;
        assert_eq!(disk.trim(), format!("disk {}", self.own));
        assert_eq!([sum(&self.twin)?, sum(&self.flashed)?], self.sums, "a neighbour was changed");
        Ok(())
    }
}

fn sum(disk: &Disk) -> Result<String> {
    let output = Command::new("sha256sum").arg(disk.path()).output().context("sha256sum")?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).chars().take(64).collect())
}

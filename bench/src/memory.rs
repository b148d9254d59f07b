//! What `init` takes as PID 1 of a device with ten workloads.

use std::fmt::Write;

use anyhow::Result;
use qemu_tests::{Disk, Machine, Options};

use crate::arguments::Arguments;
use crate::guest::{TO_BOOT, number_in};
use crate::table::{Bar, Table, Unit};
use crate::workspace::{Variant, Workspace};

const WORKLOADS: usize = 10;

/// Boots the image with ten sleepers and asks the kernel what PID 1 has in memory. One boot:
/// nothing here depends on time.
pub fn measure(workspace: &Workspace, _: &Arguments, table: &mut Table) -> Result<()> {
    let mut workloads = String::new();
    for number in 0..WORKLOADS {
        writeln!(
            workloads,
            "[[workload]]\nname = \"sleeper-{number}\"\n\
             command = [\"/usr/bin/busybox\", \"sleep\", \"100000\"]"
        )?;
    }
    let sleepers = Variant { name: "sleepers", workloads: Some(&workloads), ..Variant::DEMO };
    let built = workspace.build(&sleepers)?;
    let disk = Disk::copy_of(&built.img)?;
    let options = Options { logs: Some(workspace.path("")), ..Options::default() };
    let mut machine = Machine::start("memory", &disk, &options)?;
    machine.console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    let lines = machine.console.shell("busybox grep -E 'VmRSS|VmHWM|RssAnon' /proc/1/status")?;
    let text = lines.join("\n");
    let megabytes = |key: &str| number_in(&text, key).map(|kib| kib * 1024.0 / 1e6);
    let note = format!(
        "VmRSS with {WORKLOADS} workloads; {:.2} MB of it are its own pages, the rest its binary",
        megabytes("RssAnon:")?
    );
    table.add("init as PID 1", Unit::Megabytes, Bar::AtMost(2.0), megabytes("VmRSS:")?, &note);
    Ok(())
}

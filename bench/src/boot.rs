//! From the kernel to the first result, beside the floor and systemd.

use anyhow::{Context, Result, anyhow};
use formats::control::Status;
use qemu_tests::{Disk, Machine, Options};

use crate::arguments::Arguments;
use crate::guest::{Boot, number, result};
use crate::peers::Peers;
use crate::statistics::median;
use crate::table::{Bar, Table, Unit};
use crate::workspace::{Built, Variant, Workspace};

/// Boots ours and both peers in turn, so that what disturbs the host disturbs all of them.
pub fn measure(workspace: &Workspace, arguments: &Arguments, table: &mut Table) -> Result<()> {
    let demo = workspace.build(&Variant::DEMO)?;
    let peers = Peers::make(workspace, &demo)?;
    let (mut ours, mut floor, mut systemd) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=arguments.runs {
        eprintln!("bench: boot {run} of {}", arguments.runs);
        ours.push(boot(workspace, &demo)?);
        floor.push(peers.boot_floor(workspace)?);
        systemd.push(peers.boot_systemd(workspace)?);
    }
    let mut add = |what: &str, bar, boots: &[Boot], time: fn(&Boot) -> f64, note: &str| {
        let times: Vec<f64> = boots.iter().map(time).collect();
        table.add(what, Unit::Milliseconds, bar, median(&times), note);
        median(&times)
    };
    add("kernel", Bar::None, &ours, |b| b.first, "guest time until /init starts");
    let to_root: fn(&Boot) -> f64 = |b| b.second - b.first;
    add(
        "/init to PID 1 of the root",
        Bar::AtMost(400.0),
        &ours,
        to_root,
        "modules, signature, verity",
    );
    let to_exec: fn(&Boot) -> f64 = |b| b.exec - b.second;
    add("PID 1 to the first exec", Bar::AtMost(100.0), &ours, to_exec, "");
    let to_result: fn(&Boot) -> f64 = |b| b.result - b.first;
    let our_result = add("/init to the first result", Bar::AtMost(1500.0), &ours, to_result, "");

    add("sh script: kernel", Bar::None, &floor, |b| b.first, "");
    add("sh script: /init to the runner's exec", Bar::None, &floor, |b| b.exec - b.first, "");
    let least =
        add("sh script: /init to the first result", Bar::None, &floor, to_result, "the floor");
    add("systemd: kernel", Bar::None, &systemd, |b| b.first, "");
    add("systemd: /init to PID 1 of the root", Bar::None, &systemd, to_root, "no verity");
    add("systemd: PID 1 to the runner's exec", Bar::None, &systemd, to_exec, "");
    let most = add("systemd: /init to the first result", Bar::None, &systemd, to_result, "");
    let ratio = |table: &mut Table, what: &str, peer: f64| {
        table.add(what, Unit::Ratio, Bar::None, our_result / peer, "/init to the first result");
    };
    ratio(table, "ours / sh script", least);
    ratio(table, "ours / systemd", most);
    Ok(())
}

fn boot(workspace: &Workspace, demo: &Built) -> Result<Boot> {
    let disk = Disk::copy_of(&demo.img)?;
    let options = Options { logs: Some(workspace.path("")), ..Options::default() };
    let mut machine = Machine::start("boot", &disk, &options)?;
    let console = &mut machine.console;
    let first = number(console, "ferrite: initrd: pid 1 after ")?;
    let second = number(console, "ferrite: rootfs: pid 1 after ")?;
    let result = result(console)?;
    let status = console.shell_json("ctl status --json")?.to_string();
    let status = Status::from_json(status.as_bytes()).map_err(|e| anyhow!(e))?;
    let starts = status.workloads.iter().filter_map(|workload| workload.started_ms);
    let exec = starts.min().context("no workload was started")? as f64;
    Ok(Boot { first, second, exec, result })
}

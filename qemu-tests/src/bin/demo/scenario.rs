//! The steps, in order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use formats::Slot;
use qemu_tests::workspace::Sources;
use qemu_tests::{Disk, Machine, Options, Server};
use serde_json::Value;

use crate::figures::{Figures, compressed, length, seconds, size};
use crate::guest::{Boot, Face, Guest, without_prompt};
use crate::interactive;
use crate::narrator::Narrator;
use crate::workspace::{Built, Workspace};

/// The port on which the device takes pictures.
const PICTURES: u16 = 8080;
/// Looks at the repository after falling back that show that the device stays where it is.
const LOOKS: usize = 3;
/// The device looks every few seconds.
const TO_LOOK: Duration = Duration::from_secs(180);
/// zstd level for the compressed size of the image: higher ones take the better part of a minute.
const LEVEL: u32 = 9;
const SIZES: &str = "Sizes";
const TIMES: &str = "Times (emulated processor, wall clock unless they say guest)";
const MEMORY: &str = "Memory, peak resident, on the device";

/// Walks all of it. Fails at the first step that is not seen to happen.
pub fn walk(narrator: &mut Narrator) -> Result<()> {
    let workspace = Workspace::open()?;
    narrator.say(&format!("Everything this makes lies in {}.", workspace.shown(&workspace.folder)));
    if workspace.port_moved() {
        narrator.say(&format!(
            "Port 8080, which demo/demo.toml names for updates, is in use on this machine: the images are built for port {}.",
            workspace.port
        ));
    }
    let mut figures = Figures::default();

    narrator.step("Make the keys");
    narrator.say("One key signs what devices run, four sign the repository they update from.");
    workspace.keygen(narrator)?;

    narrator.step("Build the image");
    narrator.say("Debian's kernel and C library, the TensorFlow Lite engine, a face detector, a photograph: one signed disk image, without root rights or a container.");
    let start = Instant::now();
    let first = workspace.build_first(narrator)?;
    let built_in = start.elapsed();
    describe_sizes(narrator, &workspace, &first, &mut figures)?;
    figures.add(TIMES, "build the image", seconds(built_in));

    narrator.step("Publish it, and serve the repository");
    workspace.publish(narrator, &first)?;
    let server = Server::start_on(&workspace.repository(), workspace.port)?;
    narrator
        .say(&format!("Any HTTP server can serve the folder; here it is one at {}.", server.url()));

    narrator.step("Boot it in QEMU");
    let disk = Disk::copy_to(&first.img, &workspace.folder.join("disk.img"))?;
    let options = Options {
        ports: vec![PICTURES],
        logs: Some(workspace.folder.clone()),
        ..Options::default()
    };
    let machine = Machine::start("serial", &disk, &options)?;
    let mut guest = Guest::new(machine);
    narrator.say(&format!("The serial log is {}.", workspace.shown(guest.machine.console.log())));
    let boot = narrator.during("the device boots", String::new, || {
        guest.boot("slot a of demo 1.0.0 (sequence 1)")
    })?;
    narrator.say("The loader chose slot a. The first program verified the signature of its root, opened it under dm-verity and started the workloads from it.");
    boot_figures(&boot, &mut figures);

    narrator.step("Look at what the model found");
    tell_face(narrator, &boot.face);
    guest.watch_update_client()?;

    narrator.step("Publish 1.0.1 and let the device update itself");
    good_update(narrator, &workspace, &server, &disk, &mut guest, &mut figures)?;

    narrator.step("Publish 1.0.2, which is broken, and see the device fall back");
    bad_update(narrator, &workspace, &server, &disk, &mut guest, &mut figures)?;

    narrator.step("What it takes");
    let (init, runner) = guest.peak_memory()?;
    figures.add(MEMORY, "init (PID 1)", size(init * 1024));
    figures.add(MEMORY, "runner with the model", size(runner * 1024));
    let ota = guest.update_client_peak().context("the shell told no memory of ota")?;
    figures.add(MEMORY, "ota, having installed", size(ota * 1024));
    narrator.say(&figures.table());
    narrator.say("Every step was seen to happen on the device.");

    if interactive::is_wanted() {
        narrator.step("Look around");
        narrator.say(&format!("The device still runs, and this terminal is its console: type `ctl status`, `ctl logs face`, `ota status`. Send it a picture of your own from another terminal:\n  curl --data-binary @photo.jpg http://127.0.0.1:{}/infer\nEnd with `leave` or Ctrl-D.", guest.machine.port(PICTURES)?));
        interactive::receive(&mut guest)?;
    }
    narrator.say("Now with your model:\n  target/release/imager new my-product\nmakes a project that builds, boots and answers at once (docs/project.md).");
    Ok(())
}

fn describe_sizes(
    narrator: &Narrator,
    workspace: &Workspace,
    built: &Built,
    figures: &mut Figures,
) -> Result<()> {
    let report = workspace.inspect(narrator, &built.update)?;
    let root = report["slot"]["manifest"]["root_bytes"].as_u64();
    let packed = narrator.during("zstd compresses the image, for its size", String::new, || {
        compressed(&built.img, LEVEL)
    })?;
    figures.add(SIZES, "image (.img)", size(length(&built.img)?));
    figures.add(SIZES, format!("image, zstd -{LEVEL}"), size(packed));
    figures.add(SIZES, "update (.update)", size(length(&built.update)?));
    figures.add(SIZES, "root file system", size(root.context("inspect told no size of the root")?));
    for program in ["init", "ota", "runner"] {
        figures.add(SIZES, program, size(length(&workspace.device.join(program))?));
    }
    narrator.say(&format!(
        "{} and {}, {} to send.",
        workspace.shown(&built.img),
        workspace.shown(&built.update),
        size(length(&built.update)?)
    ));
    Ok(())
}

fn boot_figures(boot: &Boot, figures: &mut Figures) {
    let guest = |ms: u64| format!("{ms} ms");
    figures.add(TIMES, "power-on to kernel", seconds(boot.kernel_at));
    figures.add(TIMES, "kernel to /init, guest", guest(boot.initrd));
    let second = boot.rootfs.saturating_sub(boot.initrd);
    figures.add(TIMES, "/init to PID 1 of the root, guest", guest(second));
    let result = boot.first_result.saturating_sub(boot.initrd);
    figures.add(TIMES, "/init to first result, guest", guest(result));
    figures.add(TIMES, "power-on to healthy", seconds(boot.healthy_at));
}

fn tell_face(narrator: &Narrator, face: &Face) {
    let [x, y, width, height] = face.bounds;
    narrator.say(&format!(
        "In the photograph of the astronaut (512 x 512) it found one face: score {:.2}, a box {width:.0} pixels wide and {height:.0} high, its corner {x:.0} from the left and {y:.0} from the top.",
        face.score
    ));
}

fn good_update(
    narrator: &Narrator,
    workspace: &Workspace,
    server: &Server,
    disk: &Disk,
    guest: &mut Guest,
    figures: &mut Figures,
) -> Result<()> {
    let start = Instant::now();
    let built = workspace.build_variant(narrator, "1.0.1", 2, |_| Ok(()))?;
    figures.add(TIMES, "build 1.0.1", seconds(start.elapsed()));
    workspace.publish(narrator, &built)?;
    let (taken, reboot_at) =
        install(narrator, server, guest, &built, "1.0.1 (sequence 2)", Slot::B)?;
    figures.add(TIMES, "download and install 1.0.1", seconds(taken));

    let boot = narrator.during("the device boots 1.0.1 on trial", String::new, || {
        guest.boot("slot b of demo 1.0.1 (sequence 2)")
    })?;
    narrator.say("Slot b runs 1.0.1, on trial:");
    tell_face(narrator, &boot.face);
    figures.add(TIMES, "trial boot: reboot to healthy", seconds(boot.healthy_at - reboot_at));
    let committed = narrator.during("the device watches its health", String::new, || {
        guest.pass("ota: committed 1.0.1 in slot b")
    })?;
    figures.add(TIMES, "trial boot: reboot to committed", seconds(committed.at - reboot_at));
    let state = disk.boot_state()?.context("no copy of the boot state on the disk is whole")?;
    ensure!(
        state.active == Slot::B && state.trial.is_none() && state.fallback == Some(Slot::A),
        "committed, but the disk's boot state says {state:?}"
    );
    narrator.say("All was healthy long enough: 1.0.1 is committed, and 1.0.0 in slot a is what it would fall back to.");
    Ok(())
}

/// Sees the device find, install and arm a version, and reboot: the time from finding to having
/// installed, and when it rebooted.
fn install(
    narrator: &Narrator,
    server: &Server,
    guest: &mut Guest,
    built: &Built,
    version: &str,
    slot: Slot,
) -> Result<(Duration, Duration)> {
    let found = narrator.during("the device looks every five seconds", String::new, || {
        guest.pass(&format!("ota: found {version}"))
    })?;
    let name = built.update.file_name().context("an update without a name")?.to_string_lossy();
    let total = length(&built.update)?;
    narrator.say(&format!("The device found {version} and writes it to slot {slot}."));
    let progress = || format!(": {} of {} sent", size(server.served_of(&name).bytes), size(total));
    let number = version.split(' ').next().unwrap_or(version);
    let installed = narrator.during("download and install", progress, || {
        match guest
            .wait_for_any(&[&format!("ota: installed {number} in slot {slot}"), "ota: refused"])?
        {
            (0, line) => Ok(line),
            (_, line) => bail!("the device refused it: {}", line.text),
        }
    })?;
    guest.pass("ota: trial armed")?;
    let reboot = guest.pass("ferrite: shutdown: reboot")?;
    narrator.say("Installed, read back from the disk, armed. The device reboots by itself.");
    Ok((installed.at - found.at, reboot.at))
}

fn bad_update(
    narrator: &Narrator,
    workspace: &Workspace,
    server: &Server,
    disk: &Disk,
    guest: &mut Guest,
    figures: &mut Figures,
) -> Result<()> {
    narrator.say("Its golden sample, the answer the model has to give before it counts as ready, is another one: as if the wrong model had slipped in. imager runs the samples too before it signs; --skip-golden leaves that out.");
    let built = workspace.build_variant(narrator, "1.0.2", 3, break_golden_sample)?;
    workspace.publish(narrator, &built)?;
    let (_, reboot_at) = install(narrator, server, guest, &built, "1.0.2 (sequence 3)", Slot::A)?;
    narrator.during("the device tries 1.0.2", String::new, || {
        guest.pass("ferrite: initrd: slot a of demo 1.0.2 (sequence 3) verified")
    })?;
    narrator.say("Slot a runs 1.0.2, on trial: its signature is good.");
    let mismatch = narrator
        .during("the model is tried", String::new, || guest.pass("face: golden sample mismatch"));
    narrator.say(&format!("But its model is not: {}", without_prompt(&mismatch?.text)));
    let reset = narrator.during("the device waits whether it recovers", String::new, || {
        let (which, line) = guest.wait_for_any(&["; resetting", "ota: committed"])?;
        ensure!(which == 0, "the device kept a broken version: {}", line.text);
        Ok(line)
    })?;
    narrator.say(&format!("The device gave up on it: {}", without_prompt(&reset.text)));
    let back = narrator.during("the device falls back", String::new, || {
        guest.boot("slot b of demo 1.0.1 (sequence 2)")
    })?;
    let fell = guest.pass("ota: fell back from 1.0.2")?;
    figures.add(
        TIMES,
        "broken 1.0.2: reboot to healthy 1.0.1",
        seconds(back.healthy_at - reboot_at),
    );
    narrator.say(&format!("It runs 1.0.1 again: {}", without_prompt(&fell.text)));
    tell_face(narrator, &back.face);
    guest.watch_update_client()?;
    stays(narrator, server, disk, guest)
}

/// The device has looked at the repository a few times more and left 1.0.2 alone.
fn stays(narrator: &Narrator, server: &Server, disk: &Disk, guest: &mut Guest) -> Result<()> {
    let looks = || server.served_of("timestamp.json").requests;
    let before = looks();
    narrator.during("the device goes on looking", String::new, || {
        let start = Instant::now();
        while looks() < before + LOOKS {
            ensure!(start.elapsed() < TO_LOOK, "the device no longer looks at the repository");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })?;
    for text in ["ota: found", "ota: trial armed", "shutdown: reboot", "resetting"] {
        ensure!(!guest.has_said(text), "the device did not stay with 1.0.1: it said {text:?}");
    }
    let state = disk.boot_state()?.context("no copy of the boot state on the disk is whole")?;
    ensure!(
        state.active == Slot::B && state.trial.is_none(),
        "fell back, but the disk's boot state says {state:?}"
    );
    narrator.say(&format!("It looked at the repository {LOOKS} times more, still saw 1.0.2 there, and stays with 1.0.1."));
    Ok(())
}

/// Moves the expected face in the golden sample of the image in this folder.
fn break_golden_sample(sources: &mut Sources) -> Result<()> {
    let mut golden: Value =
        serde_json::from_str(&sources.golden).context("golden.json is no JSON")?;
    let x = golden
        .pointer_mut("/expected/detections/0/box/x")
        .context("golden.json expects no face")?;
    *x = Value::from(x.as_f64().unwrap_or_default() + 40.0);
    sources.golden = format!("{golden:#}\n");
    Ok(())
}

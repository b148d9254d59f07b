//! What one party can do to all: pictures that are larger than they look, a workload that wants
//! another's port, one that floods its log, one that dies again and again. The device stays on its
//! version, is not reset, and answers.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::write::ZlibEncoder;
use formats::boot_state::crc32;
use qemu_tests::fixture::{TestSlot, Variant};
use qemu_tests::{Board, Console, Options, wait_until};
use serde_json::Value;

use crate::face::{PICTURE, assert_one_face, post};

const TO_BOOT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(60);
const BOARD: Board = Board::QemuArm64;

/// Beside the demo's model: one that takes its port whenever it is free and whose health command
/// leaves children behind, and a vital one that says as much as it can, a forged line first.
const GREEDY: &str = r#"
    [[workload]]
    name = "squatter"
    vital = false
    command = ["/usr/bin/busybox", "sh", "-c", "while :; do busybox nc -l -p 8080 >/dev/null; busybox sleep 0.05; done"]
    health = { command = ["/usr/bin/busybox", "sh", "-c", "busybox sleep 3456 & busybox sleep 3456"], interval = "1s", timeout = "1s", retries = 1000 }

    [[workload]]
    name = "flooder"
    vital = true
    ready = "notify"
    heartbeat = "10s"
    console = true
    command = ["/usr/bin/busybox", "sh", "-c", "printf 'x\\rferrite: forged\\033[2K\\n'; while echo; do busybox sleep 2; done >&3 & exec busybox yes"]
"#;

/// A grey PNG of 16384 × 6143: 98 KB, of which the decoded, three-coloured picture has 302 MB.
pub fn bomb() -> Result<Vec<u8>> {
    let (width, height) = (16384u32, 6143u32);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [&kind[..], data].concat();
        png.extend_from_slice(&(data.len() as u32).to_be_bytes());
        png.extend_from_slice(&body);
        png.extend_from_slice(&crc32(&body).to_be_bytes());
    };
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[&size[..], &[8, 0, 0, 0, 0]].concat());
    let mut rows = ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..height {
        rows.write_all(&vec![0; 1 + width as usize])?;
    }
    chunk(b"IDAT", &rows.finish()?);
    chunk(b"IEND", &[]);
    Ok(png)
}

fn workload<'a>(status: &'a Value, name: &str) -> Result<&'a Value> {
    let all = status["workloads"].as_array().context("workloads")?;
    all.iter().find(|w| w["name"] == name).with_context(|| format!("no {name} in {status}"))
}

/// Hundredths of a second that PID 1 has spent on the processor (proc(5), `utime` and `stime`).
fn ticks_of_pid_1(console: &mut Console) -> Result<u64> {
    let lines = console.shell("busybox cut -d' ' -f14,15 /proc/1/stat")?;
    // The flood is in between.
    let numbers = |line: &String| -> Option<u64> {
        let numbers: Option<Vec<u64>> = line.split_whitespace().map(|n| n.parse().ok()).collect();
        numbers.filter(|numbers| numbers.len() == 2).map(|numbers| numbers.iter().sum())
    };
    lines.iter().find_map(numbers).with_context(|| format!("PID 1's times in {lines:?}"))
}

#[test]
fn no_workload_and_no_client_takes_the_device_down() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let variant = Variant { label: "greedy", workloads: GREEDY, ..Variant::good(1) };
    let built = test_slot.build(&BOARD.variant(variant))?;
    let disk = BOARD.disk(&built)?;
    let options = Options { ports: vec![8080], ..Options::default() };
    let mut machine = BOARD.start("greedy", &disk, &built, options)?;
    let port = machine.port(8080)?;
    let console = &mut machine.console;
    // A forged line is quoted, and the flood of the console is counted instead of shown.
    console.wait_for(r"flooder: x\x0dferrite: forged\x1b[2K", TO_BOOT)?;
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    wait_until("lines that are not shown", SOON, || {
        Ok(console.has(" lines not shown here; the newest are in `ctl logs flooder`"))
    })?;
    let before = ticks_of_pid_1(console)?;
    console.shell("busybox sleep 10")?;
    let spent = ticks_of_pid_1(console)? - before;
    println!("PID 1 spent {spent} of 1000 hundredths of a second on a flood");
    // Most of what is left is the emulated serial line, character by character.
    ensure!(spent < 400, "PID 1 spent {spent} of 1000 hundredths of a second on a flood");

    // The very picture, as often as it took a device down.
    let bomb = bomb()?;
    ensure!(bomb.len() < 100 << 10, "{} bytes", bomb.len());
    for _ in 0..29 {
        let (head, body) = post(port, "/infer", &bomb)?;
        ensure!(head.starts_with("HTTP/1.1 413"), "{head}\n{body}");
    }
    let (head, body) = post(port, "/infer", PICTURE)?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_one_face(&body)?;

    // A vital workload that dies more often than its budget allows is not given up, and its port is
    // its own whenever it comes back.
    let console = &mut machine.console;
    wait_until("the model has failed", Duration::from_secs(180), || {
        let status = console.shell_json("ctl status --json")?;
        if let Some(pid) = workload(&status, "face")?["pid"].as_u64() {
            // It may have ended by itself.
            console.shell(&format!("kill -9 {pid} || true"))?;
        }
        Ok(console.has("ferrite: workload face: failed (killed by signal 9)"))
    })?;
    let said = "ferrite: vital workload face failed (killed by signal 9); kept trying";
    wait_until("what follows", SOON, || Ok(console.has(said)))?;
    console.shell("ctl restart face")?;
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    let (head, body) = post(port, "/infer", PICTURE)?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_one_face(&body)?;

    // Nothing but the check that runs now: earlier ones took their children with them.
    let count = "busybox ps | busybox grep -c '[s]leep 3456' || true";
    let left = machine.console.shell(count)?;
    let left: u32 = left.iter().find_map(|line| line.trim().parse().ok()).context("a count")?;
    ensure!(left <= 3, "{left} processes of health checks");
    let status = machine.console.shell_json("ctl status --json")?;
    let flooder = workload(&status, "flooder")?;
    ensure!(flooder["state"] == "ready" && flooder["restarts"] == 0, "{flooder}");

    // All of it in one boot, of one version, with nothing held against it.
    let boots = machine.console.lines();
    let boots = boots.iter().filter(|line| line.text.contains("ferrite: rootfs: pid 1")).count();
    assert_eq!(boots, 1, "it was reset");
    let state = disk.boot_state()?.context("boot state")?;
    assert_eq!((state.active, state.strikes), (formats::Slot::A, 0));
    machine.power_cut()
}

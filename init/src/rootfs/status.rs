//! What `ctl status` and `ctl health` show, as text, JSON and conf form.

use formats::control::status::{Status, WorkloadStatus, detail};
use formats::control::{Health, Vital};
use formats::data_state::{DataState, Kind};

use crate::workload::supervise::{Supervisor, Unit};
use crate::workload::vital_health::Verdict;

/// How each workload stands.
pub fn workloads(supervisor: &Supervisor, now: u64) -> Vec<WorkloadStatus<&str>> {
    supervisor.units.iter().map(|unit| workload(unit, now)).collect()
}

fn workload(unit: &Unit, now: u64) -> WorkloadStatus<&str> {
    let (memory, memory_peak) = unit.memory();
    WorkloadStatus {
        name: &unit.conf.name,
        state: unit.state.word(),
        reason: &unit.reason,
        last_line: &unit.last_line,
        vital: unit.conf.vital,
        pid: unit.pid().map(|pid| pid.as_raw_nonzero().get() as u64),
        started_ms: unit.started,
        since_ms: now.saturating_sub(unit.changed),
        restarts: unit.restarts.into(),
        crashes_in_a_row: unit.crashes().into(),
        memory,
        memory_peak,
        log_bytes: unit.ring.end(),
    }
}

/// A table for people.
pub fn text(status: &Status<&str>) -> String {
    let mut out = String::new();
    for (key, value) in status.running.lines() {
        push(&mut out, &[key, " ", &value, "\n"]);
    }
    push(&mut out, &["address ", status.address.unwrap_or("none"), "\n"]);
    if let Some(wifi) = &status.wifi {
        push(&mut out, &["wifi ", wifi.network, ": ", wifi.state, "\n"]);
    }
    let DataState { kind, reason } = &status.data;
    if *kind == Kind::Volatile {
        push(&mut out, &["data in memory, lost at the next start: ", reason, "\n"]);
    } else if *kind != Kind::Kept {
        push(&mut out, &["data ", kind.word(), ": ", reason, "\n"]);
    }
    for work in &status.stuck {
        push(&mut out, &["stuck in the kernel: ", work, "\n"]);
    }
    push(&mut out, &["up ", &seconds(status.up_ms), " s\n\n"]);
    let width = status.workloads.iter().map(|unit| unit.name.len()).max().unwrap_or(0).max(8);
    row(&mut out, width, ["WORKLOAD", "PID", "SINCE", "RESTARTS", "MEMORY", "STATE"]);
    for unit in &status.workloads {
        let pid = unit.pid.map_or("-".to_string(), |pid| pid.to_string());
        let memory = unit.memory.map_or("-".to_string(), |bytes| kib(bytes) + " KiB");
        let since = seconds(unit.since_ms) + " s";
        let restarts = unit.restarts.to_string();
        let state = detail(unit.state, unit.reason, unit.last_line);
        row(&mut out, width, [unit.name, &pid, &since, &restarts, &memory, &state]);
    }
    out
}

/// The body of the answer to `health`. `healthy_for`: for how long all of them have been healthy, in
/// milliseconds.
pub fn health(verdict: &Verdict, healthy_for: u64) -> String {
    let vital = match verdict {
        Verdict::Healthy => Vital::Healthy,
        Verdict::Recovering(_) | Verdict::Blocked(_) => Vital::Starting,
        Verdict::Dead(_) | Verdict::Stuck(_) => Vital::Unhealthy,
    };
    let reason = verdict.reason().to_string();
    Health { vital, healthy_for: healthy_for / 1000, reason }.to_body()
}

fn row(out: &mut String, width: usize, cells: [&str; 6]) {
    for (cell, width) in cells.into_iter().zip([width, 7, 9, 8, 10, 0]) {
        out.push_str(cell);
        if width > 0 {
            for _ in cell.len()..width + 2 {
                out.push(' ');
            }
        }
    }
    out.push('\n');
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}

fn seconds(milliseconds: u64) -> String {
    (milliseconds / 1000).to_string()
}

fn kib(bytes: u64) -> String {
    bytes.div_ceil(1024).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};
    use formats::Slot;
    use formats::boot_state::Boot;
    use formats::control::status::Wifi;
    use formats::run_slot::RunSlot;

    fn supervisor() -> Supervisor {
        let text = with(&format!("[workload a]\n{PLAIN}[workload longer-name]\n{PLAIN}"));
        Supervisor::new(system_conf::System::parse(text.as_bytes()).unwrap().workloads, 1_000)
    }

    fn status(supervisor: &Supervisor) -> Status<&str> {
        let text = "ferrite-slot 1\nslot a\ntrial no\nfallback no\nboard b\nname n\nversion 1\n\
            sequence 7\ndisk /dev/vda\nchooser uboot\n";
        Status {
            running: RunSlot::parse(text.as_bytes()).unwrap(),
            address: Some("10.0.2.15/24"),
            wifi: Some(Wifi { network: "A \"b\"", state: "joined" }),
            data: DataState { kind: Kind::Volatile, reason: "cannot be read".into() },
            stuck: vec!["mounting the data partition", "unmounting"],
            up_ms: 61_000,
            workloads: super::workloads(supervisor, 61_000),
        }
    }

    #[test]
    fn status_as_json_is_what_formats_reads() {
        let supervisor = supervisor();
        let status = status(&supervisor);
        assert_eq!((status.running.slot, status.running.boot), (Slot::A, Boot::Active));
        let read = Status::from_json(status.to_json().as_bytes()).unwrap();
        assert_eq!((&read.running, read.up_ms), (&status.running, 61_000));
        assert_eq!(read.stuck, status.stuck);
        assert_eq!(read.to_json(), status.to_json());
        assert_eq!(read.workloads[1].name, "longer-name");
        assert_eq!(read.workloads[0].state, "waiting");
        assert_eq!((read.workloads[0].pid, read.workloads[0].started_ms), (None, None));
    }

    #[test]
    fn status_for_people_has_a_row_for_each_workload() {
        let supervisor = supervisor();
        let mut status = status(&supervisor);
        let failed = &mut status.workloads[0];
        failed.state = "back-off";
        failed.reason = "exit status 2";
        failed.last_line = "no such model";
        let text = text(&status);
        assert!(text.contains("trial no\n"), "{text}");
        assert!(text.contains("up 61 s"), "{text}");
        assert!(text.contains("wifi A \"b\": joined\n"), "{text}");
        assert!(text.contains("data in memory, lost at the next start: cannot be read\n"));
        assert!(text.contains("stuck in the kernel: mounting the data partition\n"), "{text}");
        let row = text.lines().find(|line| line.starts_with("longer-name")).unwrap();
        assert!(row.contains("60 s") && row.ends_with("waiting"), "{row}");
        let row = text.lines().find(|line| line.starts_with("a ")).unwrap();
        assert!(row.ends_with("back-off (exit status 2): no such model"), "{row}");
    }

    #[test]
    fn health_is_what_formats_reads() {
        let parsed = |verdict: Verdict, for_ms| {
            let answer = formats::control::answer::granted(&health(&verdict, for_ms));
            Health::parse(answer.as_bytes()).unwrap()
        };
        let lost = parsed(Verdict::Dead("face failed".into()), 12_345);
        assert_eq!((lost.vital, lost.healthy_for), (Vital::Unhealthy, 12));
        assert_eq!(lost.reason, "face failed");
        assert_eq!(parsed(Verdict::Healthy, 0).vital, Vital::Healthy);
    }
}

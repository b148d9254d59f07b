//! What `ctl status` and `ctl health` show, as text, JSON and conf form.

use formats::control::{Health, Vital};
use formats::data_state::{DataState, Kind};
use formats::run_slot::RunSlot;

use crate::workload::supervise::{Supervisor, Unit};
use crate::workload::vital_health::Verdict;

/// What the status says beside the workloads.
#[derive(Debug)]
pub struct Facts<'a> {
    /// `key value` pairs of `/run/ferrite/slot`.
    pub slot: &'a [(&'static str, String)],
    /// The interface's address, empty if there is none.
    pub address: &'a str,
    /// The wireless network's name and how things stand with it, if there is one.
    pub wifi: Option<(&'a str, &'a str)>,
    /// What `/data` is.
    pub data: &'a DataState,
    /// Work of PID 1 that the kernel does not let go, and that nobody waits for any more.
    pub stuck: &'a [&'a str],
    /// Milliseconds since the kernel started.
    pub now: u64,
}

/// A table for people.
pub fn text(supervisor: &Supervisor, facts: &Facts<'_>) -> String {
    let mut out = String::new();
    for (key, value) in facts.slot {
        push(&mut out, &[key, " ", value, "\n"]);
    }
    let address = if facts.address.is_empty() { "none" } else { facts.address };
    push(&mut out, &["address ", address, "\n"]);
    if let Some((ssid, words)) = facts.wifi {
        push(&mut out, &["wifi ", ssid, ": ", words, "\n"]);
    }
    let DataState { kind, reason } = facts.data;
    if *kind == Kind::Volatile {
        push(&mut out, &["data in memory, lost at the next start: ", reason, "\n"]);
    } else if *kind != Kind::Kept {
        push(&mut out, &["data ", kind.word(), ": ", reason, "\n"]);
    }
    for work in facts.stuck {
        push(&mut out, &["stuck in the kernel: ", work, "\n"]);
    }
    push(&mut out, &["up ", &seconds(facts.now), " s\n\n"]);
    let width = supervisor.units.iter().map(|unit| unit.conf.name.len()).max().unwrap_or(0).max(8);
    row(&mut out, width, ["WORKLOAD", "PID", "SINCE", "RESTARTS", "MEMORY", "STATE"]);
    for unit in &supervisor.units {
        let pid = unit.pid().map_or("-".to_string(), |pid| pid.as_raw_nonzero().to_string());
        let memory = unit.memory().0.map_or("-".to_string(), |bytes| kib(bytes) + " KiB");
        let since = seconds(facts.now.saturating_sub(unit.changed)) + " s";
        let restarts = unit.restarts.to_string();
        let cells = [&unit.conf.name, &pid, &since, &restarts, &memory, &unit.detail()];
        row(&mut out, width, cells.map(|cell| cell.as_str()));
    }
    out
}

/// The same for programs.
pub fn json(supervisor: &Supervisor, facts: &Facts<'_>) -> String {
    let mut out = String::from("{");
    for (key, value) in facts.slot {
        member(&mut out, key);
        match (value.as_str(), value.parse::<u64>()) {
            ("yes" | "no", _) => out.push_str(if value == "yes" { "true" } else { "false" }),
            (_, Ok(_)) if *key == RunSlot::SEQUENCE => out.push_str(value),
            _ => quote(&mut out, value),
        }
        out.push(',');
    }
    member(&mut out, "address");
    if facts.address.is_empty() {
        out.push_str("null");
    } else {
        quote(&mut out, facts.address);
    }
    if let Some((ssid, words)) = facts.wifi {
        out.push_str(",\"wifi\":{\"network\":");
        quote(&mut out, ssid);
        out.push_str(",\"state\":");
        quote(&mut out, words);
        out.push('}');
    }
    out.push_str(",\"data\":{\"state\":");
    quote(&mut out, facts.data.kind.word());
    out.push_str(",\"reason\":");
    quote(&mut out, &facts.data.reason);
    out.push_str("},\"stuck\":[");
    for (index, work) in facts.stuck.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        quote(&mut out, work);
    }
    out.push(']');
    push(&mut out, &[",\"up_ms\":", &facts.now.to_string(), ",\"workloads\":["]);
    for (index, unit) in supervisor.units.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        workload(&mut out, unit, facts.now);
    }
    out.push_str("]}\n");
    out
}

fn workload(out: &mut String, unit: &Unit, now: u64) {
    let number = |value: Option<u64>| value.map_or("null".to_string(), |v| v.to_string());
    out.push_str("{\"name\":");
    quote(out, &unit.conf.name);
    out.push_str(",\"state\":");
    quote(out, unit.state.word());
    out.push_str(",\"reason\":");
    quote(out, &unit.reason);
    let pid = unit.pid().map(|pid| pid.as_raw_nonzero().get() as u64);
    let (memory, peak) = unit.memory();
    push(
        out,
        &[
            ",\"vital\":",
            if unit.conf.vital { "true" } else { "false" },
            ",\"pid\":",
            &number(pid),
            ",\"started_ms\":",
            &number(unit.started),
            ",\"since_ms\":",
            &now.saturating_sub(unit.changed).to_string(),
            ",\"restarts\":",
            &unit.restarts.to_string(),
            ",\"crashes_in_a_row\":",
            &unit.crashes().to_string(),
            ",\"memory\":",
            &number(memory),
            ",\"memory_peak\":",
            &number(peak),
            ",\"log_bytes\":",
            &unit.ring.end().to_string(),
            "}",
        ],
    );
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

fn member(out: &mut String, key: &str) {
    quote(out, key);
    out.push(':');
}

fn seconds(milliseconds: u64) -> String {
    (milliseconds / 1000).to_string()
}

fn kib(bytes: u64) -> String {
    bytes.div_ceil(1024).to_string()
}

/// A JSON string (RFC 8259, section 7).
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[c as usize >> 4]));
                out.push(char::from(HEX[c as usize & 15]));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_conf::{self, tests::*};
    use proptest::prelude::*;

    fn supervisor() -> Supervisor {
        let text = with(&format!("[workload a]\n{PLAIN}[workload longer-name]\n{PLAIN}"));
        Supervisor::new(system_conf::System::parse(text.as_bytes()).unwrap().workloads, 1_000)
    }

    fn facts<'a>(slot: &'a [(&'static str, String)]) -> Facts<'a> {
        Facts {
            slot,
            address: "10.0.2.15/24",
            wifi: Some(("A \"b\"", "joined")),
            data: Box::leak(Box::new(DataState {
                kind: Kind::Volatile,
                reason: "cannot be read".into(),
            })),
            stuck: &["mounting the data partition", "unmounting"],
            now: 61_000,
        }
    }

    #[test]
    fn status_as_json_is_json() {
        let slot =
            [("slot", "a".to_string()), ("trial", "no".to_string()), ("sequence", "7".to_string())];
        let text = json(&supervisor(), &facts(&slot));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["slot"], "a");
        assert_eq!(value["trial"], false);
        assert_eq!(value["sequence"], 7);
        assert_eq!(value["address"], "10.0.2.15/24");
        assert_eq!(value["wifi"]["network"], "A \"b\"");
        assert_eq!(value["wifi"]["state"], "joined");
        assert_eq!(value["data"]["state"], "volatile");
        assert_eq!(value["data"]["reason"], "cannot be read");
        assert_eq!(value["stuck"][0], "mounting the data partition");
        assert_eq!(value["stuck"][1], "unmounting");
        assert_eq!(value["workloads"][1]["name"], "longer-name");
        assert_eq!(value["workloads"][0]["state"], "waiting");
        assert_eq!(value["workloads"][0]["pid"], serde_json::Value::Null);
        assert_eq!(value["workloads"][0]["started_ms"], serde_json::Value::Null);
    }

    #[test]
    fn status_for_people_has_a_row_for_each_workload() {
        let text = text(&supervisor(), &facts(&[]));
        assert!(text.contains("up 61 s"), "{text}");
        assert!(text.contains("wifi A \"b\": joined\n"), "{text}");
        assert!(text.contains("data in memory, lost at the next start: cannot be read\n"));
        assert!(text.contains("stuck in the kernel: mounting the data partition\n"), "{text}");
        let row = text.lines().find(|line| line.starts_with("longer-name")).unwrap();
        assert!(row.contains("60 s") && row.ends_with("waiting"), "{row}");
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

    proptest! {
        #[test]
        fn any_text_survives_quoting(text: String) {
            let mut out = String::new();
            quote(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}

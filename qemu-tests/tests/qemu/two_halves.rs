//! The walls around the two halves of the update client, looked at in a debug image that runs: what
//! each half may open and reach, and whom PID 1 lets change the boot state.

use anyhow::{Context, Result, ensure};
use qemu_tests::Console;
use serde_json::Value;

/// The group of init's socket.
const CTL: u32 = 900;
/// The group that writes the idle slot.
const SLOTS: u32 = 901;
/// The group that reads both slots.
const SLOTS_READ: u32 = 902;
const RESERVE: u32 = 909;

/// What `command` says when this user runs it with this group. It ends well whatever it says.
fn said(console: &mut Console, user: &str, group: u32, command: &str) -> Result<String> {
    let line = format!(
        "busybox start-stop-daemon -S -p /tmp/none -a /usr/bin/busybox -c {user}:{group} -- \
         sh -c '{command}' 2>&1 | busybox sed s/^/sa''id:/"
    );
    let lines = console.shell(&line)?;
    let said = lines.iter().filter_map(|line| line.split_once("said:").map(|(_, said)| said));
    Ok(said.collect::<Vec<_>>().join("\n"))
}

/// The process of the workload with this name, by what `ctl status --json` says.
pub fn pid_of(status: &Value, name: &str) -> Result<u64> {
    let all = status["workloads"].as_array().context("workloads")?;
    let found = all.iter().find(|workload| workload["name"] == name);
    found.and_then(|workload| workload["pid"].as_u64()).with_context(|| format!("no {name}"))
}

/// Looks at them.
pub fn walls(console: &mut Console) -> Result<()> {
    // Nothing that the fetching half is in may open a partition for writing, and nothing reads
    // `firmware`, which has the boot state.
    // `true`: a `:` whose redirection fails ends the shell.
    let write = "for N in firmware boot-a boot-b root-a root-b read/boot-a read/boot-b read/root-a \
                 read/root-b; do true 2>/dev/null >>/dev/ferrite/$N && echo opened $N; done; true";
    for (user, group) in [("ota", CTL), ("ota", SLOTS_READ), ("nobody", CTL)] {
        let opened = said(console, user, group, write)?;
        ensure!(opened.is_empty(), "{user} of group {group}: {opened}");
    }
    let read = "for N in firmware read/root-a read/root-b root-b; do \
                busybox head -c 1 /dev/ferrite/$N >/dev/null 2>&1 && echo read $N; done; true";
    let opened = said(console, "ota", SLOTS_READ, read)?;
    ensure!(opened == "read read/root-a\nread read/root-b", "the fetching half: {opened}");
    let opened = said(console, "ota-writer", SLOTS, write)?;
    ensure!(opened == "opened boot-b\nopened root-b", "the writing half: {opened}");

    // They run with these groups and no others, and the writing half has a network with nothing in it.
    let status = console.shell_json("ctl status --json")?;
    for (name, groups) in [("ota", &[CTL, SLOTS_READ, RESERVE][..]), ("ota-writer", &[CTL, SLOTS])]
    {
        let pid = pid_of(&status, name)?;
        let line = console.shell(&format!("busybox grep Groups: /proc/{pid}/status"))?.join(" ");
        let found: Vec<u32> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        ensure!(found == groups, "{name}: {line}");
    }
    let writer = pid_of(&status, "ota-writer")?;
    let links = console.shell(&format!("busybox nsenter -t {writer} -n busybox ip -o link"))?;
    let links: Vec<_> = links.iter().filter(|line| line.contains("mtu")).collect();
    ensure!(
        matches!(&links[..], [only] if only.contains(" lo: <LOOPBACK>")),
        "the writing half's network: {links:?}"
    );

    // Who is in the socket's group steers workloads, and not what boots; the fetching half asks for
    // what an update takes.
    let refused = "may not ask for";
    for (user, command, allowed) in [
        ("nobody", "ctl health", true),
        ("nobody", "ota status", false),
        ("ota", "ota status", true),
        ("ota", "ctl health", true),
        ("ota", "ctl status", false),
        ("ota", "ctl stop face", false),
        ("ota", "ctl reboot", false),
        ("ota-writer", "ctl health", false),
    ] {
        let text = said(console, user, CTL, command)?;
        ensure!(text.contains(refused) != allowed, "{user}: {command}: {text}");
    }
    let text = said(console, "nobody", CTL, "ota commit")?;
    ensure!(text.contains("may not ask for `boot-"), "{text}");
    // Root, in a shell, as ever.
    console.shell("ota commit").map(drop)
}

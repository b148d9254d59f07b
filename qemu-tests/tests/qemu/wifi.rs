//! A wireless network: `mac80211_hwsim` plays two radios. One is the device's; the other, in a network
//! name space of its own, is a real access point's (hostapd), which has the machine's network card
//! behind it.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use qemu_tests::fixture::{Lane, Variant};
use qemu_tests::{imager, wait_until, Console, Disk, Machine, Options};

const TO_BOOT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);
/// A refused device waits 10 s, then 20 s, then 30 s until it tries again.
const TO_JOIN: Duration = Duration::from_secs(120);
const CARD: u64 = 1 << 30;

/// What the image asks for, and what plays the access point.
const IMAGE: &str = "
[network]
wifi = { country = \"DE\" }
[debian]
packages = [\"hostapd\", \"iw\"]
";
/// Radios made of nothing; a cable made of nothing; and a bridge, for which the kernel asks by name, as
/// the Raspberry Pis' driver does for a part of it. What encrypts on a real radio's chip is a module
/// here.
const RADIOS: &[(&str, &str)] = &[(
    "\n[boot]\n",
    "\n[wifi]\nmodules = [\"ccm\", \"gcm\", \"cmac\", \"ctr\", \"mac80211_hwsim\", \"veth\"]\n\
     modules_on_demand = [\"bridge\"]\n\n[boot]\n",
)];
/// Says what the shell runs there; `$ap` is the process that holds the name space.
const THERE: &str = "busybox nsenter -t $ap -n";

/// Starts the access point, with this passphrase.
fn open_access_point(console: &mut Console, passphrase: &str) -> Result<()> {
    let settings = format!(
        "interface=wlan1 bridge=br0 driver=nl80211 ssid=Home hw_mode=g channel=1 wpa=2 \
         wpa_key_mgmt=WPA-PSK rsn_pairwise=CCMP wpa_passphrase={passphrase}"
    );
    console.shell(&format!("for line in {settings}; do echo \"$line\"; done > /tmp/ap.conf"))?;
    console.shell(&format!(
        "{THERE} hostapd -B /tmp/ap.conf > /tmp/ap.log || busybox tail /tmp/ap.log"
    ))?;
    Ok(())
}

fn close_access_point(console: &mut Console) -> Result<()> {
    let gone = "while busybox pidof hostapd > /dev/null; do busybox usleep 100000; done";
    console.shell(&format!("kill $(busybox pidof hostapd); {gone}")).map(drop)
}

/// The first line that a command prints.
fn first(console: &mut Console, command: &str) -> Result<String> {
    let lines = console.shell(command)?;
    let line = lines.first().with_context(|| format!("{command} says nothing"))?;
    Ok(line.trim().to_owned())
}

/// Waits for a line among those behind the first `mark`. A command that is typed passes over the lines
/// that come while it runs.
fn heard(console: &Console, mark: usize, text: &str, timeout: Duration) -> Result<()> {
    wait_until(text, timeout, || {
        Ok(console.lines().iter().skip(mark).any(|line| line.text.contains(text)))
    })
}

/// Whether the status says this of the network.
fn status_says(console: &mut Console, words: &str) -> Result<()> {
    let status = console.shell("ctl status")?.join("\n");
    ensure!(status.contains(&format!("wifi Home: {words}")), "{status}");
    Ok(())
}

/// One boot with all of it: boots are what costs time here.
#[test]
fn a_device_joins_loses_and_finds_its_network_again() -> Result<()> {
    let lane = Lane::take()?;
    let built = lane.build(&Variant {
        label: "wifi",
        workloads: IMAGE,
        board: RADIOS,
        lock_file: Some("wifi.lock"),
        ..Variant::good(1)
    })?;
    let repository = lane.repository()?;
    repository.publish(&built)?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("passphrase"), "a \"secret\" #1\n")?;
    File::create(at("card-qemu-arm64-1.img"))?.set_len(CARD)?;
    let flash = Command::new(imager()?)
        .current_dir(folder.path())
        .arg("flash")
        .arg(&built.img)
        .args(["card-qemu-arm64-1.img", "--wifi", "Home", "--wifi-passphrase-file", "passphrase"])
        .output()?;
    ensure!(flash.status.success(), "{flash:?}");
    let disk = Disk::copy_of(&at("card-qemu-arm64-1.img"))?;
    let board = Some(built.board.display().to_string());
    let mut machine = Machine::start("wifi", &disk, &Options { board, ..Options::default() })?;
    let console = &mut machine.console;

    // Inference first; there is no such network, and that is one line.
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    console.wait_for("ferrite: wifi: network Home: not in reach", TO_BOOT)?;
    status_says(console, "not in reach")?;
    let runner = first(console, "busybox pidof runner")?;

    // Who joins networks has a user of its own, two rights, and a file that only it can read.
    let user = first(
        console,
        "busybox awk '/^Uid/ { print $2 }' /proc/$(busybox pidof wpa_supplicant)/status",
    )?;
    ensure!(user.parse::<u32>().is_ok_and(|user| user >= 10_000), "user {user}");
    let rights =
        "busybox awk '/^CapEff/ { print $2 }' /proc/$(busybox pidof wpa_supplicant)/status";
    ensure!(first(console, rights)?.ends_with("0000000000003000"), "more or other capabilities");
    let owner = first(console, "busybox stat -c %a:%u /run/ferrite/wifi.conf")?;
    ensure!(owner == format!("400:{user}"), "{owner}");
    // The country's rules were taken: the kernel has checked their signature.
    let rules = console.shell("iw reg get")?.join("\n");
    ensure!(rules.contains("country DE: DFS-ETSI"), "{rules}");

    // The access point takes the second radio and the machine's network card away.
    console.shell("busybox unshare -n busybox sleep 100000 & ap=$!; busybox sleep 1")?;
    let mark = console.lines().len();
    console.shell("iw phy phy1 set netns $ap && busybox ip link set eth0 netns $ap")?;
    heard(console, mark, "ferrite: network: eth0 lost its address", SOON)?;
    console.shell(&format!("{THERE} busybox brctl addbr br0"))?;
    console.shell(&format!("{THERE} busybox brctl addif br0 eth0"))?;
    console.shell(&format!("for i in lo eth0 br0; do {THERE} busybox ip link set $i up; done"))?;
    open_access_point(console, "another-secret")?;
    heard(console, mark, "ferrite: wifi: network Home: does not take the passphrase", TO_JOIN)?;
    status_says(console, "does not take the passphrase")?;

    // The right one: address, server, update client.
    let mark = console.lines().len();
    close_access_point(console)?;
    open_access_point(console, "'a \"secret\" #1'")?;
    heard(console, mark, "ferrite: wifi: network Home: joined", TO_JOIN)?;
    heard(console, mark, "ferrite: network: wlan0 has address 10.0.2.", SOON)?;
    // The update server answers over the air.
    let answer =
        format!("busybox wget -O - {}nothing 2>&1; true", repository.server.url_in_guest());
    let answer = console.shell(&answer)?.join("\n");
    ensure!(answer.contains("404"), "{answer}");
    let state = console.shell_json("ctl status --json")?;
    ensure!(state["wifi"]["state"] == "joined" && state["address"].is_string(), "{state}");
    // It vanishes, and comes back.
    let mark = console.lines().len();
    close_access_point(console)?;
    heard(console, mark, "ferrite: wifi: network Home: lost", SOON)?;
    heard(console, mark, "ferrite: wifi: network Home: not in reach", TO_JOIN)?;
    let mark = console.lines().len();
    open_access_point(console, "'a \"secret\" #1'")?;
    heard(console, mark, "ferrite: wifi: network Home: joined", TO_JOIN)?;
    let answer =
        format!("busybox wget -O - {}nothing 2>&1; true", repository.server.url_in_guest());
    let answer = console.shell(&answer)?.join("\n");
    ensure!(answer.contains("404"), "{answer}");

    // All the while the workload has gone on.
    ensure!(
        first(&mut machine.console, "busybox pidof runner")? == runner,
        "inference was restarted"
    );
    ensure!(machine.console.shell("ctl health")?.iter().any(|line| line.contains("vital healthy")));
    let log = machine.console.shell("ctl logs wifi")?.join("\n");
    ensure!(log.contains("CTRL-EVENT-CONNECTED") && !log.contains("secret"), "{log}");
    Ok(())
}

//! A wireless network: `mac80211_hwsim` plays two radios. One is the device's; the other, in a network
//! name space of its own, is a real access point's (hostapd), which gives addresses of its own
//! (udhcpd) and, once it has the machine's network card, leads to the update server. It is a router
//! and no bridge: frames that a bridge takes from that card to the radio are lost there, for want of
//! room for the cipher's sum (`net/mac80211/wpa.c`, `ieee80211_crypto_ccmp_encrypt`), and those that
//! the kernel forwards as IP are not.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::fixture::{Built, Repository, TestSlot, Variant};
use qemu_tests::{Console, Disk, Fault, Machine, Options, imager, wait_until};

const TO_BOOT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);
/// A refused device waits 10 s, then 20 s, then 30 s until it tries again.
const TO_JOIN: Duration = Duration::from_secs(120);
const TO_INSTALL: Duration = Duration::from_secs(120);
const CARD: u64 = 1 << 30;

/// What the image asks for, and what plays the access point.
const IMAGE: &str = "
[network]
wifi = { country = \"DE\" }
[debian]
packages = [\"hostapd\", \"iw\"]
";
/// The next version has another model's file more, so that there is something to download.
const NEXT_IMAGE: &str = "
[network]
wifi = { country = \"DE\" }
[debian]
packages = [\"hostapd\", \"iw\"]
[[model]]
name = \"spare\"
model = \"wheel:mediapipe:mediapipe/modules/face_detection/face_detection_short_range.tflite\"
config = \"face/model.toml\"
files = [\"wheel:mediapipe:mediapipe/modules/palm_detection/palm_detection_full.tflite\"]
[[workload]]
name = \"spare\"
command = [\"/usr/bin/busybox\", \"sleep\", \"1000000\"]
env = { MODEL = \"/usr/share/models/spare\" }
";
/// Radios made of nothing, and a bridge, for which the kernel asks by name, as the Raspberry Pis'
/// driver does for a part of it. What encrypts on a real radio's chip is a module here.
const RADIOS: &[(&str, &str)] = &[(
    "\n[boot]\n",
    "\n[wifi]\nmodules = [\"ccm\", \"gcm\", \"cmac\", \"ctr\", \"mac80211_hwsim\"]\n\
     modules_on_demand = [\"bridge\"]\n\n[boot]\n",
)];
/// Says what the shell runs there; `$ap` is the process that holds the name space.
const THERE: &str = "busybox nsenter -t $ap -n";
/// As a shell would take it.
const PASSPHRASE: &str = "'a \"secret\" #1'";

/// What the server sends in a second while the access point is about to vanish, in bytes.
const PACE: u64 = 256 << 10;
/// So much of the update has been sent when it does.
const SENT: u64 = 3 << 19;
/// The most that may come twice, as in `ota/tests/sweep/resume.rs`: less than what was sent before.
const TWICE: u64 = 1 << 20;

/// Gives the access point the second radio, an address and a DHCP server.
fn build_access_point(console: &mut Console) -> Result<()> {
    console.shell("busybox unshare -n busybox sleep 100000 & ap=$!; busybox sleep 1")?;
    // Nothing needs the bridge, but its module comes when the kernel asks for it.
    console.shell(&format!("iw phy phy1 set netns $ap && {THERE} busybox brctl addbr br0"))?;
    console.shell(&format!("for i in lo wlan1; do {THERE} busybox ip link set $i up; done"))?;
    console.shell(&format!("{THERE} busybox ip addr add 192.168.77.1/24 dev wlan1"))?;
    console.shell(
        "for line in 'interface wlan1' 'start 192.168.77.20' 'end 192.168.77.30' \
         'option subnet 255.255.255.0' 'option router 192.168.77.1' 'lease_file /tmp/leases' \
         'pidfile /tmp/udhcpd.pid'; do echo \"$line\"; done > /tmp/udhcpd.conf; > /tmp/leases",
    )?;
    console.shell(&format!("{THERE} busybox udhcpd /tmp/udhcpd.conf")).map(drop)
}

/// Takes the machine's network card away from the device, for the access point to reach the server by.
fn take_the_card(console: &mut Console) -> Result<()> {
    console.shell(&format!(
        "busybox ip link set eth0 netns $ap; {THERE} busybox ip link set eth0 up; \
         {THERE} busybox ip addr add 10.0.2.15/24 dev eth0"
    ))?;
    // QEMU's network knows of no other one: the access point answers for the devices behind it.
    let settings = "echo 1 > /proc/sys/net/ipv4/ip_forward; \
                    echo 1 > /proc/sys/net/ipv4/conf/eth0/proxy_arp";
    console.shell(&format!("{THERE} busybox sh -c '{settings}'")).map(drop)
}

/// Starts the access point, with this passphrase.
fn open_access_point(console: &mut Console, passphrase: &str) -> Result<()> {
    let settings = format!(
        "interface=wlan1 driver=nl80211 ssid=Home hw_mode=g channel=1 wpa=2 \
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

/// A card, in this folder, with the image and what the device needs to join.
fn flashed(built: &Built, folder: &Path) -> Result<Disk> {
    let at = |name: &str| folder.join(name);
    std::fs::write(at("passphrase"), "a \"secret\" #1\n")?;
    File::create(at("card-qemu-arm64-1.img"))?.set_len(CARD)?;
    let flash = Command::new(imager()?)
        .current_dir(folder)
        .arg("flash")
        .arg(&built.img)
        .args(["card-qemu-arm64-1.img", "--wifi", "Home", "--wifi-passphrase-file", "passphrase"])
        .output()?;
    ensure!(flash.status.success(), "{flash:?}");
    Disk::copy_of(&at("card-qemu-arm64-1.img"))
}

/// Who joins networks has a user of its own, two rights, and a file that only it can read.
fn see_who_joins(console: &mut Console) -> Result<()> {
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
    Ok(())
}

/// Where there are both, data leaves by the cable; where the cable is out, by the radio.
fn see_the_cable_preferred(machine: &mut Machine) -> Result<()> {
    // An address of nobody (RFC 5737, section 3): only the routers count.
    let default_route = |machine: &mut Machine| {
        first(&mut machine.console, "busybox ip route get 198.51.100.1 | busybox head -n 1")
    };
    let by_cable = |route: &str| route.contains("via 10.0.2.2 dev eth0");
    let routes = machine.console.shell("busybox ip route")?.join("\n");
    let radio = "default via 192.168.77.1 dev wlan0  metric 600";
    ensure!(routes.contains("default via 10.0.2.2 dev eth0") && routes.contains(radio), "{routes}");
    let before = default_route(machine)?;
    ensure!(by_cable(&before), "{before}");

    let mark = machine.console.lines().len();
    machine.set_link(false)?;
    heard(&machine.console, mark, "ferrite: network: data leaves by wlan0 now", SOON)?;
    let without = default_route(machine)?;
    ensure!(without.contains("via 192.168.77.1 dev wlan0"), "{without}");
    let mark = machine.console.lines().len();
    machine.set_link(true)?;
    heard(&machine.console, mark, "ferrite: network: data leaves by eth0 now", SOON)?;
    let again = default_route(machine)?;
    ensure!(by_cable(&again), "{again}");
    Ok(())
}

/// The next version comes over the air, though the access point vanishes in the middle.
fn see_the_update(machine: &mut Machine, repository: &Repository, next: &Built) -> Result<()> {
    let console = &mut machine.console;
    let server = &repository.server;
    server.spoil(".update", Fault::Paced(PACE));
    let mark = console.lines().len();
    repository.publish(next)?;
    heard(console, mark, &format!("ota: found {} ", next.version), TO_INSTALL)?;
    wait_until("a part of the update is sent", TO_INSTALL, || {
        Ok(server.served_of(".update").bytes >= SENT)
    })?;
    let mark = console.lines().len();
    close_access_point(console)?;
    heard(console, mark, "ferrite: wifi: network Home: lost", SOON)?;
    heard(console, mark, "ferrite: wifi: network Home: not in reach", TO_JOIN)?;
    let before = server.served_of(".update").bytes;
    ensure!(!console.has("ota: installed"), "it was quicker than the access point's end");

    server.heal();
    let mark = console.lines().len();
    open_access_point(console, PASSPHRASE)?;
    heard(console, mark, "ferrite: wifi: network Home: joined", TO_JOIN)?;
    let installed = format!("ota: installed {} in slot b", next.version);
    heard(console, mark, &installed, TO_INSTALL)?;
    let served = server.served_of(".update");
    let (whole, twice) = (served.different(), served.bytes.saturating_sub(served.different()));
    println!("{before} of {whole} bytes until it vanished, {twice} twice: {served:?}");
    ensure!(served.bytes > before && before < whole, "{before} of {whole}");
    ensure!(twice <= TWICE, "{twice} of {whole} bytes came twice");
    Ok(())
}

/// One boot with all of it, and one of what it brings: boots are what costs time here.
#[test]
fn a_device_joins_loses_and_finds_its_network_again_and_is_updated_over_it() -> Result<()> {
    let test_slot = TestSlot::take()?;
    let build = |sequence, workloads| {
        test_slot.build(&Variant {
            label: "wifi",
            workloads,
            reboot: Some("manual"),
            board: RADIOS,
            lock_file: Some("wifi.lock"),
            ..Variant::good(sequence)
        })
    };
    let (built, next) = (build(1, IMAGE)?, build(2, NEXT_IMAGE)?);
    let repository = test_slot.repository()?;
    repository.publish(&built)?;
    let folder = tempfile::tempdir()?;
    let disk = flashed(&built, folder.path())?;
    let board = Some(built.board.display().to_string());
    let mut machine = Machine::start("wifi", &disk, &Options { board, ..Options::default() })?;
    let console = &mut machine.console;

    // Inference first; there is no such network, and that is one line.
    console.wait_for("ferrite: all vital workloads healthy", TO_BOOT)?;
    console.wait_for("ferrite: wifi: network Home: not in reach", TO_BOOT)?;
    status_says(console, "not in reach")?;
    let runner = first(console, "busybox pidof runner")?;
    see_who_joins(console)?;

    build_access_point(console)?;
    let mark = console.lines().len();
    open_access_point(console, "another-secret")?;
    heard(console, mark, "ferrite: wifi: network Home: does not take the passphrase", TO_JOIN)?;
    status_says(console, "does not take the passphrase")?;

    // The right one.
    let mark = console.lines().len();
    close_access_point(console)?;
    open_access_point(console, PASSPHRASE)?;
    heard(console, mark, "ferrite: wifi: network Home: joined", TO_JOIN)?;
    heard(console, mark, "ferrite: network: wlan0 has address 192.168.77.", SOON)?;
    see_the_cable_preferred(&mut machine)?;

    // No cable any more: the update server over the air.
    let console = &mut machine.console;
    let mark = console.lines().len();
    take_the_card(console)?;
    heard(console, mark, "ferrite: network: eth0 lost its address", SOON)?;
    let state = console.shell_json("ctl status --json")?;
    ensure!(state["wifi"]["state"] == "joined", "{state}");
    let address = state["address"].as_str();
    ensure!(address.is_some_and(|address| address.starts_with("192.168.77.")), "{state}");
    see_the_update(&mut machine, &repository, &next)?;

    // All the while the workload has gone on.
    let console = &mut machine.console;
    ensure!(first(console, "busybox pidof runner")? == runner, "inference was restarted");
    ensure!(console.shell("ctl health")?.iter().any(|line| line.contains("vital healthy")));
    let log = console.shell("ctl logs wifi")?.join("\n");
    ensure!(log.contains("CTRL-EVENT-CONNECTED") && !log.contains("secret"), "{log}");

    // The new version is tried with neither a cable nor the access point: it waits for its server,
    // which the old one has reached.
    machine.set_link(false)?;
    let console = &mut machine.console;
    console.type_line("ctl reboot")?;
    console.wait_for("ferrite: slot b (trial, 0 tries left)", TO_BOOT)?;
    console.wait_for(&format!("initrd: slot b of demo {} ", next.version), TO_BOOT)?;
    console
        .wait_for("ota: on trial, not committed yet: the update server was not reached", TO_BOOT)?;

    // It finds the network by itself, reaches its server over the air, and stays.
    build_access_point(console)?;
    take_the_card(console)?;
    let mark = console.lines().len();
    open_access_point(console, PASSPHRASE)?;
    machine.set_link(true)?;
    heard(&machine.console, mark, "ferrite: wifi: network Home: joined", TO_JOIN)?;
    let committed = format!("ota: committed {} in slot b", next.version);
    heard(&machine.console, mark, &committed, TO_BOOT)?;
    let asked = || repository.server.served_of("timestamp.json").requests;
    let before = asked();
    wait_until("the new version asks its server", SOON, || Ok(asked() > before))
}

use super::*;
use formats::day_window::DayWindow;

pub fn image(text: &str) -> (tempfile::TempDir, Image) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i.toml");
    let head = "name = \"demo\"\nversion = \"1\"\nsequence = 1\n";
    std::fs::write(&path, format!("{head}{text}")).unwrap();
    let image = Image::load(&path).unwrap();
    (dir, image)
}

pub fn board(name: &str) -> Board {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
    Board::load(name, std::path::Path::new(folder)).unwrap()
}

fn system(image: &Image) -> System {
    system_conf(image, &board("qemu-arm64"), &[], &[], None, &Ports::new()).unwrap()
}

fn workload<'a>(system: &'a System, name: &str) -> &'a Workload {
    system.workloads.iter().find(|workload| workload.name == name).unwrap()
}

#[test]
fn a_workload_gets_every_line_with_its_default() {
    let (_dir, image) = image(
        "[[workload]]\nname = \"face\"\ncommand = [\"/usr/bin/runner\", \"--x=1 2\"]\nenv = { K = \"V\" }\n",
    );
    let system = system_conf(
        &image,
        &board("qemu-arm64"),
        &["/usr/lib/modules/a.ko".into()],
        &["/usr/bin/x".into()],
        Some(1_795_659_174),
        &Ports::from([("face".into(), vec!["[::]:8080".parse().unwrap()])]),
    )
    .unwrap();
    let uid = user_id("face");
    let expected = format!(
        "ferrite-system 1\nhostname demo\nboard qemu-arm64\nbuild-date 1795659174\n\
         chooser uboot\nmodule /usr/lib/modules/a.ko\nwatchdog /dev/watchdog0 60\n\
         trial-timeout 300\nnetwork dhcp\nmedia no\nread-ahead /usr/bin/x\n[workload face]\n\
         command /usr/bin/runner\narg --x=1 2\nenv K=V\nuid {uid}\nlisten [::]:8080\ndata no\n\
         network no\nmedia no\nvital yes\nrestart always\nbackoff 1 60\nbudget 5 300\n\
         ready started\nready-timeout 30\npids-max 64\nlog-size 65536\nconsole no\n\
         stop-timeout 10\n"
    );
    assert_eq!(system.to_text(), expected);
}

#[test]
fn what_a_workload_may_take_of_the_data_partition_is_said_for_all_but_the_update_client() {
    let limits = |more: &str| {
        let head = "[update]\nurl = \"http://h:1/\"\n[[workload]]\nname = \"rec\"\n";
        let (_dir, image) = image(&format!("{head}command = [\"/x\"]\n{more}"));
        let system = system(&image);
        assert_eq!(workload(&system, "ota").data_limits, None);
        let limits = workload(&system, "rec").data_limits;
        limits.map(|limits| (limits.bytes.own, limits.files.own))
    };
    assert_eq!(limits(""), None);
    assert_eq!(limits("data = true\n"), Some((None, None)));
    let own = limits("data = true\ndata_max = \"2G\"\ndata_files = 5000\n");
    assert_eq!(own, Some((Some(2 << 30), Some(5000))));
}

#[test]
fn the_update_client_is_added_when_there_is_a_url() {
    let (_dir, image) = image("[update]\nurl = \"http://h:1/\"\n");
    let system = system(&image);
    let ota = workload(&system, "ota");
    assert_eq!(ota.command, ["/usr/bin/ota", "run"]);
    assert_eq!(ota.heartbeat, Some(60_000), "one that hangs is noticed");
    assert!(!ota.vital && ota.notifies);
    let settings = ota_settings(&image, image.update.as_ref().unwrap());
    assert_eq!((&settings.url[..], settings.hours), ("http://h:1", None));
}

#[test]
fn one_half_of_the_update_client_has_the_network_and_the_other_the_devices() {
    let (_dir, with) = image("[update]\nurl = \"http://h\"\n");
    let system_with = system(&with);
    let (ota, writer) = (workload(&system_with, "ota"), workload(&system_with, "ota-writer"));
    assert_eq!((&ota.groups[..], &writer.groups[..]), (&[900, 902, 909][..], &[900, 901][..]));
    assert_eq!((writer.network, writer.data), (NetworkAccess::Isolated, false));
    assert_eq!(writer.socket_for.map(|at| &system_with.workloads[at].name[..]), Some("ota"));
    assert!(!ota.asks.contains(&Verb::BootBeginInstall));
    assert!(!writer.asks.contains(&Verb::BootCommit));
    assert_ne!(ota.uid, writer.uid);

    let (_dir, without) = image("[[workload]]\nname = \"camera\"\ncommand = [\"/x\"]\n");
    let text = system(&without).to_text();
    assert!(!text.contains("ota"), "{text}");
}

#[test]
fn how_a_device_reaches_its_server_is_handed_on() {
    let (_dir, image) = image(
        "[update]\nurl = \"https://h/r\"\ngroups = [\"canary\"]\nhours = \"23:00-05:30\"\n\
         daily_budget = \"50M\"\nproxy = \"http://p:3128\"\ntoken_over_http = true\n\
         report_url = \"https://h/report\"\nmax_bytes_per_second = \"512K\"\n\
         tls = { roots = \"ca.pem\" }\n",
    );
    let settings = ota_settings(&image, image.update.as_ref().unwrap());
    assert_eq!(settings.groups, ["canary"]);
    assert_eq!(settings.hours, DayWindow::parse("23:00-05:30"));
    assert_eq!(settings.daily_budget, Some(50 << 20));
    assert_eq!(settings.max_bytes_per_second, Some(512 << 10));
    assert_eq!(settings.proxy.as_deref(), Some("http://p:3128"));
    assert_eq!(settings.report_url.as_deref(), Some("https://h/report"));
    assert!(settings.token_over_http);
    let roots = image.files.last().unwrap();
    assert_eq!(roots.path.as_str(), formats::layout::TLS_ROOTS);
    assert_eq!(roots.source, std::path::Path::new("ca.pem"));
}

#[test]
fn sticks_are_for_those_who_asked_for_them() {
    let media = |text: &str| {
        let (_dir, image) = image(text);
        let system = system(&image);
        let workloads = system.workloads.iter().map(|workload| workload.media);
        std::iter::once(system.media).chain(workloads).collect::<Vec<_>>()
    };
    let update = "[update]\nurl = \"http://h\"\n";
    let camera = "[[workload]]\nname = \"camera\"\ncommand = [\"/x\"]\n";
    assert_eq!(media(&format!("{update}{camera}")), [false; 4]);
    let sticks = media(&format!("{update}sticks = true\n{camera}"));
    assert_eq!(sticks, [true, false, true, false]);
    let camera = media(&format!("{update}{camera}media = true\n"));
    assert_eq!(camera, [true, true, false, false]);
}

#[test]
fn a_user_depends_on_the_name_alone() {
    assert_eq!(user_id("face"), user_id("face"));
    assert_ne!(user_id("face"), user_id("ota"));
    assert!((10_000..60_000).contains(&user_id("x")));
}

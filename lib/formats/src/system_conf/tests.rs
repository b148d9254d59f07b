use super::*;
use crate::control::Verb;
use crate::data_share::Share;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const GOLDEN: &str = "ferrite-system 1\nhostname demo\nboard qemu-arm64\nbuild-date 1795659174\n\
    chooser uboot\nmodule /usr/lib/modules/virtio_net.ko\nwatchdog /dev/watchdog 30\n\
    trial-timeout 120\nnetwork dhcp\nntp 192.0.2.1\nwifi wlan0 DE\nmedia yes\n\
    read-ahead /usr/bin/runner\nconsole-shell /usr/bin/busybox sh\n\
    ssh-server /usr/lib/ferrite/ssh-server\n";
const OTA: &str = "[workload ota]\ncommand /usr/bin/ota\narg run\nuid 10001\ngroup 900\n\
    ask health\nask boot-commit\ndata yes\nnetwork no\nmedia yes\nvital no\nrestart always\n\
    backoff 1 60\nbudget 5 300\nready notify\nready-timeout 30\nheartbeat 60\n\
    memory-max 67108864\npids-max 16\nlog-size 65536\nconsole yes\nstop-timeout 10\n";
const WRITER: &str = "[workload ota-writer]\ncommand /usr/bin/ota\narg writer\nuid 10002\n\
    socket-for ota\nask boot-state\nask boot-arm\ndata no\nnetwork none\nmedia no\nvital no\n\
    restart never\nbackoff 1 60\nbudget 5 300\nready notify\nready-timeout 30\nlog-size 16384\n\
    console no\nstop-timeout 10\n";
const FACE: &str = "[workload face]\ncommand /usr/bin/runner\narg --a b\nenv A=B\nuid 10123\n\
    group 900\ncapability net-admin\ncapability net-raw\nneeds wifi\nafter ota\n\
    listen [::]:8080\nlisten 127.0.0.1:9\ndata yes\ndata-max 600\ndata-files share\n\
    network yes\nmedia yes\nvital yes\nrestart on-failure\nbackoff 2 30\nbudget 3 100\n\
    ready started\nready-timeout 30\nhealth-command /usr/bin/y\nhealth-arg z\n\
    health-interval 10\nhealth-timeout 5\nhealth-retries 3\npids-max 64\nlog-size 65536\n\
    console yes\nstop-timeout 10\n";

fn golden() -> String {
    [GOLDEN, OTA, WRITER, FACE].concat()
}

fn parse(text: &str) -> Result<System> {
    System::parse(text.as_bytes())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_text_is_the_one_of_docs_architecture() {
    let system = parse(&golden()).unwrap();
    assert_eq!(system.to_text(), golden());
    assert_eq!((system.trial_timeout, system.build_date), (120_000, 1_795_659_174));
    assert_eq!(system.radio, Some(Radio { interface: "wlan0".into(), country: "DE".into() }));
    assert_eq!(system.console_shell, ["/usr/bin/busybox", "sh"]);
    let [ota, writer, face] = &system.workloads[..] else { panic!("three") };
    assert_eq!((ota.heartbeat, ota.network), (Some(60_000), NetworkAccess::Shared));
    assert_eq!((writer.network, writer.socket_for), (NetworkAccess::Isolated, Some(0)));
    assert_eq!(writer.asks, [Verb::BootState, Verb::BootArm]);
    assert_eq!(face.command, ["/usr/bin/runner", "--a b"]);
    assert_eq!((face.uid, &face.groups[..], &face.after[..]), (10123, &[900][..], &[0][..]));
    assert_eq!(face.capabilities, [Capability::NetAdmin, Capability::NetRaw]);
    assert_eq!((face.needs, face.network), (Some(Provision::Wifi), NetworkAccess::Awaited));
    assert_eq!(face.limits.longest, 30_000);
    assert_eq!(face.health.as_ref().unwrap().command, ["/usr/bin/y", "z"]);
    assert_eq!(face.listen.iter().map(|a| a.port()).collect::<Vec<_>>(), [8080, 9]);
    assert!(face.vital && face.console && !face.notifies && face.data && face.media);
}

#[test]
fn names_the_workload_and_the_line_that_is_wrong() {
    for (from, to, wrong) in [
        ("restart on-failure", "restart often", "restart: must be"),
        ("listen [::]:8080", "listen 8080", "listen: "),
        ("listen [::]:8080", "listen host:8080", "listen: "),
        ("listen [::]:8080", "listen 0.0.0.0:0", "listen: "),
        ("listen [::]:8080", "listen [::]:70000", "listen: "),
        ("after ota", "after x", "no workload has this name"),
        ("capability net-raw", "capability sys-admin", "is net-admin or net-raw"),
        ("needs wifi", "needs money", "must be wifi"),
        ("data-files share", "data-files x", "not a decimal number"),
        ("network yes", "network all", "must be yes, no or none"),
        ("uid 10123", "uid 4294967295", "not a user or group id"),
        ("command /usr/bin/runner\n", "", "no line `command`"),
        ("[workload face]", "[workload ota]", "stands twice"),
        ("[workload face]", "[service face]", "only [workload NAME]"),
    ] {
        let error = error(&golden().replace(from, to));
        assert!(error.starts_with('['), "{error}");
        assert!(error.contains(wrong), "{error}");
    }
    for (from, to, wrong) in [
        ("wlan0 DE", "wlan0", "needs an interface and a country"),
        ("wlan0 DE", "wlan0 de", "two capital letters"),
        ("network dhcp", "network static", "dhcp or off"),
        ("ask boot-arm", "ask boot-anything", "nothing that may be asked"),
        ("ask boot-arm", "ask poweroff", "nothing that may be asked"),
        ("socket-for ota", "socket-for nobody", "no workload has this name"),
        ("/dev/watchdog 30", "/dev/watchdog", "needs a device and seconds"),
    ] {
        let error = error(&golden().replace(from, to));
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn what_is_out_of_bounds_becomes_what_a_device_can_bear() {
    let text = golden()
        .replace("/dev/watchdog 30", "/dev/watchdog 0")
        .replace("stop-timeout 10", "stop-timeout 0")
        .replace("budget 3 100", "budget 1000 99999999999")
        .replace("log-size 16384", "log-size 1");
    let system = parse(&text).unwrap();
    assert_eq!(system.watchdog.as_ref().map(|w| w.seconds), Some(1));
    assert_eq!(system.workloads[0].stop_timeout, 1000);
    assert_eq!(system.workloads[1].log_size, 1024);
    let limits = system.workloads[2].limits;
    assert_eq!((limits.crashes, limits.window), (MAX_CRASHES, MAX_SECONDS * 1000));
}

#[test]
fn what_a_workload_may_take_of_the_data_partition() {
    let more = FACE.replace("face", "more").replace("data-max 600", "data-max share");
    let text = golden() + &more.replace("data-files share", "data-files 7");
    let workloads = parse(&text).unwrap().workloads;
    assert_eq!(workloads[0].data_limits, None);
    let limits = |index: usize| {
        let limits = workloads[index].data_limits.unwrap();
        (limits.bytes.of(1000), limits.files.of(100))
    };
    assert_eq!((limits(2), limits(3)), ((600, 93), (400, 7)));
}

fn word() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9-]{0,11}"
}

/// A value of one line.
fn line() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,30}"
}

fn seconds() -> impl Strategy<Value = u64> {
    (1..=MAX_SECONDS).prop_map(|seconds| seconds * 1000)
}

/// A workload among `count`, whose names are their indices.
fn workload(index: usize, count: usize) -> impl Strategy<Value = Workload> {
    let command = vec(line(), 1..4);
    let health = (vec(line(), 1..4), seconds(), seconds(), 1..=MAX_RETRIES).prop_map(
        |(command, interval, timeout, retries)| Health { command, interval, timeout, retries },
    );
    let share = || option::of(any::<u64>()).prop_map(|own| Share { own, ..Share::default() });
    let limits = (seconds(), seconds(), 1..=MAX_CRASHES, seconds()).prop_map(
        |(first, longest, crashes, window)| RestartLimits { first, longest, crashes, window },
    );
    let listen = (any::<std::net::IpAddr>(), 1u16..).prop_map(|(ip, port)| (ip, port).into());
    let verb = prop_oneof![Just(Verb::Health), Just(Verb::Reboot), Just(Verb::BootArm)];
    let capability = prop_oneof![Just(Capability::NetAdmin), Just(Capability::NetRaw)];
    let network = prop_oneof![
        Just(NetworkAccess::Shared),
        Just(NetworkAccess::Awaited),
        Just(NetworkAccess::Isolated)
    ];
    let restart = prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Never)
    ];
    let who = (command, vec(line(), 0..3), 0..u32::MAX, vec(0..u32::MAX, 0..3));
    let rights = (vec(capability, 0..3), any::<bool>(), vec(listen, 0..3), vec(verb, 0..3));
    let others = (vec(0..count, 0..3), option::of(0..count));
    let data = (any::<bool>(), option::of((share(), share())));
    let flags = any::<[bool; 4]>();
    let life = (restart, limits, seconds(), option::of(seconds()), seconds());
    let bounds = (option::of(any::<u64>()), option::of(any::<u64>()), 1024..=MAX_LOG as usize);
    (who, rights, others, data, (network, flags), life, (option::of(health), bounds)).prop_map(
        move |(who, rights, others, data, (network, flags), life, (health, bounds))| Workload {
            name: index.to_string(),
            command: who.0,
            environment: who.1,
            uid: who.2,
            groups: who.3,
            capabilities: rights.0,
            needs: rights.1.then_some(Provision::Wifi),
            listen: rights.2,
            asks: rights.3,
            after: others.0,
            socket_for: others.1,
            data: data.0,
            data_limits: data.1.map(|(bytes, files)| DataLimits { bytes, files }),
            network,
            media: flags[0],
            vital: flags[1],
            console: flags[2],
            notifies: flags[3],
            restart: life.0,
            limits: life.1,
            ready_timeout: life.2,
            heartbeat: life.3,
            stop_timeout: life.4,
            health,
            memory_max: bounds.0,
            pids_max: bounds.1,
            log_size: bounds.2,
        },
    )
}

fn system() -> impl Strategy<Value = System> {
    let names = (word(), word(), any::<u64>(), word());
    let watchdog = option::of(("/dev/[a-z0-9]{1,9}", 1..=crate::watchdog::MAX_SECONDS));
    let radio = option::of(("[a-z0-9]{1,9}", "[A-Z]{2}"));
    let network = (any::<bool>(), vec(line(), 0..3), radio, any::<bool>());
    let command = || vec("[!-~]{1,12}", 0..3);
    let lists = (vec(line(), 0..3), vec(line(), 0..3), command(), command());
    let workloads = (0..4usize).prop_flat_map(|count| {
        (0..count).map(|index| workload(index, count).boxed()).collect::<Vec<_>>()
    });
    (names, watchdog, seconds(), network, lists, workloads).prop_map(
        |(names, watchdog, trial_timeout, network, lists, workloads)| {
            let mut system = System {
                hostname: names.0,
                board: names.1,
                build_date: names.2,
                chooser: names.3,
                watchdog: watchdog.map(|(device, seconds)| Watchdog { device, seconds }),
                trial_timeout,
                dhcp: network.0,
                ntp: network.1,
                radio: network.2.map(|(interface, country)| Radio { interface, country }),
                media: network.3,
                modules: lists.0,
                read_ahead: lists.1,
                console_shell: lists.2,
                ssh_server: lists.3,
                workloads,
            };
            system.share_data();
            system
        },
    )
}

proptest! {
    #[test]
    fn comes_back(system in system()) {
        prop_assert_eq!(parse(&system.to_text()).unwrap(), system);
    }

    #[test]
    fn never_panics(text in "(ferrite-system 1\n)?([a-z\\[\\]-]{0,12} [ -~]{0,20}\n){0,30}") {
        let _ = (parse(&text), Outline::parse(text.as_bytes()));
    }
}

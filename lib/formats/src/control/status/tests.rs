use proptest::prelude::*;

use super::*;
use crate::Slot;
use crate::boot_state::Boot;
use crate::data_state::Kind;

/// As docs/architecture.md shows it, without its line breaks.
const GOLDEN: &str = concat!(
    r#"{"slot":"b","trial":true,"fallback":false,"board":"qemu-arm64","name":"demo","#,
    r#""version":"1.0.1","sequence":2,"disk":"/dev/vda","chooser":"uboot","#,
    r#""address":"10.0.2.15/24","wifi":{"network":"A \"b\"","state":"joined"},"#,
    r#""data":{"state":"kept","reason":""},"stuck":["mounting the data partition"],"#,
    r#""up_ms":61000,"workloads":[{"name":"face","state":"back-off","reason":"exit status 2","#,
    r#""last_line":"runner: model.toml: no key `widht`","vital":true,"pid":null,"#,
    r#""started_ms":1200,"since_ms":500,"restarts":3,"crashes_in_a_row":4,"memory":4096,"#,
    r#""memory_peak":8192,"log_bytes":77}]}"#,
    "\n"
);

fn golden() -> Status<String> {
    Status {
        running: RunSlot {
            slot: Slot::B,
            boot: Boot::Trial,
            board: "qemu-arm64".into(),
            name: "demo".into(),
            version: "1.0.1".into(),
            sequence: 2,
            disk: "/dev/vda".into(),
            chooser: "uboot".into(),
        },
        address: Some("10.0.2.15/24".into()),
        wifi: Some(Wifi { network: "A \"b\"".into(), state: "joined".into() }),
        data: DataState { kind: Kind::Kept, reason: String::new() },
        stuck: vec!["mounting the data partition".into()],
        up_ms: 61_000,
        workloads: vec![WorkloadStatus {
            name: "face".into(),
            state: "back-off".into(),
            reason: "exit status 2".into(),
            last_line: "runner: model.toml: no key `widht`".into(),
            vital: true,
            pid: None,
            started_ms: Some(1200),
            since_ms: 500,
            restarts: 3,
            crashes_in_a_row: 4,
            memory: Some(4096),
            memory_peak: Some(8192),
            log_bytes: 77,
        }],
    }
}

#[test]
fn the_json_is_the_one_of_docs_architecture() {
    assert_eq!(golden().to_json(), GOLDEN);
    assert_eq!(Status::from_json(GOLDEN.as_bytes()).unwrap(), golden());
}

#[test]
fn an_older_init_says_no_last_line_and_a_newer_one_more_than_is_known() {
    let old = GOLDEN.replace(r#""last_line":"runner: model.toml: no key `widht`","#, "");
    assert_eq!(Status::from_json(old.as_bytes()).unwrap().workloads[0].last_line, "");
    let new = GOLDEN.replace("{\"slot\"", "{\"more\":[1],\"slot\"");
    assert_eq!(Status::from_json(new.as_bytes()).unwrap(), golden());
}

#[test]
fn refuses_what_is_no_status() {
    for (from, to) in [
        (r#""slot":"b""#, r#""slot":"c""#),
        (r#""state":"kept""#, r#""state":"gone""#),
        (r#""sequence":2,"#, ""),
    ] {
        assert!(Status::from_json(GOLDEN.replace(from, to).as_bytes()).is_err(), "{to:?}");
    }
    assert!(Status::from_json(&vec![b' '; MAX_BYTES + 1]).is_err());
}

#[test]
fn a_detail_says_what_is_known() {
    assert_eq!(detail("ready", "", ""), "ready");
    assert_eq!(detail("back-off", "exit status 2", ""), "back-off (exit status 2)");
    assert_eq!(detail("failed", "exit status 2", "no file"), "failed (exit status 2): no file");
    assert_eq!(detail("starting", "", "no file"), "starting; last time: no file");
}

fn workload() -> impl Strategy<Value = WorkloadStatus<String>> {
    let texts = (".{0,20}", ".{0,20}", ".{0,20}", ".{0,20}");
    let numbers = proptest::array::uniform4(any::<u64>());
    let maybe = proptest::array::uniform4(any::<Option<u64>>());
    (texts, any::<bool>(), numbers, maybe).prop_map(|(texts, vital, numbers, maybe)| {
        let (name, state, reason, last_line) = texts;
        let [since_ms, restarts, crashes_in_a_row, log_bytes] = numbers;
        let [pid, started_ms, memory, memory_peak] = maybe;
        WorkloadStatus {
            name,
            state,
            reason,
            last_line,
            vital,
            pid,
            started_ms,
            since_ms,
            restarts,
            crashes_in_a_row,
            memory,
            memory_peak,
            log_bytes,
        }
    })
}

fn status() -> impl Strategy<Value = Status<String>> {
    let boot = prop_oneof![Just(Boot::Active), Just(Boot::Trial), Just(Boot::Fallback)];
    let wifi = proptest::option::of((any::<String>(), any::<String>()));
    (
        // `yes`, `no` and digits alone are names, too.
        (any::<bool>(), boot, proptest::array::uniform5("yes|no|[0-9]{1,3}|.{0,20}")),
        (any::<u64>(), proptest::option::of(".{0,20}"), wifi, any::<String>()),
        (proptest::collection::vec(".{0,20}", 0..3), any::<u64>()),
        proptest::collection::vec(workload(), 0..4),
    )
        .prop_map(|(booted, there, (stuck, up_ms), workloads)| {
            let (b, boot, [board, name, version, disk, chooser]) = booted;
            let (sequence, address, wifi, reason) = there;
            let slot = if b { Slot::B } else { Slot::A };
            Status {
                running: RunSlot { slot, boot, board, name, version, sequence, disk, chooser },
                address,
                wifi: wifi.map(|(network, state)| Wifi { network, state }),
                data: DataState { kind: Kind::Volatile, reason },
                stuck,
                up_ms,
                workloads,
            }
        })
}

proptest! {
    #[test]
    fn comes_back(status in status()) {
        prop_assert_eq!(Status::from_json(status.to_json().as_bytes()).unwrap(), status);
    }

    #[test]
    fn no_bytes_make_it_panic(json: Vec<u8>) {
        let _ = Status::from_json(&json);
    }
}

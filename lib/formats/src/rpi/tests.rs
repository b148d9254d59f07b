use super::*;
use crate::boot_state_store;
use crate::medium::DeviceFolder;
use proptest::prelude::*;

const CLUSTERS_AT: usize = (32 + 2 * 32 + 32) * 512;

/// The start of a FAT16 volume of 8 MiB as a formatter lays it out: 32 reserved sectors, two FATs of 32, 512 root
/// entries, clusters of one sector; `autoboot.txt` behind a label, in cluster 2.
fn volume(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; 128 << 10];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(11, &512u16.to_le_bytes());
    put(13, &[1]);
    put(14, &32u16.to_le_bytes());
    put(16, &[2]);
    put(17, &512u16.to_le_bytes());
    put(19, &16384u16.to_le_bytes());
    put(22, &32u16.to_le_bytes());
    put(39, &0x1234_ABCDu32.to_le_bytes());
    put(510, &[0x55, 0xAA]);
    let root = (32 + 2 * 32) * 512;
    put(root, b"FIRMWARE   \x08");
    put(root + 32, b"AUTOBOOTTXT\x20");
    put(root + 32 + 26, &2u16.to_le_bytes());
    put(root + 32 + 28, &(text.len() as u32).to_le_bytes());
    put(CLUSTERS_AT, text.as_bytes());
    bytes
}

fn device(method: Method) -> (tempfile::TempDir, Rpi) {
    let dir = tempfile::tempdir().unwrap();
    let text = autoboot::text(method, Slot::A);
    std::fs::write(dir.path().join(FIRMWARE), volume(&text)).unwrap();
    let rpi = Rpi::new(DeviceFolder::shared(dir.path()), method);
    (dir, rpi)
}

#[test]
fn a_store_rewrites_one_sector_of_the_file_and_the_older_copy_of_the_state() {
    let (dir, rpi) = device(Method::Pointer);
    let read = || std::fs::read(dir.path().join(FIRMWARE)).unwrap();
    let mut state = BootState::fresh();
    rpi.store(&mut state).unwrap();
    let before = read();
    state.commit(Slot::B);
    rpi.store(&mut state).unwrap();
    let after = read();
    let mut sectors: Vec<usize> =
        (0..after.len()).filter(|at| before[*at] != after[*at]).map(|at| at / 512).collect();
    sectors.dedup();
    let [a, b] = crate::layout::BOOT_STATE_OFFSETS.map(|offset| offset as usize / 512);
    assert!(sectors == [a, CLUSTERS_AT / 512] || sectors == [b, CLUSTERS_AT / 512], "{sectors:?}");
    assert_eq!(rpi.pointer().unwrap(), Some(Slot::B));
    assert_eq!(rpi.load().unwrap(), state);
}

#[test]
fn an_update_without_a_change_still_sees_to_the_pointer() {
    let (dir, rpi) = device(Method::Tryboot);
    let lock = dir.path().join("lock");
    boot_state_store::update(&rpi, &lock, |state| state.commit(Slot::B)).unwrap();
    rpi.write(&Write::Pointer(Slot::A)).unwrap();
    boot_state_store::update(&rpi, &lock, |_| {}).unwrap();
    assert_eq!(rpi.pointer().unwrap(), Some(Slot::B));
    // An installation must not begin while the firmware would boot the slot it overwrites.
    std::fs::write(dir.path().join(FIRMWARE), vec![0; 1 << 20]).unwrap();
    let gone = boot_state_store::update(&rpi, &lock, BootState::begin_install);
    assert!(gone.unwrap_err().to_string().starts_with("firmware: "));
}

#[test]
fn arming_does_not_move_the_pointer() {
    let (dir, rpi) = device(Method::Pointer);
    boot_state_store::update(&rpi, &dir.path().join("lock"), |state| state.arm(Slot::B, 3))
        .unwrap();
    assert_eq!(rpi.pointer().unwrap(), Some(Slot::A));
}

#[test]
fn the_running_slot_is_the_one_with_the_kernels_serial_number() {
    let (dir, rpi) = device(Method::Pointer);
    let boot = |slot: Slot, serial: u32| {
        let mut bytes = volume("");
        bytes[39..43].copy_from_slice(&serial.to_le_bytes());
        std::fs::write(dir.path().join(slot.boot_label()), bytes).unwrap();
    };
    boot(Slot::A, 1);
    boot(Slot::B, 0xA0_0002);
    let running = |arguments: &str, pointer| rpi.running(arguments, pointer);
    assert_eq!(running("quiet ferrite.boot=00a00002 x\n", Some(Slot::A)).unwrap(), Slot::B);
    assert_eq!(running("ferrite.boot=00000001", Some(Slot::B)).unwrap(), Slot::A);
    assert!(running("ferrite.boot=00000003", None).is_err());
    assert!(running("ferrite.boot=1 quiet", None).is_err());
    boot(Slot::B, 1);
    for slot in [Slot::A, Slot::B] {
        assert_eq!(running("ferrite.boot=00000001", Some(slot)).unwrap(), slot);
    }
}

proptest! {
    /// Whatever lies on the partition: an answer or an error, no panic, nothing outside of it.
    #[test]
    fn a_damaged_partition_is_an_error(
        damage in proptest::collection::vec((0usize..64, any::<u8>()), 1..8),
        entry in proptest::collection::vec((0usize..64, any::<u8>()), 0..4),
    ) {
        let (dir, rpi) = device(Method::Pointer);
        let path = dir.path().join(FIRMWARE);
        let mut bytes = std::fs::read(&path).unwrap();
        damage.iter().for_each(|(at, value)| bytes[*at] = *value);
        entry.iter().for_each(|(at, value)| bytes[96 * 512 + at] = *value);
        std::fs::write(&path, &bytes).unwrap();
        let _ = rpi.pointer();
        let _ = rpi.write(&Write::Pointer(Slot::B));
        prop_assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes.len() as u64);
    }
}

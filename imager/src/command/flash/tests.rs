use super::*;

fn stick() -> Device {
    Device {
        name: "sdb".into(),
        number: (8, 16),
        disk: None,
        bytes: 32_010_928_128,
        read_only: false,
        bus: Bus::Usb,
        model: "Flash Disk".into(),
        serial: "0815".into(),
        holders: vec![],
        slaves: vec![],
        kind: String::new(),
        backing: None,
    }
}

#[test]
fn only_the_devices_own_name_is_a_yes() {
    let answer = |text: &str| {
        let mut shown = Vec::new();
        let result = ask(&stick(), &mut text.as_bytes(), &mut shown);
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("/dev/sdb: 32.0 GB on USB, Flash Disk, serial 0815"), "{shown}");
        result
    };
    assert!(answer("sdb\n").is_ok() && answer("/dev/sdb\n").is_ok());
    for no in ["", "\n", "y\n", "yes\n", "sda\n", "sdb1\n", "SDB\n"] {
        assert!(answer(no).unwrap_err().to_string().contains("nothing was written"), "{no:?}");
    }
}

#[test]
fn yes_goes_with_a_name_that_means_the_same_disk_tomorrow() {
    let yes = |typed: &str| confirm(&stick(), Path::new(typed), true);
    assert!(yes("/dev/disk/by-id/usb-Flash_Disk_0815-0:0").is_ok());
    for typed in ["/dev/sdb", "sdb", "/dev/disk/by-path/x", "/dev/disk/by-id/../../sdb", "by-id/x"]
    {
        assert!(yes(typed).unwrap_err().to_string().contains("--yes"), "{typed}");
    }
}

#[test]
fn the_last_line_says_how_to_take_it_out() {
    assert!(farewell("/dev/sdb", Some(&stick()), true).contains("udisksctl power-off"));
    assert!(farewell("/dev/sdb", Some(&stick()), false).contains("put it in again"));
    assert!(farewell("card.img", None, true).contains("ready"));
}

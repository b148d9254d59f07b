//! The board files that imager brings along: those of `board-configs`, inside the program, so that
//! it works in any folder.

macro_rules! shipped {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../../board-configs/", $name, ".toml")))),*]
    };
}

/// The name and the text of each, sorted by name.
pub const SHIPPED: [(&str, &str); 12] = shipped![
    "jetson-agx-orin" "jetson-agx-xavier" "jetson-nano" "jetson-orin-nano" "jetson-xavier-nx"
    "pc-x86_64" "qemu-arm64" "qemu-arm64-efi" "rpi-zero2w" "rpi3" "rpi4" "rpi5"
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_board_configs_is_in_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../board-configs");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
            .collect();
        files.sort();
        assert_eq!(SHIPPED.map(|(name, _)| name).to_vec(), files);
    }
}

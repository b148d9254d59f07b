//! Mounting a stick, in a helper: reading a broken one may take for ever.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;

use formats::{Error, Result};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::scan::Medium;

/// Bytes that tell a file system.
const BOOT_SECTOR: usize = 512;

/// A file system that sticks have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fat,
    ExFat,
}

impl Kind {
    /// Told from the boot sector, so that the kernel's drivers see no other one: FAT by the type's
    /// name that every formatter writes (Microsoft's FAT specification 1.03, `BS_FilSysType`), exFAT
    /// by its name (exFAT specification, 3.1.2).
    fn of(sector: &[u8; BOOT_SECTOR]) -> Option<Kind> {
        if sector[510..] != [0x55, 0xAA] {
            return None;
        }
        if &sector[3..11] == b"EXFAT   " {
            return Some(Kind::ExFat);
        }
        let fat16 = matches!(&sector[54..62], b"FAT12   " | b"FAT16   " | b"FAT     ");
        (fat16 || &sector[82..90] == b"FAT32   ").then_some(Kind::Fat)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Fat => "vfat",
            Kind::ExFat => "exfat",
        }
    }

    /// Files are root's and everybody may read them: who sees the folder at all is decided by the
    /// workloads' mounts.
    fn options(self) -> &'static CStr {
        match self {
            Kind::Fat => c"codepage=437,iocharset=ascii,utf8,fmask=0133,dmask=0022",
            Kind::ExFat => c"iocharset=utf8,fmask=0133,dmask=0022",
        }
    }
}

/// Mounts it read-only. Fails on anything but FAT and exFAT, and on what the kernel refuses.
pub fn mount_stick(medium: &Medium) -> Result<()> {
    let node = ["/dev/", &medium.node].concat();
    let mut sector = [0; BOOT_SECTOR];
    File::open(&node)
        .and_then(|mut file| file.read_exact(&mut sector))
        .map_err(|e| Error::new(["cannot be read: ", &e.to_string()].concat()))?;
    let kind = Kind::of(&sector).ok_or_else(|| {
        Error::new("neither FAT nor exFAT; format the stick with one of them to use it here")
    })?;
    let folder = medium.folder();
    rustix::fs::mkdir(folder.as_str(), Mode::from_raw_mode(0o755))
        .map_err(|e| error(&folder, e))?;
    let flags = MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME;
    mount(node.as_str(), folder.as_str(), kind.name(), flags, kind.options()).map_err(|e| {
        let _ = rustix::fs::rmdir(folder.as_str());
        Error::new(["cannot be mounted as ", kind.name(), ": ", &e.to_string()].concat())
    })
}

/// Takes it away, for workloads too; what they have open stays theirs until they close it.
pub fn unmount_stick(medium: &Medium) -> Result<()> {
    let folder = medium.folder();
    unmount(folder.as_str(), UnmountFlags::DETACH).map_err(|e| error(&folder, e))?;
    rustix::fs::rmdir(folder.as_str()).map_err(|e| error(&folder, e))
}

fn error(what: &str, e: Errno) -> Error {
    Error::new([what, ": ", &e.to_string()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    fn sector(path: &std::path::Path) -> [u8; BOOT_SECTOR] {
        let mut sector = [0; BOOT_SECTOR];
        File::open(path).unwrap().read_exact_at(&mut sector, 0).unwrap();
        sector
    }

    #[test]
    #[ignore = "needs mkfs.fat: `just unit`"]
    fn fat_is_what_mkfs_makes_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stick");
        for (bits, megabytes) in [("12", 2), ("16", 32), ("32", 64)] {
            File::create(&path).unwrap().set_len(megabytes << 20).unwrap();
            let status = Command::new("mkfs.fat")
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .args(["-F", bits])
                .arg(&path)
                .output()
                .expect("mkfs.fat of package dosfstools")
                .status;
            assert!(status.success());
            assert_eq!(Kind::of(&sector(&path)), Some(Kind::Fat), "FAT{bits}");
        }
        let mut broken = sector(&path);
        broken[510] = 0;
        assert_eq!(Kind::of(&broken), None);
        assert_eq!(Kind::of(&[0; BOOT_SECTOR]), None);
    }

    #[test]
    fn exfat_has_its_name_at_the_start_and_a_partition_table_is_no_file_system() {
        let mut sector = [0; BOOT_SECTOR];
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(Kind::of(&sector), None);
        sector[3..11].copy_from_slice(b"NTFS    ");
        assert_eq!(Kind::of(&sector), None);
        sector[3..11].copy_from_slice(b"EXFAT   ");
        assert_eq!(Kind::of(&sector), Some(Kind::ExFat));
    }
}

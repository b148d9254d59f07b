//! Which files of a Debian package belong on a device.

/// Folders that only people or package managers read.
const LEFT_OUT: &[&str] = &[
    "usr/share/bash-completion/",
    "usr/share/bug/",
    "usr/share/doc/",
    "usr/share/doc-base/",
    "usr/share/gcc/",
    "usr/share/gdb/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/lib/systemd/",
    "usr/lib/sysusers.d/",
    "usr/lib/tmpfiles.d/",
    "usr/lib/udev/",
    "usr/share/initramfs-tools/",
    "usr/include/",
    "etc/init.d/",
    "etc/cron.d/",
    "etc/cron.daily/",
    "etc/default/",
    "var/lib/dpkg/",
];

/// Whether the file at `path` (relative, merged `/usr`) of `package` goes onto the root.
///
/// Of the packages that Ferrite itself brings, only what it uses; of others, all but what
/// only people or package managers read.
pub fn wanted(package: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match package {
        "e2fsprogs" => matches!(name, "e2fsck" | "mke2fs" | "mke2fs.conf"),
        "libc6" => {
            // glibc 2.34 moved the others into libc itself; their files are left for programs
            // that were linked before.
            const KEPT: &[&str] = &[
                "ld-linux-",
                "libc.so",
                "libdl.so",
                "libm.so",
                "libpthread.so",
                "libresolv.so",
                "librt.so",
                "libnss_dns.so",
                "libnss_files.so",
            ];
            // x86-64 programs name their dynamic linker by its place in `lib64`.
            let place = ["usr/lib/", "usr/lib64/"].iter().any(|folder| path.starts_with(folder));
            place && KEPT.iter().any(|start| name.starts_with(start))
        }
        "busybox-static" => path == "usr/bin/busybox",
        "dropbear-bin" => matches!(path, "usr/sbin/dropbear" | "usr/bin/dropbearkey"),
        // It reads its settings from a file and says what happens on its output.
        "wpasupplicant" => name == "wpa_supplicant" && path.starts_with("usr/sbin/"),
        // e2fsck and mke2fs need neither debugfs' command parser nor the boot log.
        "libss2" | "logsave" => false,
        _ => !LEFT_OUT.iter().any(|folder| path.starts_with(folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_never_reads_is_left_out() {
        assert!(wanted("libc6", "usr/lib/aarch64-linux-gnu/libc.so.6"));
        assert!(wanted("libc6", "usr/lib/ld-linux-aarch64.so.1"));
        assert!(wanted("libc6", "usr/lib64/ld-linux-x86-64.so.2"));
        assert!(!wanted("libc6", "usr/lib/aarch64-linux-gnu/gconv/UTF-16.so"));
        assert!(!wanted("libc6", "etc/ld.so.conf.d/x.conf"));
        assert!(wanted("e2fsprogs", "usr/sbin/e2fsck"));
        assert!(!wanted("e2fsprogs", "usr/sbin/resize2fs"));
        assert!(wanted("ca-certificates", "usr/share/ca-certificates/mozilla/x.crt"));
        assert!(!wanted("ca-certificates", "usr/share/man/man8/x.8.gz"));
    }
}

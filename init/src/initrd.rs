//! PID 1 in the initramfs: from the kernel's hand-over to PID 1 of the verified root.

pub mod boot_worker;
pub mod own_disk;
pub mod slot_selection;
mod switch_root;
mod verity_device;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::Path;

use formats::boot_conf::BootConf;
use formats::conf;
use formats::disk::Disk;
use formats::layout;
use formats::manifest::{Header, Manifest, TrustedKeys};
use formats::medium::DeviceFolder;
use formats::run_slot::RunSlot;
use formats::{Error, Result};
use rustix::mount::{MountFlags, mount};

use self::own_disk::StartedBy;
use self::slot_selection::Choice;
use crate::boot_state::{last_reset, rollback, slot_header};
use crate::console::{self, say};
use crate::watchdog::Watchdog;
use crate::{devices, modules, rcu, reset, uptime};

/// The largest `boot.conf` that is read.
const MAX_BOOT_CONF: usize = conf::MAX_BYTES;
/// Where the root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/newroot";

/// What is known at the moment something goes wrong.
#[derive(Default)]
struct Progress {
    choice: Option<Choice>,
    chooser: Option<String>,
    /// Kept open: the kernel complains about a watchdog that is closed while it runs.
    watchdog: Option<Watchdog>,
}

/// Runs the initrd; never returns. When anything fails, says so, notes it and resets.
pub fn run() -> ! {
    console::open();
    reset::reset_on_panic(None);
    let mut progress = Progress::default();
    let Err(error) = boot(&mut progress);
    let reason = error.to_string();
    let letter = progress.choice.map_or("?", |choice| choice.slot.letter());
    say(&["cannot boot slot ", letter, ": ", &reason, "; resetting"]);
    if let (Some(choice), Some(name)) = (progress.choice, &progress.chooser) {
        reset::note_in_time(name, choice.running(), &reason);
    }
    reset::reset()
}

/// From the initramfs to the root, step by step.
fn boot(progress: &mut Progress) -> Result<std::convert::Infallible> {
    mount_kernel_file_systems()?;
    rcu::begin();
    occupy_standard_descriptors();
    console::open();
    say(&["initrd: pid 1 after ", &uptime::now().to_string(), " ms"]);
    let arguments = read("/proc/cmdline")?;
    let arguments = String::from_utf8_lossy(&arguments);
    let text = read(layout::BOOT_CONF)?;
    let conf = BootConf::parse(&text).map_err(|e| e.within(layout::BOOT_CONF))?;
    let (choice, early_disk) = match slot_selection::chooses_here(&conf.chooser) {
        None => (slot_selection::from_cmdline(&arguments)?, None),
        Some(method) => {
            // A trial's way back leads over a write of its own initrd: nothing that could
            // hang comes before it, apart from the drivers it takes.
            for chain in &conf.chooser_modules {
                modules::load_chain(chain)?;
                if progress.watchdog.is_none() && has_watchdog(&conf) {
                    progress.watchdog = arm_watchdog(&conf);
                }
            }
            if progress.watchdog.is_none() {
                progress.watchdog = arm_watchdog(&conf);
            }
            let disk = own_disk::wait(&StartedBy::Firmware(method, &arguments))?;
            devices::link(&disk)?;
            (slot_selection::choose(method, &arguments)?, Some(disk))
        }
    };
    let slot = choice.slot;
    progress.choice = Some(choice);

    let later: Vec<&str> = conf.later_modules.iter().flatten().map(String::as_str).collect();
    let boot_worker = boot_worker::load_modules(&conf.modules, &later)?;
    let disk = match early_disk {
        Some(disk) => disk,
        None => {
            progress.watchdog = arm_watchdog(&conf);
            let named = own_disk::named(&conf.chooser, &arguments);
            let disk = own_disk::wait(&StartedBy::Loader(choice, named))?;
            devices::link(&disk)?;
            disk
        }
    };
    progress.chooser = Some(conf.chooser.clone());
    reset::reset_on_panic(Some((conf.chooser.clone(), choice.running())));
    last_reset::weigh(progress.watchdog.as_ref(), &conf.chooser, choice);
    let partition = ["/dev/", disk.partition(slot.root_label())?].concat();
    let partitions = DeviceFolder::shared(Path::new(layout::DEVICES));
    let header = slot_header::read(&*partitions, slot)?;
    let keys = trusted_keys(&conf)?;
    let manifest = Header::new(&header)
        .and_then(|header| header.verify(&keys))
        .map_err(|e| e.within(slot.root_label()))?;
    check(&manifest, &conf)?;
    rollback::yield_to_what_forbids(&manifest, choice, &conf.chooser, partitions, &keys)?;
    say(&[
        "initrd: slot ",
        slot.letter(),
        " of ",
        &manifest.name,
        " ",
        &manifest.version,
        " (sequence ",
        &manifest.sequence.to_string(),
        ") verified",
    ]);

    if let Some(boot_worker) = &boot_worker {
        boot_worker.slot_is_verified();
    }
    let root = verity_device::open(&partition, &manifest)?;
    mount_root(&root)?;
    write_run_files(choice, &conf.chooser, &disk, &manifest, &header)?;
    say(&["root mounted, starting /sbin/init (", &uptime::now().to_string(), " ms)"]);
    let mut environment: Vec<CString> = Vec::new();
    if let Some(handed) = progress.watchdog.as_ref().map(Watchdog::hand_over) {
        environment.extend(CString::new(handed));
    }
    if let Some(boot_worker) = &boot_worker {
        environment.extend(CString::new(boot_worker.hand_over()));
    }
    switch_root::enter(NEW_ROOT, &environment)
}

/// `/proc`, `/sys`, `/dev` and `/run`.
fn mount_kernel_file_systems() -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    for (kind, target, flags, options) in [
        ("proc", "/proc", safe, c""),
        ("sysfs", "/sys", safe, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
        ("tmpfs", "/run", safe, c"mode=0755,size=16m"),
    ] {
        // The archive may lack the folders; that the mount works is what counts.
        let _ = std::fs::create_dir(target);
        mount(kind, target, kind, flags, options)
            .map_err(|e| Error::new(["mount ", target, ": ", &e.to_string()].concat()))?;
    }
    create_dir("/run/ferrite")
}

/// Without a console the kernel starts PID 1 with nothing open. A file that got one of the first
/// three numbers could be taken for standard output by what is started later.
fn occupy_standard_descriptors() {
    while let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        if null.as_raw_fd() > 2 {
            break;
        }
        let _ = null.into_raw_fd();
    }
}

fn create_dir(path: &str) -> Result<()> {
    std::fs::create_dir(path).map_err(|e| Error::new([path, ": ", &e.to_string()].concat()))
}

/// Reads a small file; refuses a large one.
fn read(path: &str) -> Result<Vec<u8>> {
    use std::io::Read;
    let error = |e: std::io::Error| Error::new([path, ": ", &e.to_string()].concat());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(error)?;
    file.take(MAX_BOOT_CONF as u64 + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() > MAX_BOOT_CONF {
        return Err(Error::new([path, ": longer than 65536 bytes"].concat()));
    }
    Ok(bytes)
}

/// Whether the watchdog that the board names is there by now.
fn has_watchdog(conf: &BootConf) -> bool {
    conf.watchdog.as_ref().is_some_and(|watchdog| Path::new(&watchdog.device).exists())
}

/// Arms the watchdog that the board names. A board whose watchdog does not work still boots: the
/// trial's deadline and the vital workloads are watched by PID 1 as well.
fn arm_watchdog(conf: &BootConf) -> Option<Watchdog> {
    let named = conf.watchdog.as_ref()?;
    match Watchdog::arm(&named.device, named.seconds) {
        Ok(watchdog) => Some(watchdog),
        Err(e) => {
            say(&[&e.to_string()]);
            None
        }
    }
}

fn trusted_keys(conf: &BootConf) -> Result<TrustedKeys> {
    let mut keys = TrustedKeys::default();
    for key in &conf.keys {
        keys.add_hex(key).map_err(|e| e.within(layout::BOOT_CONF))?;
    }
    Ok(keys)
}

/// A signed manifest can still be that of another board.
fn check(manifest: &Manifest, conf: &BootConf) -> Result<()> {
    if manifest.board != conf.board {
        return Err(Error::new(
            ["the slot is for board ", &manifest.board, ", this is ", &conf.board].concat(),
        ));
    }
    Ok(())
}

fn mount_root(device: &str) -> Result<()> {
    create_dir(NEW_ROOT)?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
    mount(device, NEW_ROOT, "erofs", flags, c"")
        .map_err(|e| Error::new(["mount the root from ", device, ": ", &e.to_string()].concat()))
}

/// Tells the rootfs and the workloads what was booted.
fn write_run_files(
    choice: Choice,
    chooser: &str,
    disk: &Disk,
    manifest: &Manifest,
    header: &[u8],
) -> Result<()> {
    let word = RunSlot {
        slot: choice.slot,
        boot: choice.kind,
        board: manifest.board.clone(),
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        sequence: manifest.sequence,
        disk: ["/dev/", &disk.name].concat(),
        chooser: chooser.to_string(),
    };
    let word = word.to_text();
    for (path, bytes) in [(layout::RUN_SLOT, word.as_bytes()), (layout::RUN_SLOT_HEADER, header)] {
        std::fs::write(path, bytes)
            .map_err(|e| Error::new([path, ": ", &e.to_string()].concat()))?;
    }
    Ok(())
}

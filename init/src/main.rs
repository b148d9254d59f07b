//! PID 1 of Ferrite, and `ctl`, in one binary.
//!
//! As `/init` in the initramfs it lives its *initrd*: load modules, find the slot, verify it,
//! mount it, move over. As `/sbin/init` on the root it lives its *second*: file systems, network,
//! time, workloads, watchdog, and the way down. Called `ctl`, it talks to itself as PID 1; called
//! `modprobe`, by the kernel, it loads a module.

#![deny(unsafe_code)]
// PID 1 needs nothing of what the standard library prepares before `main` (a guard page's signal
// handler, three open descriptors), and what that pulls in is a tenth of the binary's size.
#![cfg_attr(not(test), no_main)]

mod ahead;
mod assistant;
mod beneath;
mod boot_state_requests;
mod choosing;
mod clock;
mod console;
mod control;
mod ctl;
mod data;
mod debug_programs;
mod devices;
mod failure;
mod haste;
mod helper;
mod initrd;
mod last_reset;
mod media;
mod modules;
mod mounts;
mod network;
mod own_disk;
mod printable;
mod quota;
mod recovery;
mod reset;
mod rollback;
mod rootfs;
mod settings;
mod shutdown;
mod slot_header;
mod sntp;
mod status;
mod switch_root;
#[allow(unsafe_code)]
mod sys;
mod system_conf;
mod trial;
mod uptime;
mod verity_device;
mod watchdog;
mod wireless;
mod workload;

/// What the process is called and which process it is decide what it does.
fn road() -> ! {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let called = arguments.first().map_or("", String::as_str);
    let name = called.rsplit('/').next().unwrap_or_default();
    let first = std::process::id() == 1;
    match (name, first) {
        ("ctl", _) => sys::exit(ctl::run(arguments.get(1..).unwrap_or_default())),
        ("modprobe", false) => {
            sys::exit(modules::asked_for(arguments.get(1..).unwrap_or_default()))
        }
        (_, true) if called == "/init" => initrd::run(),
        (_, true) => rootfs::run(),
        _ => {
            let _ = rustix::io::write(rustix::stdio::stderr(), USAGE.as_bytes());
            sys::exit(2)
        }
    }
}

const USAGE: &str = "init: the kernel starts this as PID 1; to talk to it, use ctl\n";

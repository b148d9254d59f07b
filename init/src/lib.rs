//! PID 1 of Ferrite, and `ctl`, in one program.
//!
//! What a process does follows from its name and its process id ([`dispatch`]):
//!
//! | started as | by | does |
//! |---|---|---|
//! | `/init`, PID 1 | the kernel, in the initramfs | `initrd`: load modules, find the slot, verify it, mount it, switch root |
//! | `/sbin/init`, PID 1 | the initrd, on the root | `rootfs`: mounts, network, time, supervision, watchdog, shutdown |
//! | `ctl` | a person or a workload | asks PID 1 through its control socket |
//! | `modprobe` | the kernel | loads a module |
//!
//! On the root, PID 1 is one event loop. Whatever may block (a disk, a module, a lock) is done by a forked
//! `helper`; the decisions are pure functions over plain data, so a test or a fuzzer can call them:
//!
//! ```
//! use std::net::Ipv4Addr;
//! use std::time::Duration;
//!
//! use init::network::dhcp::{Action, Client, Transport};
//! use init::network::dhcp_message::Request;
//!
//! // A DHCP client without a socket: at its first timer it wants to broadcast a DISCOVER.
//! let mut client = Client::new(42, 0);
//! let actions = client.timer(0);
//! assert_eq!(actions, [Action::Send(Request::Discover, Transport::Broadcast)]);
//! ```
//!
//! This is a library so that tests and fuzzers can use its parts; the program is `main.rs`.

#![deny(unsafe_code)]

mod beneath;
mod boot_state;
pub mod clock;
mod console;
mod control;
mod ctl;
mod data;
mod debug_programs;
mod devices;
mod helper;
mod initrd;
mod media;
mod modules;
pub mod network;
mod printable;
mod quota;
mod rcu;
mod reset;
mod rootfs;
mod settings;
#[allow(unsafe_code)]
mod sys;
mod system_conf;
mod uptime;
mod watchdog;
mod wireless;
mod workload;

/// Runs what the process's name and id ask for; never returns.
pub fn dispatch() -> ! {
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

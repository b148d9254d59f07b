//! The network: loopback, the first wired interface, and the radio in images that have one, each
//! configured by DHCP. Where both lead to the same place the wired route is preferred (its metric is lower). `link` talks to the
//! kernel, `dhcp` decides, `dhcp_message` reads and writes packets, `interface` is one interface, and this
//! file has them all.

pub mod dhcp;
pub mod dhcp_message;
mod interface;
mod link;

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use formats::{Error, Result};

use self::dhcp_message::Lease;
use self::interface::{Interface, Kind};
use self::link::{Event, LinkInfo};
use crate::console::say;
use crate::sys;

/// The kernel numbers interfaces from the loopback on.
const LOOPBACK: i32 = 1;
/// What the resolver reads; `/etc/resolv.conf` of the root is a link to it.
const RESOLV_CONF: &str = "/run/ferrite/resolv.conf";
/// The largest netlink datagram taken.
const BUFFER: usize = 8192;
/// Datagrams taken before others get their turn.
const AT_ONCE: usize = 16;

/// The socket that reports interfaces.
#[derive(Debug)]
enum Link {
    NotYet,
    Open(OwnedFd),
    /// It could not be opened; that was said.
    Failed,
}

/// Everything about the network.
#[derive(Debug)]
pub struct Network {
    link: Link,
    dhcp: bool,
    /// The radio's interface, in images that use it.
    radio: Option<String>,
    /// At most one of each kind.
    interfaces: Vec<Interface>,
    /// The interface that data leaves by, with its lease.
    in_use: Option<(i32, Lease)>,
    address: String,
    time_servers: Vec<IpAddr>,
    failures_said: u32,
}

/// Switches the loopback on and does nothing else.
pub fn switch_loopback_on() -> Result<()> {
    let error = |e: std::io::Error| Error::new(["network: loopback: ", &e.to_string()].concat());
    let link = link::open().map_err(error)?;
    link::request(link.as_fd(), &link::switch_on(LOOPBACK)).map_err(error)
}

impl Network {
    /// Nothing happens before [`Network::open`]. `radio`: the interface that joins wireless networks.
    pub fn new(dhcp: bool, radio: Option<String>) -> Network {
        Network {
            link: Link::NotYet,
            dhcp,
            radio,
            interfaces: Vec::new(),
            in_use: None,
            address: String::new(),
            time_servers: Vec::new(),
            failures_said: 0,
        }
    }

    /// Whether [`Network::open`] is still to be called.
    pub fn is_to_open(&self) -> bool {
        matches!(self.link, Link::NotYet)
    }

    /// Switches the loopback on, if it is not, and waits for interfaces if they are to be configured
    /// by DHCP.
    pub fn open(&mut self) {
        self.link = match link::open() {
            Ok(link) => Link::Open(link),
            Err(e) => {
                say(&["network: ", &e.to_string()]);
                Link::Failed
            }
        };
        self.request(&link::switch_on(LOOPBACK));
        if self.dhcp {
            self.request(&link::list());
        }
    }

    /// The socket that reports interfaces.
    pub fn link_socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.link {
            Link::Open(link) => Some(link.as_fd()),
            Link::NotYet | Link::Failed => None,
        }
    }

    /// The sockets that DHCP answers come through, each with its number.
    pub fn packet_sockets(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let sockets =
            self.interfaces.iter().map(|interface| interface.packets.as_ref().map(|fd| fd.as_fd()));
        sockets.enumerate().filter_map(|(number, fd)| Some((number, fd?)))
    }

    /// When [`Network::tick`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.interfaces.iter().filter_map(Interface::deadline).min()
    }

    /// There is an address.
    pub fn is_up(&self) -> bool {
        self.in_use.is_some()
    }

    /// The radio is there.
    pub fn has_radio(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.kind == Kind::Wireless)
    }

    /// The address with its prefix, empty if there is none.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Time servers that DHCP named.
    pub fn time_servers(&self) -> &[IpAddr] {
        &self.time_servers
    }

    fn request(&self, message: &[u8]) {
        let Link::Open(link) = &self.link else { return };
        if let Err(e) = link::request(link.as_fd(), message) {
            say(&["network: ", &e.to_string()]);
        }
    }

    /// The kernel reports that interfaces changed.
    pub fn on_link(&mut self, now: u64) {
        let mut buffer = [0; BUFFER];
        for _ in 0..AT_ONCE {
            let Link::Open(link) = &self.link else { return };
            let Some(n) = sys::read_ready(link, &mut buffer) else { break };
            if n == 0 {
                // The queue ran over: events are lost, so ask for all of them.
                self.request(&link::list());
                break;
            }
            for event in link::parse(&buffer[..n]) {
                self.take(event, now);
            }
        }
        self.settle();
    }

    fn take(&mut self, event: Event, now: u64) {
        match event {
            Event::Failed(error) => {
                // The same request may fail again and again; people need to see it once or twice.
                if self.failures_said < 4 {
                    let error = std::io::Error::from_raw_os_error(error);
                    say(&["network: the kernel refused a setting: ", &error.to_string()]);
                    self.failures_said += 1;
                }
            }
            Event::Gone(index) => {
                let gone =
                    self.interfaces.iter().position(|interface| interface.link.index == index);
                if let Some(mut interface) = gone.map(|gone| self.interfaces.remove(gone)) {
                    // The kernel has taken its addresses along.
                    interface.remove();
                    self.request(&link::list());
                }
            }
            Event::Changed(new) => self.on_interface(new, now),
        }
    }

    fn on_interface(&mut self, new: LinkInfo, now: u64) {
        if !self.dhcp {
            return;
        }
        let kind = match (is_wireless(&new.name), &self.radio) {
            (false, _) => Kind::Wired,
            (true, Some(radio)) if *radio == new.name => Kind::Wireless,
            (true, _) => return,
        };
        // Who joins the network switches the radio on.
        if !new.up && kind == Kind::Wired {
            self.request(&link::switch_on(new.index));
        }
        match self.interfaces.iter_mut().find(|interface| interface.kind == kind) {
            Some(interface) if interface.link.index == new.index => interface.update(new, now),
            Some(_) => {}
            None => {
                if self.radio.is_some() {
                    drop_dead_routes(&new.name);
                }
                let mut interface = Interface::new(new.clone(), kind);
                interface.update(new, now);
                self.interfaces.push(interface);
            }
        }
    }

    /// A packet for the DHCP client of this number arrived.
    pub fn on_packet(&mut self, number: usize, now: u64) {
        let requests = self.interfaces.get_mut(number).map(|interface| interface.on_packet(now));
        self.carry_out(requests.unwrap_or_default());
    }

    /// Does what is due.
    pub fn tick(&mut self, now: u64) {
        let requests: Vec<_> =
            self.interfaces.iter_mut().flat_map(|interface| interface.tick(now)).collect();
        self.carry_out(requests);
    }

    fn carry_out(&mut self, requests: Vec<Vec<u8>>) {
        if requests.is_empty() {
            return;
        }
        requests.iter().for_each(|request| self.request(request));
        self.settle();
    }

    /// Lets resolver, clock and status follow the interface that data leaves by now.
    fn settle(&mut self) {
        let best = best(&self.interfaces);
        let found =
            best.and_then(|interface| Some((interface.link.index, interface.lease.clone()?)));
        if found == self.in_use {
            return;
        }
        if let (Some(interface), Some((index, _)), Some((before, _))) = (best, &found, &self.in_use)
            && index != before
        {
            say(&["network: data leaves by ", &interface.link.name, " now"]);
        }
        self.address =
            found.as_ref().map(|(_, lease)| interface::address(lease)).unwrap_or_default();
        if let Some((_, lease)) = &found {
            if let Err(e) = write_resolv_conf(lease) {
                say(&["network: ", RESOLV_CONF, ": ", &e.to_string()]);
            }
            self.time_servers = lease.time_servers.iter().copied().map(IpAddr::V4).collect();
        }
        self.in_use = found;
    }
}

/// The wired interface if it can be used, else the radio if that can. A cable that is out for a moment
/// does not take the address away.
fn best(interfaces: &[Interface]) -> Option<&Interface> {
    let of = |kind| interfaces.iter().find(move |interface| interface.kind == kind);
    let (cable, radio) = (of(Kind::Wired), of(Kind::Wireless));
    let usable = |interface: &&Interface| interface.is_usable();
    cable
        .filter(usable)
        .or(radio.filter(usable))
        .or(cable.filter(|interface| interface.lease.is_some()))
}

fn is_wireless(name: &str) -> bool {
    std::path::Path::new(&["/sys/class/net/", name, "/phy80211"].concat()).exists()
}

/// Lets the kernel take the other route as soon as this interface's cable is out
/// (Documentation/networking/ip-sysctl.rst, `ignore_routes_with_linkdown`).
fn drop_dead_routes(name: &str) {
    let path = ["/proc/sys/net/ipv4/conf/", name, "/ignore_routes_with_linkdown"].concat();
    if let Err(e) = std::fs::write(&path, "1") {
        say(&["network: ", &path, ": ", &e.to_string()]);
    }
}

/// Replaces the file in one step, so that no resolver reads half of it.
fn write_resolv_conf(lease: &Lease) -> std::io::Result<()> {
    let mut text = String::new();
    if !lease.domain.is_empty() {
        text.push_str(&["search ", &lease.domain, "\n"].concat());
    }
    for server in &lease.name_servers {
        text.push_str(&["nameserver ", &server.to_string(), "\n"].concat());
    }
    let new = [RESOLV_CONF, ".new"].concat();
    std::fs::write(&new, text)?;
    std::fs::rename(&new, RESOLV_CONF)
}

//! The network: loopback, and the first wired interface configured by DHCP. `link` talks to the
//! kernel, `dhcp` decides, `dhcp_message` reads and writes packets, and this file carries out.

mod dhcp;
mod dhcp_message;
mod link;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{bind, sendto, socket_with, AddressFamily, SendFlags, SocketFlags, SocketType};

use self::dhcp::{Action, Client, Road};
use self::dhcp_message::{broadcast, message, Lease, Request};
use self::link::{Interface, News};
use slot::{Error, Result};

use crate::console::say;
use crate::sys::{self, LinkAddress};

/// The kernel numbers interfaces from the loopback on.
const LOOPBACK: i32 = 1;
const IPV4: u16 = 0x0800;
/// What the resolver reads; `/etc/resolv.conf` of the root is a link to it.
const RESOLV_CONF: &str = "/run/ferrite/resolv.conf";
/// The largest packet or netlink datagram taken.
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
    interface: Option<Interface>,
    client: Option<Client>,
    packets: Option<OwnedFd>,
    lease: Option<Lease>,
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
    /// Nothing happens before [`Network::open`].
    pub fn new(dhcp: bool) -> Network {
        Network {
            link: Link::NotYet,
            dhcp,
            interface: None,
            client: None,
            packets: None,
            lease: None,
            address: String::new(),
            time_servers: Vec::new(),
            failures_said: 0,
        }
    }

    /// Whether [`Network::open`] is still to be called.
    pub fn is_to_open(&self) -> bool {
        matches!(self.link, Link::NotYet)
    }

    /// Switches the loopback on, if it is not, and waits for a wired interface if one is to be
    /// configured by DHCP.
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

    /// The socket that DHCP answers come through.
    pub fn packet_socket(&self) -> Option<BorrowedFd<'_>> {
        self.packets.as_ref().map(|packets| packets.as_fd())
    }

    /// When [`Network::tick`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        let carrier = self.interface.as_ref().is_some_and(|interface| interface.carrier);
        self.client.as_ref().filter(|_| carrier).map(Client::deadline)
    }

    /// There is an address.
    pub fn is_up(&self) -> bool {
        self.lease.is_some()
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

    /// The kernel has news of interfaces.
    pub fn on_link(&mut self, now: u64) {
        let mut buffer = [0; BUFFER];
        for _ in 0..AT_ONCE {
            let Link::Open(link) = &self.link else { return };
            let Some(n) = sys::read_ready(link, &mut buffer) else { return };
            if n == 0 {
                // The queue ran over: news are lost, so ask for all of them.
                self.request(&link::list());
                return;
            }
            for news in link::parse(&buffer[..n]) {
                self.take(news, now);
            }
        }
    }

    fn take(&mut self, news: News, now: u64) {
        match news {
            News::Failed(error) => {
                // The same request may fail again and again; people need to see it once or twice.
                if self.failures_said < 4 {
                    let error = std::io::Error::from_raw_os_error(error);
                    say(&["network: the kernel refused a setting: ", &error.to_string()]);
                    self.failures_said += 1;
                }
            }
            News::Gone(index) => {
                if self.interface.as_ref().is_some_and(|i| i.index == index) {
                    self.remove();
                    self.interface = None;
                    self.client = None;
                    self.packets = None;
                    self.request(&link::list());
                }
            }
            News::Interface(new) => self.on_interface(new, now),
        }
    }

    fn on_interface(&mut self, new: Interface, now: u64) {
        let ours = self.interface.as_ref().map(|interface| interface.index);
        if !self.dhcp || ours.is_some_and(|ours| ours != new.index) || !is_wired(&new.name) {
            return;
        }
        if !new.up {
            self.request(&link::switch_on(new.index));
        }
        let had_carrier = self.interface.as_ref().is_some_and(|old| old.carrier);
        if new.carrier && !had_carrier {
            match &mut self.client {
                Some(client) => client.start_anew(now),
                None => self.client = Some(Client::new(transaction(&new, now), now)),
            }
        }
        self.interface = Some(new);
    }

    /// A packet for the DHCP client arrived.
    pub fn on_packet(&mut self, now: u64) {
        let mut buffer = [0; 2048];
        for _ in 0..AT_ONCE {
            let (Some(packets), Some(client), Some(interface)) =
                (&self.packets, &mut self.client, &self.interface)
            else {
                return;
            };
            let Some(n) = sys::read_ready(packets, &mut buffer) else { return };
            let reply = dhcp_message::parse(&buffer[..n], client.transaction, interface.hardware);
            if let Some(reply) = reply {
                let actions = client.reply(reply, now);
                self.act(actions, now);
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: u64) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            let actions = self.client.as_mut().map(|client| client.timer(now)).unwrap_or_default();
            self.act(actions, now);
        }
    }

    fn act(&mut self, actions: Vec<Action>, now: u64) {
        for action in actions {
            match action {
                Action::Send(request, road) => self.send(request, road, now),
                Action::Apply(lease) => self.apply(lease),
                Action::Remove => self.remove(),
            }
        }
        if !self.client.as_ref().is_some_and(Client::listens) {
            self.packets = None;
        }
    }

    fn send(&mut self, request: Request, road: Road, now: u64) {
        let (Some(interface), Some(client)) = (&self.interface, &self.client) else { return };
        if self.packets.is_none() {
            self.packets = listen(interface.index)
                .map_err(|e| say(&["network: ", &interface.name, ": ", &e.to_string()]))
                .ok();
        }
        let Some(packets) = &self.packets else { return };
        let seconds = (now / 1000).min(u64::from(u16::MAX)) as u16;
        let message = message(request, client.transaction, interface.hardware, seconds);
        let from = match request {
            Request::Renew { address } => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        // A packet that cannot be sent is like one that was lost: the timer sends another.
        match (road, &self.lease) {
            (Road::Server, Some(lease)) => {
                if let Ok(socket) = UdpSocket::bind((lease.address, 68)) {
                    let _ = socket.set_nonblocking(true);
                    let _ = socket.send_to(&message, (lease.server, 67));
                }
            }
            _ => {
                let everybody =
                    LinkAddress { interface: interface.index, protocol: IPV4, hardware: [0xff; 6] };
                let packet = broadcast(from, &message);
                let _ = sendto(packets, &packet, SendFlags::empty(), &everybody);
            }
        }
    }

    fn apply(&mut self, lease: Lease) {
        let Some(interface) = &self.interface else { return };
        let (index, name) = (interface.index, interface.name.clone());
        if self.lease.as_ref() == Some(&lease) {
            return;
        }
        let moved = self
            .lease
            .as_ref()
            .is_some_and(|old| (old.address, old.prefix) != (lease.address, lease.prefix));
        if moved {
            self.remove();
        }
        let address = [lease.address.to_string().as_str(), "/", &lease.prefix.to_string()].concat();
        self.request(&link::add_address(index, lease.address, lease.prefix));
        if let Some(router) = lease.router {
            self.request(&link::default_route(index, router));
        }
        if let Err(e) = write_resolv_conf(&lease) {
            say(&["network: ", RESOLV_CONF, ": ", &e.to_string()]);
        }
        if self.address != address {
            say(&["network: ", &name, " has address ", &address]);
        }
        self.address = address;
        self.time_servers = lease.time_servers.iter().copied().map(IpAddr::V4).collect();
        self.lease = Some(lease);
    }

    fn remove(&mut self) {
        let (Some(interface), Some(lease)) = (&self.interface, self.lease.take()) else { return };
        self.request(&link::remove_address(interface.index, lease.address, lease.prefix));
        say(&["network: ", &interface.name, " lost its address ", &self.address]);
        self.address.clear();
    }
}

/// An Ethernet interface that is not Wi-Fi.
fn is_wired(name: &str) -> bool {
    !std::path::Path::new(&["/sys/class/net/", name, "/phy80211"].concat()).exists()
}

/// A number that tells our transaction from others' on this link.
fn transaction(interface: &Interface, now: u64) -> u32 {
    let [_, _, a, b, c, d] = interface.hardware;
    u32::from_be_bytes([a, b, c, d]) ^ (now as u32).wrapping_mul(0x9E37_79B9)
}

/// A socket for the IPv4 packets to UDP port 68 on an interface. The filter stands before the
/// socket is bound, so that PID 1 is never woken by other traffic.
fn listen(interface: i32) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    sys::attach_filter(
        socket.as_fd(),
        &[
            op(0x30, 0, 0, 9),      // load the protocol
            op(0x15, 0, 6, 17),     // not UDP: drop
            op(0x28, 0, 0, 6),      // load flags and fragment offset
            op(0x45, 4, 0, 0x1fff), // a later fragment: drop
            op(0xb1, 0, 0, 0),      // length of the IP header
            op(0x48, 0, 0, 2),      // load the destination port
            op(0x15, 0, 1, 68),     // not for us: drop
            op(0x06, 0, 0, 0xffff), // take all of it
            op(0x06, 0, 0, 0),      // drop
        ],
    )?;
    bind(&socket, &LinkAddress { interface, protocol: IPV4, hardware: [0; 6] })?;
    Ok(socket)
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

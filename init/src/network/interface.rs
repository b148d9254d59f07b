//! One interface and its DHCP client.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, sendto, socket_with};

use super::dhcp::{Action, Client, Transport};
use super::dhcp_message::{self, Lease, Request, broadcast, message};
use super::link::{self, LinkInfo};
use crate::console::say;
use crate::sys::{self, LinkAddress};

const IPV4: u16 = 0x0800;
/// Packets taken before others get their turn.
const AT_ONCE: usize = 16;

/// The kind of link. A wired one is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Wired,
    Wireless,
}

impl Kind {
    /// Route metric; the lowest is preferred.
    fn metric(self) -> u32 {
        match self {
            Kind::Wired => 0,
            Kind::Wireless => 600,
        }
    }
}

/// An interface that is configured by DHCP.
#[derive(Debug)]
pub struct Interface {
    /// The link as the kernel last described it.
    pub link: LinkInfo,
    /// What it is.
    pub kind: Kind,
    /// What a server gave.
    pub lease: Option<Lease>,
    /// Its socket for DHCP answers, while any is awaited.
    pub packets: Option<OwnedFd>,
    client: Option<Client>,
    has_carrier: bool,
}

impl Interface {
    /// An interface that nothing is known of yet; [`Interface::update`] comes next.
    pub fn new(link: LinkInfo, kind: Kind) -> Interface {
        Interface { link, kind, lease: None, packets: None, client: None, has_carrier: false }
    }

    /// Takes over what the kernel says of the interface. A carrier that is new may be another
    /// network: the server is asked again.
    pub fn update(&mut self, new: LinkInfo, now: u64) {
        // A radio has a carrier before the network has let it in.
        let carrier = new.carrier && (new.running || self.kind == Kind::Wired);
        if carrier && !self.has_carrier {
            match &mut self.client {
                Some(client) => client.start_anew(now),
                None => self.client = Some(Client::new(transaction(&new, now), now)),
            }
        }
        self.has_carrier = carrier;
        self.link = new;
    }

    /// Data can be sent now.
    pub fn is_usable(&self) -> bool {
        self.has_carrier && self.lease.is_some()
    }

    /// When [`Interface::tick`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.client.as_ref().filter(|_| self.has_carrier).map(Client::deadline)
    }

    /// Does what is due. Returns requests to the kernel.
    pub fn tick(&mut self, now: u64) -> Vec<Vec<u8>> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let actions = self.client.as_mut().map(|client| client.timer(now)).unwrap_or_default();
        self.act(actions, now)
    }

    /// A packet for the DHCP client arrived. Returns requests to the kernel.
    pub fn on_packet(&mut self, now: u64) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        let mut requests = Vec::new();
        for _ in 0..AT_ONCE {
            let (Some(packets), Some(client)) = (&self.packets, &mut self.client) else { break };
            let Some(n) = sys::read_ready(packets, &mut buffer) else { break };
            let hardware = self.link.hardware;
            let reply = dhcp_message::parse(&buffer[..n], client.transaction, hardware);
            if let Some(reply) = reply {
                let actions = client.reply(reply, now);
                requests.extend(self.act(actions, now));
            }
        }
        requests
    }

    fn act(&mut self, actions: Vec<Action>, now: u64) -> Vec<Vec<u8>> {
        let mut requests = Vec::new();
        for action in actions {
            match action {
                Action::Send(request, transport) => self.send(request, transport, now),
                Action::Apply(lease) => requests.extend(self.apply(lease)),
                Action::Remove => requests.extend(self.remove()),
            }
        }
        if !self.client.as_ref().is_some_and(Client::listens) {
            self.packets = None;
        }
        requests
    }

    fn send(&mut self, request: Request, transport: Transport, now: u64) {
        let (interface, Some(client)) = (&self.link, &self.client) else { return };
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
        match (transport, &self.lease) {
            (Transport::Unicast, Some(lease)) => {
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

    fn apply(&mut self, lease: Lease) -> Vec<Vec<u8>> {
        if self.lease.as_ref() == Some(&lease) {
            return Vec::new();
        }
        let same = |old: &Lease| (old.address, old.prefix) == (lease.address, lease.prefix);
        let known = self.lease.as_ref().is_some_and(same);
        let mut requests = if known { Vec::new() } else { self.remove() };
        let (index, metric) = (self.link.index, self.kind.metric());
        requests.push(link::add_address(index, lease.address, lease.prefix, metric));
        requests.extend(lease.router.map(|router| link::default_route(index, router, metric)));
        if !known {
            say(&["network: ", &self.link.name, " has address ", &address(&lease)]);
        }
        self.lease = Some(lease);
        requests
    }

    /// Takes the address away. Returns requests to the kernel.
    pub fn remove(&mut self) -> Vec<Vec<u8>> {
        let Some(lease) = self.lease.take() else { return Vec::new() };
        say(&["network: ", &self.link.name, " lost its address ", &address(&lease)]);
        vec![link::remove_address(self.link.index, lease.address, lease.prefix)]
    }
}

/// The address with its prefix.
pub fn address(lease: &Lease) -> String {
    [lease.address.to_string().as_str(), "/", &lease.prefix.to_string()].concat()
}

/// A number that tells our transaction from others' on this link.
fn transaction(interface: &LinkInfo, now: u64) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(carrier: bool, running: bool) -> LinkInfo {
        let name = "x".to_string();
        LinkInfo { index: 9, name, hardware: [2, 0, 0, 0, 0, 1], up: true, carrier, running }
    }

    #[test]
    fn a_radio_asks_for_an_address_when_the_network_has_let_it_in() {
        let mut radio = Interface::new(interface(false, false), Kind::Wireless);
        radio.update(interface(true, false), 5);
        assert_eq!(radio.deadline(), None);
        radio.update(interface(true, true), 6);
        assert_eq!(radio.deadline(), Some(6));
        radio.update(interface(false, true), 7);
        assert_eq!(radio.deadline(), None);
        let mut cable = Interface::new(interface(false, false), Kind::Wired);
        cable.update(interface(true, false), 8);
        assert_eq!(cable.deadline(), Some(8));
    }

    #[test]
    fn an_address_is_given_once_and_taken_away_when_another_comes() {
        let lease = |last: u8| Lease {
            address: Ipv4Addr::new(10, 0, 2, last),
            prefix: 24,
            router: Some(Ipv4Addr::new(10, 0, 2, 2)),
            name_servers: Vec::new(),
            time_servers: Vec::new(),
            domain: String::new(),
            server: Ipv4Addr::new(10, 0, 2, 2),
            lasts: 60,
            renew: 30,
            rebind: 50,
        };
        let mut cable = Interface::new(interface(true, true), Kind::Wireless);
        cable.update(interface(true, true), 0);
        assert!(!cable.is_usable());
        assert_eq!(cable.apply(lease(15)).len(), 2, "address and route");
        assert!(cable.is_usable());
        assert!(cable.apply(lease(15)).is_empty());
        assert_eq!(cable.apply(lease(16)).len(), 3, "the old one is removed");
        assert_eq!(address(cable.lease.as_ref().unwrap()), "10.0.2.16/24");
        cable.update(interface(false, false), 9);
        assert!(!cable.is_usable() && cable.lease.is_some());
    }
}

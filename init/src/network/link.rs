//! Interfaces, addresses and routes, through route netlink (linux/rtnetlink.h).

use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, send, socket_with};

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;

const REQUEST: u16 = 0x001;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;

const FLAG_UP: u32 = 1;
/// Data can pass (RFC 2863, ifOperStatus): on a radio only when the network has let it in.
const FLAG_RUNNING: u32 = 1 << 6;
/// The driver sees a carrier.
const FLAG_LOWER_UP: u32 = 1 << 16;
/// ARPHRD_ETHER
const ETHERNET: u16 = 1;
/// Multicast group of interface events.
const GROUP_LINK: u32 = 1;
const HEADER: usize = 16;

/// Event from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An Ethernet interface exists, with these properties.
    Changed(LinkInfo),
    /// The interface with this index is gone.
    Gone(i32),
    /// A request of ours failed with this error number.
    Failed(i32),
}

/// An Ethernet interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its index.
    pub index: i32,
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// Switched on.
    pub up: bool,
    /// A cable is plugged in, or a network is joined.
    pub carrier: bool,
    /// Data can pass.
    pub running: bool,
}

/// Opens the socket and asks for the interfaces there are; later ones are reported as they come.
pub fn open() -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUP_LINK))?;
    Ok(socket)
}

/// Sends one request; the kernel carries it out before this returns.
pub fn request(socket: BorrowedFd<'_>, message: &[u8]) -> std::io::Result<()> {
    send(socket, message, SendFlags::empty())?;
    Ok(())
}

/// Asks for all interfaces.
pub fn list() -> Vec<u8> {
    message(GET_LINK, REQUEST | DUMP, &[0; 16], &[])
}

/// Switches an interface on.
pub fn switch_on(index: i32) -> Vec<u8> {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&FLAG_UP.to_ne_bytes());
    body[12..16].copy_from_slice(&FLAG_UP.to_ne_bytes());
    message(NEW_LINK, REQUEST, &body, &[])
}

/// Gives an interface an address. `metric`: the metric of its routes; the lowest is preferred.
pub fn add_address(index: i32, address: Ipv4Addr, prefix: u8, metric: u32) -> Vec<u8> {
    let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let broadcast = Ipv4Addr::from(u32::from(address) | host).octets();
    let attributes: [(u16, &[u8]); 4] = [
        (1, &address.octets()),
        (2, &address.octets()),
        (9, &metric.to_ne_bytes()),
        (4, &broadcast),
    ];
    // On a /31 or /32 there is no broadcast address (RFC 3021).
    let used = if prefix < 31 { 4 } else { 3 };
    let body = address_body(index, prefix);
    message(NEW_ADDRESS, REQUEST | CREATE | REPLACE, &body, &attributes[..used])
}

/// Takes an address away.
pub fn remove_address(index: i32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    message(DEL_ADDRESS, REQUEST, &address_body(index, prefix), &[(2, &address.octets())])
}

fn address_body(index: i32, prefix: u8) -> [u8; 8] {
    let i = index.to_ne_bytes();
    [libc::AF_INET as u8, prefix, 0, 0, i[0], i[1], i[2], i[3]]
}

/// Adds the default route through `router`.
pub fn default_route(index: i32, router: Ipv4Addr, metric: u32) -> Vec<u8> {
    // family, destination and source bits, tos, main table, from DHCP, global, unicast, flags.
    let body = [libc::AF_INET as u8, 0, 0, 0, 254, 16, 0, 1, 0, 0, 0, 0];
    let attributes: [(u16, &[u8]); 3] =
        [(5, &router.octets()), (4, &index.to_ne_bytes()), (6, &metric.to_ne_bytes())];
    message(NEW_ROUTE, REQUEST | CREATE | REPLACE, &body, &attributes)
}

fn message(kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut m = vec![0; HEADER];
    m[4..6].copy_from_slice(&kind.to_ne_bytes());
    m[6..8].copy_from_slice(&flags.to_ne_bytes());
    m.extend_from_slice(body);
    for (kind, value) in attributes {
        m.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        m.extend_from_slice(&kind.to_ne_bytes());
        m.extend_from_slice(value);
        m.resize(m.len().next_multiple_of(4), 0);
    }
    let length = m.len() as u32;
    m[..4].copy_from_slice(&length.to_ne_bytes());
    m
}

/// Reads a datagram of messages from the kernel.
pub fn parse(mut datagram: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(length) = u32_at(datagram, 0).map(|length| length as usize) {
        let Some(message) = datagram.get(..length).filter(|m| m.len() >= HEADER) else { break };
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        events.extend(parse_one(kind, &message[HEADER..]));
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    events
}

fn parse_one(kind: u16, body: &[u8]) -> Option<Event> {
    match kind {
        ERROR => match u32_at(body, 0)? as i32 {
            0 => None,
            error => Some(Event::Failed(-error)),
        },
        DEL_LINK => Some(Event::Gone(u32_at(body, 4)? as i32)),
        NEW_LINK => {
            let hardware_kind = u16::from_ne_bytes([*body.get(2)?, *body.get(3)?]);
            let flags = u32_at(body, 8)?;
            let attributes = body.get(16..)?;
            if hardware_kind != ETHERNET {
                return None;
            }
            let name = attribute(attributes, 3)?;
            let name = std::str::from_utf8(name).ok()?.trim_end_matches('\0');
            Some(Event::Changed(LinkInfo {
                index: u32_at(body, 4)? as i32,
                name: name.to_string(),
                hardware: attribute(attributes, 1)?.try_into().ok()?,
                up: flags & FLAG_UP != 0,
                carrier: flags & FLAG_LOWER_UP != 0,
                running: flags & FLAG_RUNNING != 0,
            }))
        }
        _ => None,
    }
}

/// The value of the first attribute of this kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes([*attributes.first()?, *attributes.get(1)?]));
        let kind = u16::from_ne_bytes([*attributes.get(2)?, *attributes.get(3)?]);
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(kind: u16, hardware_kind: u16, flags: u32) -> Vec<u8> {
        let mut body = [0; 16];
        body[2..4].copy_from_slice(&hardware_kind.to_ne_bytes());
        body[4..8].copy_from_slice(&2i32.to_ne_bytes());
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        message(kind, 0, &body, &[(3, b"eth0\0"), (1, &[2, 0, 0, 0, 0, 1])])
    }

    #[test]
    fn reads_interfaces_as_they_come_and_go() {
        let mut datagram = link(NEW_LINK, ETHERNET, FLAG_UP | FLAG_LOWER_UP);
        datagram.extend(link(NEW_LINK, 772, FLAG_UP));
        datagram.extend(link(DEL_LINK, ETHERNET, 0));
        let eth0 = LinkInfo {
            index: 2,
            name: "eth0".into(),
            hardware: [2, 0, 0, 0, 0, 1],
            up: true,
            carrier: true,
            running: false,
        };
        assert_eq!(parse(&datagram), [Event::Changed(eth0), Event::Gone(2)]);
    }

    #[test]
    fn the_kernel_of_this_machine_lists_and_refuses_as_expected() {
        let socket = open().unwrap();
        let fd = std::os::fd::AsFd::as_fd(&socket);
        let nobody = switch_on(i32::MAX);
        request(fd, &nobody).unwrap();
        let mut buffer = [0; 8192];
        let n = rustix::io::read(&socket, &mut buffer).unwrap();
        assert!(matches!(parse(&buffer[..n])[..], [Event::Failed(_)]));
        request(fd, &list()).unwrap();
        let n = rustix::io::read(&socket, &mut buffer).unwrap();
        assert!(n > HEADER, "an answer to the list");
    }

    proptest! {
        #[test]
        fn never_panics_and_ends(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(parse(&bytes).len() <= 500 / HEADER);
        }

        #[test]
        fn damaged_messages_never_panic(at in 0usize..60, value: u8) {
            let mut datagram = link(NEW_LINK, ETHERNET, 0);
            if let Some(byte) = datagram.get_mut(at) {
                *byte = value;
            }
            let _ = parse(&datagram);
        }
    }
}

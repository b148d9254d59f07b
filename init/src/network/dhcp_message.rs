//! DHCP messages inside of UDP and IPv4 (RFC 2131, RFC 2132), as far as a client needs them.

use std::net::Ipv4Addr;

/// The most addresses taken from one option.
const MAX_ADDRESSES: usize = 4;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Fixed part of a BOOTP message, up to the options' magic cookie.
const BOOTP: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAME_SERVER: u8 = 6;
const DOMAIN: u8 = 15;
const TIME_SERVER: u8 = 42;
const REQUESTED: u8 = 50;
const LEASE_TIME: u8 = 51;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const WANTED: u8 = 55;
const RENEW_TIME: u8 = 58;
const REBIND_TIME: u8 = 59;
const END: u8 = 255;

/// What a server gives; times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Bits of the network mask.
    pub prefix: u8,
    /// First router.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// Time servers.
    pub time_servers: Vec<Ipv4Addr>,
    /// Domain name, made of harmless characters only.
    pub domain: String,
    /// The server that gave it.
    pub server: Ipv4Addr,
    /// How long it lasts.
    pub lasts: u32,
    /// After so long, ask the same server again.
    pub renew: u32,
    /// After so long, ask any server.
    pub rebind: u32,
}

/// A message from a server to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It would give us this.
    Offer(Lease),
    /// It gives us this.
    Ack(Lease),
    /// It refuses.
    Nak,
}

/// A message from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who is there?
    Discover,
    /// I take this offer of that server.
    Select {
        /// The address offered.
        address: Ipv4Addr,
        /// By this server.
        server: Ipv4Addr,
    },
    /// I have this address and want to keep it.
    Renew {
        /// Our address.
        address: Ipv4Addr,
    },
}

/// The BOOTP message for a request: what a UDP socket would send.
pub fn message(request: Request, transaction: u32, hardware: [u8; 6], seconds: u16) -> Vec<u8> {
    let mut m = vec![0; BOOTP];
    m[..4].copy_from_slice(&[1, 1, 6, 0]);
    m[4..8].copy_from_slice(&transaction.to_be_bytes());
    m[8..10].copy_from_slice(&seconds.to_be_bytes());
    m[28..34].copy_from_slice(&hardware);
    m.extend_from_slice(&COOKIE);
    let kind = if request == Request::Discover { 1 } else { 3 };
    m.extend_from_slice(&[KIND, 1, kind]);
    match request {
        Request::Discover => {}
        Request::Select { address, server } => {
            m.extend_from_slice(&[REQUESTED, 4]);
            m.extend_from_slice(&address.octets());
            m.extend_from_slice(&[SERVER, 4]);
            m.extend_from_slice(&server.octets());
        }
        Request::Renew { address } => m[12..16].copy_from_slice(&address.octets()),
    }
    let wanted = [
        SUBNET_MASK,
        ROUTER,
        NAME_SERVER,
        DOMAIN,
        TIME_SERVER,
        LEASE_TIME,
        RENEW_TIME,
        REBIND_TIME,
    ];
    m.extend_from_slice(&[WANTED, wanted.len() as u8]);
    m.extend_from_slice(&wanted);
    m.push(END);
    // Relays of old expect BOOTP's 300 bytes (RFC 1542, section 2.1).
    m.resize(m.len().max(300), 0);
    m
}

/// A whole IPv4 packet with the message, from nobody to everybody on this link.
pub fn broadcast(from: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let udp = UDP_HEADER + message.len();
    let mut packet = vec![0; IP_HEADER];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((IP_HEADER + udp) as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&Ipv4Addr::BROADCAST.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    for word in [CLIENT_PORT, SERVER_PORT, udp as u16, 0] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(message);
    packet
}

/// The Internet checksum (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks_exact(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Reads an IPv4 packet. `None` when it is not a server's whole answer to this transaction of
/// this hardware address.
pub fn parse(packet: &[u8], transaction: u32, hardware: [u8; 6]) -> Option<Reply> {
    let ip_header = usize::from(packet.first()? & 0xf) * 4;
    let total = usize::from(u16_at(packet, 2)?);
    let fragment = u16_at(packet, 6)? & 0x3fff;
    if packet[0] >> 4 != 4 || ip_header < IP_HEADER || *packet.get(9)? != 17 || fragment != 0 {
        return None;
    }
    let udp = packet.get(ip_header..total)?;
    let length = usize::from(u16_at(udp, 4)?);
    if u16_at(udp, 0)? != SERVER_PORT || u16_at(udp, 2)? != CLIENT_PORT {
        return None;
    }
    parse_message(udp.get(UDP_HEADER..length)?, transaction, hardware)
}

fn parse_message(m: &[u8], transaction: u32, hardware: [u8; 6]) -> Option<Reply> {
    let options = m.get(BOOTP..)?.strip_prefix(&COOKIE)?;
    let ours = m[0] == 2 && m[4..8] == transaction.to_be_bytes() && m[28..34] == hardware;
    if !ours {
        return None;
    }
    let option = |code| find(options, code);
    match option(KIND)? {
        [2] => Some(Reply::Offer(lease(m, option)?)),
        [5] => Some(Reply::Ack(lease(m, option)?)),
        [6] => Some(Reply::Nak),
        _ => None,
    }
}

fn lease<'a>(m: &[u8], option: impl Fn(u8) -> Option<&'a [u8]>) -> Option<Lease> {
    let address = Ipv4Addr::new(m[16], m[17], m[18], m[19]);
    let server = *addresses(option(SERVER)?).first()?;
    let usable = |a: Ipv4Addr| {
        !a.is_unspecified() && !a.is_broadcast() && !a.is_multicast() && !a.is_loopback()
    };
    if !usable(address) || !usable(server) {
        return None;
    }
    let seconds =
        |code| -> Option<u32> { Some(u32::from_be_bytes(option(code)?.try_into().ok()?)) };
    // Below a minute a server could keep us busy; a missing time means a day.
    let lasts = seconds(LEASE_TIME).unwrap_or(86_400).max(60);
    let rebind = seconds(REBIND_TIME).filter(|t| *t < lasts).unwrap_or(lasts / 8 * 7);
    let renew = seconds(RENEW_TIME).filter(|t| *t < rebind).unwrap_or(lasts / 2);
    Some(Lease {
        address,
        prefix: option(SUBNET_MASK).and_then(prefix).unwrap_or(24),
        router: option(ROUTER).and_then(|r| addresses(r).first().copied()).filter(|r| usable(*r)),
        name_servers: option(NAME_SERVER).map(addresses).unwrap_or_default(),
        time_servers: option(TIME_SERVER).map(addresses).unwrap_or_default(),
        domain: option(DOMAIN).and_then(domain).unwrap_or_default(),
        server,
        lasts,
        renew: renew.max(30).min(lasts),
        rebind: rebind.max(45).min(lasts),
    })
}

/// The value of the first option with this code.
fn find(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match *options.first()? {
            0 => options = &options[1..],
            END => return None,
            code => {
                let length = usize::from(*options.get(1)?);
                let value = options.get(2..2 + length)?;
                if code == wanted {
                    return Some(value);
                }
                options = &options[2 + length..];
            }
        }
    }
}

fn addresses(value: &[u8]) -> Vec<Ipv4Addr> {
    let quads = value.chunks_exact(4).take(MAX_ADDRESSES);
    quads.map(|q| Ipv4Addr::new(q[0], q[1], q[2], q[3])).collect()
}

/// A network mask's bits; `None` unless they are in one piece.
fn prefix(mask: &[u8]) -> Option<u8> {
    let mask = u32::from_be_bytes(mask.try_into().ok()?);
    let ones = mask.leading_ones();
    (mask.count_ones() == ones && ones > 0).then_some(ones as u8)
}

/// The name goes into a file that other programs parse: nothing but a domain name's characters.
fn domain(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    (!text.is_empty() && text.bytes().all(harmless)).then(|| text.to_string())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    /// A server's packet with these options behind the message kind.
    pub fn reply(kind: u8, transaction: u32, options: &[u8]) -> Vec<u8> {
        let mut m = vec![0; BOOTP];
        m[..4].copy_from_slice(&[2, 1, 6, 0]);
        m[4..8].copy_from_slice(&transaction.to_be_bytes());
        m[16..20].copy_from_slice(&[10, 0, 2, 15]);
        m[28..34].copy_from_slice(&MAC);
        m.extend_from_slice(&COOKIE);
        m.extend_from_slice(&[KIND, 1, kind, SERVER, 4, 10, 0, 2, 2]);
        m.extend_from_slice(options);
        m.push(END);
        let mut packet = broadcast(Ipv4Addr::new(10, 0, 2, 2), &m);
        packet[20..22].copy_from_slice(&SERVER_PORT.to_be_bytes());
        packet[22..24].copy_from_slice(&CLIENT_PORT.to_be_bytes());
        packet
    }

    #[test]
    fn reads_what_a_server_gives() {
        let options = [
            1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 6, 8, 10, 0, 2, 3, 1, 1, 1, 1, 51, 4, 0, 1,
            0x51, 0x80, 15, 4, b'h', b'o', b'm', b'e', 42, 4, 10, 0, 2, 9,
        ];
        let Some(Reply::Ack(lease)) = parse(&reply(5, 7, &options), 7, MAC) else {
            panic!("not taken")
        };
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!(lease.router, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(lease.name_servers.len(), 2);
        assert_eq!(lease.time_servers, [Ipv4Addr::new(10, 0, 2, 9)]);
        assert_eq!(lease.domain, "home");
        assert_eq!((lease.lasts, lease.renew, lease.rebind), (86_400, 43_200, 75_600));
    }

    #[test]
    fn answers_to_others_are_passed_over() {
        let packet = reply(5, 7, &[]);
        assert!(parse(&packet, 7, MAC).is_some());
        assert_eq!(parse(&packet, 8, MAC), None);
        assert_eq!(parse(&packet, 7, [0; 6]), None);
    }

    #[test]
    fn a_domain_name_cannot_carry_lines_into_resolv_conf() {
        let evil = [15, 8, b'a', b'\n', b'n', b's', b' ', b'1', b'.', b'1'];
        let Some(Reply::Offer(lease)) = parse(&reply(2, 7, &evil), 7, MAC) else {
            panic!("not taken")
        };
        assert_eq!(lease.domain, "");
    }

    #[test]
    fn our_packets_are_well_formed() {
        let select = Request::Select {
            address: Ipv4Addr::new(10, 0, 2, 15),
            server: Ipv4Addr::new(10, 0, 2, 2),
        };
        let packet = broadcast(Ipv4Addr::UNSPECIFIED, &message(select, 1, MAC, 0));
        assert_eq!(usize::from(u16_at(&packet, 2).unwrap()), packet.len());
        assert_eq!(checksum(&packet[..IP_HEADER]), 0, "a right header sums up to zero");
        let options = &packet[IP_HEADER + UDP_HEADER + BOOTP + 4..];
        assert_eq!(find(options, KIND), Some(&[3][..]));
        assert_eq!(find(options, REQUESTED), Some(&[10, 0, 2, 15][..]));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = parse(&bytes, 7, MAC);
        }

        #[test]
        fn any_options_give_bounded_leases(options in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(Reply::Offer(lease) | Reply::Ack(lease)) = parse(&reply(5, 7, &options), 7, MAC) {
                prop_assert!(lease.name_servers.len() <= MAX_ADDRESSES);
                prop_assert!(lease.prefix >= 1 && lease.prefix <= 32);
                prop_assert!(lease.lasts >= 60 && lease.renew >= 30);
                prop_assert!(lease.renew <= lease.lasts && lease.rebind <= lease.lasts);
            }
        }

        #[test]
        fn a_cut_packet_is_never_taken(cut in 0usize..290) {
            let packet = reply(5, 7, &[51, 4, 0, 0, 1, 0]);
            prop_assume!(cut < packet.len());
            prop_assert_eq!(parse(&packet[..cut], 7, MAC), None);
        }
    }
}

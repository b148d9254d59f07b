//! The ports that belong to a workload. PID 1 listens on them before any workload runs and for as
//! long as the device does, and hands them to the workload at each start: whoever connects while it
//! starts again waits, and nobody else can take its port meanwhile.
//!
//! How they are handed over is systemd's way (sd_listen_fds(3)), which many servers know.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::console::say;

/// Connections that wait for the workload.
const BACKLOG: i32 = 64;

/// One port, and the socket that keeps it.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    /// Listens, unless that failed; then it is tried at the next start.
    socket: Option<OwnedFd>,
}

/// The ports of one workload, in the order of its configuration.
#[derive(Debug, Default)]
pub struct Ports(Vec<Port>);

impl Ports {
    /// None of them is listened on yet.
    pub fn new(addresses: &[SocketAddr]) -> Ports {
        Ports(addresses.iter().map(|address| Port { address: *address, socket: None }).collect())
    }

    /// Listens on those that nobody listens on yet. Says what fails: the workload then has to try
    /// for itself.
    pub fn open(&mut self, workload: &str) {
        for port in self.0.iter_mut().filter(|port| port.socket.is_none()) {
            match listen_on(port.address) {
                Ok(socket) => port.socket = Some(socket),
                Err(e) => {
                    let address = port.address.to_string();
                    say(&[
                        "workload ",
                        workload,
                        ": cannot listen on ",
                        &address,
                        ": ",
                        &e.to_string(),
                    ]);
                }
            }
        }
    }

    /// The sockets there are, and the number of each one's port.
    pub fn sockets(&self) -> impl Iterator<Item = (u16, &OwnedFd)> {
        self.0.iter().filter_map(|port| Some((port.address.port(), port.socket.as_ref()?)))
    }
}

/// A listening TCP socket. `[::]` takes IPv4 as well, and is IPv4 alone where the kernel has no IPv6.
fn listen_on(address: SocketAddr) -> Result<OwnedFd, Errno> {
    match listen_with(address) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if address.ip().is_unspecified() => {
            listen_with(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        }
        result => result,
    }
}

fn listen_with(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Interfaces and their addresses come later. SO_REUSEADDR is left off: with it, others could
    // bind a part of a port that somebody else has bound and does not listen on yet.
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_freebind(&socket, true)?,
        SocketAddr::V6(_) => {
            sockopt::set_ipv6_freebind(&socket, true)?;
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn free_port() -> u16 {
        TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn a_port_is_nobody_elses_and_connections_wait_for_its_workload() {
        let port = free_port();
        let mut ports = Ports::new(&[SocketAddr::new("::".parse().unwrap(), port)]);
        ports.open("face");
        for squat in ["0.0.0.0", "127.0.0.1", "[::]", "[::1]"] {
            // std sets SO_REUSEADDR, as a squatter would.
            let error = TcpListener::bind(format!("{squat}:{port}")).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{squat}");
        }
        let mut early = TcpStream::connect(("127.0.0.1", port)).unwrap();
        early.write_all(b"hello").unwrap();
        // The workload as it starts, twice.
        for _ in 0..2 {
            let (number, socket) = ports.sockets().next().unwrap();
            assert_eq!(number, port);
            let handed = TcpListener::from(socket.try_clone().unwrap());
            let mut bytes = [0; 5];
            let (mut stream, _) = handed.accept().unwrap();
            stream.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
            early = TcpStream::connect(("::1", port)).unwrap();
            early.write_all(b"hello").unwrap();
        }
    }

    #[test]
    fn a_port_that_cannot_be_had_is_tried_again() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ports = Ports::new(&[taken.local_addr().unwrap()]);
        ports.open("face");
        assert_eq!(ports.sockets().count(), 0);
        drop(taken);
        ports.open("face");
        assert_eq!(ports.sockets().count(), 1);
    }
}

//! The kernel's events of devices: netlink, protocol `NETLINK_KOBJECT_UEVENT`, group 1 (Linux
//! `lib/kobject_uevent.c`). A message is a line `ACTION@PATH` and `KEY=VALUE` fields, each ended by
//! a zero byte. Nobody without CAP_NET_ADMIN can send one.

use std::os::fd::OwnedFd;

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// The multicast group of the kernel's own messages.
const GROUP_KERNEL: u32 = 1;

/// Opens the socket.
pub fn open() -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(KOBJECT_UEVENT);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUP_KERNEL))?;
    Ok(socket)
}

/// Whether a message is of a disk or a partition, which came, went or changed.
pub fn is_of_a_disk(message: &[u8]) -> bool {
    message.split(|byte| *byte == 0).any(|field| field == b"SUBSYSTEM=block")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_of_disks_count() {
        let path = "/devices/pci0000:00/0000:00:03.0/usb2/2-1/2-1:1.0/host0/target0:0:0/0:0:0:0";
        let disk = format!(
            "add@{path}/block/sda\0ACTION=add\0DEVPATH={path}/block/sda\0SUBSYSTEM=block\0\
             MAJOR=8\0MINOR=0\0DEVNAME=sda\0DEVTYPE=disk\0DISKSEQ=9\0SEQNUM=1024\0"
        );
        assert!(is_of_a_disk(disk.as_bytes()));
        assert!(!is_of_a_disk(disk.replace("=block", "=scsi").as_bytes()));
        assert!(!is_of_a_disk(b"add@/devices/SUBSYSTEM=block/x\0ACTION=add\0"));
        assert!(!is_of_a_disk(b""));
    }

    #[test]
    fn this_machines_kernel_gives_the_socket() {
        open().unwrap();
    }
}

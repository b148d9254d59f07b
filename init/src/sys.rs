//! System calls that no safe wrapper offers; every `unsafe` block of this crate.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::process::Pid;

/// What [`fork`] returns in each of the two processes.
pub enum Forked {
    /// The new process.
    Child,
    /// The caller, with the new process's id.
    Parent(Pid),
}

/// Starts a copy of this process, in the control group that `cgroup` (an open folder of cgroup2)
/// names, so that it never runs outside of it.
///
/// This process has one thread only, so the child may go on as any program.
pub fn fork(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    // SAFETY: an all-zero clone_args is valid: every field is a plain number.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args lives through the call and its size is passed; without CLONE_VM and without a
    // stack the child runs on a copy of this one, as after fork.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<libc::clone_args>()) };
    match result {
        0 => Ok(Forked::Child),
        pid if pid > 0 => match Pid::from_raw(pid as i32) {
            Some(pid) => Ok(Forked::Parent(pid)),
            None => Err(io::Error::from(io::ErrorKind::Other)),
        },
        _ => Err(io::Error::last_os_error()),
    }
}

/// Replaces this process by the program at `path`; returns only to say why that failed.
pub fn exec(path: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and, like the strings, outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process at once, without running what is left to run in it.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(status) }
}

/// Restarts the machine with an argument for its firmware (reboot(2), LINUX_REBOOT_CMD_RESTART2).
/// Returns only to say why that failed.
pub fn restart_with(argument: &CStr) -> io::Error {
    // SAFETY: the argument ends with a zero byte and outlives the call, which only reads it.
    unsafe {
        libc::syscall(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_RESTART2,
            argument.as_ptr(),
        )
    };
    io::Error::last_os_error()
}

/// Blocks the signals PID 1 acts on and returns a descriptor that reports them. Writing to a
/// broken pipe is an error from then on instead of a signal.
pub fn signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the calls only read it; signalfd
    // returns a new descriptor that nobody else owns.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        let mut set = set.assume_init();
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGPWR] {
            libc::sigaddset(&mut set, signal);
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        if libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// In a child: no signal blocked, SIGPIPE as programs expect it.
pub fn default_signals() {
    // SAFETY: the set is initialised by sigemptyset; both calls only change this process's masks.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// The number of the next signal that [`signals`]'s descriptor reports, if there is one.
pub fn next_signal(signals: BorrowedFd<'_>) -> Option<i32> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    let read = rustix::io::read(signals, &mut info).ok()?;
    if read < info.len() {
        return None;
    }
    Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))
}

/// The descriptor `from` also under the number `to`, kept open across exec.
pub fn duplicate_to(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: dup2 checks both numbers. Only children call this, right before exec, for numbers
    // whose old meaning they no longer use.
    if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if from.as_raw_fd() == to {
        // dup2 onto itself leaves the close-on-exec flag set.
        rustix::io::fcntl_setfd(from, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

/// Gives this process mounts of its own.
pub fn own_mounts() -> std::io::Result<()> {
    // SAFETY: a new mount name space takes no descriptor and no memory from this process.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?)
}

/// Gives this process a network of its own, with nothing in it.
pub fn own_network() -> std::io::Result<()> {
    // SAFETY: a new network name space takes no descriptor and no memory from this process.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?)
}

/// Closes on exec every descriptor from `first` on.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: the flag only marks descriptors; none is closed under its owner.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes over a descriptor that another life of this program left open, named by its number.
/// `None` when it is not open.
pub fn adopt(fd: RawFd) -> Option<OwnedFd> {
    if fd < 3 {
        return None;
    }
    // SAFETY: fcntl checks the number. Nobody in this process owns it yet: it was inherited
    // through exec, and this is called once at the start, before anything else is opened.
    unsafe {
        if libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return None;
        }
        Some(OwnedFd::from_raw_fd(fd))
    }
}

/// `ioctl` with a buffer that the kernel reads and writes. `request` must describe a structure
/// that is not larger than the buffer; that is checked against the size in the request's number.
pub fn ioctl_buffer(fd: BorrowedFd<'_>, request: u32, buffer: &mut [u8]) -> io::Result<()> {
    let size = (request >> 16 & 0x3fff) as usize;
    if size > buffer.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the buffer is at least as large as the structure the request names. Device mapper
    // requests, the only ones that look past it, bound themselves by the data size field, which
    // `verity_device` sets to the buffer's length.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, buffer.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tells the kernel that partition `number` of `disk` now covers these bytes, without rereading
/// the table (which it refuses while a partition is mounted).
pub fn resize_partition(
    disk: BorrowedFd<'_>,
    number: i32,
    start: u64,
    length: u64,
) -> io::Result<()> {
    #[repr(C)]
    struct Partition {
        start: i64,
        length: i64,
        number: i32,
        names: [u8; 128],
    }
    #[repr(C)]
    struct Argument {
        operation: i32,
        flags: i32,
        length: i32,
        data: *mut Partition,
    }
    const BLKPG: u32 = 0x1269;
    const RESIZE: i32 = 3;
    let mut partition =
        Partition { start: start as i64, length: length as i64, number, names: [0; 128] };
    let argument = Argument {
        operation: RESIZE,
        flags: 0,
        length: size_of::<Partition>() as i32,
        data: &mut partition,
    };
    // SAFETY: argument and partition have the kernel's layout (linux/blkpg.h) and outlive the call.
    if unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &argument) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets a user have so many blocks of 1024 bytes and so many inodes on the file system that `folder`
/// is of (quotactl_fd(2)); writes nothing when that is so already.
pub fn limit_user(folder: BorrowedFd<'_>, user: u32, blocks: u64, inodes: u64) -> io::Result<()> {
    const USRQUOTA: libc::c_int = 0;
    let call = |command: libc::c_int, numbers: &mut libc::dqblk| -> io::Result<()> {
        // SAFETY: the kernel reads or writes one struct if_dqblk, which `dqblk` is, and it outlives
        // the call (linux/quota.h).
        let result = unsafe {
            libc::syscall(
                libc::SYS_quotactl_fd,
                folder.as_raw_fd(),
                command << 8 | USRQUOTA,
                user,
                numbers as *mut libc::dqblk,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: every field is a plain number.
    let mut numbers: libc::dqblk = unsafe { std::mem::zeroed() };
    call(libc::Q_GETQUOTA, &mut numbers)?;
    if (numbers.dqb_bhardlimit, numbers.dqb_ihardlimit) == (blocks, inodes) {
        return Ok(());
    }
    (numbers.dqb_bhardlimit, numbers.dqb_ihardlimit) = (blocks, inodes);
    (numbers.dqb_bsoftlimit, numbers.dqb_isoftlimit) = (0, 0);
    numbers.dqb_valid = libc::QIF_BLIMITS | libc::QIF_ILIMITS;
    call(libc::Q_SETQUOTA, &mut numbers)
}

/// A link-layer address: where a packet socket listens or sends to.
#[derive(Clone, Copy, Debug)]
pub struct LinkAddress {
    /// Interface index.
    pub interface: i32,
    /// Protocol number, such as 0x0800 for IPv4.
    pub protocol: u16,
    /// Hardware address.
    pub hardware: [u8; 6],
}

// SAFETY: the closure gets a pointer to a whole sockaddr_ll on this stack frame, with its size.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&self.hardware);
        let raw = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: self.protocol.to_be(),
            sll_ifindex: self.interface,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: address,
        };
        f((&raw as *const libc::sockaddr_ll).cast(), size_of::<libc::sockaddr_ll>() as u32)
    }
}

/// Lets only packets through that a classic BPF program accepts (at most 4096 instructions).
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let argument = libc::sock_fprog {
        len: program.len().min(4096) as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from `filter`, which is that long, and writes
    // to neither.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&argument as *const libc::sock_fprog).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets the clock run up to 500 ppm faster or slower until it has moved by `microseconds`.
pub fn slew_clock(microseconds: i64) -> io::Result<()> {
    // SAFETY: an all-zero timex is valid; the call reads and fills this one.
    let result = unsafe {
        let mut request: libc::timex = std::mem::zeroed();
        request.modes = libc::ADJ_OFFSET_SINGLESHOT;
        request.offset = microseconds as _;
        libc::adjtimex(&mut request)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// 64 bits that nobody can guess; `None` as long as the kernel has none, which is not waited for.
pub fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    let flags = rustix::rand::GetRandomFlags::NONBLOCK;
    let length = rustix::rand::getrandom(&mut bytes, flags).ok()?;
    (length == bytes.len()).then(|| u64::from_ne_bytes(bytes))
}

/// A descriptor's bytes that are ready, appended to nothing: reads once into `buffer`.
/// `None`: nothing ready. `Some(0)`: the other end is closed.
pub fn read_ready(fd: impl AsFd, buffer: &mut [u8]) -> Option<usize> {
    match rustix::io::read(fd, buffer) {
        Ok(read) => Some(read),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
        Err(_) => Some(0),
    }
}

//! The connection to the kernel that reports the system calls of a program.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use libc::{c_int, c_void, sock_filter};

/// A reported call (`struct seccomp_notif`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Notification {
    pub id: u64,
    /// The thread that makes the call.
    pub pid: u32,
    pub flags: u32,
    pub number: c_int,
    pub architecture: u32,
    pub instruction: u64,
    pub arguments: [u64; 6],
}

/// The answer (`struct seccomp_notif_resp`).
#[repr(C)]
#[derive(Default)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

// linux/seccomp.h; the libraries of C define them for only some targets.
const CONTINUE: u32 = 1;
const SYNC_WAKE_UP: u64 = 1;
const SPEC_ALLOW: libc::c_ulong = 1 << 2;
const NEW_LISTENER: libc::c_ulong = 1 << 3;
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

const fn request(direction: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | (b'!' as u64) << 8 | number
}

const RECEIVE: u64 = request(3, 0, size_of::<Notification>());
const SEND: u64 = request(3, 1, size_of::<Answer>());
const SET_FLAGS: u64 = request(1, 4, size_of::<u64>());

/// Lets `command` install `filter` in itself before it executes the program, and send the listener, or the number of an error, to the other
/// end of `socket`.
pub fn observe(command: &mut Command, filter: Vec<sock_filter>, socket: &UnixStream) {
    let socket = socket.as_raw_fd();
    let install = move || {
        let listener = install(&filter);
        send(socket, listener.map_err(|error| error.raw_os_error().unwrap_or(0)))
    };
    // SAFETY: between fork and exec, the function only makes system calls and allocates nothing (signal-safety(7)).
    unsafe { command.pre_exec(install) };
}

/// Whether the kernel knows the action (`SECCOMP_GET_ACTION_AVAIL`, Linux 5.0).
pub fn is_available() -> bool {
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the call reads a number.
    unsafe { libc::syscall(libc::SYS_seccomp, 2, 0, &raw const action) == 0 }
}

fn install(filter: &[sock_filter]) -> io::Result<RawFd> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let install = |flags: libc::c_ulong| {
        // SAFETY: `program` describes a slice that lives until the call returns.
        let listener =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        if listener < 0 { Err(io::Error::last_os_error()) } else { Ok(listener as RawFd) }
    };
    // The filter confines nothing, so it needs no protection against speculation, which slows programs down.
    let with_flags = || match install(NEW_LISTENER | SPEC_ALLOW | WAIT_KILLABLE) {
        // Linux before 5.19.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(NEW_LISTENER | SPEC_ALLOW),
        outcome => outcome,
    };
    match with_flags() {
        // Without privileges, a program with a filter must not gain any (prctl(2)).
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            // SAFETY: the call takes numbers only.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            with_flags()
        }
        outcome => outcome,
    }
}

/// Room for a control message with one file descriptor.
#[repr(align(8))]
struct Control {
    _bytes: [u8; 64],
}

/// Sends a file descriptor, or the number of an error; allocates nothing.
fn send(socket: RawFd, listener: Result<RawFd, c_int>) -> io::Result<()> {
    let mut number: c_int = listener.err().unwrap_or(0);
    let mut part = libc::iovec { iov_base: (&raw mut number).cast::<c_void>(), iov_len: size_of::<c_int>() };
    let mut control = Control { _bytes: [0; 64] };
    // SAFETY: a message of zeros is one; its pointers are set to values that live until the call returns. The macros stay within `control`,
    // which has room for one descriptor (cmsg(3)).
    unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if let Ok(listener) = listener {
            let size = size_of::<RawFd>() as u32;
            message.msg_control = (&raw mut control).cast::<c_void>();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            ptr::write_unaligned(libc::CMSG_DATA(header).cast::<RawFd>(), listener);
        }
        if libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Receives the listener that the child sent. An error says why there is none.
pub fn receive(socket: &UnixStream) -> io::Result<Listener> {
    let mut number: c_int = 0;
    let mut part = libc::iovec { iov_base: (&raw mut number).cast::<c_void>(), iov_len: size_of::<c_int>() };
    let mut control = Control { _bytes: [0; 64] };
    // SAFETY: as in `send`; a descriptor that was received belongs to nobody else.
    unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast::<c_void>();
        message.msg_controllen = size_of::<Control>() as _;
        match libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) {
            ..0 => return Err(io::Error::last_os_error()),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => {}
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() {
            return Err(io::Error::from_raw_os_error(number));
        }
        let descriptor = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>());
        Ok(Listener::new(OwnedFd::from_raw_fd(descriptor)))
    }
}

/// Receives the calls of a program and of all that it starts.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    fn new(descriptor: OwnedFd) -> Self {
        // Since Linux 6.6; without it, waking takes a little longer.
        // SAFETY: the request takes a number.
        unsafe { libc::ioctl(descriptor.as_raw_fd(), SET_FLAGS as _, SYNC_WAKE_UP) };
        Self(descriptor)
    }

    /// Waits for a call; `None` if no observed program is left, or if `stop` can be read.
    pub fn next(&self, stop: &UnixStream) -> Option<Notification> {
        loop {
            let poll = |descriptor| libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
            let mut polled = [poll(self.0.as_raw_fd()), poll(stop.as_raw_fd())];
            // SAFETY: the array has two elements.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) };
            if ready < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return None;
            }
            if polled[0].revents & libc::POLLIN != 0 {
                let mut notification = Notification::default();
                // SAFETY: the request fills in a notification, which must be zero before (seccomp_unotify(2)).
                if unsafe { libc::ioctl(self.0.as_raw_fd(), RECEIVE as _, &raw mut notification) } == 0 {
                    return Some(notification);
                }
                // The program was killed in between.
                continue;
            }
            if polled[0].revents != 0 || polled[1].revents != 0 {
                return None;
            }
        }
    }

    /// Lets the call go on; returns whether the program still waits for it.
    pub fn go_on(&self, notification: &Notification) -> bool {
        let mut answer = Answer { id: notification.id, flags: CONTINUE, ..Answer::default() };
        // SAFETY: the request reads an answer.
        unsafe { libc::ioctl(self.0.as_raw_fd(), SEND as _, &raw mut answer) == 0 }
    }
}

/// Longer paths are not valid (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// Reads a path in the memory of a thread (process_vm_readv(2)).
pub fn read_path(thread: u32, address: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    const PAGE: u64 = 4096;
    buffer.clear();
    while buffer.len() < MAX_PATH {
        let from = address + buffer.len() as u64;
        // The next page may not be there.
        let length = (PAGE - from % PAGE) as usize;
        let start = buffer.len();
        buffer.resize(start + length, 0);
        let count = read_memory(thread, from, &mut buffer[start..])?;
        buffer.truncate(start + count);
        if let Some(end) = buffer[start..].iter().position(|byte| *byte == 0) {
            buffer.truncate(start + end);
            return Ok(());
        }
    }
    Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}

/// Reads the memory of a thread.
pub fn read_memory(thread: u32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast::<c_void>(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: into.len() };
    // SAFETY: the local part is a slice that may be written to; the kernel checks the remote part.
    match unsafe { libc::process_vm_readv(thread.cast_signed(), &raw const local, 1, &raw const remote, 1, 0) } {
        ..0 => Err(io::Error::last_os_error()),
        count => Ok(count.cast_unsigned()),
    }
}

//! Which system calls are observed, and the filter that makes the kernel report them (seccomp(2), seccomp_unotify(2)).

use libc::{c_long, sock_filter};

/// How a system call uses files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Opens the path at an argument; the flags are at another one. A folder is open at the argument before the path if `at`.
    Open { path: usize, flags: usize, at: bool },
    /// Opens a path; the flags are in a structure at argument 2 (openat2(2)).
    OpenHow,
    /// Creates and opens a path (creat(2)).
    Create,
    /// Asks whether the path exists or what it is.
    Look { path: usize, at: bool },
    /// Executes the path.
    Execute { path: usize, at: bool },
    /// Lists the open folder.
    List,
    /// Creates, replaces or removes the path.
    Change { path: usize, at: bool },
    /// Moves one path to another; each may have an open folder at the argument before.
    Move { from: usize, to: usize, at: bool },
}

/// A row of the table: the number and what the call does.
type Row = (c_long, Call);

/// The observed calls; those that programs make most often come first.
pub fn calls() -> Vec<Row> {
    let mut calls = vec![
        (libc::SYS_newfstatat, Call::Look { path: 1, at: true }),
        (libc::SYS_openat, Call::Open { path: 1, flags: 2, at: true }),
        (libc::SYS_statx, Call::Look { path: 1, at: true }),
        (libc::SYS_readlinkat, Call::Look { path: 1, at: true }),
        (libc::SYS_faccessat, Call::Look { path: 1, at: true }),
        (libc::SYS_faccessat2, Call::Look { path: 1, at: true }),
        (libc::SYS_getdents64, Call::List),
        (libc::SYS_execve, Call::Execute { path: 0, at: false }),
        (libc::SYS_execveat, Call::Execute { path: 1, at: true }),
        (libc::SYS_openat2, Call::OpenHow),
        (libc::SYS_chdir, Call::Look { path: 0, at: false }),
        (libc::SYS_truncate, Call::Change { path: 0, at: false }),
        (libc::SYS_unlinkat, Call::Change { path: 1, at: true }),
        (libc::SYS_mkdirat, Call::Change { path: 1, at: true }),
        (libc::SYS_mknodat, Call::Change { path: 1, at: true }),
        (libc::SYS_symlinkat, Call::Change { path: 2, at: true }),
        (libc::SYS_linkat, Call::Change { path: 3, at: true }),
        (libc::SYS_renameat, Call::Move { from: 1, to: 3, at: true }),
        (libc::SYS_renameat2, Call::Move { from: 1, to: 3, at: true }),
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        (libc::SYS_stat, Call::Look { path: 0, at: false }),
        (libc::SYS_lstat, Call::Look { path: 0, at: false }),
        (libc::SYS_open, Call::Open { path: 0, flags: 1, at: false }),
        (libc::SYS_access, Call::Look { path: 0, at: false }),
        (libc::SYS_readlink, Call::Look { path: 0, at: false }),
        (libc::SYS_creat, Call::Create),
        (libc::SYS_getdents, Call::List),
        (libc::SYS_unlink, Call::Change { path: 0, at: false }),
        (libc::SYS_rmdir, Call::Change { path: 0, at: false }),
        (libc::SYS_mkdir, Call::Change { path: 0, at: false }),
        (libc::SYS_mknod, Call::Change { path: 0, at: false }),
        (libc::SYS_symlink, Call::Change { path: 1, at: false }),
        (libc::SYS_link, Call::Change { path: 1, at: false }),
        (libc::SYS_rename, Call::Move { from: 0, to: 1, at: false }),
    ]);
    calls
}

/// Calls with an argument of flags that may say that the file is an open one (`AT_EMPTY_PATH`): nothing is looked for then.
const OF_OPEN_FILES: [(c_long, u32); 2] = [(libc::SYS_newfstatat, 3), (libc::SYS_statx, 2)];

/// The architecture of this program's system calls (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// From this number on, calls on x86-64 are those of x32.
const X32: u32 = 0x4000_0000;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IS_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const HAS_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The filter: observed calls are reported, io_uring does not exist, since what it opens would not be seen, and everything else is allowed.
///
/// `None` for an architecture whose numbers are not known.
pub fn program() -> Option<Vec<sock_filter>> {
    let statement = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    // Skips the next instruction unless the condition holds.
    let unless = |code, k| sock_filter { code, jt: 0, jf: 1, k };
    let allow = statement(RETURN, libc::SECCOMP_RET_ALLOW);
    let report = statement(RETURN, libc::SECCOMP_RET_USER_NOTIF);
    let absent = statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    let mut program = vec![
        statement(LOAD, ARCH),
        // Programs of another architecture, such as those of 32 bits, are not observed.
        sock_filter { code: EQUALS, jt: 1, jf: 0, k: ARCHITECTURE? },
        allow,
        statement(LOAD, NUMBER),
        unless(IS_AT_LEAST, X32),
        allow,
        unless(EQUALS, number(libc::SYS_io_uring_setup)),
        absent,
    ];
    for (call, flags) in OF_OPEN_FILES {
        program.extend([
            sock_filter { code: EQUALS, jt: 0, jf: 4, k: number(call) },
            statement(LOAD, ARGUMENTS + 8 * flags),
            unless(HAS_BITS, libc::AT_EMPTY_PATH.cast_unsigned()),
            allow,
            report,
        ]);
    }
    for (call, _) in calls() {
        program.extend([unless(EQUALS, number(call)), report]);
    }
    program.push(allow);
    Some(program)
}

fn number(call: c_long) -> u32 {
    u32::try_from(call).expect("numbers of system calls are small")
}

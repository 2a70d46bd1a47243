//! The programs that a program started.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// How long a program may take to end itself before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Makes this process the parent of programs whose parents have ended (`PR_SET_CHILD_SUBREAPER` of prctl(2)).
pub fn adopt_orphans() {
    // Without it, which no kernel since 3.4 lacks, orphans are not found.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Ends the programs with the marker that were adopted, with all that they started; returns their names.
pub fn end_orphans(marker: (&str, &str)) -> Vec<String> {
    if !has_children() {
        return Vec::new();
    }
    // One that was started a moment ago still has the name of its parent.
    std::thread::sleep(Duration::from_millis(20));
    let names = descendants(marker).into_iter().filter_map(name).collect();
    end_descendants(marker);
    names
}

/// Ends all programs with the marker that descend from this process: first asks them to, then kills them.
pub fn end_descendants(marker: (&str, &str)) {
    let deadline = Instant::now() + GRACE;
    let mut asked: Vec<Pid> = Vec::new();
    loop {
        let found = descendants(marker);
        if found.is_empty() {
            return;
        }
        let is_over = Instant::now() > deadline;
        for pid in found {
            let signal = if is_over { Signal::KILL } else { Signal::TERM };
            if is_over || !asked.contains(&pid) {
                asked.push(pid);
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether this process has any child, also one that has ended.
fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::All, options), Err(Errno::CHILD))
}

/// The descendants of this process that have the marker in their environment, without those that have ended.
fn descendants((name, value): (&str, &str)) -> Vec<Pid> {
    let wanted = [name.as_bytes(), b"=", value.as_bytes()].concat();
    let processes: Vec<(i32, i32)> = processes().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut of_own: BTreeSet<i32> = BTreeSet::from([rustix::process::getpid().as_raw_nonzero().get()]);
    loop {
        let before = of_own.len();
        of_own.extend(
            processes.iter().filter(|(_, parent)| of_own.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if of_own.len() == before {
            break;
        }
    }
    let is_marked = |pid: &i32| {
        let environment = fs::read(of(*pid, "environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
    };
    let others = processes.iter().map(|(pid, _)| *pid).filter(|pid| *pid != std::process::id().cast_signed());
    others.filter(|pid| of_own.contains(pid) && is_marked(pid)).filter_map(Pid::from_raw).collect()
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse().ok())
}

fn of(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// The parent of a process that has not ended (proc_pid_stat(5)).
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(of(pid, "stat")).ok()?;
    // The name, in parentheses, may have any character.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    (!matches!(fields.next()?, "Z" | "X")).then(|| fields.next()?.parse().ok())?
}

fn name(pid: Pid) -> Option<String> {
    let name = fs::read_to_string(of(pid.as_raw_nonzero().get(), "comm")).ok()?;
    Some(name.trim_end().to_owned())
}

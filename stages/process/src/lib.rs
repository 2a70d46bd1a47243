//! Runs a program to its end, with all that it starts.
//!
//! | on Linux | elsewhere |
//! | --- | --- |
//! | programs that outlive the first one are ended | they go on; their output is no longer read |
//! | the files that programs use are [observed](Watch) | they are not |
//! | files are [hidden](Isolation) from programs, if the kernel has Landlock | they are not |
//!
//! What differs between systems is in `linux` and `portable`.

mod isolation;
mod lines;
#[cfg(all(target_os = "linux", not(hamflow_portable)))]
#[path = "linux/mod.rs"]
mod system;
#[cfg(not(all(target_os = "linux", not(hamflow_portable))))]
#[path = "portable.rs"]
mod system;
mod watch;

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use system::Observation;
pub use system::{can_isolate, can_observe};

pub use isolation::Isolation;
pub use lines::{Line, Lines};
pub use watch::{Listed, Observed, Stamp, State, Use, Watch};

/// How long programs that outlive the first one may still hold its output open once they were ended.
const GRACE: Duration = Duration::from_secs(1);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// The status of the program itself.
    pub status: ExitStatus,
    /// Whether it was ended because its time was over.
    pub timed_out: bool,
    /// The names of the programs that it had started and that outlived it. They were ended, too.
    pub left_behind: Vec<String>,
    /// The files that were used, if that was asked for.
    pub observed: Option<Observed>,
    /// Whether something still holds its output open that could not be ended.
    pub is_output_open: bool,
}

/// How a program is run.
#[derive(Debug)]
pub struct Running<'a> {
    /// A variable in the environment of the command and its value, which no other program has: by it, descendants are recognized.
    pub marker: (&'a str, &'a str),
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Which uses of files are observed.
    pub watch: Option<Watch>,
    /// Which files it sees; all if `None`, or if the system [cannot](can_isolate) hide any.
    pub isolation: Option<&'a Isolation>,
}

/// Runs a program until it ends or its time is over, and ends what it leaves behind.
///
/// Standard input is empty. Standard output and standard error are one pipe, so that they arrive in the order in which they were written;
/// `heard` gets every piece.
pub fn run(mut command: Command, running: Running<'_>, mut heard: impl FnMut(&[u8]) + Send) -> io::Result<Ended> {
    let Running { marker, timeout, watch, isolation } = running;
    let (mut reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    system::adopt_orphans();
    if let Some(isolation) = isolation.filter(|_| can_isolate()) {
        system::isolate(&mut command, isolation)?;
    }
    let observation = watch.map(|watch| Observation::of(&mut command, watch));
    let (mut observation, problem) = match observation.transpose() {
        Ok(observation) => (observation, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let spawned = command.spawn();
    observation.iter_mut().for_each(Observation::started);
    let mut child = spawned?;
    // The command holds the ends of the pipe that are written to.
    drop(command);
    let (sender, receiver) = channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        // A read error ends the output.
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let timed_out = wait(&mut child, timeout)?;
            let left_behind = if timed_out {
                system::end_descendants(marker);
                // Where descendants are not known, the program itself still runs.
                let _ = child.kill();
                Vec::new()
            } else {
                system::end_orphans(marker)
            };
            Ok::<_, io::Error>((child.wait()?, timed_out, left_behind))
        });
        // All output that was written before the end is in the pipe at the end.
        let mut deadline = None;
        let is_output_open = loop {
            match receiver.recv_timeout(Duration::from_millis(if waiting.is_finished() { 50 } else { 10 })) {
                Ok(piece) => heard(&piece),
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) if !waiting.is_finished() => {}
                Err(RecvTimeoutError::Timeout) => {
                    if *deadline.get_or_insert_with(|| Instant::now() + GRACE) < Instant::now() {
                        break true;
                    }
                }
            }
        };
        let (status, timed_out, left_behind) = waiting.join().expect("the waiting thread does not panic")?;
        let observed = match problem {
            Some(problem) => Some(system::unobserved(&problem)),
            None => observation.map(Observation::end),
        };
        Ok(Ended { status, timed_out, left_behind, observed, is_output_open })
    })
}

/// Waits for a program; returns whether its time is over first.
fn wait(child: &mut Child, timeout: Option<Duration>) -> io::Result<bool> {
    let Some(timeout) = timeout else { return child.wait().map(|_| false) };
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(1);
    loop {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests;

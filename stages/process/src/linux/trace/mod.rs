//! Observes which files a program uses, with all that it starts, by the system calls that it makes.
//!
//! A seccomp filter makes the kernel report the calls that name files; each waits until it was looked at and then goes on as it is
//! (seccomp_unotify(2)). That needs no privileges, costs two context switches for each of these calls, and nothing for others. Static
//! binaries, threads and children are observed like everything else. What a program opens otherwise is not seen: programs of another
//! architecture, and files that another process passes to it.

mod environments;
mod filter;
mod listener;
mod recorder;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread::JoinHandle;

pub use environments::Environments;
use recorder::Recorder;

use crate::watch::{Observed, Watch};

/// Whether the kernel can report calls. It may still refuse to, such as below a program that is observed itself.
pub fn can_observe() -> bool {
    filter::program().is_some() && listener::is_available()
}

/// An observation that has begun.
pub struct Observation {
    /// The end of the connection that the child has.
    childs: Option<UnixStream>,
    /// Ends the observation.
    stop: UnixStream,
    observing: JoinHandle<Observed>,
}

impl Observation {
    /// Observes the program that `command` will start.
    pub fn of(command: &mut Command, watch: Watch) -> io::Result<Self> {
        let filter = filter::program().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        let (childs, own) = UnixStream::pair()?;
        let (stop, stopped) = UnixStream::pair()?;
        listener::observe(command, filter, &childs);
        // It must listen before the child executes the program, which is one of the observed calls.
        let observing = std::thread::spawn(move || observe(&own, &stopped, watch));
        Ok(Self { childs: Some(childs), stop, observing })
    }

    /// Closes the child's end of the connection, once the child has started or has failed to.
    pub fn started(&mut self) {
        self.childs = None;
    }

    /// Ends the observation.
    pub fn end(mut self) -> Observed {
        self.started();
        // If it has ended already, nobody reads.
        let _ = self.stop.write_all(b"\0");
        self.observing.join().unwrap_or_else(|_| unobserved("the observer failed"))
    }
}

fn observe(socket: &UnixStream, stop: &UnixStream, watch: Watch) -> Observed {
    let listener = match listener::receive(socket) {
        Ok(listener) => listener,
        Err(error) => return unobserved(&format!("the kernel refuses it: {error}")),
    };
    let mut recorder = Recorder::new(watch);
    while let Some(notification) = listener.next(stop) {
        let Some(named) = recorder.read(&notification) else {
            listener.go_on(&notification);
            continue;
        };
        let must_wait = recorder.must_wait(&named);
        let happens = must_wait || listener.go_on(&notification);
        let event = recorder.resolve(named);
        if happens && (!must_wait || listener.go_on(&notification)) {
            recorder.record(event);
        }
    }
    recorder.into_observed()
}

/// An observation that saw nothing.
pub fn unobserved(why: &str) -> Observed {
    Observed { problem: Some(why.to_owned()), ..Observed::default() }
}

//! What is asked of a remote in the course of a run, and what happens when it does not answer.

mod fetching;
mod sending;

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::backend::{Backend, RemoteError};
use super::pack::FULL;
use crate::digest::Digest;
use crate::policy::{SigningKey, Trust};
use crate::store::ActionKey;

/// A request that makes no progress for so long has failed.
const STALLED: Duration = Duration::from_secs(3);

/// How many bytes are progress.
const PROGRESS: u64 = 32 * 1024;

/// How often somebody looks whether there is progress.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Requests at the same time.
const REQUESTS: usize = 8;

/// After so many untrue answers nothing more is believed.
const MOST_UNTRUE: usize = 3;

/// The largest signed result; whoever sends more does not send one.
const LARGEST_RESULT: u64 = 16 * 1024 * 1024;

/// The largest pack: a full one, and the blob that filled it.
const LARGEST_PACK: u64 = 2 * FULL as u64;

/// How much of a run's time may be lost by asking for what is not there, or for what comes more slowly than it is made.
const MOST_LOST: Duration = Duration::from_secs(5);

/// A server that keeps what it was sent may take so long for it after the last byte, in bytes per second.
const SLOWEST_DISK: f64 = 4e6;

/// A remote as one run sees it. Its problems are told once; after a grave one it is left alone.
pub struct Remote {
    backend: Arc<dyn Backend>,
    scopes: Vec<String>,
    trust: Trust,
    signing: Option<SigningKey>,
    /// Whether a run waits, which must not lose time by it.
    hurried: bool,
    state: Mutex<State>,
    /// Results that are asked for at this moment.
    askers: AtomicU32,
    /// What is known to be there.
    there: Mutex<HashSet<Digest>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("place", &self.place()).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    reads_end: bool,
    writes_end: bool,
    untrue: usize,
    /// Objects that are not what their names say: to be replaced.
    untrue_names: HashSet<String>,
    lost: Duration,
    warning: Option<String>,
    warned: bool,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// How long is waited for an answer.
#[derive(Clone, Copy)]
struct Patience {
    /// Without progress.
    stalled: Duration,
    /// In all.
    until: Option<Instant>,
}

impl Patience {
    const SHORT: Self = Self { stalled: STALLED, until: None };

    fn until(until: Instant) -> Self {
        Self { until: Some(until), ..Self::SHORT }
    }

    fn for_sending(size: u64) -> Self {
        Self { stalled: STALLED + Duration::from_secs_f64(size as f64 / SLOWEST_DISK), until: None }
    }
}

/// Why nobody answered.
enum NoAnswer {
    /// Something is wrong.
    Wrong(RemoteError),
    /// It took longer than it was worth.
    TooLong,
    /// The remote was left alone meanwhile.
    Abandoned,
}

/// What is there of some results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presence {
    /// Results that are there and signed by a key that may.
    pub there: usize,
    /// Results that are not.
    pub absent: usize,
}

impl Remote {
    /// Results of `backend` that are believed by `trust`, looked up in `scope` and then in those of `read`; written to `scope` where there is
    /// a key to sign with.
    pub fn new(
        backend: Box<dyn Backend>,
        scope: &str,
        read: &[String],
        trust: Trust,
        signing: Option<SigningKey>,
    ) -> Self {
        let others = read.iter().filter(|other| *other != scope).cloned();
        Self {
            backend: Arc::from(backend),
            scopes: std::iter::once(scope.to_owned()).chain(others).collect(),
            trust,
            signing,
            hurried: true,
            state: Mutex::default(),
            askers: AtomicU32::new(0),
            there: Mutex::default(),
        }
    }

    /// For somebody who asks for just this, and has the time: only what makes no progress is given up.
    pub fn unhurried(self) -> Self {
        Self { hurried: false, ..self }
    }

    /// Where it is, without secrets.
    pub fn place(&self) -> String {
        self.backend.place()
    }

    /// The scope that is written to, then those that are only read.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Whether there is a key, and it may write to the scope.
    pub fn can_write(&self) -> Result<(), String> {
        let Some(key) = &self.signing else { return Err("there is no key to sign with".to_owned()) };
        let own = key.verifying_key();
        if self.trust.of(&self.scopes[0]).any(|key| *key == own) {
            Ok(())
        } else {
            Err(format!("`{own}` is not among the keys that may write to scope `{}`", self.scopes[0]))
        }
    }

    /// What went wrong, once.
    pub fn take_warning(&self) -> Option<String> {
        self.state().warning.take()
    }

    /// Lets all that is still asked for fail at once.
    pub fn give_up(&self) {
        let mut state = self.state();
        (state.reads_end, state.writes_end) = (true, true);
    }

    /// Lets all that is still asked for be absent at once; what is sent goes on.
    pub fn stop_reading(&self) {
        self.state().reads_end = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_over(&self, direction: Direction) -> bool {
        let state = self.state();
        if direction == Direction::Read { state.reads_end } else { state.writes_end }
    }

    fn trouble(&self, direction: Direction, error: &RemoteError) {
        let mut state = self.state();
        match (error, direction) {
            (RemoteError::Unreachable(_), _) | (RemoteError::Failed(_), Direction::Read) => {
                (state.reads_end, state.writes_end) = (true, true);
            }
            (RemoteError::Untrue(_), _) => {
                state.untrue += 1;
                state.reads_end |= state.untrue >= MOST_UNTRUE;
            }
            (_, Direction::Write) => state.writes_end = true,
            (_, Direction::Read) => state.reads_end = true,
        }
        self.warn(&mut state, error);
    }

    fn warn(&self, state: &mut State, what: &dyn std::fmt::Display) {
        if !state.warned {
            state.warned = true;
            state.warning = Some(format!("remote `{}`: {what}; the run goes on without it", self.place()));
        }
    }

    fn untrue_object(&self, name: &str) -> RemoteError {
        self.state().untrue_names.insert(name.to_owned());
        RemoteError::Untrue(format!("the bytes of `{name}` are not what its name says"))
    }

    /// When what is asked for now, and is worth `worth`, must be here.
    fn until(&self, worth: Duration) -> Patience {
        if !self.hurried {
            return Patience::SHORT;
        }
        let left = MOST_LOST.saturating_sub(self.state().lost);
        Patience::until(Instant::now() + worth + left)
    }

    /// Time that a run would have had without a remote.
    fn lose(&self, lost: Duration) {
        let mut state = self.state();
        state.lost += lost;
        if self.hurried && state.lost >= MOST_LOST && !state.reads_end {
            state.reads_end = true;
            self.warn(&mut state, &"it takes too long to answer");
        }
    }

    /// Asks on a thread of its own, so that an answer that never comes costs no more than patience. None where it failed or the remote is
    /// left alone.
    fn ask<T: Send + 'static>(
        &self,
        direction: Direction,
        patience: Patience,
        work: impl Fn(&dyn Backend, &Arc<AtomicU64>) -> Result<T, RemoteError> + Send + Sync + 'static,
    ) -> Option<T> {
        let work = Arc::new(work);
        for attempt in 0..2 {
            if self.is_over(direction) {
                return None;
            }
            match self.wait_for(direction, patience, &work) {
                Ok(answer) => return Some(answer),
                // What passes may have passed a moment later.
                Err(NoAnswer::Wrong(RemoteError::Failed(_))) if attempt == 0 => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(NoAnswer::Wrong(error)) => {
                    self.trouble(direction, &error);
                    return None;
                }
                Err(NoAnswer::TooLong | NoAnswer::Abandoned) => return None,
            }
        }
        None
    }

    fn wait_for<T: Send + 'static>(
        &self,
        direction: Direction,
        patience: Patience,
        work: &Arc<impl Fn(&dyn Backend, &Arc<AtomicU64>) -> Result<T, RemoteError> + Send + Sync + 'static>,
    ) -> Result<T, NoAnswer> {
        let wrong = |text: String| NoAnswer::Wrong(RemoteError::Failed(text));
        let (sender, receiver) = channel();
        let progress = Arc::new(AtomicU64::new(0));
        let (thread_work, backend, counted) = (Arc::clone(work), Arc::clone(&self.backend), Arc::clone(&progress));
        let thread = std::thread::Builder::new().spawn(move || {
            let _ = sender.send(thread_work(&*backend, &counted));
        });
        thread.map_err(|error| wrong(format!("no thread to ask it: {error}")))?;
        // What others send shows, too, that it works: a slow line is shared.
        let so_far = || progress.load(Ordering::Relaxed) + self.backend.sent();
        let (mut marked, mut since) = (so_far(), Instant::now());
        loop {
            match receiver.recv_timeout(BETWEEN_LOOKS) {
                Ok(answer) => return answer.map_err(NoAnswer::Wrong),
                Err(RecvTimeoutError::Disconnected) => return Err(wrong("asking it went wrong".to_owned())),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = so_far();
            if now >= marked + PROGRESS {
                (marked, since) = (now, Instant::now());
            } else if since.elapsed() >= patience.stalled {
                let seconds = patience.stalled.as_secs();
                return Err(NoAnswer::Wrong(RemoteError::Unreachable(format!("no answer within {seconds} s"))));
            }
            if self.is_over(direction) {
                return Err(NoAnswer::Abandoned);
            }
            if patience.until.is_some_and(|until| Instant::now() > until) {
                return Err(NoAnswer::TooLong);
            }
        }
    }

    /// An object of at most `room` bytes in memory; none inside where it is not there.
    fn text(&self, direction: Direction, patience: Patience, name: String, room: u64) -> Option<Option<Vec<u8>>> {
        self.ask(direction, patience, move |backend, progress| {
            let mut sink = Counted { to: Vec::new(), progress: Arc::clone(progress), room };
            let found = backend.get(&name, &mut sink)?;
            Ok(found.then_some(sink.to))
        })
    }
}

fn object(folder: &str, digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{folder}/{}/{hex}", &hex[..2])
}

fn result_name(scope: &str, key: &ActionKey) -> String {
    let hex = key.hex();
    format!("ac/{scope}/{}/{hex}", &hex[..2])
}

/// Does `work` for each of `items`, some at the same time.
fn at_once<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let one_by_one = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..items.len().min(REQUESTS) {
            // Fewer threads do it, too.
            let _ = std::thread::Builder::new().spawn_scoped(scope, one_by_one);
        }
        one_by_one();
    });
}

/// Counts what goes through, and takes no more than there is room for.
struct Counted<W> {
    to: W,
    progress: Arc<AtomicU64>,
    room: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.to.write_all(bytes)?;
        self.progress.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

//! Requests to a remote during a run, with timeouts and a limit on the time that a run may lose.

mod fetch;
mod push;

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::backend::{Backend, RemoteError};
use super::pack::TARGET_PACK_SIZE;
use crate::digest::Digest;
use crate::policy::{SigningKey, Trust};
use crate::store::ActionKey;

/// A request without progress for this long has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Number of transferred bytes that count as progress.
const MIN_PROGRESS: u64 = 32 * 1024;

/// How often a pending request is checked for progress.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum number of concurrent requests.
const MAX_REQUESTS: usize = 8;

/// After this many corrupt objects, nothing more is read from the remote.
const MAX_CORRUPT_OBJECTS: usize = 3;

/// The largest accepted signed result, in bytes.
const MAX_RESULT_SIZE: u64 = 16 * 1024 * 1024;

/// The largest accepted pack, in bytes: one of the target size plus the blob that exceeded it.
const MAX_PACK_SIZE: u64 = 2 * TARGET_PACK_SIZE as u64;

/// How much time a run may lose to requests for missing results and to downloads that are slower than running the stage.
const READ_TIME_BUDGET: Duration = Duration::from_secs(5);

/// The write speed that is assumed of a server's disk, in bytes per second, to extend the timeout for large uploads.
const MIN_DISK_RATE: f64 = 4e6;

/// The connection of one run to a remote. Only the first problem is reported; after a serious one the remote is no longer used.
pub struct Remote {
    backend: Arc<dyn Backend>,
    scopes: Vec<String>,
    trust: Trust,
    signing: Option<SigningKey>,
    /// Whether reads are limited by [`READ_TIME_BUDGET`].
    time_limited: bool,
    state: Mutex<State>,
    /// Number of results that are being fetched.
    concurrent_fetches: AtomicU32,
    /// Blobs and packs that the remote is known to have.
    known_objects: Mutex<HashSet<Digest>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("location", &self.location())
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    reads_disabled: bool,
    writes_disabled: bool,
    corrupt_count: usize,
    /// Names of objects whose content is corrupt; they are overwritten on upload.
    corrupt_objects: HashSet<String>,
    time_lost: Duration,
    warning: Option<String>,
    warned: bool,
}

/// The direction of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// How long to wait for a response.
#[derive(Clone, Copy)]
struct Deadline {
    /// The maximum time without progress.
    stall_timeout: Duration,
    /// The time when the request is abandoned, even if it makes progress.
    expires_at: Option<Instant>,
}

impl Deadline {
    const STALL_ONLY: Self = Self { stall_timeout: STALL_TIMEOUT, expires_at: None };

    fn expiring_at(until: Instant) -> Self {
        Self { expires_at: Some(until), ..Self::STALL_ONLY }
    }

    fn for_upload(size: u64) -> Self {
        Self { stall_timeout: STALL_TIMEOUT + Duration::from_secs_f64(size as f64 / MIN_DISK_RATE), expires_at: None }
    }
}

/// Why there is no response.
enum RequestError {
    /// The request failed.
    Failed(RemoteError),
    /// The deadline expired.
    Expired,
    /// The remote was disabled in the meantime.
    Aborted,
}

/// How many of the requested results a remote has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Availability {
    /// Number of results that have a trusted signature.
    pub available: usize,
    /// Number of results that are missing or not trusted.
    pub missing: usize,
}

impl Remote {
    /// Connects a run to `backend`. Results must be trusted by `trust`; they are read from `scope`, then from the scopes in `read`, and
    /// written to `scope` if there is a signing key.
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
            time_limited: true,
            state: Mutex::default(),
            concurrent_fetches: AtomicU32::new(0),
            known_objects: Mutex::default(),
        }
    }

    /// Disables the time budget, for commands that only transfer results. Requests still fail without progress.
    pub fn background(self) -> Self {
        Self { time_limited: false, ..self }
    }

    /// The location of the remote, without secrets.
    pub fn location(&self) -> String {
        self.backend.location()
    }

    /// The scope that is written to, followed by those that are only read.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Checks that there is a signing key which may write to the scope.
    pub fn can_write(&self) -> Result<(), String> {
        let Some(key) = &self.signing else { return Err("there is no signing key".to_owned()) };
        let own = key.verifying_key();
        if self.trust.keys_for(&self.scopes[0]).any(|key| *key == own) {
            Ok(())
        } else {
            Err(format!("`{own}` may not write to scope `{}`", self.scopes[0]))
        }
    }

    /// Returns the first problem, once.
    pub fn take_warning(&self) -> Option<String> {
        self.state().warning.take()
    }

    /// Makes all pending and future requests fail immediately.
    pub fn abort(&self) {
        let mut state = self.state();
        (state.reads_disabled, state.writes_disabled) = (true, true);
    }

    /// Makes all pending and future reads fail immediately; uploads continue.
    pub fn stop_reading(&self) {
        self.state().reads_disabled = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_disabled(&self, direction: Direction) -> bool {
        let state = self.state();
        if direction == Direction::Read { state.reads_disabled } else { state.writes_disabled }
    }

    fn record_error(&self, direction: Direction, error: &RemoteError) {
        let mut state = self.state();
        match (error, direction) {
            (RemoteError::Unreachable(_), _) | (RemoteError::Failed(_), Direction::Read) => {
                (state.reads_disabled, state.writes_disabled) = (true, true);
            }
            (RemoteError::Corrupt(_), _) => {
                state.corrupt_count += 1;
                state.reads_disabled |= state.corrupt_count >= MAX_CORRUPT_OBJECTS;
            }
            (_, Direction::Write) => state.writes_disabled = true,
            (_, Direction::Read) => state.reads_disabled = true,
        }
        self.warn(&mut state, error);
    }

    fn warn(&self, state: &mut State, what: &dyn std::fmt::Display) {
        if !state.warned {
            state.warned = true;
            state.warning = Some(format!("remote `{}`: {what}; continuing without it", self.location()));
        }
    }

    fn corrupt_object(&self, name: &str) -> RemoteError {
        self.state().corrupt_objects.insert(name.to_owned());
        RemoteError::Corrupt(format!("the content of `{name}` does not match its digest"))
    }

    /// The deadline of a read that would save `worth`.
    fn read_deadline(&self, worth: Duration) -> Deadline {
        if !self.time_limited {
            return Deadline::STALL_ONLY;
        }
        let left = READ_TIME_BUDGET.saturating_sub(self.state().time_lost);
        Deadline::expiring_at(Instant::now() + worth + left)
    }

    /// Records time that the run lost to the remote. Disables reads once the budget is spent.
    fn charge_time(&self, lost: Duration) {
        let mut state = self.state();
        state.time_lost += lost;
        if self.time_limited && state.time_lost >= READ_TIME_BUDGET && !state.reads_disabled {
            state.reads_disabled = true;
            self.warn(&mut state, &"too slow to be worthwhile");
        }
    }

    /// Sends a request from a separate thread, so that a hanging request costs no more than its deadline. Returns `None` if it failed or the
    /// remote is disabled.
    fn request<T: Send + 'static>(
        &self,
        direction: Direction,
        deadline: Deadline,
        work: impl Fn(&dyn Backend, &Arc<AtomicU64>) -> Result<T, RemoteError> + Send + Sync + 'static,
    ) -> Option<T> {
        let work = Arc::new(work);
        for attempt in 0..2 {
            if self.is_disabled(direction) {
                return None;
            }
            match self.await_response(direction, deadline, &work) {
                Ok(answer) => return Some(answer),
                // The failure may be temporary; retry once.
                Err(RequestError::Failed(RemoteError::Failed(_))) if attempt == 0 => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(RequestError::Failed(error)) => {
                    self.record_error(direction, &error);
                    return None;
                }
                Err(RequestError::Expired | RequestError::Aborted) => return None,
            }
        }
        None
    }

    fn await_response<T: Send + 'static>(
        &self,
        direction: Direction,
        deadline: Deadline,
        work: &Arc<impl Fn(&dyn Backend, &Arc<AtomicU64>) -> Result<T, RemoteError> + Send + Sync + 'static>,
    ) -> Result<T, RequestError> {
        let failed = |text: String| RequestError::Failed(RemoteError::Failed(text));
        let (sender, receiver) = channel();
        let progress = Arc::new(AtomicU64::new(0));
        let (thread_work, backend, counted) = (Arc::clone(work), Arc::clone(&self.backend), Arc::clone(&progress));
        let thread = std::thread::Builder::new().spawn(move || {
            let _ = sender.send(thread_work(&*backend, &counted));
        });
        thread.map_err(|error| failed(format!("cannot start a thread: {error}")))?;
        // Count the progress of other uploads, too: they share the connection.
        let so_far = || progress.load(Ordering::Relaxed) + self.backend.sent();
        let (mut marked, mut since) = (so_far(), Instant::now());
        loop {
            match receiver.recv_timeout(POLL_INTERVAL) {
                Ok(answer) => return answer.map_err(RequestError::Failed),
                Err(RecvTimeoutError::Disconnected) => return Err(failed("the request thread panicked".to_owned())),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = so_far();
            if now >= marked + MIN_PROGRESS {
                (marked, since) = (now, Instant::now());
            } else if since.elapsed() >= deadline.stall_timeout {
                let seconds = deadline.stall_timeout.as_secs();
                return Err(RequestError::Failed(RemoteError::Unreachable(format!("no response within {seconds} s"))));
            }
            if self.is_disabled(direction) {
                return Err(RequestError::Aborted);
            }
            if deadline.expires_at.is_some_and(|until| Instant::now() > until) {
                return Err(RequestError::Expired);
            }
        }
    }

    /// Reads an object of at most `room` bytes into memory; the inner `None` means that it does not exist.
    fn get(&self, direction: Direction, deadline: Deadline, name: String, room: u64) -> Option<Option<Vec<u8>>> {
        self.request(direction, deadline, move |backend, progress| {
            let mut sink = CountingWriter { to: Vec::new(), progress: Arc::clone(progress), room };
            let found = backend.get(&name, &mut sink)?;
            Ok(found.then_some(sink.to))
        })
    }
}

pub(super) fn object(folder: &str, digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{folder}/{}/{hex}", &hex[..2])
}

fn result_name(scope: &str, key: &ActionKey) -> String {
    let hex = key.hex();
    format!("ac/{scope}/{}/{hex}", &hex[..2])
}

/// Calls `work` for each item, with up to eight calls at a time.
pub fn for_each_parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let one_by_one = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..items.len().min(MAX_REQUESTS) {
            // If a thread cannot be started, the others do its work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, one_by_one);
        }
        one_by_one();
    });
}

/// Counts the bytes written and fails if they exceed `room`.
struct CountingWriter<W> {
    to: W,
    progress: Arc<AtomicU64>,
    room: u64,
}

impl<W: Write> Write for CountingWriter<W> {
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

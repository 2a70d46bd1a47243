//! What is asked of a remote in the course of a run, and what happens when it does not answer.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::backend::{Backend, RemoteError};
use super::envelope::{Envelope, SigningKey, Trust};
use super::pack::{FULL, SMALL, pack, unpack};
use crate::digest::Digest;
use crate::fs;
use crate::store::action::is_key;
use crate::store::maintenance::{is_whole, named_blobs, read_tree};
use crate::store::{ActionResult, Staged, Store};

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
        let (mut marked, mut since) = (0, Instant::now());
        loop {
            match receiver.recv_timeout(BETWEEN_LOOKS) {
                Ok(answer) => return answer.map_err(NoAnswer::Wrong),
                Err(RecvTimeoutError::Disconnected) => return Err(wrong("asking it went wrong".to_owned())),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = progress.load(Ordering::Relaxed);
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

    /// A blob, to a file in `folder`; none inside where it is not there.
    fn blob(&self, patience: Patience, digest: Digest, folder: &Path) -> Option<Option<Staged>> {
        let path = folder.join(fs::unique_name());
        let to = path.clone();
        let name = object("cas", &digest);
        let asked = name.clone();
        let arrived = self.ask(Direction::Read, patience, move |backend, progress| {
            let file = File::create(&to).map_err(RemoteError::Local)?;
            let sink = Hashed { file, hasher: blake3::Hasher::new(), size: 0 };
            let mut sink = Counted { to: sink, progress: Arc::clone(progress), room: digest.size() };
            let found = backend.get(&asked, &mut sink)?;
            let Hashed { hasher, size, .. } = sink.to;
            Ok((found, Digest::new(*hasher.finalize().as_bytes(), size) == digest))
        });
        match arrived {
            Some((true, true)) => return Some(Some(Staged { path, digest })),
            Some((true, false)) => self.trouble(Direction::Read, &self.untrue_object(&name)),
            _ => {}
        }
        let _ = std::fs::remove_file(&path);
        arrived.map(|_| None)
    }

    /// The result of `key` with all its bytes, into the store; none where nobody has it whose word counts.
    pub fn fetch(&self, store: &Store, key: &str) -> Option<ActionResult> {
        self.fetch_beside(store, key, 1)
    }

    /// The same beside `others` at the same time, so that time that is lost is lost once.
    fn fetch_beside(&self, store: &Store, key: &str, others: u32) -> Option<ActionResult> {
        let started = Instant::now();
        let fetched = self.fetch_from_scopes(store, key);
        // What came later than it would have been made was lost time, too.
        let worth = fetched.as_ref().map_or(Duration::ZERO, |result| Duration::from_millis(result.cost_ms));
        self.lose(started.elapsed().saturating_sub(worth) / others);
        fetched
    }

    fn fetch_from_scopes(&self, store: &Store, key: &str) -> Option<ActionResult> {
        if !is_key(key) {
            return None;
        }
        for scope in &self.scopes {
            let envelope = self.envelope(scope, key)?;
            if let Some(envelope) = envelope
                && self.complete(store, &envelope)
                && store.actions.put(&envelope.result).is_ok()
            {
                return Some(envelope.result);
            }
        }
        None
    }

    /// What a scope says of a key; none where the remote does not answer, none inside where it says nothing that counts.
    fn envelope(&self, scope: &str, key: &str) -> Option<Option<Envelope>> {
        let name = result_name(scope, key);
        let Some(text) = self.text(Direction::Read, self.until(Duration::ZERO), name, LARGEST_RESULT)? else {
            return Some(None);
        };
        match Envelope::open(&text, scope, key, &self.trust) {
            Ok(envelope) => Some(Some(envelope)),
            Err(problem) => {
                let what = format!("the result {} in scope `{scope}` is not believed: {problem}", &key[..12]);
                self.trouble(Direction::Read, &RemoteError::Untrue(what));
                Some(None)
            }
        }
    }

    /// Several results at the same time.
    pub fn fetch_all(&self, store: &Store, keys: &[String]) {
        let beside = u32::try_from(keys.len().clamp(1, REQUESTS)).unwrap_or(1);
        at_once(keys, |key| {
            let _ = self.fetch_beside(store, key, beside);
        });
    }

    /// How many of these results are there.
    pub fn presence(&self, keys: &[String]) -> Presence {
        let there = AtomicUsize::new(0);
        at_once(keys, |key| {
            let is_there =
                is_key(key) && self.scopes.iter().any(|scope| matches!(self.envelope(scope, key), Some(Some(_))));
            there.fetch_add(usize::from(is_there), Ordering::Relaxed);
        });
        let there = there.into_inner();
        Presence { there, absent: keys.len() - there }
    }

    /// Brings what is missing of a result's bytes into the store.
    fn complete(&self, store: &Store, envelope: &Envelope) -> bool {
        let folder = store.tmp_dir().join(fs::unique_name());
        if let Err(error) = fs::create_dir(&folder) {
            self.trouble(Direction::Read, &RemoteError::Local(error.source));
            return false;
        }
        let whole = self.complete_in(store, envelope, &folder);
        let _ = fs::remove(&folder);
        whole.unwrap_or(false)
    }

    fn complete_in(&self, store: &Store, envelope: &Envelope, folder: &Path) -> Option<bool> {
        let outputs = || envelope.result.outputs.iter();
        let lacks = |digest: &Digest| !store.content.contains(digest);
        let is_known = || outputs().all(|output| is_whole(store, &output.digest, output.folder));
        // What takes longer to bring than to make is better made.
        let patience = self.until(Duration::from_millis(envelope.result.cost_ms));
        if !is_known() || envelope.texts.iter().any(lacks) {
            for digest in &envelope.packs {
                self.unpack_into(store, patience, digest, folder)?;
            }
        }
        let texts: BTreeSet<Digest> = envelope.texts.iter().copied().filter(lacks).collect();
        self.blobs_into(store, patience, &texts, folder, false)?;
        let first: BTreeSet<Digest> = outputs().map(|output| output.digest).filter(lacks).collect();
        if !self.blobs_into(store, patience, &first, folder, true)? {
            return Some(false);
        }
        let trees = outputs().filter(|output| output.folder).map(|output| read_tree(store, &output.digest));
        let files: BTreeSet<Digest> = trees
            .flatten()
            .flat_map(|tree| tree.entries().iter().map(|entry| entry.digest).collect::<Vec<_>>())
            .filter(lacks)
            .collect();
        Some(self.blobs_into(store, patience, &files, folder, true)? && is_known())
    }

    fn unpack_into(&self, store: &Store, patience: Patience, pack: &Digest, folder: &Path) -> Option<()> {
        let name = object("pack", pack);
        if pack.size() > LARGEST_PACK {
            return Some(());
        }
        // A pack that somebody removed is no reason not to look for the blobs themselves.
        let Some(bytes) = self.text(Direction::Read, patience, name.clone(), pack.size())? else { return Some(()) };
        let Some(blobs) = unpack(&bytes).filter(|_| Digest::of(&bytes) == *pack) else {
            self.trouble(Direction::Read, &self.untrue_object(&name));
            return Some(());
        };
        let mut staged = Vec::new();
        for (digest, bytes) in blobs.into_iter().filter(|(digest, _)| !store.content.contains(digest)) {
            let path = folder.join(fs::unique_name());
            self.local(std::fs::write(&path, bytes))?;
            staged.push(Staged { path, digest });
        }
        self.local(store.content.commit(&staged).map_err(|error| error.source))
    }

    /// Brings blobs; false where one is missing, and where `all` are wanted the others are then not brought any more.
    fn blobs_into(
        &self,
        store: &Store,
        patience: Patience,
        wanted: &BTreeSet<Digest>,
        folder: &Path,
        all: bool,
    ) -> Option<bool> {
        let (staged, missing) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        let wanted: Vec<Digest> = wanted.iter().copied().collect();
        at_once(&wanted, |digest| {
            if all && missing.load(Ordering::Relaxed) > 0 {
                return;
            }
            match (self.blob(patience, *digest, folder).flatten(), staged.lock()) {
                (Some(blob), Ok(mut staged)) => staged.push(blob),
                _ => drop(missing.fetch_add(1, Ordering::Relaxed)),
            }
        });
        let staged = staged.into_inner().unwrap_or_default();
        self.local(store.content.commit(&staged).map_err(|error| error.source))?;
        Some(missing.into_inner() == 0)
    }

    fn local<T>(&self, done: io::Result<T>) -> Option<T> {
        done.map_err(|error| self.trouble(Direction::Read, &RemoteError::Local(error))).ok()
    }

    /// Gives a result that was made here, and all its bytes, to the remote, as far as they are not there; returns the bytes that were
    /// sent, none where it was not done.
    pub fn push(&self, store: &Store, result: &ActionResult) -> Option<u64> {
        let key = self.signing.as_ref().filter(|_| result.origins.is_empty())?;
        let scope = &self.scopes[0];
        // What is not whole here must not get there.
        if !result.outputs.iter().all(|output| is_whole(store, &output.digest, output.folder)) {
            return None;
        }
        let name = result_name(scope, &result.key);
        let known = self.text(Direction::Write, Patience::SHORT, name.clone(), LARGEST_RESULT)?;
        // A foreign signature is no lie here: it is about to be replaced.
        let known = known.and_then(|text| Envelope::open(&text, scope, &result.key, &self.trust).ok());
        let outputs: BTreeSet<Digest> = result.outputs.iter().map(|output| output.digest).collect();
        let blobs = named_blobs(store, result);
        let (small, large): (Vec<Digest>, Vec<Digest>) = blobs.iter().partition(|digest| digest.size() <= SMALL);
        let sent = AtomicU64::new(0);
        let failed = AtomicUsize::new(0);
        at_once(&large, |digest| match self.send_blob(store, digest) {
            Some(bytes) => drop(sent.fetch_add(bytes, Ordering::Relaxed)),
            None => drop(failed.fetch_add(1, Ordering::Relaxed)),
        });
        if failed.into_inner() > 0 {
            return None;
        }
        let mut packs = Vec::new();
        for blobs in packed(store, &small) {
            let blobs = blobs?;
            let digest = Digest::of(&blobs);
            sent.fetch_add(self.send_once("pack", digest, Source::Bytes(Arc::new(blobs)))?, Ordering::Relaxed);
            packs.push(digest);
        }
        let texts =
            blobs.iter().filter(|digest| !outputs.contains(digest) && mentions(result, digest)).copied().collect();
        let envelope = Envelope { scope: scope.clone(), result: result.clone(), packs, texts };
        let is_there = known.is_some_and(|known| {
            let same = (&known.packs, &known.texts) == (&envelope.packs, &envelope.texts);
            same && known.result.outputs == result.outputs && known.result.parts == result.parts
        });
        if !is_there {
            // The result goes last, as in the store.
            let text = Arc::new(envelope.seal(key));
            self.send(name, text.len() as u64, Source::Bytes(text))?;
        }
        Some(sent.into_inner())
    }

    fn send_blob(&self, store: &Store, digest: &Digest) -> Option<u64> {
        if self.is_over(Direction::Write) || (!self.knows(digest) && !store.content.check(digest)) {
            return None;
        }
        self.send_once("cas", *digest, Source::File(store.content.path(digest)))
    }

    fn knows(&self, digest: &Digest) -> bool {
        self.there.lock().is_ok_and(|there| there.contains(digest))
    }

    fn send_once(&self, folder: &'static str, digest: Digest, source: Source) -> Option<u64> {
        if self.knows(&digest) {
            return Some(0);
        }
        let name = object(folder, &digest);
        let is_untrue = self.state().untrue_names.contains(&name);
        let asked = name.clone();
        let has = move |backend: &dyn Backend, _: &Arc<AtomicU64>| backend.has(&asked, digest.size());
        let sent = match !is_untrue && self.ask(Direction::Write, Patience::SHORT, has)? {
            true => 0,
            false => {
                self.send(name, digest.size(), source)?;
                digest.size()
            }
        };
        if let Ok(mut there) = self.there.lock() {
            there.insert(digest);
        }
        Some(sent)
    }

    fn send(&self, name: String, size: u64, source: Source) -> Option<()> {
        self.ask(Direction::Write, Patience::for_sending(size), move |backend, progress| {
            let from: Box<dyn Read> = match &source {
                Source::File(path) => Box::new(File::open(path).map_err(RemoteError::Local)?),
                Source::Bytes(bytes) => Box::new(io::Cursor::new(bytes.to_vec())),
            };
            backend.put(&name, &mut CountedRead { from, progress: Arc::clone(progress) }, size)
        })
    }
}

/// What is sent.
enum Source {
    File(PathBuf),
    Bytes(Arc<Vec<u8>>),
}

fn object(folder: &str, digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{folder}/{}/{hex}", &hex[..2])
}

fn result_name(scope: &str, key: &str) -> String {
    format!("ac/{scope}/{}/{key}", &key[..2])
}

/// Whether a fingerprint names a blob.
fn mentions(result: &ActionResult, digest: &Digest) -> bool {
    result.fingerprint.to_string().contains(&digest.to_string())
}

/// Packs of these blobs; none where one is not whole.
fn packed<'a>(store: &'a Store, small: &'a [Digest]) -> impl Iterator<Item = Option<Vec<u8>>> + 'a {
    let mut rest = small.iter();
    std::iter::from_fn(move || {
        let (mut blobs, mut size) = (Vec::new(), 0);
        for digest in rest.by_ref() {
            let Some(bytes) = store.content.read(digest) else { return Some(None) };
            size += bytes.len();
            blobs.push((*digest, bytes));
            if size >= FULL {
                break;
            }
        }
        (!blobs.is_empty()).then(|| Some(pack(&blobs)))
    })
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

struct CountedRead<R> {
    from: R,
    progress: Arc<AtomicU64>,
}

impl<R: Read> Read for CountedRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.progress.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Writes to a file and hashes on the way.
struct Hashed {
    file: File,
    hasher: blake3::Hasher,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

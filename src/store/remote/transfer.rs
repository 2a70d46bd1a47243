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

/// The largest result or pack; whoever sends more does not send one.
const LARGEST_TEXT: u64 = 256 * 1024 * 1024;

/// A remote as one run sees it. Its problems are told once; after a grave one it is left alone.
pub struct Remote {
    backend: Arc<dyn Backend>,
    scopes: Vec<String>,
    trust: Trust,
    signing: Option<SigningKey>,
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
    warning: Option<String>,
    warned: bool,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
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
            state: Mutex::default(),
            there: Mutex::default(),
        }
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
        match error {
            RemoteError::Unreachable(_) | RemoteError::Failed(_) => (state.reads_end, state.writes_end) = (true, true),
            RemoteError::Untrue(_) => {
                state.untrue += 1;
                state.reads_end |= state.untrue >= MOST_UNTRUE;
            }
            RemoteError::Refused(_) | RemoteError::Local(_) if direction == Direction::Write => state.writes_end = true,
            RemoteError::Refused(_) | RemoteError::Local(_) => state.reads_end = true,
        }
        if !state.warned {
            state.warned = true;
            state.warning = Some(format!("remote `{}`: {error}; the run goes on without it", self.place()));
        }
    }

    /// Asks on a thread of its own, so that an answer that never comes costs no more than [`STALLED`]. None where it failed or the remote
    /// is left alone.
    fn ask<T: Send + 'static>(
        &self,
        direction: Direction,
        work: impl Fn(&dyn Backend, &Arc<AtomicU64>) -> Result<T, RemoteError> + Send + Sync + 'static,
    ) -> Option<T> {
        let work = Arc::new(work);
        for attempt in 0..2 {
            if self.is_over(direction) {
                return None;
            }
            match self.wait_for(&work) {
                Ok(answer) => return Some(answer),
                // What passes may have passed a moment later.
                Err(RemoteError::Failed(_)) if attempt == 0 => std::thread::sleep(Duration::from_millis(200)),
                Err(error) => {
                    self.trouble(direction, &error);
                    return None;
                }
            }
        }
        None
    }

    fn wait_for<T: Send + 'static>(
        &self,
        work: &Arc<impl Fn(&dyn Backend, &Arc<AtomicU64>) -> Result<T, RemoteError> + Send + Sync + 'static>,
    ) -> Result<T, RemoteError> {
        let (sender, receiver) = channel();
        let progress = Arc::new(AtomicU64::new(0));
        let (thread_work, backend, counted) = (Arc::clone(work), Arc::clone(&self.backend), Arc::clone(&progress));
        std::thread::spawn(move || {
            let _ = sender.send(thread_work(&*backend, &counted));
        });
        let (mut marked, mut since) = (0, Instant::now());
        loop {
            match receiver.recv_timeout(BETWEEN_LOOKS) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RemoteError::Failed("asking it went wrong".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = progress.load(Ordering::Relaxed);
            if now >= marked + PROGRESS {
                (marked, since) = (now, Instant::now());
            } else if since.elapsed() >= STALLED {
                return Err(RemoteError::Unreachable(format!("no answer within {} s", STALLED.as_secs())));
            }
        }
    }

    /// An object in memory; none inside where it is not there.
    fn text(&self, name: String) -> Option<Option<Vec<u8>>> {
        self.ask(Direction::Read, move |backend, progress| {
            let mut sink = Counted { to: Vec::new(), progress: Arc::clone(progress), room: LARGEST_TEXT };
            let found = backend.get(&name, &mut sink)?;
            if sink.room == 0 {
                return Err(RemoteError::Untrue(format!("`{name}` does not end")));
            }
            Ok(found.then_some(sink.to))
        })
    }

    /// A blob, to a file in `folder`.
    fn blob(&self, digest: Digest, folder: &Path) -> Option<Staged> {
        let path = folder.join(fs::unique_name());
        let to = path.clone();
        let arrived = self.ask(Direction::Read, move |backend, progress| {
            let file = File::create(&to).map_err(RemoteError::Local)?;
            // One byte more than there should be is as wrong as one less.
            let sink = Hashed { file, hasher: blake3::Hasher::new(), size: 0 };
            let mut sink = Counted { to: sink, progress: Arc::clone(progress), room: digest.size() + 1 };
            let name = object("cas", &digest);
            if !backend.get(&name, &mut sink)? {
                return Ok(false);
            }
            let Hashed { hasher, size, .. } = sink.to;
            if Digest::new(*hasher.finalize().as_bytes(), size) == digest {
                return Ok(true);
            }
            Err(RemoteError::Untrue(format!("the bytes of `{name}` are not what its name says")))
        });
        if arrived == Some(true) {
            return Some(Staged { path, digest });
        }
        let _ = std::fs::remove_file(&path);
        None
    }

    /// The result of `key` with all its bytes, into the store; none where nobody has it whose word counts.
    pub fn fetch(&self, store: &Store, key: &str) -> Option<ActionResult> {
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
        let Some(text) = self.text(result_name(scope, key))? else { return Some(None) };
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
        at_once(keys, |key| {
            let _ = self.fetch(store, key);
        });
    }

    /// How many of these results are there.
    pub fn presence(&self, keys: &[String]) -> Presence {
        let there = AtomicUsize::new(0);
        at_once(keys, |key| {
            let is_there = self.scopes.iter().any(|scope| matches!(self.envelope(scope, key), Some(Some(_))));
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
        if !is_known() || envelope.texts.iter().any(lacks) {
            for digest in &envelope.packs {
                self.unpack_into(store, digest, folder)?;
            }
        }
        let first: BTreeSet<Digest> =
            outputs().map(|output| output.digest).chain(envelope.texts.iter().copied()).filter(lacks).collect();
        self.blobs_into(store, &first, folder)?;
        let trees = outputs().filter(|output| output.folder).map(|output| read_tree(store, &output.digest));
        let files: BTreeSet<Digest> = trees
            .flatten()
            .flat_map(|tree| tree.entries().iter().map(|entry| entry.digest).collect::<Vec<_>>())
            .filter(lacks)
            .collect();
        self.blobs_into(store, &files, folder)?;
        Some(is_known())
    }

    fn unpack_into(&self, store: &Store, pack: &Digest, folder: &Path) -> Option<()> {
        let name = object("pack", pack);
        // A pack that somebody removed is no reason not to look for the blobs themselves.
        let Some(bytes) = self.text(name.clone())? else { return Some(()) };
        let Some(blobs) = unpack(&bytes).filter(|_| Digest::of(&bytes) == *pack) else {
            self.trouble(Direction::Read, &RemoteError::Untrue(format!("`{name}` is not what its name says")));
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

    fn blobs_into(&self, store: &Store, wanted: &BTreeSet<Digest>, folder: &Path) -> Option<()> {
        let staged = Mutex::new(Vec::new());
        let wanted: Vec<Digest> = wanted.iter().copied().collect();
        at_once(&wanted, |digest| {
            if let Some(blob) = self.blob(*digest, folder)
                && let Ok(mut staged) = staged.lock()
            {
                staged.push(blob);
            }
        });
        let staged = staged.into_inner().unwrap_or_default();
        self.local(store.content.commit(&staged).map_err(|error| error.source))
    }

    fn local<T>(&self, done: io::Result<T>) -> Option<T> {
        done.map_err(|error| self.trouble(Direction::Read, &RemoteError::Local(error))).ok()
    }

    /// Gives a result and all its bytes to the remote, unless they are there; returns the bytes that were sent, none where it was not done.
    pub fn push(&self, store: &Store, result: &ActionResult) -> Option<u64> {
        let key = self.signing.as_ref()?;
        let scope = &self.scopes[0];
        if let Some(envelope) = self.envelope(scope, &result.key)?
            && envelope.result == *result
        {
            return Some(0);
        }
        let outputs: BTreeSet<Digest> = result.outputs.iter().map(|output| output.digest).collect();
        let blobs = named_blobs(store, result);
        let (small, large): (Vec<Digest>, Vec<Digest>) = blobs.iter().partition(|digest| digest.size() <= SMALL);
        let sent = AtomicU64::new(0);
        let failed = AtomicUsize::new(0);
        at_once(&large, |digest| match self.send_blob(store, digest) {
            Some(bytes) => drop(sent.fetch_add(bytes, Ordering::Relaxed)),
            None => drop(failed.fetch_add(1, Ordering::Relaxed)),
        });
        let mut packs = Vec::new();
        for blobs in packed(store, &small) {
            let digest = Digest::of(&blobs);
            sent.fetch_add(self.send_once("pack", digest, Source::Bytes(Arc::new(blobs)))?, Ordering::Relaxed);
            packs.push(digest);
        }
        if failed.into_inner() > 0 {
            return None;
        }
        let texts =
            blobs.iter().filter(|digest| !outputs.contains(digest) && mentions(result, digest)).copied().collect();
        let envelope = Envelope { scope: scope.clone(), result: result.clone(), packs, texts };
        // The result goes last, as in the store.
        let text = Arc::new(envelope.seal(key));
        self.send(result_name(scope, &result.key), text.len() as u64, Source::Bytes(text))?;
        Some(sent.into_inner())
    }

    fn send_blob(&self, store: &Store, digest: &Digest) -> Option<u64> {
        // What is not whole here must not get there.
        if !self.knows(digest) && !store.content.check(digest) {
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
        let asked = name.clone();
        let sent = match self.ask(Direction::Write, move |backend, _| backend.has(&asked))? {
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
        self.ask(Direction::Write, move |backend, progress| {
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

/// Packs of these blobs, as far as they are whole.
fn packed<'a>(store: &'a Store, small: &'a [Digest]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let mut rest = small.iter();
    std::iter::from_fn(move || {
        let (mut blobs, mut size) = (Vec::new(), 0);
        for digest in rest.by_ref() {
            if let Some(bytes) = store.content.read(digest) {
                size += bytes.len();
                blobs.push((*digest, bytes));
            }
            if size >= FULL {
                break;
            }
        }
        (!blobs.is_empty()).then(|| pack(&blobs))
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
            scope.spawn(one_by_one);
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
        // What is too much is thrown away: whoever reads to the end sees that there was no room left.
        let taken = usize::try_from(self.room).map_or(bytes.len(), |room| room.min(bytes.len()));
        self.to.write_all(&bytes[..taken])?;
        self.room -= taken as u64;
        self.progress.fetch_add(taken as u64, Ordering::Relaxed);
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

//! What a run and its nodes exchange through a remote: messages that only they can read and write, and blobs.
//!
//! ```text
//! tasks/PLACE/NAME    a message, sealed with the key of the place
//! cas/ab/HASH         a blob, named by the BLAKE3 hash of its bytes
//! ```
//!
//! A message is a nonce of 24 bytes and the text, encrypted and authenticated together with its name by XChaCha20-Poly1305
//! (draft-irtf-cfrg-xchacha-03). So whoever can write to the remote can neither read nor forge one, nor put it in the place of another.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};

use super::backend::{Backend, RemoteError};
use super::hashing::Hashing;
use super::transfer::object;
use crate::digest::Digest;
use crate::fs::{self, Symlinks};
use crate::sys;

/// The bytes of a nonce.
const NONCE: usize = 24;

/// How long a request may make no progress.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// How often a pending request is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The seconds before a request is tried again: of a run, which asks again later anyway.
const PAUSES: &[u64] = &[1, 3, 9];

/// The same of a node, which would lose what it has done: a quarter of an hour.
const LONG_PAUSES: &[u64] = &[1, 3, 9, 30, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60];

/// Where messages are, and the key to them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The remote; absolute if it is a folder.
    pub url: String,
    /// The name of the place in the remote.
    pub name: String,
    /// The key, which lives as long as the run.
    pub key: String,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Place {
    /// A new place with a new key.
    pub fn new(url: &str) -> io::Result<Self> {
        let (mut name, mut key) = ([0; 12], [0; 32]);
        sys::random_bytes(&mut name)?;
        sys::random_bytes(&mut key)?;
        Ok(Self { url: url.to_owned(), name: URL_SAFE_NO_PAD.encode(name), key: URL_SAFE_NO_PAD.encode(key) })
    }

    /// A part of it.
    pub fn below(&self, name: &str) -> Self {
        Self { name: format!("{}/{name}", self.name), ..self.clone() }
    }
}

/// An open place. Requests are tried again if the remote does not answer.
#[derive(Clone)]
pub struct Mailbox {
    backend: Arc<dyn Backend>,
    cipher: XChaCha20Poly1305,
    folder: String,
    pauses: &'static [u64],
    /// Set when nobody waits for answers any more.
    is_ending: Arc<AtomicBool>,
}

impl Mailbox {
    /// Opens a place; the error says what is wrong with its URL or key.
    pub fn open(place: &Place) -> Result<Self, String> {
        let backend = super::open(&place.url, Path::new("/"))?;
        let key = URL_SAFE_NO_PAD.decode(&place.key).map_err(|_| "the key of the tasks is damaged")?;
        let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(|_| "the key of the tasks is damaged")?;
        let folder = format!("tasks/{}", place.name);
        Ok(Self { backend: Arc::from(backend), cipher, folder, pauses: PAUSES, is_ending: Arc::default() })
    }

    /// Waits for a remote that is away for a while.
    pub fn patient(self) -> Self {
        Self { pauses: LONG_PAUSES, ..self }
    }

    /// Gives up requests when a flag is set.
    pub fn until(self, is_ending: &Arc<AtomicBool>) -> Self {
        Self { is_ending: Arc::clone(is_ending), ..self }
    }

    /// Where it is, for messages; without secrets.
    pub fn location(&self) -> String {
        self.backend.location()
    }

    /// Writes a message, or another text in its place.
    pub fn post(&self, name: &str, text: &[u8]) -> Result<(), RemoteError> {
        let name = format!("{}/{name}", self.folder);
        let mut nonce = [0; NONCE];
        sys::random_bytes(&mut nonce).map_err(RemoteError::Local)?;
        let payload = Payload { msg: text, aad: name.as_bytes() };
        let sealed = self.cipher.encrypt(&nonce.into(), payload);
        let sealed =
            sealed.map_err(|_| RemoteError::Local(io::Error::other("the text is too long to be encrypted")))?;
        let message = Arc::new([&nonce[..], &sealed].concat());
        self.ask(move |backend, progress| {
            let mut body = Counted { of: &message[..], progress };
            backend.put(&name, &mut body, message.len() as u64)
        })
    }

    /// Reads a message, if there is one.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let name = format!("{}/{name}", self.folder);
        let wanted = name.clone();
        let message = self.ask(move |backend, progress| {
            let mut message = Counted { of: Vec::new(), progress };
            Ok(backend.get(&wanted, &mut message)?.then_some(message.of))
        })?;
        let Some(message) = message else { return Ok(None) };
        let forged = || RemoteError::Corrupt(format!("`{name}` is damaged or forged"));
        let (nonce, sealed) = message.split_first_chunk::<NONCE>().ok_or_else(forged)?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        self.cipher.decrypt(&(*nonce).into(), payload).map(Some).map_err(|_| forged())
    }

    /// Stores the file with a digest as a blob, unless the remote has it. Returns whether it was sent. A file with other bytes is an error,
    /// and is not stored.
    pub fn put_blob(&self, path: &Path, digest: Digest) -> Result<bool, RemoteError> {
        let (path, name) = (path.to_owned(), object("cas", &digest));
        self.ask(move |backend, progress| {
            if backend.has(&name, digest.size())? {
                return Ok(false);
            }
            let file = fs::open_regular(&path, Symlinks::Follow).map_err(RemoteError::Local)?;
            let body =
                Verified { file, hasher: blake3::Hasher::new(), left: digest.size(), digest, has_changed: false };
            let mut body = Counted { of: body, progress };
            match backend.put(&name, &mut body, digest.size()) {
                // Whatever the remote made of a body that ended too early.
                Err(_) if body.of.has_changed => {
                    Err(RemoteError::Local(io::Error::other(format!("`{}` changed while it was sent", path.display()))))
                }
                put => put.map(|()| true),
            }
        })
    }

    /// Writes a blob to a file that does not exist; returns false if the remote does not have it.
    pub fn get_blob(&self, digest: Digest, path: &Path) -> Result<bool, RemoteError> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir(folder).map_err(|error| RemoteError::Local(error.source))?;
        let (name, folder) = (object("cas", &digest), folder.to_owned());
        let staged = self.ask(move |backend, progress| {
            // One that was given up may still write to its own file.
            let staged = tempfile::NamedTempFile::new_in(&folder).map_err(RemoteError::Local)?;
            let mut sink = Counted { of: Hashing::new(staged), progress };
            let found = backend.get(&name, &mut sink)?;
            let (file, arrived) = sink.of.finish();
            match found && arrived != digest {
                true => Err(RemoteError::Corrupt(format!("`{name}` is damaged"))),
                false => Ok(found.then_some(file)),
            }
        })?;
        let Some(staged) = staged else { return Ok(false) };
        staged.persist(path).map(|_| true).map_err(|error| RemoteError::Local(error.error))
    }

    /// Asks in a thread of its own, since a connection may hang, and again if there is no answer.
    fn ask<T: Send + 'static>(
        &self,
        request: impl Fn(&dyn Backend, Arc<Progress>) -> Result<T, RemoteError> + Send + Sync + 'static,
    ) -> Result<T, RemoteError> {
        let request = Arc::new(request);
        let mut pauses = self.pauses.iter();
        loop {
            let (backend, asked) = (Arc::clone(&self.backend), Arc::clone(&request));
            let progress = Arc::new(Progress::default());
            let (sender, answer) = channel();
            let own = Arc::clone(&progress);
            let started = std::thread::Builder::new().spawn(move || {
                // Nobody waits for an answer that comes too late.
                let _ = sender.send(asked(backend.as_ref(), own));
            });
            let answer = match started {
                Ok(_) => self.wait_for(&answer, &progress),
                Err(error) => Err(RemoteError::Local(error)),
            };
            // Also one that is cut off, which looks damaged.
            let is_passing =
                matches!(&answer, Err(RemoteError::Unreachable(_) | RemoteError::Failed(_) | RemoteError::Corrupt(_)));
            match pauses.next().filter(|_| is_passing && !self.is_ending()) {
                Some(seconds) => self.pause(Duration::from_secs(*seconds)),
                None => return answer,
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    fn pause(&self, pause: Duration) {
        let started = Instant::now();
        while started.elapsed() < pause && !self.is_ending() {
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits as long as there is progress.
    fn wait_for<T>(&self, answer: &Receiver<Result<T, RemoteError>>, progress: &Progress) -> Result<T, RemoteError> {
        let moved = || progress.bytes.load(Ordering::Relaxed) + self.backend.sent();
        let (mut seen, mut since) = (moved(), Instant::now());
        loop {
            match answer.recv_timeout(POLL_INTERVAL) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RemoteError::Failed("the request ended without an answer".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if moved() != seen {
                (seen, since) = (moved(), Instant::now());
            }
            if self.is_ending() || since.elapsed() > STALL_TIMEOUT {
                progress.is_given_up.store(true, Ordering::Relaxed);
                return Err(RemoteError::Unreachable(format!("{} does not answer", self.backend.location())));
            }
        }
    }
}

/// How far a request is.
#[derive(Default)]
struct Progress {
    bytes: AtomicU64,
    is_given_up: AtomicBool,
}

/// Counts what is read or written, and ends when the request is given up.
struct Counted<T> {
    of: T,
    progress: Arc<Progress>,
}

impl<T> Counted<T> {
    fn count(&self, bytes: usize) -> io::Result<usize> {
        self.progress.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        match self.progress.is_given_up.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the request was given up")),
            false => Ok(bytes),
        }
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.of.read(buffer)?;
        self.count(read)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.of.write(bytes)?;
        self.count(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.of.flush()
    }
}

/// Reads a file, but for its last bytes if it does not have the digest that it should have.
struct Verified {
    file: File,
    hasher: blake3::Hasher,
    /// How much is to be read.
    left: u64,
    digest: Digest,
    has_changed: bool,
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..wanted])?;
        self.hasher.update(&buffer[..read]);
        self.left -= read as u64;
        self.has_changed = match self.left {
            0 => self.digest.hash() != self.hasher.finalize().as_bytes(),
            _ => read == 0 && !buffer.is_empty(),
        };
        if self.has_changed { Err(io::Error::other("the file has changed")) } else { Ok(read) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place in a folder.
    fn place(folder: &Path) -> Place {
        Place::new(&folder.display().to_string()).unwrap()
    }

    #[test]
    fn messages_can_be_read_with_the_key_and_under_their_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let mailbox = Mailbox::open(&place.below("batch-0")).unwrap();
        assert!(mailbox.read("0.task").unwrap().is_none());
        mailbox.post("0.task", b"PASSWORD=1234").unwrap();
        assert_eq!(mailbox.read("0.task").unwrap().as_deref(), Some(&b"PASSWORD=1234"[..]));
        let path = folder.path().join(format!("tasks/{}/batch-0/0.task", place.name));
        let sealed = std::fs::read(&path).unwrap();
        assert!(!sealed.windows(4).any(|bytes| bytes == b"1234"), "it is encrypted");
        // Damage, the place of another message, another key.
        let refused = |mailbox: &Mailbox, name: &str| mailbox.read(name).unwrap_err().to_string();
        for place in [0, NONCE, sealed.len() - 1] {
            let mut damaged = sealed.clone();
            damaged[place] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(refused(&mailbox, "0.task").ends_with("/batch-0/0.task` is damaged or forged"), "byte {place}");
        }
        std::fs::write(&path, &sealed).unwrap();
        std::fs::copy(&path, path.with_file_name("1.task")).unwrap();
        assert!(refused(&mailbox, "1.task").ends_with("is damaged or forged"));
        let other = Place { key: Place::new("").unwrap().key, ..place.below("batch-0") };
        assert!(refused(&Mailbox::open(&other).unwrap(), "0.task").ends_with("is damaged or forged"));
        assert!(!format!("{place:?}").contains(&place.key));
    }

    #[test]
    fn blobs_are_sent_once_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        let mailbox = Mailbox::open(&place(folder.path())).unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let digest = Digest::of(b"text");
        let to = folder.path().join("below/to");
        assert!(!mailbox.get_blob(digest, &to).unwrap());
        assert!(mailbox.put_blob(&file, digest).unwrap());
        assert!(!mailbox.put_blob(&file, digest).unwrap(), "it is there");
        assert!(mailbox.get_blob(digest, &to).unwrap());
        assert_eq!(std::fs::read(&to).unwrap(), b"text");
        std::fs::remove_file(&to).unwrap();
        let changed = folder.path().join("changed");
        std::fs::write(&changed, "tent").unwrap();
        let other = Digest::of(b"other");
        for (path, digest) in [(&changed, Digest::of(b"test")), (&file, Digest::of(b"textual")), (&file, other)] {
            assert!(mailbox.put_blob(path, digest).is_err(), "{}", path.display());
            assert!(!mailbox.get_blob(digest, &to).unwrap(), "nothing is stored");
        }
        let mailbox = Mailbox { pauses: &[], ..mailbox };
        std::fs::write(folder.path().join(object("cas", &digest)), "evil").unwrap();
        assert!(matches!(mailbox.get_blob(digest, &to), Err(RemoteError::Corrupt(_))));
        assert_eq!(std::fs::read_dir(to.parent().unwrap()).unwrap().count(), 0, "nothing is left");
    }
}

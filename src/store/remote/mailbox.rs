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
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};

use super::backend::{Backend, RemoteError};
use super::transfer::object;
use crate::digest::Digest;
use crate::fs;
use crate::sys;

/// The bytes of a nonce.
const NONCE: usize = 24;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// The pauses before a request is tried again.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

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
}

impl Mailbox {
    /// Opens a place; the error says what is wrong with its URL or key.
    pub fn open(place: &Place) -> Result<Self, String> {
        let backend = super::open(&place.url, Path::new("/"))?;
        let key = URL_SAFE_NO_PAD.decode(&place.key).map_err(|_| "the key of the tasks is damaged")?;
        let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(|_| "the key of the tasks is damaged")?;
        Ok(Self { backend: Arc::from(backend), cipher, folder: format!("tasks/{}", place.name) })
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
        self.ask(move |backend| backend.put(&name, &mut &message[..], message.len() as u64))
    }

    /// Reads a message, if there is one.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let name = format!("{}/{name}", self.folder);
        let wanted = name.clone();
        let message = self.ask(move |backend| {
            let mut message = Vec::new();
            Ok(backend.get(&wanted, &mut message)?.then_some(message))
        })?;
        let Some(message) = message else { return Ok(None) };
        let forged = || RemoteError::Corrupt(format!("`{name}` is damaged or forged"));
        let (nonce, sealed) = message.split_first_chunk::<NONCE>().ok_or_else(forged)?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        self.cipher.decrypt(&(*nonce).into(), payload).map(Some).map_err(|_| forged())
    }

    /// Stores the file with a digest as a blob, unless the remote has it. Returns whether it was sent.
    pub fn put_blob(&self, path: &Path, digest: Digest) -> Result<bool, RemoteError> {
        let (path, name) = (path.to_owned(), object("cas", &digest));
        self.ask(move |backend| {
            if backend.has(&name, digest.size())? {
                return Ok(false);
            }
            let mut file = File::open(&path).map_err(RemoteError::Local)?;
            backend.put(&name, &mut file, digest.size())?;
            Ok(true)
        })
    }

    /// Writes a blob to a file that does not exist; returns false if the remote does not have it.
    pub fn get_blob(&self, digest: Digest, path: &Path) -> Result<bool, RemoteError> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir(folder).map_err(|error| RemoteError::Local(error.source))?;
        let (name, staged) = (object("cas", &digest), folder.join(fs::unique_name()));
        let to = staged.clone();
        let found = self.ask(move |backend| {
            let mut sink = Hashing {
                file: File::create(&to).map_err(RemoteError::Local)?,
                hasher: blake3::Hasher::new(),
                size: 0,
            };
            let found = backend.get(&name, &mut sink)?;
            let is_intact = Digest::new(*sink.hasher.finalize().as_bytes(), sink.size) == digest;
            match found && !is_intact {
                true => Err(RemoteError::Corrupt(format!("`{name}` is damaged"))),
                false => Ok(found),
            }
        });
        let placed = match found {
            Ok(true) => std::fs::rename(&staged, path).map(|()| true).map_err(RemoteError::Local),
            other => other,
        };
        // Absent if it was renamed.
        let _ = std::fs::remove_file(&staged);
        placed
    }

    /// Asks in a thread of its own, since a connection may hang, and again if there is no answer.
    fn ask<T: Send + 'static>(
        &self,
        request: impl Fn(&dyn Backend) -> Result<T, RemoteError> + Send + Sync + 'static,
    ) -> Result<T, RemoteError> {
        let request = Arc::new(request);
        let mut pauses = PAUSES.iter();
        loop {
            let (backend, asked) = (Arc::clone(&self.backend), Arc::clone(&request));
            let (sender, answer) = channel();
            // Nobody waits for an answer that comes too late.
            std::thread::spawn(move || drop(sender.send(asked(backend.as_ref()))));
            let answer = answer.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                Err(RemoteError::Unreachable(format!("{} does not answer", self.backend.location())))
            });
            match (answer, pauses.next()) {
                (Err(RemoteError::Unreachable(_) | RemoteError::Failed(_)), Some(pause)) => std::thread::sleep(*pause),
                (answer, _) => return answer,
            }
        }
    }
}

/// Writes to a file and hashes what is written.
struct Hashing {
    file: File,
    hasher: blake3::Hasher,
    size: u64,
}

impl Write for Hashing {
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
        std::fs::write(folder.path().join(object("cas", &digest)), "evil").unwrap();
        assert!(matches!(mailbox.get_blob(digest, &to), Err(RemoteError::Corrupt(_))));
        assert_eq!(std::fs::read_dir(to.parent().unwrap()).unwrap().count(), 0, "nothing is left");
    }
}

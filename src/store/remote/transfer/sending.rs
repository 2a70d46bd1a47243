//! Results on their way from the store to a remote.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Direction, LARGEST_RESULT, Patience, Remote, at_once, object, result_name};
use crate::digest::Digest;
use crate::fs::{self, Symlinks};
use crate::store::maintenance::{is_whole, named_blobs};
use crate::store::remote::backend::{Backend, RemoteError};
use crate::store::remote::envelope::Envelope;
use crate::store::remote::pack::{FULL, SMALL, pack};
use crate::store::{ActionResult, Store};

impl Remote {
    /// Gives a result that was made here, and all its bytes, to the remote, as far as they are not there; returns the bytes that were
    /// sent, none where it was not done.
    pub fn push(&self, store: &Store, result: &ActionResult) -> Option<u64> {
        let key = self.signing.as_ref().filter(|_| result.origins.is_empty())?;
        let scope = &self.scopes[0];
        // What is not whole here must not get there.
        if !result.outputs.blobs().all(|(digest, is_tree)| is_whole(store, &digest, is_tree)) {
            return None;
        }
        let name = result_name(scope, &result.key);
        let known = self.text(Direction::Write, Patience::SHORT, name.clone(), LARGEST_RESULT)?;
        // A foreign signature is no lie here: it is about to be replaced.
        let known = known.and_then(|text| Envelope::open(&text, scope, &result.key, &self.trust).ok());
        let outputs: BTreeSet<Digest> = result.outputs.blobs().map(|(digest, _)| digest).collect();
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
                Source::File(path) => Box::new(fs::open_regular(path, Symlinks::Refuse).map_err(RemoteError::Local)?),
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

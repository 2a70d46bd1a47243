//! Uploads results from the store to a remote.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Deadline, Direction, MAX_RESULT_SIZE, Remote, for_each_parallel, object, result_name};
use crate::digest::Digest;
use crate::fs::{self, Symlinks};
use crate::store::remote::backend::{Backend, RemoteError};
use crate::store::remote::envelope::Envelope;
use crate::store::remote::pack::{MAX_PACKED_BLOB, TARGET_PACK_SIZE, pack};
use crate::store::verify::{is_complete, referenced_blobs};
use crate::store::{ActionResult, Store};

impl Remote {
    /// Uploads a result that was made on this machine, with those of its blobs that the remote does not have. Returns the number of bytes
    /// sent, or `None` if the upload failed or is not allowed.
    pub fn push(&self, store: &Store, result: &ActionResult) -> Option<u64> {
        let key = self.signing.as_ref().filter(|_| result.origins.is_empty())?;
        let scope = &self.scopes[0];
        // Never upload an incomplete result.
        if !result.outputs.blobs().all(|(digest, is_tree)| is_complete(store, &digest, is_tree)) {
            return None;
        }
        let name = result_name(scope, &result.key);
        let existing = self.get(Direction::Write, Deadline::STALL_ONLY, name.clone(), MAX_RESULT_SIZE)?;
        // A result with an untrusted signature is not an error here: it will be overwritten.
        let existing = existing.and_then(|text| Envelope::verify(&text, scope, &result.key, &self.trust).ok());
        let outputs: BTreeSet<Digest> = result.outputs.blobs().map(|(digest, _)| digest).collect();
        let blobs = referenced_blobs(store, result);
        let (small, large): (Vec<Digest>, Vec<Digest>) =
            blobs.iter().partition(|digest| digest.size() <= MAX_PACKED_BLOB);
        let sent = AtomicU64::new(0);
        let failed = AtomicUsize::new(0);
        for_each_parallel(&large, |digest| match self.upload_blob(store, digest) {
            Some(bytes) => drop(sent.fetch_add(bytes, Ordering::Relaxed)),
            None => drop(failed.fetch_add(1, Ordering::Relaxed)),
        });
        if failed.into_inner() > 0 {
            return None;
        }
        let mut packs = Vec::new();
        for blobs in packs_of(store, &small) {
            let blobs = blobs?;
            let digest = Digest::of(&blobs);
            sent.fetch_add(self.upload_once("pack", digest, UploadBody::Bytes(Arc::new(blobs)))?, Ordering::Relaxed);
            packs.push(digest);
        }
        let texts =
            blobs.iter().filter(|digest| !outputs.contains(digest) && references(result, digest)).copied().collect();
        let envelope = Envelope { scope: scope.clone(), result: result.clone(), packs, texts };
        let is_uploaded = existing.is_some_and(|existing| {
            let same = (&existing.packs, &existing.texts) == (&envelope.packs, &envelope.texts);
            same && existing.result.outputs == result.outputs && existing.result.parts == result.parts
        });
        if !is_uploaded {
            // As in the store, the result is written last.
            let text = Arc::new(envelope.sign(key));
            self.upload(name, text.len() as u64, UploadBody::Bytes(text))?;
        }
        Some(sent.into_inner())
    }

    fn upload_blob(&self, store: &Store, digest: &Digest) -> Option<u64> {
        if self.is_disabled(Direction::Write) || (!self.is_known(digest) && !store.content.check(digest)) {
            return None;
        }
        self.upload_once("cas", *digest, UploadBody::File(store.content.path(digest)))
    }

    fn is_known(&self, digest: &Digest) -> bool {
        self.known_objects.lock().is_ok_and(|there| there.contains(digest))
    }

    fn upload_once(&self, folder: &'static str, digest: Digest, source: UploadBody) -> Option<u64> {
        if self.is_known(&digest) {
            return Some(0);
        }
        let name = object(folder, &digest);
        let is_corrupt = self.state().corrupt_objects.contains(&name);
        let requested = name.clone();
        let has = move |backend: &dyn Backend, _: &Arc<AtomicU64>| backend.has(&requested, digest.size());
        let sent = match !is_corrupt && self.request(Direction::Write, Deadline::STALL_ONLY, has)? {
            true => 0,
            false => {
                self.upload(name, digest.size(), source)?;
                digest.size()
            }
        };
        if let Ok(mut there) = self.known_objects.lock() {
            there.insert(digest);
        }
        Some(sent)
    }

    fn upload(&self, name: String, size: u64, source: UploadBody) -> Option<()> {
        self.request(Direction::Write, Deadline::for_upload(size), move |backend, progress| {
            let from: Box<dyn Read> = match &source {
                UploadBody::File(path) => {
                    Box::new(fs::open_regular(path, Symlinks::Refuse).map_err(RemoteError::Local)?)
                }
                UploadBody::Bytes(bytes) => Box::new(io::Cursor::new(bytes.to_vec())),
            };
            backend.put(&name, &mut CountingReader { from, progress: Arc::clone(progress) }, size)
        })
    }
}

/// The content of an upload.
enum UploadBody {
    File(PathBuf),
    Bytes(Arc<Vec<u8>>),
}

/// Whether the fingerprint of a result refers to a blob.
fn references(result: &ActionResult, digest: &Digest) -> bool {
    result.fingerprint.to_string().contains(&digest.to_string())
}

/// Combines small blobs into packs; yields `None` if a blob is damaged.
fn packs_of<'a>(store: &'a Store, small: &'a [Digest]) -> impl Iterator<Item = Option<Vec<u8>>> + 'a {
    let mut rest = small.iter();
    std::iter::from_fn(move || {
        let (mut blobs, mut size) = (Vec::new(), 0);
        for digest in rest.by_ref() {
            let Some(bytes) = store.content.read(digest) else { return Some(None) };
            size += bytes.len();
            blobs.push((*digest, bytes));
            if size >= TARGET_PACK_SIZE {
                break;
            }
        }
        (!blobs.is_empty()).then(|| Some(pack(&blobs)))
    })
}

struct CountingReader<R> {
    from: R,
    progress: Arc<AtomicU64>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.progress.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

//! Downloads results from a remote into the store.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{
    Availability, CountingWriter, Deadline, Direction, MAX_PACK_SIZE, MAX_REQUESTS, MAX_RESULT_SIZE, Remote,
    for_each_parallel, object, result_name,
};
use crate::digest::Digest;
use crate::fs;
use crate::store::remote::backend::RemoteError;
use crate::store::remote::envelope::Envelope;
use crate::store::remote::hashing::Hashing;
use crate::store::remote::pack::unpack;
use crate::store::verify::{is_complete, read_tree};
use crate::store::{ActionKey, ActionResult, Staged, Store};

/// Where and until when blobs are downloaded.
#[derive(Clone, Copy)]
struct Target<'a> {
    store: &'a Store,
    deadline: Deadline,
    /// The folder for blobs that are not committed yet.
    folder: &'a Path,
}

/// What happens after a blob is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnMissing {
    Continue,
    Stop,
}

impl Remote {
    /// Downloads the result of `key` and its blobs into the store; `None` if no scope has a trusted result.
    pub fn fetch(&self, store: &Store, key: &ActionKey) -> Option<ActionResult> {
        self.fetch_alongside(store, key, 1)
    }

    /// Like [`fetch`](Self::fetch), as one of several `concurrent` downloads that share the time budget.
    fn fetch_alongside(&self, store: &Store, key: &ActionKey, concurrent: u32) -> Option<ActionResult> {
        let started = Instant::now();
        let concurrent_fetches = self.concurrent_fetches.fetch_add(1, Ordering::Relaxed) + 1;
        let fetched = self.fetch_from_scopes(store, key);
        // Other downloads may have started before or since; use the larger count.
        let concurrent_fetches = concurrent_fetches.max(self.concurrent_fetches.fetch_sub(1, Ordering::Relaxed));
        // Downloading is a loss only as far as it takes longer than running the stage.
        let saved = fetched.as_ref().map_or(Duration::ZERO, |result| Duration::from_millis(result.cost_ms));
        self.charge_time(started.elapsed().saturating_sub(saved) / concurrent.max(concurrent_fetches));
        fetched
    }

    fn fetch_from_scopes(&self, store: &Store, key: &ActionKey) -> Option<ActionResult> {
        for scope in &self.scopes {
            let envelope = self.fetch_envelope(scope, key)?;
            if let Some(envelope) = envelope
                && self.download_missing(store, &envelope)
                && store.actions.put(&envelope.result).is_ok()
            {
                return Some(envelope.result);
            }
        }
        None
    }

    /// Fetches the signed result of a key from a scope. The outer `None` means that the request failed, the inner one that there is no
    /// trusted result.
    fn fetch_envelope(&self, scope: &str, key: &ActionKey) -> Option<Option<Envelope>> {
        let name = result_name(scope, key);
        let Some(text) = self.get(Direction::Read, self.read_deadline(Duration::ZERO), name, MAX_RESULT_SIZE)? else {
            return Some(None);
        };
        match Envelope::verify(&text, scope, key, &self.trust) {
            Ok(envelope) => Some(Some(envelope)),
            Err(problem) => {
                let what = format!("rejected result {} in scope `{scope}`: {problem}", &key.hex()[..12]);
                self.record_error(Direction::Read, &RemoteError::Corrupt(what));
                Some(None)
            }
        }
    }

    /// Downloads several results concurrently.
    pub fn fetch_all(&self, store: &Store, keys: &[ActionKey]) {
        let concurrent = u32::try_from(keys.len().clamp(1, MAX_REQUESTS)).unwrap_or(1);
        for_each_parallel(keys, |key| {
            let _ = self.fetch_alongside(store, key, concurrent);
        });
    }

    /// Counts how many of these results the remote has.
    pub fn availability(&self, keys: &[ActionKey]) -> Availability {
        let available = AtomicUsize::new(0);
        for_each_parallel(keys, |key| {
            let is_available = self.scopes.iter().any(|scope| matches!(self.fetch_envelope(scope, key), Some(Some(_))));
            available.fetch_add(usize::from(is_available), Ordering::Relaxed);
        });
        let available = available.into_inner();
        Availability { available, missing: keys.len() - available }
    }

    /// Downloads the blobs of a result that are missing from the store. Returns whether the result is complete.
    fn download_missing(&self, store: &Store, envelope: &Envelope) -> bool {
        let folder = store.tmp_dir().join(fs::unique_name());
        if let Err(error) = fs::create_dir(&folder) {
            self.record_error(Direction::Read, &RemoteError::Local(error.source));
            return false;
        }
        let complete = self.download_missing_into(store, envelope, &folder);
        let _ = fs::remove(&folder);
        complete.unwrap_or(false)
    }

    fn download_missing_into(&self, store: &Store, envelope: &Envelope, folder: &Path) -> Option<bool> {
        let outputs = || envelope.result.outputs.blobs();
        let is_missing = |digest: &Digest| !store.content.contains(digest);
        let is_complete_here = || outputs().all(|(digest, is_tree)| is_complete(store, &digest, is_tree));
        // Downloading must not take longer than running the stage would.
        let deadline = self.read_deadline(Duration::from_millis(envelope.result.cost_ms));
        let to = Target { store, deadline, folder };
        if !is_complete_here() || envelope.texts.iter().any(is_missing) {
            let failed = AtomicUsize::new(0);
            for_each_parallel(&envelope.packs, |digest| {
                let unpacked = self.fetch_pack(to, digest);
                failed.fetch_add(usize::from(unpacked.is_none()), Ordering::Relaxed);
            });
            if failed.into_inner() > 0 {
                return None;
            }
        }
        let texts: BTreeSet<Digest> = envelope.texts.iter().copied().filter(is_missing).collect();
        self.fetch_blobs(to, &texts, OnMissing::Continue)?;
        let first: BTreeSet<Digest> = outputs().map(|(digest, _)| digest).filter(is_missing).collect();
        if !self.fetch_blobs(to, &first, OnMissing::Stop)? {
            return Some(false);
        }
        let trees = outputs().filter(|(_, is_tree)| *is_tree).map(|(digest, _)| read_tree(store, &digest));
        let files: BTreeSet<Digest> = trees
            .flatten()
            .flat_map(|tree| tree.entries().iter().map(|entry| entry.digest).collect::<Vec<_>>())
            .filter(is_missing)
            .collect();
        Some(self.fetch_blobs(to, &files, OnMissing::Stop)? && is_complete_here())
    }

    fn fetch_pack(&self, to: Target<'_>, pack: &Digest) -> Option<()> {
        let Target { store, deadline, folder } = to;
        let name = object("pack", pack);
        if pack.size() > MAX_PACK_SIZE {
            return Some(());
        }
        // If the pack was deleted, the blobs may still be available one by one.
        let Some(bytes) = self.get(Direction::Read, deadline, name.clone(), pack.size())? else { return Some(()) };
        let Some(blobs) = unpack(&bytes).filter(|_| Digest::of(&bytes) == *pack) else {
            self.record_error(Direction::Read, &self.corrupt_object(&name));
            return Some(());
        };
        let mut staged = Vec::new();
        for (digest, bytes) in blobs.into_iter().filter(|(digest, _)| !store.content.contains(digest)) {
            let path = folder.join(fs::unique_name());
            self.report_local_error(fs::create_new(&path).and_then(|mut file| file.write_all(bytes)))?;
            staged.push(Staged { path, digest });
        }
        self.report_local_error(store.content.commit(&staged).map_err(|error| error.source))
    }

    /// Downloads blobs; returns whether all of them arrived.
    fn fetch_blobs(&self, to: Target<'_>, wanted: &BTreeSet<Digest>, on_missing: OnMissing) -> Option<bool> {
        let Target { store, deadline, folder } = to;
        let (staged, missing) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        let wanted: Vec<Digest> = wanted.iter().copied().collect();
        for_each_parallel(&wanted, |digest| {
            if on_missing == OnMissing::Stop && missing.load(Ordering::Relaxed) > 0 {
                return;
            }
            match (self.fetch_blob(deadline, *digest, folder).flatten(), staged.lock()) {
                (Some(blob), Ok(mut staged)) => staged.push(blob),
                _ => drop(missing.fetch_add(1, Ordering::Relaxed)),
            }
        });
        let staged = staged.into_inner().unwrap_or_default();
        self.report_local_error(store.content.commit(&staged).map_err(|error| error.source))?;
        Some(missing.into_inner() == 0)
    }

    fn report_local_error<T>(&self, done: io::Result<T>) -> Option<T> {
        done.map_err(|error| self.record_error(Direction::Read, &RemoteError::Local(error))).ok()
    }

    /// Downloads a blob to a file in `folder`; the inner `None` means that the remote does not have it intact.
    fn fetch_blob(&self, deadline: Deadline, digest: Digest, folder: &Path) -> Option<Option<Staged>> {
        let path = folder.join(fs::unique_name());
        let to = path.clone();
        let name = object("cas", &digest);
        let requested = name.clone();
        let arrived = self.request(Direction::Read, deadline, move |backend, progress| {
            let file = fs::create_new(&to).map_err(RemoteError::Local)?;
            let mut sink =
                CountingWriter { to: Hashing::new(file), progress: Arc::clone(progress), room: digest.size() };
            let found = backend.get(&requested, &mut sink)?;
            let (_, arrived) = sink.to.finish();
            Ok((found, arrived == digest))
        });
        match arrived {
            Some((true, true)) => return Some(Some(Staged { path, digest })),
            Some((true, false)) => self.record_error(Direction::Read, &self.corrupt_object(&name)),
            _ => {}
        }
        let _ = std::fs::remove_file(&path);
        arrived.map(|_| None)
    }
}

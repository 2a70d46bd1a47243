//! Results on their way from a remote into the store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{
    Counted, Direction, LARGEST_PACK, LARGEST_RESULT, Patience, Presence, REQUESTS, Remote, at_once, object,
    result_name,
};
use crate::digest::Digest;
use crate::fs;
use crate::store::maintenance::{is_whole, read_tree};
use crate::store::remote::backend::RemoteError;
use crate::store::remote::envelope::Envelope;
use crate::store::remote::pack::unpack;
use crate::store::{ActionKey, ActionResult, Staged, Store};

impl Remote {
    /// The result of `key` with all its bytes, into the store; none where nobody has it whose word counts.
    pub fn fetch(&self, store: &Store, key: &ActionKey) -> Option<ActionResult> {
        self.fetch_beside(store, key, 1)
    }

    /// The same beside `others` at the same time, so that time that is lost is lost once.
    fn fetch_beside(&self, store: &Store, key: &ActionKey, others: u32) -> Option<ActionResult> {
        let started = Instant::now();
        let askers = self.askers.fetch_add(1, Ordering::Relaxed) + 1;
        let fetched = self.fetch_from_scopes(store, key);
        // Of those who ask at the same time some have begun before and some after.
        let askers = askers.max(self.askers.fetch_sub(1, Ordering::Relaxed));
        // What came later than it would have been made was lost time, too.
        let worth = fetched.as_ref().map_or(Duration::ZERO, |result| Duration::from_millis(result.cost_ms));
        self.lose(started.elapsed().saturating_sub(worth) / others.max(askers));
        fetched
    }

    fn fetch_from_scopes(&self, store: &Store, key: &ActionKey) -> Option<ActionResult> {
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
    fn envelope(&self, scope: &str, key: &ActionKey) -> Option<Option<Envelope>> {
        let name = result_name(scope, key);
        let Some(text) = self.text(Direction::Read, self.until(Duration::ZERO), name, LARGEST_RESULT)? else {
            return Some(None);
        };
        match Envelope::open(&text, scope, key, &self.trust) {
            Ok(envelope) => Some(Some(envelope)),
            Err(problem) => {
                let what = format!("the result {} in scope `{scope}` is not believed: {problem}", &key.hex()[..12]);
                self.trouble(Direction::Read, &RemoteError::Untrue(what));
                Some(None)
            }
        }
    }

    /// Several results at the same time.
    pub fn fetch_all(&self, store: &Store, keys: &[ActionKey]) {
        let beside = u32::try_from(keys.len().clamp(1, REQUESTS)).unwrap_or(1);
        at_once(keys, |key| {
            let _ = self.fetch_beside(store, key, beside);
        });
    }

    /// How many of these results are there.
    pub fn presence(&self, keys: &[ActionKey]) -> Presence {
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
        let outputs = || envelope.result.outputs.blobs();
        let lacks = |digest: &Digest| !store.content.contains(digest);
        let is_known = || outputs().all(|(digest, is_tree)| is_whole(store, &digest, is_tree));
        // What takes longer to bring than to make is better made.
        let patience = self.until(Duration::from_millis(envelope.result.cost_ms));
        if !is_known() || envelope.texts.iter().any(lacks) {
            let unanswered = AtomicUsize::new(0);
            at_once(&envelope.packs, |digest| {
                let unpacked = self.unpack_into(store, patience, digest, folder);
                unanswered.fetch_add(usize::from(unpacked.is_none()), Ordering::Relaxed);
            });
            if unanswered.into_inner() > 0 {
                return None;
            }
        }
        let texts: BTreeSet<Digest> = envelope.texts.iter().copied().filter(lacks).collect();
        self.blobs_into(store, patience, &texts, folder, false)?;
        let first: BTreeSet<Digest> = outputs().map(|(digest, _)| digest).filter(lacks).collect();
        if !self.blobs_into(store, patience, &first, folder, true)? {
            return Some(false);
        }
        let trees = outputs().filter(|(_, is_tree)| *is_tree).map(|(digest, _)| read_tree(store, &digest));
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
            self.local(fs::create_new(&path).and_then(|mut file| file.write_all(bytes)))?;
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

    /// A blob, to a file in `folder`; none inside where it is not there.
    fn blob(&self, patience: Patience, digest: Digest, folder: &Path) -> Option<Option<Staged>> {
        let path = folder.join(fs::unique_name());
        let to = path.clone();
        let name = object("cas", &digest);
        let asked = name.clone();
        let arrived = self.ask(Direction::Read, patience, move |backend, progress| {
            let file = fs::create_new(&to).map_err(RemoteError::Local)?;
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

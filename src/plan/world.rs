//! The world as seen by planning: read through methods that keep a trace, never written to.
//!
//! Results of planning that are worth keeping (projections of tables, splits of stages into parts) are held in memory until a caller
//! that may write, a run, calls [`World::write_pending`].

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hamflow_stage_api::{FileStamp, ReadKind, StageError, UndeclaredRead, Versions};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::inputs::{self, Declared, Memory, ScanError};
use super::look;
use super::trace::{DeviceChoice, Trace};
use crate::config::{InputDeclaration, Stage};
use crate::digest::Digest;
use crate::fs::{self, FsError, SkipReason, Skipped, Stat};
use crate::lock::Lockfile;
use crate::out::{Differences, OutFolder, StoredResult};
use crate::store::{ActionKey, ActionResult, Files, StableEntry, StatIndex, Store};
use crate::threads;

/// Texts and answers that have not been written yet.
#[derive(Debug, Default)]
struct Pending {
    texts: HashMap<Digest, String>,
    /// Keyed by question; values are JSON.
    answers: BTreeMap<String, serde_json::Value>,
}

/// Everything that planning reads.
pub struct World<'a> {
    store: &'a Store,
    index: StatIndex,
    out: OutFolder,
    threads: usize,
    /// When reading began, in nanoseconds since 1970.
    began: i64,
    trace: RefCell<Trace>,
    pending: RefCell<Pending>,
}

impl<'a> World<'a> {
    /// Loads the stat index and the record of `out/`; reads nothing else yet.
    pub fn new(store: &'a Store, project: &Path) -> Self {
        Self {
            store,
            // Taken before the index is loaded, so that files changed in between are hashed again.
            began: fs::now(),
            index: StatIndex::load(store.root()),
            out: OutFolder::load(project, store.root()),
            threads: threads::available(),
            trace: RefCell::default(),
            pending: RefCell::default(),
        }
    }

    /// The store.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// The stat index.
    pub fn index(&mut self) -> &mut StatIndex {
        &mut self.index
    }

    /// The `out/` folder.
    pub fn out(&mut self) -> &mut OutFolder {
        &mut self.out
    }

    /// Removes from `out/` the outputs of stages that are no longer in the pipeline of `lock`.
    pub fn remove_dropped(&mut self, lock: &str, is_there: impl Fn(&str) -> bool) -> Result<(), StageError> {
        self.out.remove_dropped(lock, is_there, self.store, &mut self.index)
    }

    /// Returns the trace so far and the time when reading began.
    pub fn trace(&self) -> (&RefCell<Trace>, i64) {
        (&self.trace, self.began)
    }

    /// Returns the stat index entry of a path if any later change would be detected.
    pub fn stable_entry(&self, path: &Path) -> Option<StableEntry<'_>> {
        self.index.stable_entry(path)
    }

    fn read(&self, path: PathBuf) {
        self.trace.borrow_mut().paths.insert(path);
    }

    /// Reads an environment variable.
    pub fn variable(&self, name: &str) -> Result<String, std::env::VarError> {
        self.trace.borrow_mut().variables.insert(name.to_owned());
        std::env::var(name)
    }

    /// Whether a variable has a value that is not UTF-8. The value may be a secret, so it is not traced.
    pub fn is_not_unicode(&self, name: &str) -> bool {
        matches!(std::env::var(name), Err(std::env::VarError::NotUnicode(_)))
    }

    /// Returns the device class that a stage would use on this machine.
    pub fn device_class(&self, stage: &Stage) -> Result<Option<String>, StageError> {
        let class = stage.kind.device_class(&stage.params).map_err(|error| {
            let base = StageError::input(format!("`{}`: {}", error.path.join("."), error.message));
            match &error.hint {
                Some(hint) => base.hint(hint.clone()),
                None => base,
            }
        })?;
        let evidence = stage.kind.device_evidence();
        // With neither, the kind's numbers do not depend on the device.
        if class.is_some() || evidence.is_some() {
            let params = serde_json::to_string(stage.params.json()).expect("parameters have only string keys");
            let kind = stage.spec.name.to_owned();
            let choice = DeviceChoice { kind, params, class: class.clone(), evidence };
            let devices = &mut self.trace.borrow_mut().devices;
            if !devices.contains(&choice) {
                devices.push(choice);
            }
        }
        Ok(class)
    }

    /// Returns the versions of the software that a stage depends on.
    pub fn tools(&self, stage: &Stage, project: &Path) -> Result<Versions, StageError> {
        let mut versions = Versions::new();
        for question in stage.kind.tool_questions(&stage.params) {
            let key = (stage.spec.name.to_owned(), question);
            let known = self.trace.borrow().tools.get(&key).cloned();
            let answer = match known {
                Some(known) => known,
                None => {
                    let answer = stage.kind.tool_versions(&key.1, project)?;
                    self.trace.borrow_mut().tools.insert(key, answer.clone());
                    answer
                }
            };
            versions.extend(answer);
        }
        Ok(versions)
    }

    /// Lists and hashes a declared input.
    pub fn scan(&mut self, declaration: &InputDeclaration, root: &Path) -> Result<Declared, ScanError> {
        declaration.paths.iter().for_each(|path| self.read(root.join(path)));
        inputs::scan(declaration, root, &mut self.index, self.threads)
    }

    /// Lists the folders of a declared input without hashing their files.
    pub fn list(&mut self, declaration: &InputDeclaration, root: &Path) -> Result<Declared, ScanError> {
        declaration.paths.iter().for_each(|path| self.read(root.join(path)));
        inputs::list(declaration, root, &mut self.index, self.threads)
    }

    /// Returns an entry of a listed input whose name no key can hold.
    pub fn untrackable(&self, declaration: &InputDeclaration, root: &Path) -> Option<&Skipped> {
        let mut skipped = declaration.paths.iter().flat_map(|path| self.index.skipped(&root.join(path)));
        skipped.find(|entry| entry.reason == SkipReason::InvalidName)
    }

    /// Returns the last known state of a missing input, according to the lock and the store.
    pub fn remembered(
        &mut self,
        declaration: &InputDeclaration,
        root: &Path,
        lock: &Lockfile,
    ) -> Result<Option<Declared>, ScanError> {
        self.trace.borrow_mut().is_open = true;
        let memory = Memory { root, lock, store: self.store };
        memory.declared(declaration, &mut self.index, self.threads)
    }

    /// Returns the digest of a project file.
    pub fn hash(&mut self, path: &Path) -> Result<Digest, FsError> {
        self.read(path.to_owned());
        self.index.file(path)
    }

    /// Fails if a file is not what a program read. A file that appeared after the program had looked for it is none of the result.
    pub fn require_unchanged(&self, read: &UndeclaredRead, project: &Path) -> Result<(), StageError> {
        let path = look::full(&read.path, project);
        let now = std::fs::metadata(&path).ok();
        let stamp = |now: &std::fs::Metadata| {
            let Stat { size, mtime: modified, inode, .. } = Stat::of(now);
            FileStamp { size, modified, inode }
        };
        let is_same = match read.stamp {
            Some(then) => now.as_ref().is_some_and(|now| stamp(now) == then),
            None => true,
        };
        if is_same { Ok(()) } else { Err(StageError::input_changed(&path)) }
    }

    /// Returns the state of a file that a program used, as a key has it.
    pub fn state(&mut self, path: &str, kind: ReadKind, project: &Path) -> String {
        let path = &look::full(path, project);
        let is_project = path == project;
        match kind {
            ReadKind::Content if path.is_file() => match self.hash(path) {
                Ok(digest) => return digest.to_string(),
                // It is read again in the next check.
                Err(_) => self.trace.borrow_mut().is_open = true,
            },
            ReadKind::Names | ReadKind::Modules => {
                if let Some(names) = look::names(path, kind, is_project) {
                    let digest = self.keep(names);
                    self.trace.borrow_mut().names.insert((path.to_owned(), kind, is_project), digest);
                    return digest.to_string();
                }
            }
            ReadKind::Content | ReadKind::Presence => {}
        }
        let state = look::presence(path);
        self.trace.borrow_mut().presence.insert(path.to_owned(), state.to_owned());
        state.to_owned()
    }

    /// Records the digest of an input file that a part has read.
    pub fn record_hash(&mut self, file: &Path, listed: &crate::store::IndexedFile, digest: Digest) {
        self.index.record_hash(file, listed, digest, self.began);
    }

    /// Returns the result stored under a key with its files, if it is complete. The flag is set if the stored result has other
    /// outputs than the stage declares; such a result was not made from this stage but came from a bundle or a remote.
    pub fn result(&self, stage: &Stage, key: &ActionKey) -> (Option<(Arc<ActionResult>, Files)>, bool) {
        let Some(result) = self.store.actions.get(key) else { return (None, false) };
        if !result.outputs.match_declared(&stage.outputs) {
            return (None, true);
        }
        let Some(files) = self.store.files(&result) else { return (None, false) };
        let mut trace = self.trace.borrow_mut();
        trace.results.push(*key);
        trace.blobs.extend(result.outputs.blobs().map(|(digest, _)| digest).chain(files.values().copied()));
        (Some((Arc::new(result), files)), false)
    }

    /// Returns an earlier result to explain a change. It is not traced, because no verdict depends on it.
    pub fn earlier_result(&self, key: &str) -> Option<ActionResult> {
        self.store.actions.get_hex(key)
    }

    /// Returns all keys in the store, or `None` if they cannot be listed. Decisions based on them are never sealed.
    pub fn keys(&self) -> Option<Vec<ActionKey>> {
        self.store.actions.keys().ok()
    }

    /// Returns the differences between a stage's output directory and its result.
    pub fn compare_out(
        &mut self,
        stage: &Stage,
        result: &ActionResult,
        files: &Files,
    ) -> Result<Differences, StageError> {
        self.read(self.out.of_stage(&stage.name));
        let stored = StoredResult { stage: &stage.name, result, files };
        self.out.compare(stored, self.store, &mut self.index, self.threads)
    }

    /// Returns a listing or projection by digest, whether still pending or in the store.
    pub fn text(&self, digest: &Digest) -> Option<String> {
        if let Some(text) = self.pending.borrow().texts.get(digest) {
            return Some(text.clone());
        }
        String::from_utf8(self.store.content.read(digest)?).ok()
    }

    /// Returns the memoized answer to a question.
    pub fn answer<T: DeserializeOwned>(&self, question: &str) -> Option<T> {
        if let Some(answer) = self.pending.borrow().answers.get(question) {
            return serde_json::from_value(answer.clone()).ok();
        }
        self.store.memo.get(question)
    }

    /// Memoizes an answer; written by [`World::write_pending`].
    pub fn remember<T: Serialize>(&self, question: String, answer: &T) {
        let answer = serde_json::to_value(answer).expect("answers have only string keys");
        self.pending.borrow_mut().answers.insert(question, answer);
    }

    /// Keeps a text that explains later changes; written by [`World::write_pending`].
    pub fn keep(&self, text: String) -> Digest {
        let digest = Digest::of(text.as_bytes());
        self.pending.borrow_mut().texts.insert(digest, text);
        digest
    }

    /// Keeps and traces the listing of an input. It stands in for missing data, so a seal no longer holds once the listing is gone.
    pub fn keep_listing(&self, declared: &Declared) {
        let Some(digest) = declared.digest.known().filter(|_| declared.folder) else { return };
        if !self.store.content.contains(&digest)
            && let Some(manifest) = declared.manifest()
        {
            self.keep(manifest);
        }
        self.trace.borrow_mut().blobs.push(digest);
    }

    /// Writes pending texts and answers. A failed write only costs time or an explanation later.
    pub fn write_pending(&self) {
        let Pending { texts, answers } = std::mem::take(&mut *self.pending.borrow_mut());
        for text in texts.values() {
            let _ = self.store.content.put(text.as_bytes());
        }
        for (question, answer) in &answers {
            self.store.memo.put(question, answer);
        }
    }
}

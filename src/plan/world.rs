//! The world as planning sees it: read through methods that keep a trace, never written to.
//!
//! What planning would like to be kept (projections of tables, splits of stages into parts) waits here until somebody who may write, a
//! run, asks for it ([`World::write_pending`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hamflow_stage_api::StageError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::inputs::{self, Declared, Memory, ScanError};
use super::trace::{DeviceChoice, Trace};
use crate::config::{InputDeclaration, Stage};
use crate::digest::Digest;
use crate::fs::{self, FsError};
use crate::lock::Lockfile;
use crate::out::{Differences, OutFolder, StoredResult};
use crate::store::{ActionKey, ActionResult, Files, StableEntry, StatIndex, Store};
use crate::threads;

/// What is to be written when somebody may write.
#[derive(Debug, Default)]
struct Pending {
    texts: HashMap<Digest, String>,
    /// By question, as JSON.
    answers: BTreeMap<String, serde_json::Value>,
}

/// Everything that planning reads.
pub struct World<'a> {
    store: &'a Store,
    index: StatIndex,
    out: OutFolder,
    threads: usize,
    /// When it was first looked at, in nanoseconds since 1970.
    began: i64,
    trace: RefCell<Trace>,
    pending: RefCell<Pending>,
}

impl<'a> World<'a> {
    /// Reads the stat index and looks at nothing else yet.
    pub fn new(store: &'a Store, project: &Path) -> Self {
        Self {
            store,
            // Before the index is read: what changes meanwhile is hashed again.
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

    /// Removes from `out/` what stages made that the pipeline of `lock` no longer has.
    pub fn remove_dropped(&mut self, lock: &str, is_there: impl Fn(&str) -> bool) -> Result<(), StageError> {
        self.out.remove_dropped(lock, is_there, self.store, &mut self.index)
    }

    /// What was read so far, and when that began.
    pub fn trace(&self) -> (&RefCell<Trace>, i64) {
        (&self.trace, self.began)
    }

    /// What the stat index knows of a path whose state will not change without a sign.
    pub fn stable_entry(&self, path: &Path) -> Option<StableEntry<'_>> {
        self.index.stable_entry(path)
    }

    fn read(&self, path: PathBuf) {
        self.trace.borrow_mut().paths.insert(path);
    }

    /// A variable of the environment.
    pub fn variable(&self, name: &str) -> Result<String, std::env::VarError> {
        self.trace.borrow_mut().variables.insert(name.to_owned());
        std::env::var(name)
    }

    /// Whether a variable has a value that is not UTF-8. It may be a secret, so nothing of it is traced.
    pub fn is_not_unicode(&self, name: &str) -> bool {
        matches!(std::env::var(name), Err(std::env::VarError::NotUnicode(_)))
    }

    /// The class of device that a stage would use here.
    pub fn device_class(&self, stage: &Stage) -> Result<Option<String>, StageError> {
        let class = stage.kind.device_class(&stage.params).map_err(|error| {
            let base = StageError::input(format!("`{}`: {}", error.path.join("."), error.message));
            match &error.hint {
                Some(hint) => base.hint(hint.clone()),
                None => base,
            }
        })?;
        // Parameters without a class are those of a kind whose numbers do not depend on it.
        if class.is_some() {
            let params = serde_json::to_string(stage.params.json()).expect("parameters have only string keys");
            let choice = DeviceChoice { kind: stage.spec.name.to_owned(), params, class: class.clone() };
            let devices = &mut self.trace.borrow_mut().devices;
            if !devices.contains(&choice) {
                devices.push(choice);
            }
        }
        Ok(class)
    }

    /// Lists and hashes a declared input.
    pub fn scan(&mut self, declaration: &InputDeclaration, root: &Path) -> Result<Declared, ScanError> {
        declaration.paths.iter().for_each(|path| self.read(root.join(path)));
        inputs::scan(declaration, root, &mut self.index, self.threads)
    }

    /// Lists the folders of a declared input without reading a file of them.
    pub fn list(&mut self, declaration: &InputDeclaration, root: &Path) -> Result<Declared, ScanError> {
        declaration.paths.iter().for_each(|path| self.read(root.join(path)));
        inputs::list(declaration, root, &mut self.index, self.threads)
    }

    /// What the lock and the store know of a declared input that is not there.
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

    /// The digest of a file of the project.
    pub fn hash(&mut self, path: &Path) -> Result<Digest, FsError> {
        self.read(path.to_owned());
        self.index.file(path)
    }

    /// A part has read a file of an input and found this digest.
    pub fn record_hash(&mut self, file: &Path, listed: &crate::store::IndexedFile, digest: Digest) {
        self.index.record_hash(file, listed, digest, self.began);
    }

    /// The result of a stage under a key with its files, if the store has it whole; and whether there is one with other outputs than the
    /// stage declares, which nobody made from this stage: a bundle or a remote brought it.
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

    /// A result that explains a change; nothing depends on it.
    pub fn earlier_result(&self, key: &str) -> Option<ActionResult> {
        self.store.actions.get_hex(key)
    }

    /// All keys in the store; none where they cannot be listed. Nothing that is decided by them is sealed.
    pub fn keys(&self) -> Option<Vec<ActionKey>> {
        self.store.actions.keys().ok()
    }

    /// What differs between a stage's output directory and its result.
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

    /// A listing or projection by its digest: one that waits to be written, or one of the store.
    pub fn text(&self, digest: &Digest) -> Option<String> {
        if let Some(text) = self.pending.borrow().texts.get(digest) {
            return Some(text.clone());
        }
        String::from_utf8(self.store.content.read(digest)?).ok()
    }

    /// The remembered answer to a question.
    pub fn answer<T: DeserializeOwned>(&self, question: &str) -> Option<T> {
        if let Some(answer) = self.pending.borrow().answers.get(question) {
            return serde_json::from_value(answer.clone()).ok();
        }
        self.store.memo.get(question)
    }

    /// Has an answer remembered, once somebody writes.
    pub fn remember<T: Serialize>(&self, question: String, answer: &T) {
        let answer = serde_json::to_value(answer).expect("answers have only string keys");
        self.pending.borrow_mut().answers.insert(question, answer);
    }

    /// Has a text kept, once somebody writes: it explains a later change.
    pub fn keep(&self, text: String) -> Digest {
        let digest = Digest::of(text.as_bytes());
        self.pending.borrow_mut().texts.insert(digest, text);
        digest
    }

    /// The listing of an input stands in for data that is not there: it is kept, and what depends on it is looked at again where it is gone.
    pub fn keep_listing(&self, declared: &Declared) {
        let Some(digest) = declared.digest.known().filter(|_| declared.folder) else { return };
        if !self.store.content.contains(&digest)
            && let Some(manifest) = declared.manifest()
        {
            self.keep(manifest);
        }
        self.trace.borrow_mut().blobs.push(digest);
    }

    /// Writes what waits. That something cannot be written costs time or an explanation later, and nothing else.
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

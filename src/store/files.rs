//! The files of a result.

use std::collections::BTreeMap;

use super::{ActionKey, ActionResult, Store, Tree};
use crate::digest::Digest;
use crate::fs::RelativePath;

/// Files below a stage's output directory.
pub type Files = BTreeMap<RelativePath, Digest>;

impl Store {
    /// The files of a stage's result; `None` if one of its blobs is missing.
    pub fn files(&self, result: &ActionResult) -> Option<Files> {
        let mut files = Files::new();
        for output in result.outputs.artifacts() {
            if !output.folder {
                files.insert(output.path.clone(), output.digest);
                continue;
            }
            let tree = self.tree(&output.digest)?;
            files.extend(tree.entries().iter().map(|entry| (entry.path.below(&output.path), entry.digest)));
        }
        files.values().all(|digest| self.content.contains(digest)).then_some(files)
    }

    /// The files of the result under a key; empty where the store does not have all of it.
    pub fn files_of(&self, key: &ActionKey) -> Files {
        self.actions.get(key).and_then(|result| self.files(&result)).unwrap_or_default()
    }

    /// The text that a blob holds, if it is there and is one.
    pub fn text(&self, digest: &Digest) -> Option<String> {
        String::from_utf8(self.content.read(digest)?).ok()
    }

    /// The tree that a blob holds, if it is there and is one.
    pub fn tree(&self, digest: &Digest) -> Option<Tree> {
        Tree::parse(std::str::from_utf8(&self.content.read(digest)?).ok()?).ok()
    }
}

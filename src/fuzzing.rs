//! The parsers of what may come from elsewhere, each as a function of any bytes that must neither panic, hang nor take much memory.
//!
//! `fuzz/` has a target for each; `tests/fuzz.rs` runs all of them for a moment over seeds and changed seeds.

use std::path::Path;

use crate::digest::Digest;
use crate::exec::RunRecord;
use crate::fs::RelativePath;
use crate::lock::Lockfile;
use crate::plan::{Laid, Seal};
use crate::store::remote::{Envelope, Trust, unpack};
use crate::store::{ActionKey, ActionResult, Memo, StatIndex, Store, Tree};

/// A parser by its name, which is that of its fuzz target and of the folder of its seeds.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 11] = [
    ("path", path),
    ("tree", tree),
    ("result", result),
    ("envelope", envelope),
    ("pack", pack),
    ("bundle", bundle),
    ("lock", lock),
    ("memo", memo),
    ("record", record),
    ("laid", laid),
    ("index", index),
];

/// A path that is accepted stays inside.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = RelativePath::new(text) {
        let plain = |component| matches!(component, std::path::Component::Normal(_));
        assert!(Path::new(path.as_str()).components().all(plain));
    }
}

/// A tree that is read is written as it was, and nothing in it leaves the folder.
pub fn tree(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tree) = Tree::parse(text) {
        let again = Tree::parse(&tree.text()).expect("what is written can be read");
        assert_eq!(again, tree);
        tree.entries().iter().for_each(|entry| path(entry.path.as_bytes()));
    }
}

/// The body of a result; its envelope with the hash is made here, because no fuzzer finds hashes.
pub fn result(bytes: &[u8]) {
    if let Ok(result) = serde_json::from_slice::<ActionResult>(bytes) {
        result.outputs.artifacts().iter().for_each(|output| path(output.path.as_bytes()));
        let text = serde_json::to_vec(&result).expect("a result has only string keys");
        let again: ActionResult = serde_json::from_slice(&text).expect("what is written can be read");
        assert_eq!(again.outputs, result.outputs);
    }
}

/// A signed result of anybody.
pub fn envelope(bytes: &[u8]) {
    assert!(Envelope::verify(bytes, "main", &ActionKey::of(""), &Trust::default()).is_err(), "nobody is trusted");
    // The part behind the signature.
    let _ = serde_json::from_slice::<Envelope>(bytes);
}

/// Small blobs in one object.
pub fn pack(bytes: &[u8]) {
    for (digest, blob) in unpack(bytes).unwrap_or_default() {
        assert_eq!(Digest::of(blob), digest);
    }
}

/// A file of `cache export`.
pub fn bundle(bytes: &[u8]) {
    let Ok(folder) = tempfile() else { return };
    let from = folder.path.join("bundle.tar");
    if std::fs::write(&from, bytes).is_ok()
        && let Ok(store) = Store::open(&folder.path.join("cache"))
        && store.create().is_ok()
    {
        let _ = crate::store::import(&store, &from, |_| true);
        let outside = std::fs::read_dir(&folder.path).into_iter().flatten().flatten();
        assert_eq!(outside.count(), 2, "only the cache and the bundle are there");
    }
}

/// `pipeline.lock`.
pub fn lock(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Lockfile::parse(text, Path::new("pipeline.lock"));
}

/// A remembered answer.
pub fn memo(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Memo::decode(text, "a question");
}

/// The record of a run.
pub fn record(bytes: &[u8]) {
    let _ = serde_json::from_slice::<RunRecord>(bytes);
}

/// What lies in `out/`.
pub fn laid(bytes: &[u8]) {
    for (stage, _) in Laid::parse("laid".into(), bytes).take_dropped("pipeline.lock", |_| false) {
        path(stage.as_bytes());
        assert!(!stage.contains('/'));
    }
}

/// The stat index, and the seal, behind their checksums.
pub fn index(bytes: &[u8]) {
    StatIndex::is_body(bytes);
    let _ = Seal::decode(bytes);
}

/// A folder that is gone with this value.
struct Folder {
    path: std::path::PathBuf,
}

fn tempfile() -> std::io::Result<Folder> {
    let path = std::env::temp_dir().join(crate::fs::unique_name());
    std::fs::create_dir(&path).map(|()| Folder { path })
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = crate::fs::remove(&self.path);
    }
}

//! Fuzz targets for the parsers of untrusted data. For arbitrary bytes they must not panic, hang or allocate excessive memory.
//!
//! `fuzz/` has a binary for each target; `tests/fuzz.rs` briefly runs all of them on seeds and mutated seeds.

use std::path::Path;

use crate::digest::Digest;
use crate::exec::RunRecord;
use crate::fs::RelativePath;
use crate::lock::Lockfile;
use crate::out::OutRecord;
use crate::plan::Seal;
use crate::store::remote::{Envelope, Trust, unpack};
use crate::store::{ActionKey, ActionResult, Memo, StatIndex, Store, Tree};

/// A target with its name, which is also that of its fuzz binary and of its seed directory.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
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

/// Accepted paths stay inside their directory.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = RelativePath::new(text) {
        let plain = |component| matches!(component, std::path::Component::Normal(_));
        assert!(Path::new(path.as_str()).components().all(plain));
    }
}

/// Accepted trees round-trip, and their paths stay inside the directory.
pub fn tree(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tree) = Tree::parse(text) {
        let again = Tree::parse(&tree.text()).expect("serialized data can be parsed");
        assert_eq!(again, tree);
        tree.entries().iter().for_each(|entry| path(entry.path.as_bytes()));
    }
}

/// The body of a result without its checksum, since fuzzers cannot forge checksums.
pub fn result(bytes: &[u8]) {
    if let Ok(result) = serde_json::from_slice::<ActionResult>(bytes) {
        result.outputs.artifacts().iter().for_each(|output| path(output.path.as_bytes()));
        let text = serde_json::to_vec(&result).expect("a result has only string keys");
        let again: ActionResult = serde_json::from_slice(&text).expect("serialized data can be parsed");
        assert_eq!(again.outputs, result.outputs);
    }
}

/// A signed result.
pub fn envelope(bytes: &[u8]) {
    assert!(Envelope::verify(bytes, "main", &ActionKey::of(""), &Trust::default()).is_err(), "no key is trusted");
    // The part behind the signature.
    let _ = serde_json::from_slice::<Envelope>(bytes);
}

/// A pack of small blobs.
pub fn pack(bytes: &[u8]) {
    for (digest, blob) in unpack(bytes).unwrap_or_default() {
        assert_eq!(Digest::of(blob), digest);
    }
}

/// A file written by `hamflow cache export`.
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

/// A memo.
pub fn memo(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Memo::decode(text, "a question");
}

/// The record of a run.
pub fn record(bytes: &[u8]) {
    let _ = serde_json::from_slice::<RunRecord>(bytes);
}

/// The record of what is in `out/`.
pub fn laid(bytes: &[u8]) {
    for (stage, _) in OutRecord::parse("laid".into(), bytes).take_dropped("pipeline.lock", |_| false) {
        path(stage.as_bytes());
        assert!(!stage.contains('/'));
    }
}

/// The stat index and the seal, without their checksums.
pub fn index(bytes: &[u8]) {
    StatIndex::is_body(bytes);
    let _ = Seal::decode(bytes);
}

/// A temporary directory, deleted on drop.
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

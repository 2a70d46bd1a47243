//! Fuzz targets for the parsers of untrusted data. For arbitrary bytes they must not panic, hang or allocate excessive memory.
//!
//! `fuzz/` has a binary for each target; `tests/fuzz.rs` briefly runs all of them on seeds and mutated seeds.

use std::path::Path;

use crate::config::{self, Overrides};
use crate::digest::Digest;
use crate::exec::RunRecord;
use crate::fs::RelativePath;
use crate::graph;
use crate::lock::Lockfile;
use crate::out::OutRecord;
use crate::plan::Seal;
use crate::store::remote::{Envelope, Trust, unpack};
use crate::store::{ActionKey, ActionResult, Memo, StatIndex, Store, Tree};

/// A target with its name, which is also that of its fuzz binary and of its seed directory. Returns whether the parser accepted the bytes.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: [Target; 13] = [
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
    ("seal", seal),
    ("pipeline", pipeline),
];

/// Accepted paths stay inside their directory.
pub fn path(bytes: &[u8]) -> bool {
    let Some(path) = std::str::from_utf8(bytes).ok().and_then(|text| RelativePath::new(text).ok()) else {
        return false;
    };
    let plain = |component| matches!(component, std::path::Component::Normal(_));
    assert!(Path::new(path.as_str()).components().all(plain));
    true
}

/// Accepted trees round-trip, and their paths stay inside the directory.
pub fn tree(bytes: &[u8]) -> bool {
    let Some(tree) = std::str::from_utf8(bytes).ok().and_then(|text| Tree::parse(text).ok()) else { return false };
    let again = Tree::parse(&tree.text()).expect("serialized data can be parsed");
    assert_eq!(again, tree);
    assert!(tree.entries().iter().all(|entry| path(entry.path.as_bytes())));
    true
}

/// The body of a result without its checksum, since fuzzers cannot forge checksums.
pub fn result(bytes: &[u8]) -> bool {
    let Ok(result) = serde_json::from_slice::<ActionResult>(bytes) else { return false };
    assert!(result.outputs.artifacts().iter().all(|output| path(output.path.as_bytes())));
    let text = serde_json::to_vec(&result).expect("a result has only string keys");
    let again: ActionResult = serde_json::from_slice(&text).expect("serialized data can be parsed");
    assert_eq!(again.outputs, result.outputs);
    true
}

/// A signed result.
pub fn envelope(bytes: &[u8]) -> bool {
    assert!(Envelope::verify(bytes, "main", &ActionKey::of(""), &Trust::default()).is_err(), "no key is trusted");
    // The part behind the signature.
    serde_json::from_slice::<Envelope>(bytes).is_ok()
}

/// A pack of small blobs.
pub fn pack(bytes: &[u8]) -> bool {
    let Some(blobs) = unpack(bytes) else { return false };
    assert!(blobs.iter().all(|(digest, blob)| Digest::of(blob) == *digest));
    !blobs.is_empty()
}

/// A file written by `hamflow cache export`.
pub fn bundle(bytes: &[u8]) -> bool {
    let Ok(folder) = tempfile() else { return false };
    let from = folder.path.join("bundle.tar");
    if std::fs::write(&from, bytes).is_err() {
        return false;
    }
    let Ok(store) = Store::open(&folder.path.join("cache")) else { return false };
    if store.create().is_err() {
        return false;
    }
    let imported = crate::store::import(&store, &from, |_| true);
    let outside = std::fs::read_dir(&folder.path).into_iter().flatten().flatten();
    assert_eq!(outside.count(), 2, "only the cache and the bundle are there");
    imported.is_ok_and(|import| import.results > 0)
}

/// `pipeline.lock`.
pub fn lock(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| Lockfile::parse(text, Path::new("pipeline.lock")).is_ok())
}

/// A memo of `a question`.
pub fn memo(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| Memo::decode(text, "a question").is_some())
}

/// The record of a run.
pub fn record(bytes: &[u8]) -> bool {
    serde_json::from_slice::<RunRecord>(bytes).is_ok()
}

/// The record of what is in `out/`.
pub fn laid(bytes: &[u8]) -> bool {
    let stages = OutRecord::parse("laid".into(), bytes).take_dropped("pipeline.lock", |_| false);
    assert!(stages.iter().all(|(stage, _)| path(stage.as_bytes()) && !stage.contains('/')));
    !stages.is_empty()
}

/// The stat index without its checksum.
pub fn index(bytes: &[u8]) -> bool {
    StatIndex::is_body(bytes)
}

/// The seal without its checksum.
pub fn seal(bytes: &[u8]) -> bool {
    Seal::decode(bytes).is_some()
}

/// `pipeline.toml`, with stages of a kind that has every form of parameter. Errors are rendered, too.
pub fn pipeline(bytes: &[u8]) -> bool {
    let Ok(folder) = tempfile() else { return false };
    let file = folder.path.join("pipeline.toml");
    if std::fs::write(&file, bytes).is_err() {
        return false;
    }
    let loaded = config::load(&file, &[], &Overrides::default()).and_then(graph::build);
    match loaded {
        Ok(_) => true,
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "a rejected pipeline has an error");
            let unknown_kind = diagnostics.iter().all(|diagnostic| diagnostic.message.contains("unknown kind"));
            assert!(diagnostics.iter().all(|diagnostic| !diagnostic.render().is_empty()));
            unknown_kind
        }
    }
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

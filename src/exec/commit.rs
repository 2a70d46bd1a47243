//! Puts what a job made into the store: blobs, then trees, then the result.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use hamflow_stage_api::{Output, StageError};
use serde_json::Value;

use crate::digest::{self, Digest};
use crate::fs::{self, Durability, FsError, Listed, RelativePath, disk_error};
use crate::out::PartCopies;
use crate::store::{ActionKey, ActionResult, Files, Outputs, ResultOutput, Staged, Store, Tree, TreeEntry};

/// Files by their paths, and the digests of copies by theirs.
type Hashed = (Vec<(RelativePath, Staged)>, Files);

/// The files of a job's output directory, hashed, and those of them of which copies were made on the way.
fn hash_outputs(folder: &Path, copies: Option<&PartCopies>) -> Result<Hashed, FsError> {
    let (mut files, mut copied) = (Vec::new(), BTreeMap::new());
    // What a program leaves beside its outputs is nobody's; a link among them was refused.
    for Listed { path: name, stat } in fs::list_usual(folder, 1)? {
        let path = folder.join(&name);
        let copy = copies.filter(|copies| is_assembled(&copies.outputs, &name));
        let copy = copy.and_then(|copies| copies.make(&path, stat.size, &name));
        let digest = copy.map_or_else(|| digest::of_file(&path).map_err(fs::at("read", &path)), Ok)?;
        let name = RelativePath::new(name).map_err(|error| fs::at("store", &path)(io::Error::other(error)))?;
        copied.extend(copy.map(|digest| (name.clone(), digest)));
        files.push((name, Staged { path, digest }));
    }
    Ok((files, copied))
}

/// What one part made, before it is stored.
#[derive(Debug)]
pub struct FinishedPart {
    /// The job that made it.
    pub job: u64,
    /// The part's key.
    pub key: ActionKey,
    /// Its fingerprint.
    pub fingerprint: Value,
    /// The job's own folder, on the store's file system; the parts' files lie in its `output`.
    pub work: PathBuf,
    /// The copies that are made of it, to be laid out; none where there shall be none.
    pub copies: Option<PartCopies>,
    /// What it said is not as it should be.
    pub flaws: Vec<String>,
    /// How long it took.
    pub cost_ms: u64,
}

/// A part whose files are hashed and lie ready to be stored, their tree with them.
#[derive(Debug)]
pub struct StagedPart {
    /// Its result.
    pub result: ActionResult,
    /// Its files by path.
    pub files: Files,
    /// Those of which copies were made.
    pub copied: Files,
    blobs: Vec<Staged>,
    tree: Staged,
}

impl StagedPart {
    /// Hashes what a part made, and copies on the way what is to be laid out: the part becomes one tree of everything in its output
    /// directory.
    pub fn new(finished: FinishedPart) -> Result<Self, StageError> {
        let FinishedPart { job: _, key, fingerprint, work, copies, flaws, cost_ms } = finished;
        let hashed = hash_outputs(&work.join("output"), copies.as_ref());
        let (hashed, copied) = hashed.map_err(|error| disk_error(&error))?;
        let (paths, blobs): (Vec<RelativePath>, Vec<Staged>) = hashed.into_iter().unzip();
        let entries = paths.into_iter().zip(&blobs).map(|(path, staged)| TreeEntry { path, digest: staged.digest });
        let tree = Tree::new(entries.collect());
        let files = tree.entries().iter().map(|entry| (entry.path.clone(), entry.digest)).collect();
        let text = tree.text();
        let tree = Staged { path: work.join("tree"), digest: Digest::of(text.as_bytes()) };
        fs::write(&tree.path, text.as_bytes(), Durability::Relaxed).map_err(|error| disk_error(&error))?;
        let result = ActionResult {
            key,
            fingerprint,
            outputs: Outputs::Part(tree.digest),
            parts: Vec::new(),
            flaws,
            cost_ms,
            origins: Vec::new(),
        };
        Ok(Self { result, files, copied, blobs, tree })
    }
}

/// Stores some parts with the same few syncs. Where that fails, some of them may be stored, and all may be tried again.
pub fn parts(store: &Store, staged: &[&StagedPart]) -> Result<(), StageError> {
    let blobs = staged.iter().flat_map(|part| &part.blobs);
    // Trees move in behind all blobs, and results behind all trees.
    let all: Vec<Staged> = blobs.chain(staged.iter().map(|part| &part.tree)).cloned().collect();
    store.content.commit(&all).map_err(|error| disk_error(&error))?;
    store.actions.put_all(staged.iter().map(|part| &part.result)).map_err(|error| disk_error(&error))
}

fn put_tree(store: &Store, tree: &Tree) -> Result<Digest, StageError> {
    store.content.put(tree.text().as_bytes()).map_err(|error| disk_error(&error))
}

/// The files of a part by path, read from its result.
pub fn part_files(store: &Store, result: &ActionResult) -> Option<Files> {
    let Outputs::Part(tree) = result.outputs else { return None };
    let text = store.content.read(&tree)?;
    let tree = Tree::parse(std::str::from_utf8(&text).ok()?).ok()?;
    let files: Files = tree.entries().iter().map(|entry| (entry.path.clone(), entry.digest)).collect();
    files.values().all(|digest| store.content.contains(digest)).then_some(files)
}

/// Whether a path below the output directory belongs to an output that is assembled from parts.
pub fn is_assembled(outputs: &[Output], path: &str) -> bool {
    outputs.iter().any(|output| output.from_parts && is_inside(path, &output.path))
}

fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a finished stage is stored as.
pub struct Finished<'a> {
    /// The stage's key.
    pub key: &'a ActionKey,
    /// Its fingerprint.
    pub fingerprint: Value,
    /// What it had to make.
    pub outputs: &'a [Output],
    /// Where it, or its merge, wrote.
    pub folder: &'a Path,
    /// What its parts made, each with its key and files.
    pub parts: &'a [(ActionKey, Files)],
    /// Listings and views that explain a later change.
    pub texts: &'a [String],
    /// What it said is not as it should be.
    pub flaws: &'a [String],
    /// How long it took.
    pub cost_ms: u64,
}

/// Stores what a stage made.
pub fn stage(store: &Store, finished: &Finished<'_>) -> Result<ActionResult, StageError> {
    let (written, _) = hash_outputs(finished.folder, None).map_err(|error| disk_error(&error))?;
    let mut files = Files::new();
    for (_, part) in finished.parts {
        let assembled = part.iter().filter(|(path, _)| is_assembled(finished.outputs, path));
        files.extend(assembled.map(|(path, digest)| (path.clone(), *digest)));
    }
    files.extend(written.iter().map(|(path, staged)| (path.clone(), staged.digest)));

    let mut outputs = Vec::new();
    let mut trees = Vec::new();
    for output in finished.outputs {
        let Output { name, artifact_type, path, from_parts: _ } = output;
        let folder = artifact_type.is_folder();
        let digest = if folder {
            let entries: Vec<TreeEntry> = files
                .iter()
                .filter_map(|(file, digest)| Some(TreeEntry { path: file.relative_to(path)?, digest: *digest }))
                .collect();
            if entries.is_empty() && !finished.folder.join(path).is_dir() {
                return Err(not_made(output, finished.folder));
            }
            let tree = Tree::new(entries);
            let digest = tree.digest();
            trees.push(tree);
            digest
        } else {
            *files.get(path.as_str()).ok_or_else(|| not_made(output, finished.folder))?
        };
        outputs.push(ResultOutput {
            name: name.clone(),
            type_name: artifact_type.name().to_owned(),
            folder,
            path: RelativePath::new(path.as_str()).map_err(|error| StageError::bug(error.to_string()))?,
            digest,
        });
    }
    let wanted = |path: &str| finished.outputs.iter().any(|output| is_inside(path, &output.path));
    let staged: Vec<Staged> =
        written.iter().filter(|(path, _)| wanted(path)).map(|(_, staged)| staged.clone()).collect();
    store.content.commit(&staged).map_err(|error| disk_error(&error))?;
    for tree in &trees {
        put_tree(store, tree)?;
    }
    for text in finished.texts {
        store.content.put(text.as_bytes()).map_err(|error| disk_error(&error))?;
    }
    let mut result = ActionResult {
        key: *finished.key,
        fingerprint: finished.fingerprint.clone(),
        outputs: Outputs::Stage(outputs),
        parts: finished.parts.iter().map(|(key, _)| *key).collect(),
        flaws: finished.flaws.to_vec(),
        cost_ms: finished.cost_ms,
        origins: Vec::new(),
    };
    // What is wrong with a part is wrong with the whole, and whoever's word is behind a part is behind the whole.
    for (key, _) in finished.parts {
        let Some(part) = store.actions.get(key) else { continue };
        result.flaws.extend(part.flaws);
        result.origins.extend(part.origins);
    }
    result.origins.sort();
    result.origins.dedup();
    store.actions.put(&result).map_err(|error| disk_error(&error))?;
    Ok(result)
}

fn not_made(output: &Output, below: &Path) -> StageError {
    let Output { name, artifact_type, path, from_parts: _ } = output;
    let there = below.join(path);
    let (wanted, other) = if artifact_type.is_folder() { ("folder", "file") } else { ("file", "folder") };
    if there.is_dir() || there.is_file() {
        StageError::failed(format!("output `{name}` should be a {wanted}, but `{path}` is a {other}"))
    } else if there.exists() {
        StageError::failed(format!("output `{name}` should be a {wanted}, but `{path}` is neither file nor folder"))
    } else {
        StageError::failed(format!("output `{name}` was not made: no {wanted} `{path}`"))
    }
}

//! Stores the outputs of a job: blobs, then trees, then the result.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use hamflow_stage_api::{Output, StageError};
use serde_json::Value;

use crate::digest::{self, Digest};
use crate::fs::{self, Durability, FsError, Listed, RelativePath, disk_error};
use crate::out::PartCopies;
use crate::store::{ActionKey, ActionResult, Files, Outputs, ResultOutput, Staged, Store, Tree, TreeEntry};

/// The staged files with their paths, and the digests of the copied files by path.
type Hashed = (Vec<(RelativePath, Staged)>, Files);

/// Hashes the files in the output directory of a job, and makes copies for `out/` where possible. Returns all files and the copied ones.
fn hash_outputs(folder: &Path, copies: Option<&PartCopies>) -> Result<Hashed, FsError> {
    let (mut files, mut copied) = (Vec::new(), BTreeMap::new());
    // Symlinks and other unusual entries beside the outputs are skipped; symlinks inside outputs were rejected earlier.
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

/// The outputs of a finished part before they are stored.
#[derive(Debug)]
pub struct FinishedPart {
    /// The job that ran the part.
    pub job: u64,
    /// The key of the part.
    pub key: ActionKey,
    /// The fingerprint of the part.
    pub fingerprint: Value,
    /// The work directory of the job, on the same file system as the store; outputs are in its `output` directory.
    pub work: PathBuf,
    /// The copies to make for `out/`; `None` to make none.
    pub copies: Option<PartCopies>,
    /// The flaws that the job reported.
    pub flaws: Vec<String>,
    /// Duration in milliseconds.
    pub cost_ms: u64,
}

/// A part whose files are hashed and ready to be stored, together with their tree.
#[derive(Debug)]
pub struct StagedPart {
    /// The result of the part.
    pub result: ActionResult,
    /// The files of the part by path.
    pub files: Files,
    /// The files that were copied for `out/`.
    pub copied: Files,
    blobs: Vec<Staged>,
    tree: Staged,
}

impl StagedPart {
    /// Hashes the outputs of a part and makes the copies for `out/`. The result of the part is one tree of its output directory.
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

/// Stores several parts with shared syncs. On an error, some parts may have been stored; all of them can be retried.
pub fn parts(store: &Store, staged: &[&StagedPart]) -> Result<(), StageError> {
    let blobs = staged.iter().flat_map(|part| &part.blobs);
    // All blobs are stored before the trees, and all trees before the results.
    let all: Vec<Staged> = blobs.chain(staged.iter().map(|part| &part.tree)).cloned().collect();
    store.content.commit(&all).map_err(|error| disk_error(&error))?;
    store.actions.put_all(staged.iter().map(|part| &part.result)).map_err(|error| disk_error(&error))
}

fn put_tree(store: &Store, tree: &Tree) -> Result<Digest, StageError> {
    store.content.put(tree.text().as_bytes()).map_err(|error| disk_error(&error))
}

/// Reads the files of a part from its result; `None` if the tree or a blob is missing.
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

/// The outputs of a finished stage before they are stored.
pub struct Finished<'a> {
    /// The key of the stage.
    pub key: &'a ActionKey,
    /// The fingerprint of the stage.
    pub fingerprint: Value,
    /// The declared outputs.
    pub outputs: &'a [Output],
    /// The output directory of the stage or its merge.
    pub folder: &'a Path,
    /// The keys and files of its parts.
    pub parts: &'a [(ActionKey, Files)],
    /// Listings and views that are stored to explain later changes.
    pub texts: &'a [String],
    /// The flaws that the stage reported.
    pub flaws: &'a [String],
    /// Duration in milliseconds.
    pub cost_ms: u64,
}

/// Stores the outputs of a stage and its result.
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
        let Output { name, artifact_type, path, from_parts: _, measured: _, headline: _ } = output;
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
    // The stage inherits the flaws and the origins of its parts.
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
    let Output { name, artifact_type, path, from_parts: _, measured: _, headline: _ } = output;
    let there = below.join(path);
    let (wanted, other) = if artifact_type.is_folder() { ("folder", "file") } else { ("file", "folder") };
    if there.is_dir() || there.is_file() {
        StageError::failed(format!("output `{name}` should be a {wanted}, but `{path}` is a {other}"))
    } else if there.exists() {
        StageError::failed(format!("output `{name}` should be a {wanted}, but `{path}` is neither file nor folder"))
    } else {
        StageError::failed(format!("output `{name}` was not created: no {wanted} `{path}`"))
    }
}

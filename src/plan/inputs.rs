//! What is connected to a stage's ports: its digest now, its files when somebody reads them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hamflow_stage_api::{ArtifactType, Input, InputFile, StageError};

use crate::config::InputDeclaration;
use crate::digest::Digest;
use crate::fs::FsError;
use crate::lock::Lockfile;
use crate::store::{ResultOutput, StatIndex, Store, Tree, TreeEntry};

/// A file or folders from outside as they are now.
#[derive(Debug)]
pub struct Declared {
    /// Of the file, or of the tree of all folders.
    pub digest: Digest,
    /// The files, sorted by folder and path.
    pub files: Vec<InputFile>,
    /// Whether it is a folder or a list of folders.
    pub folder: bool,
    /// Where it is, where one path says so.
    pub path: Option<PathBuf>,
    /// The text of the tree.
    pub manifest: Option<String>,
}

impl Declared {
    /// The names of the files, one per line: what a kind that reads names alone depends on.
    pub fn names(&self) -> String {
        self.files.iter().map(|file| format!("{}/{}\n", file.root, file.path)).collect()
    }
}

/// Says that something under `[inputs]` is not where the pipeline says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingInput {
    /// The name below `[inputs]`.
    pub name: String,
    /// What is not there.
    pub path: PathBuf,
}

/// Why a declared input has no digest.
#[derive(Debug)]
pub enum ScanError {
    /// It is not there.
    Missing(MissingInput),
    /// It is there and cannot be read, or is not what it should be.
    Unreadable(StageError),
}

fn unreadable(error: &FsError) -> ScanError {
    ScanError::Unreadable(StageError::io(error.action, &error.path, &error.source))
}

/// Lists and hashes a declared input.
pub fn scan(
    declaration: &InputDeclaration,
    root: &Path,
    index: &mut StatIndex,
    threads: usize,
) -> Result<Declared, ScanError> {
    let name = &declaration.name;
    let mut files = Vec::new();
    let mut entries = Vec::new();
    let paths: Vec<PathBuf> = declaration.paths.iter().map(|path| root.join(path)).collect();
    for (number, path) in paths.iter().enumerate() {
        let missing =
            || ScanError::Missing(MissingInput { name: name.clone(), path: declaration.paths[number].clone() });
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => ScanError::Unreadable(StageError::io("read", path, &error)),
        })?;
        if !metadata.is_dir() {
            if declaration.list {
                let message = format!("`inputs.{name}` lists folders, but `{}` is a file", path.display());
                return Err(ScanError::Unreadable(StageError::input(message)));
            }
            let digest = index.file(path).map_err(|error| unreadable(&error))?;
            let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let file = InputFile { root: 0, path: file_name, digest, source: path.clone() };
            return Ok(Declared { digest, files: vec![file], folder: false, path: Some(path.clone()), manifest: None });
        }
        let root = u32::try_from(number).expect("fewer than 4 billion folders");
        for (file_path, digest) in index.folder(path, threads).map_err(|error| unreadable(&error))? {
            let entry_path = if declaration.list { format!("{number}/{file_path}") } else { file_path.clone() };
            entries.push(TreeEntry { path: entry_path, digest });
            files.push(InputFile { root, source: path.join(&file_path), path: file_path, digest });
        }
    }
    let manifest = Tree::new(entries).text();
    let path = (!declaration.list).then(|| paths[0].clone());
    Ok(Declared { digest: Digest::of(manifest.as_bytes()), files, folder: true, path, manifest: Some(manifest) })
}

/// What the lock and the store know of a declared input that is not there.
pub fn remembered(declaration: &InputDeclaration, root: &Path, lock: &Lockfile, store: &Store) -> Option<Declared> {
    let digest = lock.declared_input(&format!("inputs.{}", declaration.name))?;
    let path = root.join(&declaration.paths[0]);
    let manifest = store.content.read(&digest).and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((manifest, tree)) = manifest.and_then(|text| Tree::parse(&text).ok().map(|tree| (text, tree))) else {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = InputFile { root: 0, path: file_name, digest, source: path.clone() };
        return Some(Declared { digest, files: vec![file], folder: false, path: Some(path), manifest: None });
    };
    let file = |entry: &TreeEntry| {
        let listed = entry.path.split_once('/').filter(|_| declaration.list);
        let (number, path) = match listed {
            Some((number, path)) => (number.parse().ok()?, path),
            None => (0, &entry.path[..]),
        };
        let folder = declaration.paths.get(usize::try_from(number).ok()?)?;
        let source = root.join(folder).join(path);
        Some(InputFile { root: number, path: path.to_owned(), digest: entry.digest, source })
    };
    let files = tree.entries().iter().map(file).collect::<Option<Vec<_>>>()?;
    let path = (!declaration.list).then_some(path);
    Some(Declared { digest, files, folder: true, path, manifest: Some(manifest) })
}

/// Something connected to a port whose digest is known.
#[derive(Debug, Clone)]
pub struct Connected {
    /// How the pipeline names it: `inputs.images`, `split.table`.
    pub source: String,
    /// The axis values, for gathered stages.
    pub labels: Vec<(String, String)>,
    /// Of all its bytes.
    pub digest: Digest,
    /// What it is.
    pub content: Content,
}

/// Where the files of a connected input are.
#[derive(Debug, Clone)]
pub enum Content {
    /// Outside.
    Declared(Arc<Declared>),
    /// In the store.
    Artifact(ResultOutput),
}

impl Connected {
    /// The type, for artifacts.
    pub fn artifact_type(&self) -> Option<ArtifactType> {
        match &self.content {
            Content::Declared(_) => None,
            Content::Artifact(output) => Some(output.artifact_type),
        }
    }

    /// Whether the digest names a listing.
    pub fn is_listing(&self) -> bool {
        match &self.content {
            Content::Declared(declared) => declared.folder,
            Content::Artifact(output) => output.folder,
        }
    }

    /// The input with its files, as a job or a plan sees it.
    pub fn input(&self, store: &Store) -> Result<Input, StageError> {
        let (files, folder, path) = match &self.content {
            Content::Declared(declared) => (declared.files.clone(), declared.folder, declared.path.clone()),
            Content::Artifact(output) => {
                let files = artifact_files(output, store)?;
                let path = (!output.folder).then(|| store.content.path(&output.digest));
                (files, output.folder, path)
            }
        };
        Ok(Input {
            name: self.source.clone(),
            artifact_type: self.artifact_type(),
            labels: self.labels.clone(),
            digest: self.digest,
            files,
            folder,
            path,
        })
    }

    /// The names of the files, one per line.
    pub fn names(&self, store: &Store) -> Result<String, StageError> {
        match &self.content {
            Content::Declared(declared) => Ok(declared.names()),
            Content::Artifact(output) => {
                Ok(artifact_files(output, store)?.iter().map(|file| format!("{}/{}\n", file.root, file.path)).collect())
            }
        }
    }
}

fn artifact_files(output: &ResultOutput, store: &Store) -> Result<Vec<InputFile>, StageError> {
    if !output.folder {
        let name = output.path.rsplit('/').next().unwrap_or(&output.path).to_owned();
        let source = store.content.path(&output.digest);
        return Ok(vec![InputFile { root: 0, path: name, digest: output.digest, source }]);
    }
    let lost = || StageError::failed(format!("the listing of `{}` was lost from the cache", output.name));
    let bytes = store.content.read(&output.digest).ok_or_else(|| lost().hint("run again: it is made anew"))?;
    let tree = std::str::from_utf8(&bytes).ok().and_then(|text| Tree::parse(text).ok()).ok_or_else(lost)?;
    let file = |entry: &TreeEntry| InputFile {
        root: 0,
        path: entry.path.clone(),
        digest: entry.digest,
        source: store.content.path(&entry.digest),
    };
    Ok(tree.entries().iter().map(file).collect())
}

//! The inputs connected to a stage's ports: their current digests and, on demand, their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hamflow_stage_api::{Input, InputFile, StageError};

use crate::config::InputDeclaration;
use crate::digest::{Digest, FileDigest};
use crate::fs::FsError;
use crate::lock::Lockfile;
use crate::store::{FileListing, IndexedFile, ResultOutput, StatIndex, Store, Tree, TreeEntry};

/// The current state of an external file or of external folders.
#[derive(Debug)]
pub struct Declared {
    /// The digest of the file, or of the tree of all folders; [unread](FileDigest::Unread) if any file is unread.
    pub digest: FileDigest,
    /// Whether it is a folder or a list of folders.
    pub folder: bool,
    /// Whether the input is missing and this state comes from the lock.
    pub remembered: bool,
    /// The folders with their listings; for a file, the file itself.
    roots: Vec<(PathBuf, FileListing)>,
    /// Whether it was declared as a list, so that it has no single path.
    list: bool,
}

impl Declared {
    /// Creates the state of a single file.
    pub fn file(path: PathBuf, digest: Digest) -> Self {
        Self {
            digest: digest.into(),
            folder: false,
            remembered: false,
            roots: vec![(path, vec![IndexedFile::from_digest(String::new(), digest)].into())],
            list: false,
        }
    }

    fn folders(roots: Vec<(PathBuf, FileListing)>, list: bool) -> Self {
        let mut declared =
            Self { digest: FileDigest::Unread { size: 0 }, folder: true, remembered: false, roots, list };
        if declared.unread().next().is_none() {
            declared.digest = Digest::of(declared.manifest_text().as_bytes()).into();
        }
        declared
    }

    /// The files that were listed but not read.
    pub fn unread(&self) -> impl Iterator<Item = &IndexedFile> {
        self.roots.iter().flat_map(|(_, listing)| listing.iter()).filter(|known| known.digest.is_unread())
    }

    /// Returns a file from the listing.
    pub fn listed(&self, root: u32, path: &str) -> Option<&IndexedFile> {
        let (_, listing) = self.roots.get(root as usize)?;
        listing.binary_search_by(|known| known.path.as_str().cmp(path)).ok().map(|place| &listing[place])
    }

    /// Returns the path, or `None` for a list of folders.
    pub fn path(&self) -> Option<PathBuf> {
        (!self.list).then(|| self.roots[0].0.clone())
    }

    /// Returns the text of the tree, or `None` for a file or if a file of the tree is unread.
    pub fn manifest(&self) -> Option<String> {
        (self.folder && !self.digest.is_unread()).then(|| self.manifest_text())
    }

    fn manifest_text(&self) -> String {
        let mut order: Vec<(String, &FileListing)> = self
            .roots
            .iter()
            .enumerate()
            .map(|(number, (_, listing))| (if self.list { format!("{number}/") } else { String::new() }, listing))
            .collect();
        // The listings are sorted; `10/` sorts before `2/`.
        order.sort_by(|(a, _), (b, _)| a.cmp(b));
        let files = order.iter().flat_map(|(prefix, listing)| {
            let hashed = listing.iter().filter_map(|file| Some((&file.path[..], file.digest.known()?)));
            hashed.map(|(path, digest)| (&prefix[..], path, digest))
        });
        Tree::write(files)
    }

    /// Returns the files, sorted by folder and path.
    pub fn files(&self) -> Vec<InputFile> {
        let mut files = Vec::with_capacity(self.roots.iter().map(|(_, listing)| listing.len()).sum());
        for (number, (folder, listing)) in self.roots.iter().enumerate() {
            let root = u32::try_from(number).expect("fewer than 4 billion folders");
            for IndexedFile { path, digest, .. } in listing.iter() {
                let (path, source) = if self.folder {
                    (path.clone(), folder.join(path))
                } else {
                    (folder.file_name().unwrap_or_default().to_string_lossy().into_owned(), folder.clone())
                };
                files.push(InputFile { root, path, digest: *digest, source });
            }
        }
        files
    }

    /// Returns the names of the files, one per line. Kinds that read only names depend on this text.
    pub fn names(&self) -> String {
        let mut names = String::new();
        for (number, (_, listing)) in self.roots.iter().enumerate() {
            let number = number.to_string();
            for known in listing.iter() {
                for piece in [&number[..], "/", &known.path, "\n"] {
                    names.push_str(piece);
                }
            }
        }
        names
    }
}

/// A declared input that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingInput {
    /// Its name in `[inputs]`.
    pub name: String,
    /// The missing path.
    pub path: PathBuf,
}

/// The reason why a declared input could not be scanned.
#[derive(Debug)]
pub enum ScanError {
    /// It does not exist.
    Missing(MissingInput),
    /// It exists but cannot be read, or has the wrong file type.
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
    look(declaration, root, index, |index, folder| index.folder(folder, threads))
}

/// Lists the folders of a declared input without hashing their files.
pub fn list(
    declaration: &InputDeclaration,
    root: &Path,
    index: &mut StatIndex,
    threads: usize,
) -> Result<Declared, ScanError> {
    look(declaration, root, index, |index, folder| index.listing(folder, threads))
}

fn look(
    declaration: &InputDeclaration,
    root: &Path,
    index: &mut StatIndex,
    folder: impl Fn(&mut StatIndex, &Path) -> Result<FileListing, FsError>,
) -> Result<Declared, ScanError> {
    let name = &declaration.name;
    let mut roots = Vec::new();
    for written in &declaration.paths {
        let path = root.join(written);
        let metadata = std::fs::metadata(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                ScanError::Missing(MissingInput { name: name.clone(), path: written.clone() })
            }
            _ => ScanError::Unreadable(
                StageError::input(format!("`inputs.{name}`: `{}` cannot be read: {error}", path.display()))
                    .hint("is it a symlink that leads to itself, or a folder that you may not enter?"),
            ),
        })?;
        if metadata.is_dir() {
            let listing = folder(index, &path).map_err(|error| unreadable(&error))?;
            roots.push((path, listing));
        } else if declaration.list {
            let message = format!("`inputs.{name}` lists folders, but `{}` is a file", path.display());
            return Err(ScanError::Unreadable(StageError::input(message)));
        } else if !metadata.is_file() {
            let message = format!("`inputs.{name}`: `{}` is neither a file nor a folder", path.display());
            return Err(ScanError::Unreadable(
                StageError::input(message).hint("pipes and devices have no stable content"),
            ));
        } else {
            let digest = index.file(&path).map_err(|error| unreadable(&error))?;
            return Ok(Declared::file(path, digest));
        }
    }
    Ok(Declared::folders(roots, declaration.list))
}

/// Returns every missing path of a declared input.
pub fn missing(declaration: &InputDeclaration, root: &Path) -> Vec<MissingInput> {
    let absent = declaration.paths.iter().filter(|path| !root.join(path).exists());
    absent.map(|path| MissingInput { name: declaration.name.clone(), path: path.clone() }).collect()
}

/// The source of the last known state of missing inputs.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// The project directory.
    pub root: &'a Path,
    /// The lock, with the digests of the inputs.
    pub lock: &'a Lockfile,
    /// The store, with their listings.
    pub store: &'a Store,
}

impl Memory<'_> {
    /// Returns the last known state of a declared input, or `None` if too little is known. The folders of a list that exist are listed
    /// and hashed.
    pub fn declared(
        self,
        declaration: &InputDeclaration,
        index: &mut StatIndex,
        threads: usize,
    ) -> Result<Option<Declared>, ScanError> {
        let Some(declared) = self.of_lock(declaration) else { return Ok(None) };
        let mut roots = declared.roots.clone();
        let mut found = false;
        for (path, listing) in &mut roots {
            if path.is_dir() {
                *listing = index.folder(path, threads).map_err(|error| unreadable(&error))?;
                found = true;
            }
        }
        Ok(Some(if found {
            Declared { remembered: true, ..Declared::folders(roots, declaration.list) }
        } else {
            declared
        }))
    }

    /// Returns the state of a declared input according to the lock alone.
    fn of_lock(self, declaration: &InputDeclaration) -> Option<Declared> {
        let Self { root, lock, store } = self;
        let digest = lock.declared_input(&format!("inputs.{}", declaration.name))?;
        let manifest = store.content.read(&digest).and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(tree) = manifest.and_then(|text| Tree::parse(&text).ok()) else {
            if declaration.list {
                return None;
            }
            return Some(Declared { remembered: true, ..Declared::file(root.join(&declaration.paths[0]), digest) });
        };
        let mut listings: Vec<Vec<IndexedFile>> = declaration.paths.iter().map(|_| Vec::new()).collect();
        for TreeEntry { path, digest } in tree.entries() {
            let (number, path) = match path.split_once('/').filter(|_| declaration.list) {
                Some((number, path)) => (number.parse::<usize>().ok()?, path),
                None => (0, path.as_str()),
            };
            listings.get_mut(number)?.push(IndexedFile::from_digest(path.to_owned(), *digest));
        }
        let roots =
            declaration.paths.iter().map(|path| root.join(path)).zip(listings.into_iter().map(FileListing::new));
        let declared = Declared::folders(roots.collect(), declaration.list);
        (declared.digest == digest).then_some(Declared { remembered: true, ..declared })
    }
}

/// An input connected to a port.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Its name in the pipeline: `inputs.images`, `split.table`.
    pub source: String,
    /// The axis values, for gathered stages.
    pub labels: Vec<(String, String)>,
    /// The digest of its content; [unread](FileDigest::Unread) if only its names are read and it has not been hashed.
    pub digest: FileDigest,
    /// Where its files come from.
    pub content: Content,
}

/// The origin of the files of a connected input.
#[derive(Debug, Clone)]
pub enum Content {
    /// Outside the store.
    Declared(Arc<Declared>),
    /// In the store.
    Artifact(ResultOutput),
}

impl Connected {
    /// Whether the digest names a listing.
    pub fn is_listing(&self) -> bool {
        match &self.content {
            Content::Declared(declared) => declared.folder,
            Content::Artifact(output) => output.folder,
        }
    }

    /// Returns the input with its files, as jobs and plans see it.
    pub fn input(&self, store: &Store) -> Result<Input, StageError> {
        let (files, folder, path) = match &self.content {
            Content::Declared(declared) => (declared.files(), declared.folder, declared.path()),
            Content::Artifact(output) => {
                let files = artifact_files(output, store)?;
                let path = (!output.folder).then(|| store.content.path(&output.digest));
                (files, output.folder, path)
            }
        };
        Ok(Input {
            name: self.source.clone(),
            is_artifact: matches!(self.content, Content::Artifact(_)),
            labels: self.labels.clone(),
            digest: self.digest,
            files,
            folder,
            path,
        })
    }

    /// Returns the names of the files, one per line.
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
        let name = output.path.name().to_owned();
        let source = store.content.path(&output.digest);
        return Ok(vec![InputFile { root: 0, path: name, digest: output.digest.into(), source }]);
    }
    let lost = || StageError::failed(format!("the listing of `{}` was lost from the cache", output.name));
    let bytes = store.content.read(&output.digest).ok_or_else(|| lost().hint("run again to recreate it"))?;
    let tree = std::str::from_utf8(&bytes).ok().and_then(|text| Tree::parse(text).ok()).ok_or_else(lost)?;
    let file = |entry: &TreeEntry| InputFile {
        root: 0,
        path: entry.path.as_str().to_owned(),
        digest: entry.digest.into(),
        source: store.content.path(&entry.digest),
    };
    Ok(tree.entries().iter().map(file).collect())
}

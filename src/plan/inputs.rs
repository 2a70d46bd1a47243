//! What is connected to a stage's ports: its digest now, its files when somebody reads them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hamflow_stage_api::{Input, InputFile, StageError};

use crate::config::InputDeclaration;
use crate::digest::{Digest, FileDigest};
use crate::fs::FsError;
use crate::lock::Lockfile;
use crate::store::{FileListing, IndexedFile, ResultOutput, StatIndex, Store, Tree, TreeEntry};

/// A file or folders from outside as they are now.
#[derive(Debug)]
pub struct Declared {
    /// Of the file, or of the tree of all folders; [unread](FileDigest::Unread) where a file of them is.
    pub digest: FileDigest,
    /// Whether it is a folder or a list of folders.
    pub folder: bool,
    /// Whether only the lock says so, because it is not there.
    pub remembered: bool,
    /// The folders with their files; for a file, itself.
    roots: Vec<(PathBuf, FileListing)>,
    /// Whether it was written as a list, so that no single path says where it is.
    list: bool,
}

impl Declared {
    /// One file.
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

    /// The files that were listed and not read.
    pub fn unread(&self) -> impl Iterator<Item = &IndexedFile> {
        self.roots.iter().flat_map(|(_, listing)| listing.iter()).filter(|known| known.digest.is_unread())
    }

    /// A file as it was listed.
    pub fn listed(&self, root: u32, path: &str) -> Option<&IndexedFile> {
        let (_, listing) = self.roots.get(root as usize)?;
        listing.binary_search_by(|known| known.path.as_str().cmp(path)).ok().map(|place| &listing[place])
    }

    /// Where it is, where one path says so.
    pub fn path(&self) -> Option<PathBuf> {
        (!self.list).then(|| self.roots[0].0.clone())
    }

    /// The text of the tree; none for a file, and where a file of the tree was not read.
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
        // The listings are sorted; `10/` stands before `2/`.
        order.sort_by(|(a, _), (b, _)| a.cmp(b));
        let files = order.iter().flat_map(|(prefix, listing)| {
            let hashed = listing.iter().filter_map(|file| Some((&file.path[..], file.digest.known()?)));
            hashed.map(|(path, digest)| (&prefix[..], path, digest))
        });
        Tree::write(files)
    }

    /// The files, sorted by folder and path.
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

    /// The names of the files, one per line: what a kind that reads names alone depends on.
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
    look(declaration, root, index, |index, folder| index.folder(folder, threads))
}

/// Lists the folders of a declared input without reading a file of them.
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
                StageError::input(message).hint("a pipe or a device has no bytes that stay"),
            ));
        } else {
            let digest = index.file(&path).map_err(|error| unreadable(&error))?;
            return Ok(Declared::file(path, digest));
        }
    }
    Ok(Declared::folders(roots, declaration.list))
}

/// Every path of a declared input that is not there.
pub fn missing(declaration: &InputDeclaration, root: &Path) -> Vec<MissingInput> {
    let absent = declaration.paths.iter().filter(|path| !root.join(path).exists());
    absent.map(|path| MissingInput { name: declaration.name.clone(), path: path.clone() }).collect()
}

/// What is known of declared inputs that are not there.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// The project directory.
    pub root: &'a Path,
    /// Has the digests of the inputs.
    pub lock: &'a Lockfile,
    /// Has their listings.
    pub store: &'a Store,
}

impl Memory<'_> {
    /// What is known of a declared input; of a list of folders those that are there are listed and hashed. None where too little is
    /// known.
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

    /// All of what the lock says of a declared input.
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

/// Something connected to a port.
#[derive(Debug, Clone)]
pub struct Connected {
    /// How the pipeline names it: `inputs.images`, `split.table`.
    pub source: String,
    /// The axis values, for gathered stages.
    pub labels: Vec<(String, String)>,
    /// Of all its bytes; [unread](FileDigest::Unread) where only names are read of it and nobody has hashed it.
    pub digest: FileDigest,
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
        let name = output.path.name().to_owned();
        let source = store.content.path(&output.digest);
        return Ok(vec![InputFile { root: 0, path: name, digest: output.digest.into(), source }]);
    }
    let lost = || StageError::failed(format!("the listing of `{}` was lost from the cache", output.name));
    let bytes = store.content.read(&output.digest).ok_or_else(|| lost().hint("run again: it is made anew"))?;
    let tree = std::str::from_utf8(&bytes).ok().and_then(|text| Tree::parse(text).ok()).ok_or_else(lost)?;
    let file = |entry: &TreeEntry| InputFile {
        root: 0,
        path: entry.path.as_str().to_owned(),
        digest: entry.digest.into(),
        source: store.content.path(&entry.digest),
    };
    Ok(tree.entries().iter().map(file).collect())
}

//! What a stage reads, as the engine hands it over: names, digests and where the bytes are.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ArtifactType, Digest, StageError};

/// One file of an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The index of the folder it lies in, where an input is a list of folders; else 0.
    pub root: u32,
    /// The path below that folder, with `/`; the file's name where the input is a single file.
    pub path: String,
    /// The bytes that the key names; [unread](Digest::unread) where the part that reads them is to name them
    /// ([`read_once`](Self::read_once)).
    pub digest: Digest,
    /// Where the bytes are: in the store, or where the user keeps them.
    pub source: PathBuf,
}

impl InputFile {
    /// Reads the whole file and checks it against its digest.
    pub fn read(&self) -> Result<Vec<u8>, StageError> {
        let bytes = fs::read(&self.source).map_err(|source| StageError::io("read", &self.source, &source))?;
        self.check(&bytes)?;
        Ok(bytes)
    }

    /// The same into a buffer that is kept from one file to the next, also of a file that nobody has hashed yet. Returns the
    /// digest of the bytes.
    pub fn read_once(&self, bytes: &mut Vec<u8>) -> Result<Digest, StageError> {
        let io = |source| StageError::io("read", &self.source, &source);
        bytes.clear();
        fs::File::open(&self.source).and_then(|mut file| file.read_to_end(bytes)).map_err(io)?;
        let digest = Digest::of(bytes);
        if self.digest.is_unread() || digest == self.digest { Ok(digest) } else { Err(self.changed()) }
    }

    /// Checks bytes that were read (or mapped) from [`source`](Self::source) against the digest in the key.
    pub fn check(&self, bytes: &[u8]) -> Result<(), StageError> {
        if Digest::of(bytes) == self.digest { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> StageError {
        StageError::input_changed(&self.source)
    }
}

/// Something that a stage reads: an artifact of another stage, or a file or folders from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// How the pipeline names it: `inputs.images`, `split.table`.
    pub name: String,
    /// The type of the artifact; none for something from outside.
    pub artifact_type: Option<ArtifactType>,
    /// The axis values that tell gathered stages apart, such as `[("lr", "0.001")]`.
    pub labels: Vec<(String, String)>,
    /// The digest of the file, or of the tree; [unread](Digest::unread) where that of a file is.
    pub digest: Digest,
    /// The files, sorted by `(root, path)`; exactly one where it is a single file.
    pub files: Vec<InputFile>,
    /// Whether it is a folder (or a list of folders) rather than one file.
    pub folder: bool,
    /// The file or folder as one path, for programs that take paths; set for `command` jobs and for single files.
    pub path: Option<PathBuf>,
}

impl Input {
    /// The only file of an input that is one file.
    pub fn file(&self) -> Result<&InputFile, StageError> {
        match (&self.files[..], self.folder) {
            ([file], false) => Ok(file),
            _ => Err(StageError::input(format!("`{}` is a folder, but one file is wanted", self.name))),
        }
    }

    /// The file at `path` below a folder, such as `model.safetensors`.
    pub fn member(&self, path: &str) -> Result<&InputFile, StageError> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .ok_or_else(|| StageError::input(format!("`{}` has no file `{path}`", self.name)))
    }
}

/// The inputs of a job by port; a port that may take a list has several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs(pub BTreeMap<String, Vec<Input>>);

impl Inputs {
    /// The input at a required port.
    pub fn one(&self, port: &str) -> Result<&Input, StageError> {
        self.optional(port).ok_or_else(|| StageError::bug(format!("the port `{port}` has no input")))
    }

    /// The input at an optional port.
    pub fn optional(&self, port: &str) -> Option<&Input> {
        self.0.get(port).and_then(|inputs| inputs.first())
    }

    /// All inputs at a port.
    pub fn all(&self, port: &str) -> &[Input] {
        self.0.get(port).map_or(&[], Vec::as_slice)
    }
}

//! An output file that is hashed while it is written.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Digest;

/// A file of a part's output directory that is written from its beginning to its end, and then left as it is.
///
/// What is written is hashed on the way, in pieces that are still near the processor, so nobody has to read it again for its digest.
/// Where more is written at once, Linux looks for memory in large blocks, and those are what a virtual machine may have returned to
/// its host: getting them back costs ten times what copying does.
pub struct OutputFile {
    path: PathBuf,
    name: String,
    file: File,
    hasher: blake3::Hasher,
    piece: Vec<u8>,
}

/// What an [`OutputFile`] holds when it is finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The path below the output directory.
    pub name: String,
    /// Of all bytes.
    pub digest: Digest,
}

impl OutputFile {
    /// Whole pages, and whole runs of what BLAKE3 hashes at once.
    const PIECE: usize = 64 * 1024;

    /// Starts the file `name` below `folder`, which is there.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        let file = File::create(&path)?;
        let piece = Vec::with_capacity(Self::PIECE);
        Ok(Self { path, name: name.to_owned(), file, hasher: blake3::Hasher::new(), piece })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it; [`StageContext::written`](crate::StageContext::written) takes what is returned.
    pub fn finish(mut self) -> io::Result<Written> {
        self.flush()?;
        let digest = Digest::new(*self.hasher.finalize().as_bytes(), self.hasher.count());
        Ok(Written { name: self.name, digest })
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.is_empty() && bytes.len() >= Self::PIECE {
            self.put(&bytes[..Self::PIECE])?;
            return Ok(Self::PIECE);
        }
        let taken = &bytes[..bytes.len().min(Self::PIECE - self.piece.len())];
        self.piece.extend_from_slice(taken);
        if self.piece.len() == Self::PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut piece = std::mem::take(&mut self.piece);
        let put = self.put(&piece);
        piece.clear();
        self.piece = piece;
        put
    }
}

impl fmt::Debug for OutputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_pieces_it_comes_in_a_file_and_its_digest_are_the_same() {
        let folder = std::env::temp_dir().join(format!("hamflow-output-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bytes: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
        for size in [1, 1000, 65_536, 65_537, 150_528, 500_000] {
            let mut file = OutputFile::create(&folder, "file").unwrap();
            bytes.chunks(size).for_each(|piece| file.write_all(piece).unwrap());
            let path = file.path().to_owned();
            assert_eq!(file.finish().unwrap(), Written { name: "file".to_owned(), digest: Digest::of(&bytes) });
            assert!(std::fs::read(path).unwrap() == bytes, "{size}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! Output files that are written in small pieces.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file in a part's output directory, written sequentially in pieces of fixed size.
///
/// For larger writes, Linux allocates memory in large blocks. A virtual machine may have returned those to its host, and getting
/// them back takes ten times as long as copying.
pub struct OutputFile {
    path: PathBuf,
    file: File,
    piece: Vec<u8>,
}

impl OutputFile {
    /// A multiple of the page size that fits into the processor's cache.
    const PIECE: usize = 64 * 1024;

    /// Creates the file; its folder must exist.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::create(&path)?;
        Ok(Self { path, file, piece: Vec::with_capacity(Self::PIECE) })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.is_empty() && bytes.len() >= Self::PIECE {
            return self.file.write_all(&bytes[..Self::PIECE]).map(|()| Self::PIECE);
        }
        let taken = &bytes[..bytes.len().min(Self::PIECE - self.piece.len())];
        self.piece.extend_from_slice(taken);
        if self.piece.len() == Self::PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.piece);
        self.piece.clear();
        written
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
    fn the_size_of_the_writes_does_not_change_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
        for size in [1, 1000, 65_536, 65_537, 150_528, 500_000] {
            let mut file = OutputFile::create(folder.path().join("file")).unwrap();
            bytes.chunks(size).for_each(|piece| file.write_all(piece).unwrap());
            file.flush().unwrap();
            assert!(std::fs::read(file.path()).unwrap() == bytes, "{size}");
        }
    }
}

//! Digests of files and streams.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::{self, Read};
use std::path::Path;

pub use hamflow_stage_api::{Digest, FileDigest};
use hamflow_stage_api::{Symlinks, open_regular};

/// The size of the read buffer, in bytes: small enough for its content to stay in the CPU cache until it is hashed.
const BUFFER_SIZE: usize = 128 * 1024;

thread_local! {
    /// A read buffer per thread, reused between files.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_SIZE]);
}

/// Hashes a file.
pub fn of_file(path: &Path) -> io::Result<Digest> {
    of_reader(&mut open_regular(path, Symlinks::Follow)?)
}

/// Hashes the content of a reader.
pub fn of_reader(reader: &mut impl Read) -> io::Result<Digest> {
    let Ok(digest) = of_pieces(reader, |_| Ok::<_, Infallible>(()));
    digest
}

/// Hashes the content of a reader and passes each piece to `take`. The outer error is that of `take`, the inner one that of the reader.
pub fn of_pieces<E>(
    reader: &mut impl Read,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<io::Result<Digest>, E> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut hasher = blake3::Hasher::new();
        loop {
            match reader.read(buffer) {
                Ok(0) => return Ok(Ok(Digest::new(*hasher.finalize().as_bytes(), hasher.count()))),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    take(&buffer[..n])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..1_000_003u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(folder.path().join("a"), &bytes).unwrap();
        assert_eq!(of_file(&folder.path().join("a")).unwrap(), Digest::of(&bytes));
    }
}

//! Names bytes: digests of texts, buffers and files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use hamflow_stage_api::Digest;

/// Hashes a file from its beginning to its end.
pub fn of_file(path: &Path) -> io::Result<Digest> {
    of_reader(&mut File::open(path)?)
}

fn of_reader(reader: &mut impl Read) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Digest::new(*hasher.finalize().as_bytes(), hasher.count())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..1_000_003u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(folder.path().join("a"), &bytes).unwrap();
        assert_eq!(of_file(&folder.path().join("a")).unwrap(), Digest::of(&bytes));
    }
}

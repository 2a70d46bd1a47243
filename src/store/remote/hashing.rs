//! Hashes what is written.

use std::io::{self, Write};

use crate::digest::Digest;

/// Passes on what is written, and hashes it.
pub struct Hashing<W> {
    to: W,
    hasher: blake3::Hasher,
    size: u64,
}

impl<W> Hashing<W> {
    /// Nothing is written yet.
    pub fn new(to: W) -> Self {
        Self { to, hasher: blake3::Hasher::new(), size: 0 }
    }

    /// What was written to, and the digest of what was written.
    pub fn finish(self) -> (W, Digest) {
        (self.to, Digest::new(*self.hasher.finalize().as_bytes(), self.size))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

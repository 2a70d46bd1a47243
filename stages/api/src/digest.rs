//! Digests identify content by BLAKE3 hash and size.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A BLAKE3 hash and a size in bytes.
///
/// Formatted as `<64 hex digits>:<size in bytes>`, in files, in JSON and on the terminal alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    hash: [u8; 32],
    size: u64,
}

impl Digest {
    /// Creates a digest from a known hash.
    pub const fn new(hash: [u8; 32], size: u64) -> Self {
        Self { hash, size }
    }

    /// Hashes bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self::new(*blake3::hash(bytes).as_bytes(), bytes.len() as u64)
    }

    /// The BLAKE3 hash.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The hash as 64 lowercase hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.hash).to_hex().to_string()
    }

    /// The first twelve hexadecimal digits, for display.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", blake3::Hash::from_bytes(self.hash).to_hex(), self.size)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error for a string that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest (64 hexadecimal digits, a colon, a size)")]
pub struct ParseDigestError {
    /// The string.
    pub text: String,
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDigestError { text: text.to_owned() };
        let (hash, size) = text.split_once(':').ok_or_else(error)?;
        let hash = blake3::Hash::from_hex(hash).map_err(|_| error())?;
        let digest = Self::new(*hash.as_bytes(), size.parse().map_err(|_| error())?);
        // One text for one digest: what is read is written as it was.
        if digest.to_string() == text { Ok(digest) } else { Err(error()) }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The digest of a file that may not have been hashed yet.
///
/// A run that can make no use of stored results lists its inputs and leaves hashing to the parts that read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileDigest {
    /// The file was hashed.
    Known(Digest),
    /// The file was listed.
    Unread {
        /// Its size in bytes.
        size: u64,
    },
}

impl FileDigest {
    /// The digest, if the file was hashed.
    pub const fn known(self) -> Option<Digest> {
        match self {
            Self::Known(digest) => Some(digest),
            Self::Unread { .. } => None,
        }
    }

    /// Whether the file was only listed.
    pub const fn is_unread(&self) -> bool {
        matches!(self, Self::Unread { .. })
    }

    /// The size in bytes.
    pub const fn size(&self) -> u64 {
        match self {
            Self::Known(digest) => digest.size(),
            Self::Unread { size } => *size,
        }
    }
}

impl From<Digest> for FileDigest {
    fn from(digest: Digest) -> Self {
        Self::Known(digest)
    }
}

impl PartialEq<Digest> for FileDigest {
    fn eq(&self, other: &Digest) -> bool {
        self.known() == Some(*other)
    }
}

/// How a file that was only listed is written.
const UNREAD: &str = "unread:";

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(digest) => digest.fmt(f),
            Self::Unread { size } => write!(f, "{UNREAD}{size}"),
        }
    }
}

impl Serialize for FileDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        match text.strip_prefix(UNREAD) {
            Some(size) => size.parse().map(|size| Self::Unread { size }).map_err(serde::de::Error::custom),
            None => text.parse().map(Self::Known).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_back_as_it_was_written() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        // From the BLAKE3 reference: b3sum <(printf abc).
        assert_eq!(digest.hex(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    }

    #[test]
    fn an_unread_file_keeps_its_size_and_is_no_digest() {
        let unread = FileDigest::Unread { size: 12 };
        let known = FileDigest::from(Digest::of(b"abc"));
        for digest in [unread, known] {
            let text = serde_json::to_string(&digest).unwrap();
            assert_eq!(serde_json::from_str::<FileDigest>(&text).unwrap(), digest, "{text}");
        }
        assert_eq!(serde_json::to_string(&known).unwrap(), serde_json::to_string(&Digest::of(b"abc")).unwrap());
        assert_eq!((unread.known(), unread.size(), unread == Digest::new([0; 32], 12)), (None, 12, false));
    }

    #[test]
    fn a_digest_has_one_text() {
        let digest = Digest::of(b"abc").to_string();
        let (hash, size) = digest.split_once(':').unwrap();
        for other in [format!("{hash}:0{size}"), format!("{hash}:+{size}"), format!("{}:{size}", hash.to_uppercase())] {
            assert!(other.parse::<Digest>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_text_that_is_no_digest_is_named_in_the_error() {
        assert!("nonsense".parse::<Digest>().unwrap_err().to_string().contains("`nonsense`"));
    }
}

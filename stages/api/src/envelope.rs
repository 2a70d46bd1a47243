//! Envelopes of files on disk: a header and a checksum in front of the content, so that a damaged file is recognised.

use crate::Digest;

/// Encloses bytes: the magic header, the BLAKE3 hash of the content, the content.
pub fn seal(magic: &[u8], content: &[u8]) -> Vec<u8> {
    [magic, blake3::hash(content).as_bytes(), content].concat()
}

/// The content of a file that [`seal`] wrote; `None` if the header differs or the file is damaged.
pub fn open<'a>(magic: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (hash, content) = bytes.strip_prefix(magic)?.split_at_checked(blake3::OUT_LEN)?;
    (blake3::hash(content).as_bytes() == hash).then_some(content)
}

/// Like [`seal`], with a hash that also covers the owner: a file that was copied from another owner is not accepted.
pub fn seal_for(owner: &[u8], magic: &[u8], content: &[u8]) -> Vec<u8> {
    [magic, owned_hash(owner, content).as_bytes(), content].concat()
}

/// The content of a file that [`seal_for`] wrote for this owner.
pub fn open_for<'a>(owner: &[u8], magic: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (hash, content) = bytes.strip_prefix(magic)?.split_at_checked(blake3::OUT_LEN)?;
    (owned_hash(owner, content).as_bytes() == hash).then_some(content)
}

fn owned_hash(owner: &[u8], content: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(owner.len() as u64).to_le_bytes()).update(owner).update(content);
    hasher.finalize()
}

/// Encloses a text: a line with its digest, then the text.
pub fn seal_text(text: &str) -> String {
    format!("{}\n{text}", Digest::of(text.as_bytes()))
}

/// The text that [`seal_text`] enclosed; `None` if it is damaged.
pub fn open_text(sealed: &str) -> Option<&str> {
    let (digest, text) = sealed.split_once('\n')?;
    (Digest::of(text.as_bytes()).to_string() == digest).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_and_foreign_files_are_not_opened() {
        let sealed = seal(b"magic\n", b"content");
        assert_eq!(open(b"magic\n", &sealed), Some(&b"content"[..]));
        assert_eq!(open(b"other\n", &sealed), None);
        assert_eq!(open(b"magic\n", &[&sealed[..], b"x"].concat()), None);
        assert_eq!(open(b"magic\n", b"magic\n"), None);
    }

    #[test]
    fn a_file_is_only_opened_for_its_owner() {
        let sealed = seal_for(b"one", b"magic\n", b"state");
        assert_eq!(open_for(b"one", b"magic\n", &sealed), Some(&b"state"[..]));
        assert_eq!(open_for(b"two", b"magic\n", &sealed), None);
        let moved = seal_for(b"on", b"magic\n", b"estate");
        assert_eq!(open_for(b"one", b"magic\n", &moved), None, "the boundary between owner and content is unambiguous");
    }

    #[test]
    fn damaged_texts_are_not_opened() {
        let sealed = seal_text("answer\n");
        assert_eq!(open_text(&sealed), Some("answer\n"));
        assert_eq!((open_text(sealed.trim_end()), open_text("")), (None, None));
    }
}

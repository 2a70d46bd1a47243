//! Remembers what was computed from content that has a name: views, plans, listings.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::fs::{self, Durability};

/// The answers below `cache/memo`, each by the digest of its question.
#[derive(Debug, Clone)]
pub struct Memo {
    folder: PathBuf,
}

impl Memo {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder of all answers.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    fn path(&self, question: &str) -> PathBuf {
        let hex = Digest::of(question.as_bytes()).hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// The answer to `question`, if it was kept and is whole.
    pub fn get<T: DeserializeOwned>(&self, question: &str) -> Option<T> {
        let text = std::fs::read_to_string(self.path(question)).ok()?;
        let (digest, body) = text.split_once('\n')?;
        if Digest::of(body.as_bytes()).to_string() != digest {
            return None;
        }
        serde_json::from_str(body).ok()
    }

    /// Keeps an answer. A memo that cannot be written costs time later and nothing else, so nobody is told.
    pub fn put<T: Serialize>(&self, question: &str, answer: &T) {
        let body = serde_json::to_string(answer).expect("answers have only string keys");
        let text = format!("{}\n{body}", Digest::of(body.as_bytes()));
        let _ = fs::write(&self.path(question), text.as_bytes(), Durability::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_by_its_question_and_a_damaged_one_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let memo = Memo::new(folder.path().to_owned());
        memo.put("2+2", &4);
        assert_eq!(memo.get("2+2"), Some(4));
        assert_eq!(memo.get::<u32>("2+3"), None);
        let damaged = std::fs::read_to_string(memo.path("2+2")).unwrap().replace('4', "5");
        std::fs::write(memo.path("2+2"), damaged).unwrap();
        assert_eq!(memo.get::<u32>("2+2"), None);
    }
}

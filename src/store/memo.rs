//! Memos: remembers views, plans and listings computed from content-addressed data.

use std::path::PathBuf;

use hamflow_stage_api::envelope;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::fs::{self, Durability, Symlinks};

/// Answers below `cache/memo`, each by the digest of its question.
#[derive(Debug, Clone)]
pub struct Memo {
    folder: PathBuf,
}

impl Memo {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The directory of all memos.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    fn path(&self, question: &str) -> PathBuf {
        let hex = Digest::of(question.as_bytes()).hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// The remembered answer to `question`; `None` if there is none or it is damaged.
    pub fn get<T: DeserializeOwned>(&self, question: &str) -> Option<T> {
        let text = fs::read_text(&self.path(question), Symlinks::Refuse).ok()?;
        serde_json::from_str(Self::decode(&text, question)?).ok()
    }

    /// Extracts the answer from the text of a memo; `None` if it is damaged or belongs to another question. Memos of hamflow 0.1 do not name
    /// their question and are recomputed.
    pub fn decode<'a>(text: &'a str, question: &str) -> Option<&'a str> {
        let (question_digest, answer) = envelope::open_text(text)?.split_once('\n')?;
        (Digest::of(question.as_bytes()).to_string() == question_digest).then_some(answer)
    }

    /// Remembers an answer. Errors are ignored, since an answer that is not remembered only costs time.
    pub fn put<T: Serialize>(&self, question: &str, answer: &T) {
        let answer = serde_json::to_string(answer).expect("answers have only string keys");
        let _ = fs::write(&self.path(question), encode(&answer, question).as_bytes(), Durability::Relaxed);
    }
}

/// The text of a memo: the digest of the rest, the digest of the question, the answer.
fn encode(answer: &str, question: &str) -> String {
    envelope::seal_text(&format!("{}\n{answer}", Digest::of(question.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_remembered_by_question_and_damaged_ones_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let memo = Memo::new(folder.path().to_owned());
        memo.put("2+2", &4);
        assert_eq!(memo.get("2+2"), Some(4));
        assert_eq!(memo.get::<u32>("2+3"), None);
        let damaged = std::fs::read_to_string(memo.path("2+2")).unwrap().replace('4', "5");
        std::fs::write(memo.path("2+2"), damaged).unwrap();
        assert_eq!(memo.get::<u32>("2+2"), None);
    }

    #[test]
    fn an_answer_to_another_question_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let memo = Memo::new(folder.path().to_owned());
        memo.put("2+2", &4);
        std::fs::create_dir_all(memo.path("3+3").parent().unwrap()).unwrap();
        std::fs::copy(memo.path("2+2"), memo.path("3+3")).unwrap();
        assert_eq!(memo.get::<u32>("3+3"), None);
        let (answer, of_before) = ("5", format!("{}\n5", Digest::of(b"5")));
        std::fs::write(memo.path("3+3"), of_before).unwrap();
        assert_eq!(memo.get::<u32>("3+3"), None, "an answer without its question: {answer}");
    }
}

//! Keeps secrets out of everything that leaves the process: logs, records, lock files and messages.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::StageError;

/// Minimum length of a secret in bytes. Hiding shorter values would hide ordinary words.
const MIN_SECRET: usize = 4;

/// The replacement for a secret.
const HIDDEN: &str = "***";

/// Replaces secrets with `***`: known values, and user names and passwords in URLs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Redactor {
    /// Longest first, so that a secret that is a prefix of another one leaves nothing of that one readable.
    secrets: Vec<String>,
}

impl Redactor {
    /// Hides each line of these values, because programs print keys line by line.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let lines = |value: String| value.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let mut secrets: Vec<String> = values.into_iter().flat_map(lines).collect();
        secrets.retain(|secret| secret.len() >= MIN_SECRET);
        secrets.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// The error without secrets.
    pub fn redact_error(&self, error: StageError) -> StageError {
        let redact = |text: String| self.redact(&text).into_owned();
        let StageError { category, message, place, hint } = error;
        let place = place.map(|mut place| {
            place.path = redact(place.path);
            place
        });
        StageError { category, message: redact(message), place, hint: hint.map(redact) }
    }

    /// The text without secrets.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let without_values = if self.secrets.iter().any(|secret| text.contains(&secret[..])) {
            let mut stream = RedactedStream::new(self);
            let mut bytes = stream.push(text.as_bytes());
            bytes.extend(stream.finish());
            Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
        } else {
            Cow::Borrowed(text)
        };
        match without_userinfo(&without_values) {
            Some(text) => Cow::Owned(text),
            None => without_values,
        }
    }
}

/// Hides secrets in text that arrives in pieces, also a secret that lies across the border of two pieces.
#[derive(Debug)]
pub struct RedactedStream<'a> {
    redactor: &'a Redactor,
    /// The end of the text so far, in which a secret may have begun.
    pending: Vec<u8>,
}

impl<'a> RedactedStream<'a> {
    /// Starts with no text.
    pub fn new(redactor: &'a Redactor) -> Self {
        Self { redactor, pending: Vec::new() }
    }

    /// Takes the next piece, and returns what can be shown so far.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(piece);
        let longest = self.redactor.secrets.first().map_or(0, String::len);
        // A secret that starts before this position lies in the pending text as a whole.
        let decided = (self.pending.len() + 1).saturating_sub(longest.max(1));
        self.take(decided)
    }

    /// Returns the rest of the text. The stream can be used for another text afterwards.
    pub fn finish(&mut self) -> Vec<u8> {
        self.take(self.pending.len())
    }

    fn take(&mut self, decided: usize) -> Vec<u8> {
        let secrets = &self.redactor.secrets;
        if secrets.is_empty() {
            return std::mem::take(&mut self.pending);
        }
        let mut shown = Vec::with_capacity(decided);
        let mut position = 0;
        while position < decided {
            match secrets.iter().find(|secret| self.pending[position..].starts_with(secret.as_bytes())) {
                Some(secret) => {
                    shown.extend_from_slice(HIDDEN.as_bytes());
                    position += secret.len();
                }
                None => {
                    shown.push(self.pending[position]);
                    position += 1;
                }
            }
        }
        self.pending.drain(..position);
        shown
    }
}

/// The text without the user information (RFC 3986, 3.2.1) of its URLs; `None` if there is none.
fn without_userinfo(text: &str) -> Option<String> {
    let mut redacted = String::new();
    let mut rest = text;
    while let Some(place) = rest.find("://") {
        let (before, after) = rest.split_at(place + 3);
        redacted.push_str(before);
        let authority = after.split(|c: char| c == '/' || c.is_whitespace() || "\"'`".contains(c)).next().unwrap_or("");
        rest = match authority.rfind('@') {
            Some(end) => {
                redacted.push_str(HIDDEN);
                &after[end..]
            }
            None => after,
        };
    }
    redacted.push_str(rest);
    (redacted != text).then_some(redacted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        Redactor::new(values.iter().map(|value| (*value).to_owned()))
    }

    #[test]
    fn values_are_hidden_and_short_ones_are_not() {
        assert_eq!(redactor(&["s3cret", "no"]).redact("token=s3cret, s3cret; no more"), "token=***, ***; no more");
        assert!(matches!(redactor(&["s3cret"]).redact("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn the_longest_is_hidden_first_and_every_line_of_a_key() {
        assert_eq!(redactor(&["abcd", "abcdef"]).redact("abcdef abcd"), "*** ***");
        let key = redactor(&["-----BEGIN KEY-----\r\nMIIEvQ\nEnd\n"]);
        assert_eq!(key.redact("read MIIEvQ from -----BEGIN KEY-----\nEnd"), "read *** from ***\nEnd");
    }

    #[test]
    fn every_text_of_an_error_is_redacted() {
        let error = StageError::input("no s3cret").hint("try s3cret").at("a/s3cret.csv", 1, 2);
        let hidden = redactor(&["s3cret"]).redact_error(error).render();
        assert!(!hidden.contains("s3cret") && hidden.matches(HIDDEN).count() == 3, "{hidden}");
    }

    #[test]
    fn a_secret_across_pieces_is_hidden_wherever_it_is_cut() {
        let redactor = redactor(&["s3cret", "s3cret-and-more", "ünïcode"]);
        let text = "a s3cret, a s3cret-and-more s3cre ünïcode s3crets3cret";
        let expected = "a ***, a *** s3cre *** ******";
        for cut in 0..=text.len() {
            for second in cut..=text.len() {
                let mut stream = RedactedStream::new(&redactor);
                let pieces = [&text.as_bytes()[..cut], &text.as_bytes()[cut..second], &text.as_bytes()[second..]];
                let mut shown: Vec<u8> = pieces.iter().flat_map(|piece| stream.push(piece)).collect();
                shown.extend(stream.finish());
                assert_eq!(String::from_utf8(shown).unwrap(), expected, "cut at {cut} and {second}");
            }
        }
    }

    #[test]
    fn user_names_and_passwords_are_removed_from_urls() {
        let none = Redactor::default();
        for (text, expected) in [
            ("url = \"https://ci:s3cret@host/p\"", "url = \"https://***@host/p\""),
            ("s3://key:horse@ham and az://a@b", "s3://***@ham and az://***@b"),
            ("https://host/a@b, x://", "https://host/a@b, x://"),
            ("https://a:b@c@host", "https://***@host"),
        ] {
            assert_eq!(none.redact(text), expected);
        }
    }
}

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
        if !text.contains("://") && !self.secrets.iter().any(|secret| text.contains(&secret[..])) {
            return Cow::Borrowed(text);
        }
        let mut stream = RedactedStream::new(self);
        let mut bytes = stream.push(text.as_bytes());
        bytes.extend(stream.finish());
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
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
        self.take(decided.min(self.unfinished_url()), false)
    }

    /// Returns the rest of the text. The stream can be used for another text afterwards.
    pub fn finish(&mut self) -> Vec<u8> {
        self.take(self.pending.len(), true)
    }

    /// Where a URL starts whose end is not there yet; the end of the text if there is none.
    fn unfinished_url(&self) -> usize {
        let length = self.pending.len();
        // `://` itself may be cut.
        let part = [":/", ":"].into_iter().find(|part| self.pending.ends_with(part.as_bytes()));
        let end = length - part.map_or(0, str::len);
        let start = length.saturating_sub(MAX_USERINFO);
        let recent = &self.pending[start..];
        let scheme = recent.windows(3).rposition(|window| window == b"://");
        let scheme = scheme.filter(|place| !recent[*place..].iter().any(|byte| ends_url(*byte)));
        scheme.map_or(end, |place| end.min(start + place))
    }

    fn take(&mut self, decided: usize, is_end: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(decided);
        let mut position = 0;
        while position < decided {
            match self.end_of_secrets(position) {
                Some(end) if !is_end && end > decided => break,
                Some(end) => {
                    shown.extend_from_slice(HIDDEN.as_bytes());
                    position = end;
                }
                None => {
                    shown.push(self.pending[position]);
                    position += 1;
                }
            }
        }
        self.pending.drain(..position);
        without_userinfo(&shown).unwrap_or(shown)
    }

    /// The end of a secret that starts here, or of those that overlap with it.
    fn end_of_secrets(&self, position: usize) -> Option<usize> {
        let end_of = |start: usize| {
            let text = &self.pending[start..];
            self.redactor
                .secrets
                .iter()
                .find(|secret| text.starts_with(secret.as_bytes()))
                .map(|found| start + found.len())
        };
        let mut end = end_of(position)?;
        let mut next = position + 1;
        while next < end {
            end = end_of(next).map_or(end, |other| other.max(end));
            next += 1;
        }
        Some(end)
    }
}

/// Maximum length of the start of a URL that is held back until its end is known.
const MAX_USERINFO: usize = 1024;

fn ends_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\"'`<>".contains(&byte)
}

/// The text without the user information (RFC 3986, 3.2.1) of its URLs; `None` if there is none. Passwords in which `/` is
/// not encoded are hidden, too.
fn without_userinfo(text: &[u8]) -> Option<Vec<u8>> {
    let mut redacted = Vec::new();
    let mut rest = text;
    let mut is_changed = false;
    while let Some(place) = rest.windows(3).position(|window| window == b"://") {
        let (before, after) = rest.split_at(place + 3);
        redacted.extend_from_slice(before);
        let url = &after[..after.iter().position(|byte| ends_url(*byte)).unwrap_or(after.len())];
        let authority = &url[..url.iter().position(|byte| *byte == b'/').unwrap_or(url.len())];
        // `host:8080/a@b` has no password, `user:pass/word@host` has one.
        let has_port =
            authority.rsplit(|byte| *byte == b':').next().is_some_and(|port| port.iter().all(u8::is_ascii_digit));
        let searched =
            if authority.contains(&b':') && !authority.contains(&b'@') && !has_port { url } else { authority };
        rest = match searched.iter().rposition(|byte| *byte == b'@') {
            Some(end) => {
                is_changed = true;
                redacted.extend_from_slice(HIDDEN.as_bytes());
                &after[end..]
            }
            None => after,
        };
    }
    redacted.extend_from_slice(rest);
    is_changed.then_some(redacted)
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
    fn overlapping_secrets_leave_nothing_readable() {
        let redactor = redactor(&["abcdX", "cdXyz"]);
        for text in ["abcdXyz", "abcdX cdXyz", "cdXyzabcdXyz"] {
            for cut in 0..=text.len() {
                let mut stream = RedactedStream::new(&redactor);
                let mut shown = stream.push(&text.as_bytes()[..cut]);
                shown.extend(stream.push(&text.as_bytes()[cut..]));
                shown.extend(stream.finish());
                let shown = String::from_utf8(shown).unwrap();
                assert!(shown.bytes().all(|byte| b"* ".contains(&byte)), "{shown}");
            }
        }
    }

    #[test]
    fn a_password_of_a_url_is_hidden_wherever_it_is_cut() {
        let (none, text) = (Redactor::default(), "see https://ci:correct-horse@host/p now");
        for cut in 0..=text.len() {
            let mut stream = RedactedStream::new(&none);
            let mut shown = stream.push(&text.as_bytes()[..cut]);
            shown.extend(stream.push(&text.as_bytes()[cut..]));
            shown.extend(stream.finish());
            assert_eq!(String::from_utf8(shown).unwrap(), "see https://***@host/p now", "cut at {cut}");
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
            ("https://ci:pa/ss@host/p http://host:80/a@b", "https://***@host/p http://host:80/a@b"),
        ] {
            assert_eq!(none.redact(text), expected);
        }
    }
}
